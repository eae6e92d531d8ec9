//! Single values: their types, ranges and text forms. Every function reports what is wrong and then returns `None`.
//!
//! Addresses and prefixes are read as `ip` reads them, with two differences that prevent mistakes: bits behind a prefix's
//! length are an error, and an interface's own address says its length. A prefix without length is one address.

use super::document::{Findings, Table};
use super::plain::Entries;
use forwarder::scope::holds_unicast;
use forwarder::table::Mac;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use toml::Spanned;
use toml::de::DeValue;

/// A value with its key and its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    key: &'static str,
    value: &'a Spanned<DeValue<'a>>,
    /// Where the piece of text begins that was parsed.
    base: usize,
}

impl<'a> Value<'a> {
    /// A value that stands where the parser says, counted from `base`.
    pub(super) fn new(key: &'static str, value: &'a Spanned<DeValue<'a>>, base: usize) -> Self {
        Value { key, value, base }
    }

    /// The byte at which it begins.
    pub(super) fn at(&self) -> usize {
        self.base + self.value.span().start
    }

    /// The table that it is; `name` is how findings call it.
    pub(super) fn table(&self, name: &'static str) -> Option<Table<'a>> {
        let entries = self.value.get_ref().as_table()?;
        Some(Table::new(Entries::Parsed(entries), name, self.at(), self.base))
    }

    pub(super) fn array(&self) -> Option<&'a [Spanned<DeValue<'a>>]> {
        self.value.get_ref().as_array().map(|array| &array[..])
    }

    pub(super) fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Reports a value that is not what it should be.
    pub(super) fn wrong(&self, expected: &str, findings: &mut Findings) {
        let message = format!("`{}` is not valid (expected {expected}, found {})", self.key, self.found());
        findings.error(self.at(), message);
    }

    /// The value in words.
    pub(super) fn found(&self) -> String {
        match self.value.get_ref() {
            DeValue::String(text) => quoted(text),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(value) => value.to_string(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }

    pub(super) fn string(&self, findings: &mut Findings) -> Option<&'a str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.wrong("a string", findings);
        }
        text
    }

    pub(super) fn boolean(&self, findings: &mut Findings) -> Option<bool> {
        let value = self.value.get_ref().as_bool();
        if value.is_none() {
            self.wrong("true or false", findings);
        }
        value
    }

    /// A whole number in `range`; `what` is said before the range: `"inherit" or`.
    pub(super) fn number<T: TryFrom<u64>>(
        &self,
        what: &str,
        range: RangeInclusive<u64>,
        findings: &mut Findings,
    ) -> Option<T> {
        let number = self
            .value
            .get_ref()
            .as_integer()
            .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        let number =
            number.filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.wrong(&format!("{what}a number from {} to {}", range.start(), range.end()), findings);
        }
        number
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)], findings: &mut Findings) -> Option<T> {
        let chosen =
            self.value.get_ref().as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text));
        if chosen.is_none() {
            self.wrong(&words(choices), findings);
        }
        chosen.map(|(_, value)| *value)
    }

    /// The elements of an array.
    pub(super) fn list(&self, what: &str, findings: &mut Findings) -> Option<Vec<Value<'a>>> {
        let Some(items) = self.array() else {
            self.wrong(&format!("a list of {what}"), findings);
            return None;
        };
        Some(items.iter().map(|item| Value::new(self.key, item, self.base)).collect())
    }

    /// The elements of an array that has some.
    pub(super) fn full_list(&self, what: &str, findings: &mut Findings) -> Option<Vec<Value<'a>>> {
        let items = self.list(what, findings)?;
        if items.is_empty() {
            let message = format!("`{}` is empty (expected one or more {what}, found [])", self.key);
            findings.error(self.at(), message).help("leave the key out where nothing is meant");
            return None;
        }
        Some(items)
    }

    /// An address of one host.
    pub(super) fn address(&self, findings: &mut Findings) -> Option<IpAddr> {
        let text = self.string(findings)?;
        let Ok(address) = text.parse() else {
            self.wrong("an IPv4 or IPv6 address", findings);
            if text.contains('/') {
                findings.help_last("write the address without a prefix length");
            }
            return None;
        };
        self.host(address, findings)
    }

    /// An address of the box with the length of its network: `192.0.2.1/24`.
    pub(super) fn interface_address(&self, findings: &mut Findings) -> Option<IpNet> {
        let text = self.string(findings)?;
        let Some(net) = parse_prefix(text) else {
            self.wrong("an address with its prefix length, such as \"192.0.2.1/24\"", findings);
            if let Ok(address) = text.parse::<IpAddr>() {
                let full = IpNet::from(address);
                findings.help_last(&format!("an address without a network of its own is written \"{full}\""));
            }
            return None;
        };
        self.host(net.addr(), findings)?;
        Some(net)
    }

    /// A prefix without host bits; an address alone is a prefix of full length.
    pub(super) fn prefix(&self, findings: &mut Findings) -> Option<IpNet> {
        let text = self.string(findings)?;
        let Some(net) =
            text.parse().map(|address: IpAddr| IpNet::from(address)).ok().or_else(|| parse_prefix(text))
        else {
            self.wrong("an IPv4 or IPv6 prefix such as \"192.0.2.0/24\"", findings);
            if text == "default" || text == "any" {
                findings.help_last("every IPv4 address is \"0.0.0.0/0\", every IPv6 address \"::/0\"");
            }
            return None;
        };
        if net.trunc() != net {
            let message = format!(
                "`{}` has bits set behind its length (expected \"{}\" or \"{}\", found {})",
                self.key,
                net.trunc(),
                IpNet::from(net.addr()),
                quoted(text)
            );
            findings.error(self.at(), message);
            return None;
        }
        Some(net)
    }

    /// A prefix in which packets have their source or destination. Warns of one that no host is in.
    pub(super) fn hosts(&self, findings: &mut Findings) -> Option<IpNet> {
        let prefix = self.prefix(findings)?;
        self.check_hosts(prefix, findings);
        Some(prefix)
    }

    /// Reports a sender that nobody is: an address that no host has is an error, a prefix without any is odd.
    pub(super) fn check_sender(&self, sender: IpNet, findings: &mut Findings) {
        if sender.prefix_len() == sender.max_prefix_len() {
            self.host(sender.addr(), findings);
        } else {
            self.check_hosts(sender, findings);
        }
    }

    fn check_hosts(&self, prefix: IpNet, findings: &mut Findings) {
        if !holds_unicast(prefix) {
            let message = format!(
                "no host has an address in {prefix}, so this matches nothing (expected a prefix with unicast addresses, \
                 found one without)"
            );
            let help = "write the prefix of the hosts that are meant, or leave it away";
            findings.warning(self.at(), message).help(help);
        }
    }

    /// A unicast Ethernet address.
    pub(super) fn mac(&self, findings: &mut Findings) -> Option<Mac> {
        let text = self.string(findings)?;
        let Some(bytes) = parse_mac(text) else {
            self.wrong("a MAC address such as \"02:00:00:00:00:01\"", findings);
            return None;
        };
        let [first, ..] = bytes;
        if first & 1 != 0 || bytes == [0; 6] {
            self.wrong("a MAC address of one station, neither a group's nor all zero", findings);
            return None;
        }
        Some(Mac(bytes))
    }

    fn host(&self, address: IpAddr, findings: &mut Findings) -> Option<IpAddr> {
        let problem = match address {
            _ if address.is_unspecified() => "the unspecified address",
            _ if address.is_multicast() => "a multicast address",
            _ if address.is_loopback() => "a loopback address",
            IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
            IpAddr::V4(ipv4) if matches!(ipv4.octets(), [0 | 240..=255, ..]) => "a reserved address",
            IpAddr::V6(ipv6) if ipv6.to_ipv4_mapped().is_some() => "an IPv4-mapped address",
            _ => return Some(address),
        };
        let message = format!(
            "`{}` is no host's address (expected a unicast address, found {problem} {address})",
            self.key
        );
        findings.error(self.at(), message);
        None
    }
}

/// `"a", "b" or "c"`.
fn words<T>(choices: &[(&str, T)]) -> String {
    let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// A text in quotes, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("\"{}…\"", text.get(..end).unwrap_or_default().escape_debug()),
        None => format!("\"{}\"", text.escape_debug()),
    }
}

/// Address and length in decimal.
fn parse_prefix(text: &str) -> Option<IpNet> {
    let (address, len) = text.split_once('/')?;
    let is_decimal = len.bytes().all(|byte| byte.is_ascii_digit()) && (len == "0" || !len.starts_with('0'));
    let len = is_decimal.then(|| len.parse().ok()).flatten()?;
    IpNet::new(address.parse().ok()?, len).ok()
}

/// Six groups of two hexadecimal digits, between them colons or hyphens throughout.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut bytes = [0; 6];
    let mut groups = text.split(separator);
    for byte in &mut bytes {
        let group = groups.next()?;
        let is_hex = group.len() == 2 && group.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = is_hex.then(|| u8::from_str_radix(group, 16).ok()).flatten()?;
    }
    groups.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_have_six_groups_of_two_digits() {
        assert_eq!(parse_mac("02:00:5e:AB:cd:01"), Some([2, 0, 0x5e, 0xab, 0xcd, 1]));
        assert_eq!(parse_mac("02-00-5e-ab-cd-01"), Some([2, 0, 0x5e, 0xab, 0xcd, 1]));
        for bad in [
            "",
            "2:0:0:0:0:1",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "02:00-00:00:00:01",
            "+2:00:00:00:00:01",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn prefix_lengths_are_plain_decimals() {
        assert_eq!(parse_prefix("10.0.0.1/8"), "10.0.0.1/8".parse().ok());
        assert_eq!(parse_prefix("::/0"), "::/0".parse().ok());
        for bad in
            ["10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0/8", "::/129", "/8"]
        {
            assert_eq!(parse_prefix(bad), None, "{bad}");
        }
    }

    #[test]
    fn long_text_is_cut_in_messages() {
        assert_eq!(quoted("a\"b"), "\"a\\\"b\"");
        assert_eq!(quoted(&"é".repeat(61)), format!("\"{}…\"", "é".repeat(60)));
    }
}

//! `[[port]]` and `[[port.vlan]]`: devices, and the interfaces on them.

use super::document::{Findings, Table};
use super::names::{Named, Names};
use super::network::group_address;
use super::source::Source;
use super::value::{Value, quoted};
use forwarder::table::{InterfaceId, InterfaceSpec, Mac, PortId, Spec};
use ipnet::IpNet;
use std::collections::HashMap;

/// IPv4's smallest (RFC 791 §3.2) and the largest that common devices take in one buffer.
const MTU: std::ops::RangeInclusive<u64> = 68..=9600;

/// Smallest MTU of a link that carries IPv6 (RFC 8200 §5).
const MIN_IPV6_MTU: u16 = 1280;

/// A port's MTU by default.
const DEFAULT_MTU: u16 = 1500;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Its name in culvert.
    pub(crate) name: String,
    /// A PCI address or a DPDK virtual device.
    pub(crate) device: String,
    /// Largest IP packet in bytes.
    pub(crate) mtu: u16,
    /// Its Ethernet address; `None`: the device's own.
    pub(crate) mac: Option<Mac>,
    /// How many receive queues.
    pub(crate) rx_queues: Queues,
    /// What packets are spread over queues by.
    pub(crate) rss: Rss,
}

impl Port {
    /// What DPDK and Linux know its device by: the PCI address with its domain, a virtual device's name.
    #[cfg(feature = "dpdk")]
    pub(crate) fn identity(&self) -> String {
        identity(&self.device)
    }
}

/// How many receive queues a port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queues {
    /// One for each worker where the device has as many.
    Auto,
    /// This many.
    Fixed(u16),
}

/// What a device spreads packets over its receive queues by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rss {
    /// Inner headers where the device can, else in software.
    Auto,
    /// Outer headers.
    Outer,
    /// Inner headers.
    Inner,
    /// Not at all.
    Off,
}

pub(super) const RSS: [(&str, Rss); 4] =
    [("auto", Rss::Auto), ("outer", Rss::Outer), ("inner", Rss::Inner), ("off", Rss::Off)];

/// Everything that reading ports adds to.
pub(super) struct Ports<'a> {
    pub(super) source: &'a Source,
    pub(super) names: &'a mut Names,
    pub(super) spec: &'a mut Spec,
    pub(super) places: &'a mut Vec<super::Place>,
    devices: HashMap<String, usize>,
}

impl<'a> Ports<'a> {
    pub(super) fn new(
        source: &'a Source,
        names: &'a mut Names,
        spec: &'a mut Spec,
        places: &'a mut Vec<super::Place>,
    ) -> Self {
        Ports { source, names, spec, places, devices: HashMap::new() }
    }

    /// Reads one `[[port]]` with its VLANs.
    pub(super) fn read(&mut self, id: PortId, mut table: Table<'_>, findings: &mut Findings) -> Port {
        let named = Named::Interface(self.next_interface());
        let name = self.names.declare(table.require("name", findings), named, self.source, findings);
        let device = table.require("device", findings).and_then(|value| self.device(value, findings));
        let mtu_value = table.get("mtu");
        let mtu = mtu_value.and_then(|value| value.number("", MTU, findings)).unwrap_or(DEFAULT_MTU);
        let mac = table.get("mac").and_then(|value| value.mac(findings));
        let rx_queues =
            table.get("rx_queues").and_then(|value| queues(value, findings)).unwrap_or(Queues::Auto);
        let rss = table.get("rss").and_then(|value| value.choice(&RSS, findings)).unwrap_or(Rss::Auto);
        let mut addresses = Vec::new();
        let interface = |name: &str, vlan, addresses| InterfaceSpec {
            name: name.to_owned(),
            port: id,
            vlan,
            mac: mac.unwrap_or(Mac([0; 6])),
            mtu,
            addresses,
        };
        if let Some(value) = table.get("addresses") {
            addresses = read_addresses(value, findings);
        }
        let mut has_ipv6 = addresses.iter().any(|net| net.addr().is_ipv6());
        self.spec.interfaces.push(interface(&name, None, addresses));
        // Its place is known when the table was read to its end.
        let at = self.places.len();
        self.places.push(super::Place::default());
        let mut ids: HashMap<u16, usize> = HashMap::new();
        for mut vlan in table.tables("vlan", "[[port.vlan]]", findings) {
            let named = Named::Interface(self.next_interface());
            let vlan_id = vlan.require("id", findings);
            let number = vlan_id.and_then(|value| value.number::<u16>("", 1..=4094, findings));
            if let (Some(value), Some(number)) = (vlan_id, number)
                && let Some(first) = ids.insert(number, value.at())
            {
                let message = format!(
                    "VLAN {number} is on this port already, in line {} (expected each id once, found it again)",
                    self.source.line(first)
                );
                findings.error(value.at(), message);
            }
            let name = self.names.declare(vlan.require("name", findings), named, self.source, findings);
            let addresses =
                vlan.get("addresses").map(|value| read_addresses(value, findings)).unwrap_or_default();
            has_ipv6 |= addresses.iter().any(|net| net.addr().is_ipv6());
            self.spec.interfaces.push(interface(&name, Some(number.unwrap_or(1)), addresses));
            self.places.push(vlan.finish(findings));
        }
        if let Some(value) = mtu_value.filter(|_| has_ipv6 && mtu < MIN_IPV6_MTU) {
            let message = format!(
                "`mtu` is too small for the port's IPv6 addresses (expected at least {MIN_IPV6_MTU} as RFC 8200 asks \
                 for, found {mtu})"
            );
            findings.error(value.at(), message);
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = table.finish(findings);
        }
        Port { name, device: device.unwrap_or_default(), mtu, mac, rx_queues, rss }
    }

    fn next_interface(&self) -> InterfaceId {
        // A file with more interfaces is refused as a whole after all were read.
        InterfaceId(u16::try_from(self.spec.interfaces.len()).unwrap_or(u16::MAX))
    }

    fn device(&mut self, value: Value<'_>, findings: &mut Findings) -> Option<String> {
        let text = value.string(findings)?;
        if text.is_empty()
            || text.contains(|character: char| character.is_whitespace() || character.is_control())
        {
            value.wrong(
                "a PCI address such as \"0000:3b:00.0\" or a virtual device such as \"net_tap0,iface=bh0\"",
                findings,
            );
            return None;
        }
        if let Some(first) = self.devices.get(&identity(text)) {
            let message = format!(
                "the device {} is taken by line {} (expected a device of its own)",
                quoted(text),
                self.source.line(*first)
            );
            findings.error(value.at(), message);
        } else {
            self.devices.insert(identity(text), value.at());
        }
        Some(text.to_owned())
    }
}

/// What devices are told apart by: the PCI address with its domain, the virtual device without its arguments.
fn identity(device: &str) -> String {
    let name = device.split(',').next().unwrap_or(device).to_ascii_lowercase();
    let is_short_pci = matches!(name.as_bytes(), [_, _, b':', _, _, b'.', _]);
    if is_short_pci { format!("0000:{name}") } else { name }
}

fn queues(value: Value<'_>, findings: &mut Findings) -> Option<Queues> {
    if value.is_string() && value.choice(&[("auto", ())], &mut Findings::default()).is_some() {
        return Some(Queues::Auto);
    }
    value.number("\"auto\" or ", 1..=1024, findings).map(Queues::Fixed)
}

/// Reads `addresses` of a port, VLAN or tunnel.
pub(super) fn read_addresses(value: Value<'_>, findings: &mut Findings) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = Vec::new();
    for item in value.list("addresses such as \"192.0.2.1/24\"", findings).unwrap_or_default() {
        let Some(net) = item.interface_address(findings) else { continue };
        if nets.iter().any(|known| known.addr() == net.addr()) {
            let message = format!("the address {} is here twice (expected each once)", net.addr());
            findings.error(item.at(), message);
            continue;
        }
        if let Some(kind) = group_address(net, net.addr()) {
            let message = format!(
                "the address {net} is no host's (expected one host's on {}, found {kind})",
                net.trunc()
            );
            findings
                .warning(item.at(), message)
                .help("write an address of which the rest behind the length is this box's");
        }
        nets.push(net);
    }
    nets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_under_all_its_spellings() {
        assert_eq!(identity("3B:00.0"), identity("0000:3b:00.0,mprq_en=1"));
        assert_eq!(identity("net_tap0,iface=a"), identity("net_tap0"));
        assert_ne!(identity("net_tap0"), identity("net_tap1"));
    }
}

//! How far addresses reach: which are forwarded, which belong to one link, and which can never stand in a packet.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Prefixes in which no host has its address: unspecified, loopback, multicast and reserved ones (RFC 6890, RFC 4291 §2.4).
const WITHOUT_HOSTS: [IpNet; 5] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 127)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
];

/// How far a destination reaches (RFC 6890, RFC 4291 §2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Forwarded.
    Global,
    /// One host on this link.
    LinkUnicast,
    /// Every host on this link that listens: the host's, if it does.
    LinkGroup,
    /// Loopback, unspecified, reserved, or multicast beyond the link, which is not routed here.
    Never,
}

/// The scope of a destination.
#[inline]
pub fn scope(destination: IpAddr) -> Scope {
    match destination {
        IpAddr::V4(address) => match address.octets() {
            [255, 255, 255, 255] | [224, 0, 0, _] => Scope::LinkGroup,
            [0 | 127 | 224..=255, ..] => Scope::Never,
            _ => Scope::Global,
        },
        IpAddr::V6(address) => match address.segments() {
            [0xff00..=0xffff, ..] if address.octets()[1] & 0x0f == 2 => Scope::LinkGroup,
            [0xff00..=0xffff, ..] => Scope::Never,
            [0xfe80..=0xfebf, ..] => Scope::LinkUnicast,
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Scope::Never,
            _ => Scope::Global,
        },
    }
}

/// Whether an address is that of one host.
pub fn is_unicast(address: IpAddr) -> bool {
    matches!(scope(address), Scope::Global | Scope::LinkUnicast)
}

/// Whether some address of a prefix is that of one host.
pub fn holds_unicast(prefix: IpNet) -> bool {
    !WITHOUT_HOSTS.iter().any(|without| without.contains(&prefix))
}

/// Whether an address can never be a sender's beyond its own link (RFC 1812 §5.3.7, RFC 4291 §2.5 to 2.7).
#[inline]
pub fn is_martian_source(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(address) => matches!(address.octets(), [0 | 127 | 224..=255, ..]),
        IpAddr::V6(_) => scope(source) != Scope::Global,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ipv4, ipv6};

    #[test]
    fn destinations_by_the_registries_of_rfc_6890_and_rfc_4291() {
        let rows = [
            ("192.0.2.1", Scope::Global),
            ("10.0.0.1", Scope::Global),
            ("169.254.240.1", Scope::Global), // tunnel interfaces of scrubbing services are numbered from there
            ("223.255.255.255", Scope::Global),
            ("0.0.0.0", Scope::Never),
            ("127.0.0.1", Scope::Never),
            ("224.0.0.5", Scope::LinkGroup),
            ("224.0.1.1", Scope::Never),
            ("239.1.2.3", Scope::Never),
            ("240.0.0.1", Scope::Never),
            ("255.255.255.255", Scope::LinkGroup),
            ("2001:db8::1", Scope::Global),
            ("fd00::1", Scope::Global),
            ("::", Scope::Never),
            ("::1", Scope::Never),
            ("fe80::1", Scope::LinkUnicast),
            ("febf::1", Scope::LinkUnicast),
            ("ff02::1", Scope::LinkGroup),
            ("ff12::1", Scope::LinkGroup),
            ("ff05::2", Scope::Never),
        ];
        for (address, expected) in rows {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(scope(address), expected, "{address}");
            let is_global = match address {
                IpAddr::V4(address) => ipv4::is_global(address),
                IpAddr::V6(address) => ipv6::is_global(address),
            };
            assert_eq!(is_global, expected == Scope::Global && !is_martian_source(address), "{address}");
        }
    }

    #[test]
    fn prefixes_hold_hosts_unless_all_of_them_is_set_aside() {
        for without in WITHOUT_HOSTS {
            assert!(!holds_unicast(without), "{without}");
            for address in [without.network(), without.broadcast()] {
                assert!(!is_unicast(address) && !holds_unicast(IpNet::from(address)), "{address}");
            }
            let wider = without.supernet().unwrap();
            assert!(holds_unicast(wider), "{wider}");
            assert!(is_unicast(wider.network()) || is_unicast(wider.broadcast()), "{wider}");
        }
    }

    #[test]
    fn senders_are_single_hosts_beyond_the_link() {
        for address in
            ["0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "ff02::1"]
        {
            assert!(is_martian_source(address.parse().unwrap()), "{address}");
        }
        for address in ["192.0.2.1", "169.254.240.1", "2001:db8::1"] {
            assert!(!is_martian_source(address.parse().unwrap()), "{address}");
        }
    }
}

//! Networks that the box is on, and look-ups of routes as far as checking needs them.

use super::document::Findings;
use forwarder::table::{InterfaceId, Remote, RouteTarget, Spec, TunnelId};
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Items by prefix, found by the longest prefix that holds an address: two lists, sorted by prefix and then as they came.
#[derive(Debug)]
pub(super) struct Prefixes<T> {
    prefixes: Vec<Key>,
    items: Vec<T>,
    lens: BTreeSet<(bool, u8)>,
}

/// A prefix as numbers, which compare faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    bits: u128,
    len: u8,
    is_ipv4: bool,
}

impl Key {
    fn of(prefix: IpNet) -> Self {
        let (bits, is_ipv4) = match prefix.network() {
            IpAddr::V4(address) => (u128::from(u32::from(address)), true),
            IpAddr::V6(address) => (u128::from(address), false),
        };
        Key { bits, len: prefix.prefix_len(), is_ipv4 }
    }
}

impl<T> FromIterator<(IpNet, T)> for Prefixes<T> {
    fn from_iter<I: IntoIterator<Item = (IpNet, T)>>(items: I) -> Self {
        let mut sorted: Vec<(Key, T)> =
            items.into_iter().map(|(prefix, item)| (Key::of(prefix), item)).collect();
        sorted.sort_by_key(|(prefix, _)| *prefix);
        let (prefixes, items): (Vec<Key>, Vec<T>) = sorted.into_iter().unzip();
        let lens = prefixes.iter().map(|prefix| (prefix.is_ipv4, prefix.len)).collect();
        Prefixes { prefixes, items, lens }
    }
}

impl<T> Prefixes<T> {
    /// The items of exactly this prefix.
    pub(super) fn at(&self, prefix: IpNet) -> &[T] {
        let prefix = Key::of(prefix);
        let start = self.prefixes.partition_point(|other| *other < prefix);
        let alike = self.prefixes.iter().skip(start).take_while(|other| **other == prefix).count();
        self.items.get(start..start + alike).unwrap_or_default()
    }

    /// The items of the longest prefix that holds `address`.
    pub(super) fn holding(&self, address: IpAddr) -> &[T] {
        self.longest(address).map_or(&[], |(_, items)| items)
    }

    /// The longest prefix that holds `address`.
    pub(super) fn network(&self, address: IpAddr) -> Option<IpNet> {
        self.longest(address).map(|(prefix, _)| prefix)
    }

    /// The longest prefix that holds `address`, and its items.
    pub(super) fn longest(&self, address: IpAddr) -> Option<(IpNet, &[T])> {
        let mut lens = self.lens.iter().rev().filter(|(is_ipv4, _)| *is_ipv4 == address.is_ipv4());
        lens.find_map(|(_, len)| {
            let prefix = IpNet::new(address, *len).ok()?.trunc();
            Some((prefix, self.at(prefix))).filter(|(_, items)| !items.is_empty())
        })
    }
}

/// What a network is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    Interface(InterfaceId),
    Tunnel(TunnelId),
}

/// The networks of the box's own addresses. A tunnel that only receives has none: nothing can be sent there.
pub(super) fn connected(spec: &Spec) -> Prefixes<Attached> {
    let interfaces = (0..).map(InterfaceId).zip(&spec.interfaces);
    let of_interfaces = interfaces.flat_map(|(id, interface)| {
        interface.addresses.iter().map(move |net| (*net, Attached::Interface(id)))
    });
    let tunnels = (0..).map(TunnelId).zip(&spec.tunnels);
    let of_tunnels = tunnels
        .filter(|(_, tunnel)| matches!(tunnel.remote, Remote::One(_)))
        .flat_map(|(id, tunnel)| tunnel.addresses.iter().map(move |net| (*net, Attached::Tunnel(id))));
    of_interfaces.chain(of_tunnels).collect()
}

/// What an address is that no single host of its network has: in words. IPv4 networks of 31 and 32 bits have none such
/// (RFC 3021), nor have IPv6 ones of 127 and 128 (RFC 6164).
pub(super) fn group_address(net: IpNet, address: IpAddr) -> Option<&'static str> {
    if net.max_prefix_len() - net.prefix_len() < 2 {
        return None;
    }
    match address {
        IpAddr::V4(_) if address == net.broadcast() => Some("the network's broadcast address"),
        IpAddr::V4(_) if address == net.network() => Some("the network's own address (RFC 1122 §3.2.1.3)"),
        IpAddr::V6(_) if address == net.network() => {
            Some("the anycast address of its routers (RFC 4291 §2.6.1)")
        }
        _ => None,
    }
}

/// Warns of an end of packets that is a group's in the network it is on. Returns whether it is.
pub(super) fn check_station(
    network: Option<IpNet>,
    address: IpAddr,
    what: &str,
    at: usize,
    findings: &mut Findings,
) -> bool {
    // Any router answers for the anycast address of IPv6, so that one serves as a next hop.
    let network = network.filter(|_| address.is_ipv4());
    let Some((net, kind)) = network.and_then(|net| Some((net.trunc(), group_address(net, address)?))) else {
        return false;
    };
    let message =
        format!("{what} {address} is no host's address (expected one host's on {net}, found {kind})");
    findings.warning(at, message).help("write the address of the host that is meant");
    true
}

/// Of these networks the smallest that holds `address`.
pub(super) fn network_of(nets: &[IpNet], address: IpAddr) -> Option<IpNet> {
    nets.iter().filter(|net| net.contains(&address)).max_by_key(|net| net.prefix_len()).copied()
}

/// Whether `address` is on a network of this interface. IPv6 link-local addresses are on every one (RFC 4291 §2.5.6).
pub(super) fn is_on(spec: &Spec, interface: InterfaceId, address: IpAddr) -> bool {
    if let IpAddr::V6(ipv6) = address
        && ipv6.is_unicast_link_local()
    {
        return true;
    }
    let interface = spec.interfaces.get(usize::from(interface.0));
    interface.is_some_and(|interface| interface.addresses.iter().any(|net| net.contains(&address)))
}

/// Prefixes that routes put on an interface directly.
pub(super) fn on_link(spec: &Spec) -> HashMap<InterfaceId, Vec<IpNet>> {
    let mut prefixes: HashMap<InterfaceId, Vec<IpNet>> = HashMap::new();
    for route in &spec.routes {
        if let RouteTarget::Interface(interface) = route.target {
            prefixes.entry(interface).or_default().push(route.prefix);
        }
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_network_holds_an_address() {
        let nets = ["10.0.0.1/8", "10.1.0.1/31", "192.0.2.1/24"].map(|net| net.parse().unwrap());
        let network = |address: &str| network_of(&nets, address.parse().unwrap()).map(|net| net.to_string());
        assert_eq!(network("10.1.0.0").as_deref(), Some("10.1.0.1/31"));
        assert_eq!(network("10.1.0.2").as_deref(), Some("10.0.0.1/8"));
        assert_eq!(network("198.51.100.1"), None);
    }

    #[test]
    fn networks_have_addresses_of_no_single_host() {
        let kind = |net: &str, address: &str| group_address(net.parse().unwrap(), address.parse().unwrap());
        assert!(kind("192.0.2.0/24", "192.0.2.255").unwrap().contains("broadcast"));
        assert!(kind("192.0.2.4/30", "192.0.2.4").unwrap().contains("own"));
        assert!(kind("2001:db8::/64", "2001:db8::").unwrap().contains("anycast"));
        for (net, address) in [
            ("192.0.2.0/24", "192.0.2.254"),
            ("192.0.2.0/31", "192.0.2.0"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("2001:db8::/127", "2001:db8::"),
            ("2001:db8::/64", "2001:db8::ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(kind(net, address), None, "{address} in {net}");
        }
    }

    #[test]
    fn the_longest_prefix_of_the_family_holds_an_address() {
        let rows = [("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("10.1.0.9/16", 3), ("::/0", 4)];
        let prefixes: Prefixes<u8> =
            rows.into_iter().map(|(prefix, item)| (prefix.parse().unwrap(), item)).collect();
        for (address, item) in [("10.1.2.3", 3), ("10.2.2.3", 2), ("192.0.2.1", 1), ("2001:db8::1", 4)] {
            assert_eq!(prefixes.holding(address.parse().unwrap()), [item]);
            assert!(prefixes.at(prefixes.network(address.parse().unwrap()).unwrap()) == [item]);
        }
        assert_eq!(prefixes.at("10.1.0.0/16".parse().unwrap()), [3]);
        assert_eq!(Prefixes::<u8>::from_iter([]).network("192.0.2.1".parse().unwrap()), None);
        assert!(prefixes.at("10.1.0.0/17".parse().unwrap()).is_empty());
    }
}

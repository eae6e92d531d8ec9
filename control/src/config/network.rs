//! Networks that the box is on, and look-ups of routes as far as checking needs them.

use forwarder::table::{InterfaceId, Remote, RouteTarget, Spec, TunnelId};
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Items by prefix, found by the longest prefix that holds an address.
#[derive(Debug)]
pub(super) struct Prefixes<T> {
    by_prefix: HashMap<IpNet, Vec<T>>,
    lens: BTreeSet<(bool, u8)>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Prefixes { by_prefix: HashMap::new(), lens: BTreeSet::new() }
    }
}

impl<T> Prefixes<T> {
    pub(super) fn add(&mut self, prefix: IpNet, item: T) {
        let prefix = prefix.trunc();
        self.lens.insert((prefix.addr().is_ipv4(), prefix.prefix_len()));
        self.by_prefix.entry(prefix).or_default().push(item);
    }

    /// The items of exactly this prefix.
    pub(super) fn at(&self, prefix: IpNet) -> &[T] {
        self.by_prefix.get(&prefix.trunc()).map_or(&[], Vec::as_slice)
    }

    /// The items of the longest prefix that holds `address`.
    pub(super) fn holding(&self, address: IpAddr) -> &[T] {
        let lens = self.lens.iter().rev().filter(|(is_ipv4, _)| *is_ipv4 == address.is_ipv4());
        for (_, len) in lens {
            let prefix = IpNet::new(address, *len).ok().map(|net| net.trunc());
            if let Some(items) = prefix.and_then(|prefix| self.by_prefix.get(&prefix)) {
                return items;
            }
        }
        &[]
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
    let mut networks = Prefixes::default();
    for (index, interface) in (0..).zip(&spec.interfaces) {
        for net in &interface.addresses {
            networks.add(*net, Attached::Interface(InterfaceId(index)));
        }
    }
    for (index, tunnel) in (0..).zip(&spec.tunnels) {
        if let Remote::One(_) = tunnel.remote {
            for net in &tunnel.addresses {
                networks.add(*net, Attached::Tunnel(TunnelId(index)));
            }
        }
    }
    networks
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
    fn the_longest_prefix_of_the_family_holds_an_address() {
        let mut prefixes = Prefixes::default();
        for (prefix, item) in [("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("10.1.0.9/16", 3), ("::/0", 4)] {
            prefixes.add(prefix.parse().unwrap(), item);
        }
        for (address, item) in [("10.1.2.3", 3), ("10.2.2.3", 2), ("192.0.2.1", 1), ("2001:db8::1", 4)] {
            assert_eq!(prefixes.holding(address.parse().unwrap()), [item]);
        }
        assert_eq!(prefixes.at("10.1.0.0/16".parse().unwrap()), [3]);
        assert!(prefixes.at("10.1.0.0/17".parse().unwrap()).is_empty());
    }
}

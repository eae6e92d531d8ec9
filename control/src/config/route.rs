//! `[[route]]`: where destinations go.

use super::document::{Findings, Table};
use super::names::Names;
use super::neighbor::networks;
use super::network::{Attached, Prefixes, check_station, connected, is_on, network_of};
use super::place::Place;
use super::tunnel::named;
use super::value::Value;
use forwarder::table::{InterfaceId, Remote, RouteSpec, RouteTarget, Spec};
use ipnet::IpNet;
use std::net::IpAddr;

/// What routes are checked against.
pub(super) struct Routes<'a> {
    spec: &'a Spec,
    names: &'a Names,
    connected: Prefixes<Attached>,
    /// Whether all addresses of interfaces and tunnels could be read.
    knows_networks: bool,
}

impl<'a> Routes<'a> {
    pub(super) fn new(spec: &'a Spec, names: &'a Names, knows_networks: bool) -> Self {
        Routes { spec, names, connected: connected(spec), knows_networks }
    }

    /// Reads one `[[route]]`.
    pub(super) fn read(&self, mut table: Table<'_>, findings: &mut Findings) -> Option<(RouteSpec, Place)> {
        let prefix = table.require("prefix", findings).and_then(|value| value.prefix(findings));
        let target = self.target(&mut table, prefix, findings);
        let weight = table.get("weight").map_or(Some(1), |value| value.number("", 1..=65_535, findings));
        let priority = table
            .get("priority")
            .map_or(Some(100), |value| value.number("", 0..=u64::from(u32::MAX), findings));
        let place = table.finish(findings);
        Some((RouteSpec { prefix: prefix?, target: target?, weight: weight?, priority: priority? }, place))
    }

    fn target(
        &self,
        table: &mut Table<'_>,
        prefix: Option<IpNet>,
        findings: &mut Findings,
    ) -> Option<RouteTarget> {
        let (tunnel, gateway, interface) =
            (table.get("tunnel"), table.get("gateway"), table.get("interface"));
        match (tunnel, gateway, interface) {
            (Some(tunnel), None, None) => self.tunnel(tunnel, findings),
            (None, Some(gateway), interface) => self.gateway(gateway, interface, prefix, findings),
            (None, None, Some(interface)) => {
                Some(RouteTarget::Interface(self.names.interface(interface, findings)?))
            }
            (None, None, None) => {
                let message = "the route leads nowhere (expected one of `tunnel`, `gateway` and `interface`, found none)";
                findings.error(table.header(), message).absence();
                None
            }
            (Some(tunnel), gateway, interface) => {
                let other = if gateway.is_some() { "gateway" } else { "interface" };
                let last =
                    [Some(tunnel), gateway, interface].into_iter().flatten().map(|value| value.at()).max();
                let message = format!(
                    "the route has several targets (expected one of `tunnel`, `gateway` and `interface`, found `tunnel` \
                     and `{other}`)"
                );
                findings
                    .error(last.unwrap_or(table.header()), message)
                    .help("only `gateway` and `interface` go together");
                None
            }
        }
    }

    fn tunnel(&self, value: Value<'_>, findings: &mut Findings) -> Option<RouteTarget> {
        let id = self.names.tunnel(value, findings)?;
        let tunnel = self.spec.tunnels.get(id.0 as usize)?;
        if let Remote::Senders(senders) = &tunnel.remote {
            let message = format!(
                "{} only receives (expected a tunnel whose `remote` is one address, found {} there)",
                named(tunnel),
                match &senders[..] {
                    [one] if one.prefix_len() == 0 => "\"any\"".to_owned(),
                    [one] => format!("the prefix \"{one}\""),
                    _ => "a list".to_owned(),
                }
            );
            findings.error(value.at(), message);
            if let [one] = &senders[..]
                && one.prefix_len() == one.max_prefix_len()
            {
                findings.help_last(&format!(
                    "write remote = \"{}\", without a length, for both directions",
                    one.addr()
                ));
            }
            return None;
        }
        Some(RouteTarget::Tunnel(id))
    }

    fn gateway(
        &self,
        value: Value<'_>,
        interface: Option<Value<'_>>,
        prefix: Option<IpNet>,
        findings: &mut Findings,
    ) -> Option<RouteTarget> {
        let wanted = interface.map(|value| self.names.interface(value, findings));
        let address = value.address(findings)?;
        if let Some(prefix) = prefix.filter(|prefix| prefix.addr().is_ipv4() != address.is_ipv4()) {
            let message = format!(
                "`gateway` and `prefix` are of different families (expected an address of the family of {prefix}, \
                 found {address})"
            );
            findings.error(value.at(), message);
            return None;
        }
        let target = match wanted {
            Some(interface) => self.gateway_on(value, address, interface?, findings)?,
            None => self.gateway_anywhere(value, address, findings)?,
        };
        if let RouteTarget::Gateway { interface, .. } = target {
            let interface = self.spec.interfaces.get(usize::from(interface.0));
            let network = interface.and_then(|interface| network_of(&interface.addresses, address));
            check_station(network, address, "`gateway`", value.at(), findings);
        }
        if self.is_own(address) {
            let message =
                format!("`gateway` is the box's own address (expected another station's, found {address})");
            findings.error(value.at(), message);
        }
        Some(target)
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let attached = self.connected.holding(address);
        attached.iter().any(|attached| {
            let nets = match attached {
                Attached::Interface(id) => {
                    self.spec.interfaces.get(usize::from(id.0)).map(|spec| &spec.addresses[..])
                }
                Attached::Tunnel(id) => self.spec.tunnels.get(id.0 as usize).map(|spec| &spec.addresses[..]),
            };
            nets.is_some_and(|nets| nets.iter().any(|net| net.addr() == address))
        })
    }

    fn gateway_on(
        &self,
        value: Value<'_>,
        address: IpAddr,
        interface: InterfaceId,
        findings: &mut Findings,
    ) -> Option<RouteTarget> {
        if !is_on(self.spec, interface, address) {
            let spec = self.spec.interfaces.get(usize::from(interface.0))?;
            if self.knows_networks {
                let message = format!(
                    "`gateway` is on no connected network of \"{}\" (expected an address in one of {}, found {address})",
                    spec.name,
                    networks(&spec.addresses)
                );
                findings.error(value.at(), message).absence();
            }
            return None;
        }
        Some(RouteTarget::Gateway { address, interface })
    }

    /// The interface or tunnel whose network a gateway is on. On a tunnel's network the other end is the gateway.
    fn gateway_anywhere(
        &self,
        value: Value<'_>,
        address: IpAddr,
        findings: &mut Findings,
    ) -> Option<RouteTarget> {
        let is_link_local = matches!(address, IpAddr::V6(ipv6) if ipv6.is_unicast_link_local());
        match self.connected.holding(address) {
            [] if is_link_local => {
                let message =
                    format!("`gateway` {address} is link-local (expected `interface` beside it, found none)");
                findings.error(value.at(), message);
            }
            [] if self.knows_networks => {
                let message = format!(
                    "`gateway` is on no connected network (expected an address in a network of some port, VLAN or \
                     tunnel, found {address})"
                );
                findings.error(value.at(), message).absence();
            }
            [] => {}
            [Attached::Interface(interface)] => {
                return Some(RouteTarget::Gateway { address, interface: *interface });
            }
            [Attached::Tunnel(tunnel)] => return Some(RouteTarget::Tunnel(*tunnel)),
            several => {
                let message = format!(
                    "`gateway` {address} is on {} connected networks (expected `interface` or `tunnel` to say which, \
                     found neither)",
                    several.len()
                );
                findings.error(value.at(), message);
            }
        }
        None
    }
}

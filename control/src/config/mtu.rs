//! MTUs that the file may have and that hardly do what was meant: too small for IPv6, or for what the senders use.

use super::Places;
use super::document::Findings;
use super::tunnel::named;
use forwarder::table::{Remote, RouteTarget, Spec, Tables, TunnelId, TunnelSummary};
use std::collections::HashSet;

/// The smallest MTU of a link that carries IPv6 (RFC 8200 §5).
const IPV6_MTU: u16 = 1280;

/// Adds the warnings about them. `tables` know the tunnels' MTUs.
pub(super) fn add(spec: &Spec, places: &Places, tables: &Tables, findings: &mut Findings) {
    small_tunnels(spec, places, tables, findings);
    small_interfaces(spec, places, findings);
    large_senders(spec, places, tables, findings);
}

/// Tunnels into which IPv6 is sent and of which every packet from their MTU to 1280 bytes is cut.
fn small_tunnels(spec: &Spec, places: &Places, tables: &Tables, findings: &mut Findings) {
    let routed = spec.routes.iter().filter_map(|route| match route.target {
        RouteTarget::Tunnel(id) if route.prefix.addr().is_ipv6() => Some(id),
        _ => None,
    });
    let routed: HashSet<TunnelId> = routed.collect();
    let tunnels = (0..).map(TunnelId).zip(&spec.tunnels).zip(&places.tunnels).zip(tables.summaries());
    for (((id, tunnel), place), summary) in tunnels {
        let TunnelSummary { mtu, overhead, reachable, .. } = *summary;
        let has_ipv6 = routed.contains(&id) || tunnel.addresses.iter().any(|net| net.addr().is_ipv6());
        let sends = matches!(tunnel.remote, Remote::One(_));
        if mtu >= IPV6_MTU || !has_ipv6 || !reachable || !sends {
            continue;
        }
        let message = format!(
            "IPv6 is sent into {}, whose MTU is below that of every IPv6 link (RFC 8200 §5): larger packets of up to \
             {IPV6_MTU} bytes go in whole and each is cut outside (expected at least {IPV6_MTU}, found {mtu})",
            named(tunnel)
        );
        let help = match tunnel.mtu {
            Some(_) => format!(
                "write mtu = {IPV6_MTU} or more; the way below has to take {overhead} bytes above that"
            ),
            None => {
                let whole = IPV6_MTU.saturating_add(overhead);
                format!("raise the mtu of what carries it: its [[port]] has to take {whole} bytes")
            }
        };
        findings.warning(place.of("mtu"), message).help(help);
    }
}

/// IPv6 routes by an interface that is too small for it.
fn small_interfaces(spec: &Spec, places: &Places, findings: &mut Findings) {
    for (route, place) in spec.routes.iter().zip(&places.routes) {
        let (id, key) = match route.target {
            RouteTarget::Gateway { interface, .. } => (interface, "gateway"),
            RouteTarget::Interface(interface) => (interface, "interface"),
            RouteTarget::Tunnel(_) => continue,
        };
        let Some(interface) = spec.interfaces.get(usize::from(id.0)) else { continue };
        if route.prefix.addr().is_ipv6() && interface.mtu < IPV6_MTU {
            let message = format!(
                "the route sends IPv6 by \"{}\", which is too small for it (expected an mtu of at least {IPV6_MTU} as \
                 RFC 8200 §5 asks for, found {})",
                interface.name, interface.mtu
            );
            let help = format!("write mtu = {IPV6_MTU} or more in the [[port]]");
            findings.warning(place.of(key), message).help(help);
        }
    }
}

/// Tunnels that only receive, and with a profile whose packets are larger than the port takes on which they arrive. Of a
/// tunnel that sends the compiler says so.
fn large_senders(spec: &Spec, places: &Places, tables: &Tables, findings: &mut Findings) {
    for ((tunnel, place), summary) in spec.tunnels.iter().zip(&places.tunnels).zip(tables.summaries()) {
        let (Remote::Senders(_), Some("profile"), Some(mtu)) =
            (&tunnel.remote, place.giver("mtu"), tunnel.mtu)
        else {
            continue;
        };
        let own = spec.interfaces.iter().find(|it| it.addresses.iter().any(|net| net.addr() == tunnel.local));
        let Some(interface) = own.or_else(|| spec.interfaces.iter().max_by_key(|it| it.mtu)) else {
            continue;
        };
        let whole = mtu.saturating_add(summary.overhead);
        if whole > interface.mtu {
            let message = format!(
                "the profile of {} lets its senders use {mtu} bytes, which are {whole} with all headers and more than \
                 \"{}\" takes (expected at most {}, found {whole})",
                named(tunnel),
                interface.name,
                interface.mtu
            );
            let help =
                format!("write mtu = {whole} in the [[port]] of \"{}\", or another profile", interface.name);
            findings.warning(place.of("profile"), message).help(help);
        }
    }
}

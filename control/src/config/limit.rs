//! What a file may say about the MSS and hardly can mean: numbers that are none, and clamps on the side that cannot help.

use super::Places;
use super::document::{Findings, Place};
use super::tunnel::named;
use forwarder::table::{ClampOn, ClampSpec, InterfaceId, Mss, Remote, RouteTarget, Spec, Tables, TunnelId};

/// A family with its key, and bytes of its IP and TCP headers without options: what an MSS leaves of an MTU (RFC 6691 §2).
#[derive(Clone, Copy, Debug)]
struct Family {
    name: &'static str,
    key: &'static str,
    headers: u16,
}

const FAMILIES: [Family; 2] =
    [Family { name: "IPv4", key: "ipv4", headers: 40 }, Family { name: "IPv6", key: "ipv6", headers: 60 }];

/// MTUs that are often written where an MSS belongs.
const WELL_KNOWN_MTUS: [(u16, &str); 2] = [(1500, "Ethernet"), (1476, "GRE over a path of 1500 bytes")];

/// What a limit is on.
struct Crossed {
    name: String,
    mtu: u16,
    /// MTUs of tunnels that the limit may be meant for; none where it is on a tunnel itself.
    behind: Vec<(String, u16)>,
}

/// Warnings about every MSS limit. `tables` know the tunnels' MTUs.
pub(super) fn warnings(spec: &Spec, places: &Places, tables: &Tables) -> Findings {
    let mut findings = Findings::default();
    let mtus: Vec<u16> = tables.summaries().iter().map(|summary| summary.mtu).collect();
    let crossed = |on: ClampOn| match on {
        ClampOn::Tunnel(id) => {
            let tunnel = spec.tunnels.get(id.0 as usize)?;
            Some(Crossed { name: named(tunnel), mtu: *mtus.get(id.0 as usize)?, behind: Vec::new() })
        }
        ClampOn::Interface(id) => {
            let interface = spec.interfaces.get(usize::from(id.0))?;
            let behind = spec.tunnels.iter().map(named).zip(mtus.iter().copied()).collect();
            Some(Crossed { name: format!("\"{}\"", interface.name), mtu: interface.mtu, behind })
        }
    };
    for ((id, tunnel), place) in (0..).map(TunnelId).zip(&spec.tunnels).zip(&places.tunnels) {
        if let (Mss::Fixed { ipv4, ipv6 }, Some(crossed)) = (tunnel.mss, crossed(ClampOn::Tunnel(id))) {
            let at = place.of("mss");
            numbers(&crossed, [(ipv4, at), (ipv6, at)], &mut findings);
        }
    }
    for (clamp, place) in spec.clamps.iter().zip(&places.clamps) {
        if let Some(crossed) = crossed(clamp.on) {
            let limits = [(clamp.ipv4, place.of("ipv4")), (clamp.ipv6, place.of("ipv6"))];
            numbers(&crossed, limits, &mut findings);
        }
    }
    sides(spec, places, &mut findings);
    findings
}

/// Limits that are no MSS of what they are on, at most one warning for each.
fn numbers(crossed: &Crossed, limits: [(Option<u16>, usize); 2], findings: &mut Findings) {
    let [(ipv4, _), _] = limits;
    for (family, (limit, at)) in FAMILIES.into_iter().zip(limits) {
        let Some(limit) = limit else { continue };
        let Family { name, key, headers } = family;
        let room = crossed.mtu.saturating_sub(headers);
        if let Some(whose) = is_mtu(crossed, limit, headers) {
            let message = format!(
                "the {name} MSS {limit} is the MTU of {whose} (expected {headers} bytes less for the {name} and TCP \
                 headers, found the MTU itself)"
            );
            let right = limit.saturating_sub(headers).min(room);
            findings.warning(at, message).help(format!("write {key} = {right}"));
        } else if key == "ipv6" && ipv4 == Some(limit) {
            let right = limit.saturating_sub(20).min(room);
            let message = format!(
                "the IPv6 MSS is the number for IPv4 (expected {right}, as the IPv6 header is 20 bytes longer; found \
                 {limit} for both)"
            );
            findings.warning(at, message).help(format!("write ipv6 = {right}"));
        } else if limit > room {
            let message = format!(
                "the {name} MSS is more than {} carries (expected at most {room}, which is its mtu {} less {headers} \
                 bytes of headers; found {limit})",
                crossed.name, crossed.mtu
            );
            findings.warning(at, message).help(format!("write {key} = {room}"));
        }
    }
}

/// Whose MTU a limit is that was meant to be an MSS.
fn is_mtu(crossed: &Crossed, limit: u16, headers: u16) -> Option<String> {
    if limit == crossed.mtu {
        return Some(crossed.name.clone());
    }
    let is_mss = |mtu: u16| mtu.checked_sub(headers) == Some(limit);
    if is_mss(crossed.mtu) || crossed.behind.iter().any(|(_, mtu)| is_mss(*mtu)) {
        return None;
    }
    let tunnel = crossed.behind.iter().find(|(_, mtu)| *mtu == limit).map(|(name, _)| name.clone());
    let well_known = || WELL_KNOWN_MTUS.iter().find(|(mtu, _)| *mtu == limit).map(|(_, of)| (*of).to_owned());
    tunnel.or_else(well_known)
}

/// Clamps that act on the direction that has room. An MSS limits what its sender receives: where tunnels only receive, and
/// answers leave by another way, it is the SYN or SYN-ACK on that other way that keeps the tunnel's packets small.
fn sides(spec: &Spec, places: &Places, findings: &mut Findings) {
    let only_receives = |remote: &Remote| matches!(remote, Remote::Senders(_));
    let receives = spec.tunnels.iter().any(|tunnel| only_receives(&tunnel.remote));
    // With a tunnel that sends, a SYN that comes out of another one may be answered through it.
    let returns_directly = receives && spec.tunnels.iter().all(|tunnel| only_receives(&tunnel.remote));
    for (tunnel, place) in spec.tunnels.iter().zip(&places.tunnels) {
        if let Mss::Fixed { ipv4, ipv6 } = tunnel.mss
            && returns_directly
            && place.giver("mss") == Some("mss")
        {
            let help = format!("write mss = \"off\" here, and {}", clamp_out(spec, ipv4, ipv6));
            findings.warning(place.of("mss"), wrong_way(&named(tunnel), "mss")).help(help);
        }
    }
    for (clamp, place) in spec.clamps.iter().zip(&places.clamps) {
        match clamp.on {
            ClampOn::Tunnel(id) => {
                let Some(tunnel) = spec.tunnels.get(id.0 as usize) else { continue };
                if !only_receives(&tunnel.remote) {
                    continue;
                }
                let help = format!("write {} instead", clamp_out(spec, clamp.ipv4, clamp.ipv6));
                if !clamp.input {
                    let message = format!(
                        "nothing goes into {}, which only receives: the clamp never acts (expected a clamp on what \
                         leaves towards the internet, found direction = \"out\" on the tunnel)",
                        named(tunnel)
                    );
                    findings.warning(place.of("direction"), message).help(help);
                } else if returns_directly {
                    findings.warning(place.of("on"), wrong_way(&named(tunnel), "clamp")).help(help);
                }
            }
            ClampOn::Interface(id) if returns_directly => incoming(spec, id, clamp, place, findings),
            ClampOn::Interface(_) => {}
        }
    }
}

fn wrong_way(tunnel: &str, what: &str) -> String {
    format!(
        "{tunnel} only receives, so this {what} lowers SYNs that come out of it and nothing else: that limits the answers, \
         which do not go through the tunnel (expected a clamp on SYN and SYN-ACK that leave towards the internet)"
    )
}

/// A clamp on what comes in by the interface that leads to the internet.
fn incoming(spec: &Spec, id: InterfaceId, clamp: &ClampSpec, place: &Place, findings: &mut Findings) {
    let is_answered = spec.clamps.iter().any(|other| other.on == clamp.on && other.output);
    if clamp.output || is_answered || !default_ways(spec).any(|way| way == id) {
        return;
    }
    let message = "the clamp lowers SYNs that come in, which limits what is sent to the internet; what comes back through \
                   the tunnel stays as large as before (expected direction = \"out\", found \"in\")";
    findings.warning(place.of("direction"), message).help("write direction = \"out\"");
}

/// What to write so that packets through a tunnel that only receives stay small.
fn clamp_out(spec: &Spec, ipv4: Option<u16>, ipv6: Option<u16>) -> String {
    let interface = default_ways(spec).next().and_then(|id| spec.interfaces.get(usize::from(id.0)));
    let on = match interface {
        Some(interface) => format!("on = \"{}\"", interface.name),
        None => "on = the interface by which answers leave".to_owned(),
    };
    let limit =
        |key: &str, limit: Option<u16>| limit.map(|limit| format!(", {key} = {limit}")).unwrap_or_default();
    format!("[[mss_clamp]] with {on}, direction = \"out\"{}{}", limit("ipv4", ipv4), limit("ipv6", ipv6))
}

/// The interfaces by which default routes lead out.
fn default_ways(spec: &Spec) -> impl Iterator<Item = InterfaceId> {
    let defaults = spec.routes.iter().filter(|route| route.prefix.prefix_len() == 0);
    defaults.filter_map(|route| match route.target {
        RouteTarget::Gateway { interface, .. } | RouteTarget::Interface(interface) => Some(interface),
        RouteTarget::Tunnel(_) => None,
    })
}

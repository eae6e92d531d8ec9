//! What a file may say about the MSS and hardly can mean: numbers that are none, or are another family's. On which side
//! they help is in [`super::side`].

use super::Places;
use super::document::Findings;
use super::profile::PROFILES;
use super::side::Sides;
use super::tunnel::named;
use forwarder::table::{ClampOn, ClampSpec, Mss, Spec, Tables, TunnelId, TunnelSpec};

/// A family with its key, and bytes of its IP and TCP headers without options: what an MSS leaves of an MTU (RFC 6691 §2).
#[derive(Clone, Copy, Debug)]
struct Family {
    name: &'static str,
    key: &'static str,
    headers: u16,
}

const IPV4: Family = Family { name: "IPv4", key: "ipv4", headers: 40 };
const IPV6: Family = Family { name: "IPv6", key: "ipv6", headers: 60 };

/// MTUs that are often written where an MSS belongs, beside those of the profiles.
const WELL_KNOWN_MTUS: [(u16, &str); 3] = [
    (1500, "Ethernet"),
    (1476, "GRE over a path of 1500 bytes"),
    (1428, "GRE in FOU over IPv6 over a path of 1500 bytes"),
];

/// What a limit is on.
struct Crossed<'a> {
    name: String,
    mtu: u16,
    /// MTUs of tunnels that the limit may be meant for; none where it is on a tunnel itself.
    behind: &'a [(&'a TunnelSpec, u16)],
    /// The tunnel by which packets come that a limit on their answers is to keep small.
    inward: Option<(String, u16)>,
}

/// Adds warnings about every MSS limit. `tables` know the tunnels' MTUs.
pub(super) fn add(spec: &Spec, places: &Places, tables: &Tables, sides: &Sides<'_>, findings: &mut Findings) {
    let mtus: Vec<u16> = tables.summaries().iter().map(|summary| summary.mtu).collect();
    let tunnels: Vec<(&TunnelSpec, u16)> = spec.tunnels.iter().zip(mtus).collect();
    let crossed = |on: ClampOn| match on {
        ClampOn::Tunnel(id) => {
            let (tunnel, mtu) = *tunnels.get(id.0 as usize)?;
            Some(Crossed { name: named(tunnel), mtu, behind: &[], inward: None })
        }
        ClampOn::Interface(id) => {
            let interface = spec.interfaces.get(usize::from(id.0))?;
            let name = format!("\"{}\"", interface.name);
            Some(Crossed { name, mtu: interface.mtu, behind: &tunnels, inward: None })
        }
    };
    for ((id, tunnel), place) in (0..).map(TunnelId).zip(&spec.tunnels).zip(&places.tunnels) {
        if let Mss::Fixed { ipv4, ipv6 } = tunnel.mss
            && let Some(crossed) = crossed(ClampOn::Tunnel(id))
        {
            let at = place.of("mss");
            numbers(&crossed, [(ipv4, at), (ipv6, at)], ipv4, findings);
        }
    }
    for (clamp, place) in spec.clamps.iter().zip(&places.clamps) {
        let Some(mut crossed) = crossed(clamp.on) else { continue };
        if sides.limits_inward(clamp) {
            crossed.inward =
                tunnels.iter().max_by_key(|(_, mtu)| *mtu).map(|(tunnel, mtu)| (named(tunnel), *mtu));
        }
        let limits = [(clamp.ipv4, place.of("ipv4")), (clamp.ipv6, place.of("ipv6"))];
        numbers(&crossed, limits, beside(spec, clamp), findings);
    }
}

/// The limit for IPv4 that stands beside a clamp's for IPv6: its own, or that of a clamp for IPv4 alone in the same place.
fn beside(spec: &Spec, clamp: &ClampSpec) -> Option<u16> {
    let is_beside = |other: &&ClampSpec| {
        other.on == clamp.on
            && (other.input, other.output) == (clamp.input, clamp.output)
            && other.ipv6.is_none()
    };
    clamp.ipv6?;
    clamp.ipv4.or_else(|| spec.clamps.iter().find(is_beside).and_then(|other| other.ipv4))
}

/// Limits that are no MSS of what they are on, at most one warning for each. `ipv4` is the limit for IPv4 that the one for
/// IPv6 may have been copied from.
fn numbers(
    crossed: &Crossed<'_>,
    limits: [(Option<u16>, usize); 2],
    ipv4: Option<u16>,
    findings: &mut Findings,
) {
    for (family, (limit, at)) in [IPV4, IPV6].into_iter().zip(limits) {
        let Some(limit) = limit else { continue };
        let Family { name, key, headers } = family;
        let room = crossed.mtu.saturating_sub(headers);
        let inward = crossed.inward.as_ref().map(|(tunnel, mtu)| (tunnel, mtu.saturating_sub(headers)));
        let most = inward.map_or(room, |(_, inward)| inward.min(room));
        if let Some(whose) = is_mtu(crossed, limit, headers) {
            let message = format!(
                "the {name} MSS {limit} is the MTU of {whose} (expected {headers} bytes less for the {name} and TCP \
                 headers, found the MTU itself)"
            );
            let right = limit.saturating_sub(headers).min(most);
            findings.warning(at, message).help(format!("write {key} = {right}"));
        } else if key == "ipv6"
            && let Some(whose) = is_for_ipv4(crossed, limit, ipv4)
        {
            let right = limit.saturating_sub(20).min(most);
            let message = format!(
                "the IPv6 MSS is the number for IPv4 {whose} (expected {right}, as the IPv6 header is 20 bytes longer; \
                 found {limit})"
            );
            findings.warning(at, message).help(format!("write ipv6 = {right}"));
        } else if limit > room {
            let message = format!(
                "the {name} MSS is more than {} carries (expected at most {room}, which is its mtu {} less {headers} \
                 bytes of headers; found {limit})",
                crossed.name, crossed.mtu
            );
            findings.warning(at, message).help(format!("write {key} = {most}"));
        } else if let Some((tunnel, inward)) = inward.filter(|(_, inward)| limit > *inward) {
            let message = format!(
                "the {name} MSS is more than {tunnel} carries, by which the packets come that it is to keep small \
                 (expected at most {inward}, which is its mtu less {headers} bytes of headers; found {limit})"
            );
            findings.warning(at, message).help(format!("write {key} = {inward}"));
        }
    }
}

/// Whose MTU a limit is that was meant to be an MSS.
fn is_mtu(crossed: &Crossed<'_>, limit: u16, headers: u16) -> Option<String> {
    if limit == crossed.mtu {
        return Some(crossed.name.clone());
    }
    if is_mss(crossed, limit, headers) {
        return None;
    }
    let tunnel = crossed.behind.iter().find(|(_, mtu)| *mtu == limit).map(|(tunnel, _)| named(tunnel));
    let well_known = || WELL_KNOWN_MTUS.iter().find(|(mtu, _)| *mtu == limit).map(|(_, of)| (*of).to_owned());
    let profile = || PROFILES.iter().find(|(_, profile)| profile.mtu == limit).map(of_profile);
    tunnel.or_else(well_known).or_else(profile)
}

fn of_profile<T>((name, _): &(&str, T)) -> String {
    format!("the profile \"{name}\"")
}

/// Whether a limit is what these headers leave of an MTU here.
fn is_mss(crossed: &Crossed<'_>, limit: u16, headers: u16) -> bool {
    let mut mtus = crossed.behind.iter().map(|(_, mtu)| *mtu).chain([crossed.mtu]);
    mtus.any(|mtu| mtu.checked_sub(headers) == Some(limit))
}

/// Whose limit for IPv4 a limit for IPv6 is: the one beside it, what an MTU here leaves to IPv4, or a profile's. What fits
/// the limit beside it, or leaves just the headers of IPv6, was meant.
fn is_for_ipv4(crossed: &Crossed<'_>, limit: u16, ipv4: Option<u16>) -> Option<String> {
    if ipv4 == Some(limit) {
        return Some("beside it".to_owned());
    }
    if ipv4 == limit.checked_add(20) || is_mss(crossed, limit, IPV6.headers) {
        return None;
    }
    let is_ipv4s = |mtu: u16| mtu.checked_sub(IPV4.headers) == Some(limit);
    let behind = || crossed.behind.iter().find(|(_, mtu)| is_ipv4s(*mtu)).map(|(tunnel, _)| named(tunnel));
    let here = is_ipv4s(crossed.mtu).then(|| crossed.name.clone());
    let tunnel = here.or_else(behind).map(|name| format!("of {name}"));
    let is_profiles = |profile: &&(&str, super::Profile)| matches!(profile.1.mss, Mss::Fixed { ipv4: Some(ipv4), .. } if ipv4 == limit);
    tunnel.or_else(|| PROFILES.iter().find(is_profiles).map(|profile| format!("of {}", of_profile(profile))))
}

//! Keys that are taken and change nothing: how packets are sent, on a tunnel that only receives; the don't-fragment bit of
//! a header that has none.

use super::Places;
use super::document::Findings;
use super::place::Place;
use super::tunnel::named;
use forwarder::table::{Df, Dscp, Ecn, Mss, Remote, SourcePort, Spec, Ttl, TunnelSpec, UdpChecksum};

/// Adds the warnings about them.
pub(super) fn add(spec: &Spec, places: &Places, findings: &mut Findings) {
    for (tunnel, place) in spec.tunnels.iter().zip(&places.tunnels) {
        if let Remote::Senders(_) = tunnel.remote {
            idle_keys(tunnel, place, findings);
        } else if has_idle_df(tunnel) {
            let message = format!(
                "`df` is without effect on {}: IPv6, its outer header, has no such bit and is never cut by others (expected \
                 it where `local` is IPv4, found {})",
                named(tunnel),
                tunnel.local
            );
            findings.warning(place.of("df"), message).help("leave `df` away");
        }
    }
}

fn has_idle_df(tunnel: &TunnelSpec) -> bool {
    tunnel.df != Df::Set && tunnel.local.is_ipv6()
}

/// One warning for all keys that a tunnel without anything to send has no use for. A value that is the default says
/// nothing wrong. A checksum of zero over IPv6 is also about what is taken, and so is `dscp = "uniform"`.
fn idle_keys(tunnel: &TunnelSpec, place: &Place, findings: &mut Findings) {
    let has_source_port = tunnel.udp.is_some_and(|udp| udp.source_port != SourcePort::Flow);
    let has_checksum = tunnel.udp.is_some_and(|udp| udp.checksum == UdpChecksum::Full);
    // Where the MSS follows the MTU it is a limit on what comes out, of which `super::side` speaks.
    let has_idle_mtu = tunnel.mtu.is_some() && tunnel.mss != Mss::Auto && place.giver("mtu") == Some("mtu");
    let keys = [
        ("checksum", tunnel.checksum),
        ("sequence", tunnel.sequence),
        ("ttl", tunnel.ttl != Ttl::Fixed(64)),
        ("dscp", matches!(tunnel.dscp, Dscp::Fixed(_))),
        ("ecn", tunnel.ecn != Ecn::Rfc6040),
        ("df", tunnel.df != Df::Set),
        ("mtu", has_idle_mtu),
        ("udp.source_port", has_source_port),
        ("udp.checksum", has_checksum && tunnel.local.is_ipv4()),
    ];
    let idle: Vec<&str> = keys.into_iter().filter(|(_, is_idle)| *is_idle).map(|(key, _)| key).collect();
    let Some(at) = idle.iter().map(|key| place.of(key)).min() else { return };
    let names: Vec<String> = idle.iter().map(|key| format!("`{key}`")).collect();
    let (names, one) = (names.join(", "), idle.len() == 1);
    let message = format!(
        "{names} {} without effect on {}, which only receives: {} how packets are sent (expected where `remote` is one \
         address)",
        if one { "is" } else { "are" },
        named(tunnel),
        if one { "it says" } else { "they say" },
    );
    findings.warning(at, message).help(format!("leave {names} away"));
}

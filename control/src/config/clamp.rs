//! `[[mss_clamp]]`: limits on what crosses an interface or tunnel.

use super::document::{Findings, Table};
use super::names::{Named, Names};
use super::place::Place;
use super::tunnel::read_limits;
use forwarder::table::{ClampOn, ClampSpec};

pub(super) const DIRECTIONS: [(&str, (bool, bool)); 3] =
    [("in", (true, false)), ("out", (false, true)), ("both", (true, true))];

/// Reads one `[[mss_clamp]]`.
pub(super) fn read(
    mut table: Table<'_>,
    names: &Names,
    findings: &mut Findings,
) -> Option<(ClampSpec, Place)> {
    let on = table.require("on", findings).and_then(|value| names.any(value, findings));
    let direction =
        table.require("direction", findings).and_then(|value| value.choice(&DIRECTIONS, findings));
    let prefix_value = table.get("prefix");
    let prefix = prefix_value.and_then(|value| value.hosts(findings));
    let (ipv4, ipv6) = read_limits(&mut table, findings);
    let place = table.finish(findings);
    if let (Some(value), Some(prefix)) = (prefix_value, prefix) {
        let (own, other, key, idle) = match prefix.addr().is_ipv4() {
            true => (ipv4, ipv6, "ipv4", "ipv6"),
            false => (ipv6, ipv4, "ipv6", "ipv4"),
        };
        if own.is_some() && other.is_some() {
            let message = format!(
                "`{idle}` is without effect: no packet of that family has an address in {prefix} (expected `{key}` alone \
                 beside this prefix, found both)"
            );
            let help = format!("leave `{idle}` away, or give it a [[mss_clamp]] of its own");
            findings.warning(place.of(idle), message).help(help);
        } else if own.is_none() && other.is_some() {
            let message = format!(
                "the clamp has no limit of its prefix's family and would never act (expected `{key}` for {prefix}, \
                 found the other family's only)"
            );
            findings.error(value.at(), message);
        }
    }
    let on = match on? {
        Named::Interface(id) => ClampOn::Interface(id),
        Named::Tunnel(id) => ClampOn::Tunnel(id),
    };
    let (input, output) = direction?;
    Some((ClampSpec { on, input, output, prefix, ipv4, ipv6 }, place))
}

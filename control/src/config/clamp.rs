//! `[[mss_clamp]]`: limits on what crosses an interface or tunnel.

use super::document::{Findings, Place, Table};
use super::names::{Named, Names};
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
    let prefix = prefix_value.and_then(|value| value.prefix(findings));
    let (ipv4, ipv6) = read_limits(&mut table, findings);
    if let (Some(value), Some(prefix)) = (prefix_value, prefix) {
        let (own, other, key) =
            if prefix.addr().is_ipv4() { (ipv4, ipv6, "ipv4") } else { (ipv6, ipv4, "ipv6") };
        if own.is_none() && other.is_some() {
            let message = format!(
                "the clamp has no limit of its prefix's family and would never act (expected `{key}` for {prefix}, \
                 found the other family's only)"
            );
            findings.error(value.at(), message);
        }
    }
    let place = table.finish(findings);
    let on = match on? {
        Named::Interface(id) => ClampOn::Interface(id),
        Named::Tunnel(id) => ClampOn::Tunnel(id),
    };
    let (input, output) = direction?;
    Some((ClampSpec { on, input, output, prefix, ipv4, ipv6 }, place))
}

//! Keys that are checked like all others and then refused, because this version would not act on them.
//!
//! A row taken out of [`NOT_YET`] switches its key on.

use super::document::Findings;

const NOT_YET: &[&str] = &[
    "[tunnel.health]",
    "[kernel] enabled = true",
    "[control] metrics",
    "[icmp] per_source",
    "[icmp] total",
    "[[tunnel]] checksum = true",
    "[[tunnel]] sequence = true",
    "[tunnel.udp] kind = \"gue\"",
    "[tunnel.udp] kind = \"gue1\"",
    "[tunnel.udp] kind = \"gre-in-udp\"",
];

/// Reports `what`, which the file has at this place, where this version does not support it.
pub(super) fn refuse(what: &str, at: usize, findings: &mut Findings) {
    if NOT_YET.contains(&what) {
        findings.error(
            at,
            format!("{what} is not supported by this version (expected nothing here, found it set)"),
        );
    }
}

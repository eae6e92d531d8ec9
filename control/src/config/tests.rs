//! What a file may say and what is found in one that may not: a row for every key and for every error.

mod errors;
mod keys;
mod robustness;

use super::{Config, Slots, parse};
use crate::diagnostic::{Diagnostic, Severity};
use forwarder::table::Spec;

/// Two ports, a VLAN, a neighbour on each and a tunnel: 31 lines that rows are put behind.
pub(super) const BASE: &str = r#"[[port]]
name = "a"
device = "net_null0"
addresses = ["192.0.2.1/24", "2001:db8:1::1/64"]
[[port]]
name = "b"
device = "net_null1"
addresses = ["198.51.100.1/24"]
[[port.vlan]]
id = 5
name = "v"
addresses = ["198.18.0.1/24"]
[[neighbor]]
interface = "a"
address = "192.0.2.2"
mac = "02:00:00:00:00:02"
[[neighbor]]
interface = "a"
address = "2001:db8:1::2"
mac = "02:00:00:00:00:02"
[[neighbor]]
interface = "v"
address = "198.18.0.2"
mac = "02:00:00:00:00:03"
[[tunnel]]
name = "t"
encap = "gre"
local = "203.0.113.1"
remote = "192.0.2.2"
[[route]]
prefix = "10.0.0.0/8"
tunnel = "t"
"#;

/// What is found in `text`, errors and warnings, those of the compiler and of the limits too.
pub(super) fn findings(text: &str) -> Vec<Diagnostic> {
    let config = match parse("f", text.to_owned()) {
        Ok(config) => config,
        Err(errors) => return errors,
    };
    let mut findings = config.warnings.clone();
    match config.compile(&config.stand_in_macs(), &mut Slots::default()) {
        Ok((_, tables)) => findings.extend(config.limit_warnings(&tables)),
        Err(errors) => findings.extend(errors),
    }
    findings
}

/// A text that has to be good, and its specification.
pub(super) fn good(text: &str) -> (Config, Spec) {
    let found = findings(text);
    assert!(found.iter().all(|finding| finding.severity == Severity::Warning), "{found:#?}\n{text}");
    let config = parse("f", text.to_owned()).unwrap();
    let spec = config.spec(&config.stand_in_macs(), &mut Slots::default());
    (config, spec)
}

#[test]
fn the_examples_are_clean() {
    for (name, text) in [
        ("ingest", include_str!("../../../docs/examples/ingest.toml")),
        ("colo", include_str!("../../../docs/examples/colo.toml")),
        ("customer", include_str!("../../../docs/examples/customer.toml")),
    ] {
        assert_eq!(findings(text), [], "{name}");
    }
    assert_eq!(findings(BASE), []);
}

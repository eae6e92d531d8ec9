//! What a file may say and what is found in one that may not: a row for every key and for every error.

mod errors;
mod keys;
mod lints;
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
    let mut config = match parse("f", text.to_owned()) {
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

/// Lines of [`BASE`]: what is put behind begins in the next.
fn base_lines() -> usize {
    BASE.lines().count()
}

/// The findings of `BASE` with `text` behind it: line within `text`, column and message with help.
pub(super) fn behind(text: &str) -> Vec<(usize, usize, String)> {
    let found = findings(&format!("{BASE}{text}"));
    let place = |line: usize| line.saturating_sub(base_lines());
    found
        .into_iter()
        .map(|finding| {
            (
                place(finding.line),
                finding.column,
                format!("{} {}", finding.message, finding.help.unwrap_or_default()),
            )
        })
        .collect()
}

#[track_caller]
pub(super) fn check(text: &str, line: usize, column: usize, words: &[&str]) {
    let found = behind(text);
    let fits = |(found_line, found_column, message): &&(usize, usize, String)| {
        (*found_line, *found_column) == (line, column) && words.iter().all(|word| message.contains(word))
    };
    assert!(
        found.iter().any(|finding| fits(&finding)),
        "expected {line}:{column} {words:?}\nfound {found:#?}\nin\n{text}"
    );
    assert_eq!(found.len(), 1, "{found:#?}\nin\n{text}");
}

/// A text that has to be good, and its specification.
pub(super) fn good(text: &str) -> (Config, Spec) {
    let found = findings(text);
    assert!(found.iter().all(|finding| finding.severity == Severity::Warning), "{found:#?}\n{text}");
    let mut config = parse("f", text.to_owned()).unwrap();
    let spec = config.spec(&config.stand_in_macs(), &mut Slots::default());
    (config, Spec::clone(&spec))
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
    let readme = include_str!("../../../README.md");
    let example = readme.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    assert_eq!(findings(example), []);
    assert_eq!(findings(BASE), []);
}

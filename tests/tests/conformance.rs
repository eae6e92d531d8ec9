//! `docs/conformance.md` cannot go stale: every golden row and every test that it names exists, and each of its lines
//! names one or says that the behaviour is not there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use tests::{binary, rows, tree};

/// The cells of the table's lines, without its head.
fn lines() -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(binary::root().join("docs/conformance.md")).unwrap();
    let table = text.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| {
        let cells: Vec<String> =
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("three cells expected, found {cells:?}"))
    };
    table.map(cells).collect()
}

/// What stands between back quotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_line_names_what_shows_it() {
    let lines = lines();
    assert!(lines.len() > 50, "the table is not where it is looked for");
    for [section, behaviour, shown] in lines {
        assert!(!section.is_empty() && !behaviour.is_empty(), "{section} | {behaviour}");
        let named = quoted(&shown).next().is_some();
        assert!(named || shown.starts_with("not done"), "{section}: {behaviour}: {shown:?} names no test");
    }
}

#[test]
fn every_row_and_test_that_is_named_exists() {
    let sources = sources(binary::root());
    let exists = |name: &str| match name.split_once("::") {
        Some((file, test)) => {
            let named = |path: &&PathBuf| path.ends_with(file);
            sources.iter().filter(named).any(|path| tree::has_test(&path.to_string_lossy(), test))
        }
        None => rows::golden().join(name).join("config.toml").is_file(),
    };
    let mut missing = Vec::new();
    for [section, _, shown] in lines() {
        let absent = quoted(&shown).filter(|name| !exists(name));
        missing.extend(absent.map(|name| format!("{section}: {name}")));
    }
    assert!(missing.is_empty(), "named, but not in the tree:\n{}", missing.join("\n"));
}

/// Every Rust file of the packages.
fn sources(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["forwarder/src", "forwarder/tests", "control/src", "control/tests", "tests/src", "tests/tests"]
            .map(|folder| root.join(folder))
            .into();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files
}

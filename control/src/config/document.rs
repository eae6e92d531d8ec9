//! A TOML document with places: tables that know which of their keys were asked for, values that say where they stand.
//!
//! A reader asks a [`Table`] for every key that it knows, whatever the key's value; what is left over at
//! [`Table::finish`] is unknown. So the list of known keys is never written down a second time.

use super::place::{Place, Shapes};
use super::plain::Entries;
use super::source::Source;
use super::value::Value;
use crate::diagnostic::{Diagnostic, Severity};
use std::collections::HashSet;

/// One thing found, at a byte of the text.
#[derive(Debug)]
pub(super) struct Finding {
    at: usize,
    severity: Severity,
    message: String,
    help: Option<String>,
    follows: bool,
    not_yet: bool,
}

impl Finding {
    /// Adds what to do about it.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Marks a finding about something that is not there: after a syntax error it says nothing, because what is not
    /// there may be in the part that could not be read.
    pub(super) fn absence(&mut self) -> &mut Self {
        self.follows = true;
        self
    }
}

/// Everything found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<Finding>,
    errors: usize,
    aside: usize,
    shapes: Shapes,
}

impl Findings {
    pub(super) fn error(&mut self, at: usize, message: impl Into<String>) -> &mut Finding {
        self.errors += 1;
        self.add(at, Severity::Error, message.into())
    }

    pub(super) fn warning(&mut self, at: usize, message: impl Into<String>) -> &mut Finding {
        self.add(at, Severity::Warning, message.into())
    }

    fn add(&mut self, at: usize, severity: Severity, message: String) -> &mut Finding {
        let index = self.found.len();
        self.found.push(Finding { at, severity, message, help: None, follows: false, not_yet: false });
        // The element that was just pushed; no branch of this match adds another.
        match self.found.get_mut(index) {
            Some(finding) => finding,
            None => unreachable!("the vector has the element that was pushed"),
        }
    }

    /// Reports `what`, a key that is checked like all others but that this version does not act on: a warning for who
    /// checks the file, an error for who would run it.
    pub(super) fn not_yet(&mut self, at: usize, what: &str) {
        let message = format!(
            "{what} is not supported by this version (expected nothing here, found it set): `culvert run` and `reload` \
             refuse this file"
        );
        self.warning(at, message).not_yet = true;
    }

    /// What was reported by [`not_yet`](Self::not_yet), as errors.
    pub(super) fn refusals(&self, source: &Source) -> Vec<Diagnostic> {
        let refusal = |finding: &Finding| {
            let (line, column) = source.position(finding.at);
            let (file, message) = (source.file().to_owned(), finding.message.clone());
            Diagnostic { file, line, column, severity: Severity::Error, message, help: None }
        };
        self.found.iter().filter(|finding| finding.not_yet).map(refusal).collect()
    }

    /// Adds what to do about the finding that was reported last.
    pub(super) fn help_last(&mut self, help: &str) {
        if let Some(last) = self.found.last_mut() {
            last.help(help);
        }
    }

    /// How many errors there are.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// Reads something that routes and tunnels do not depend on: errors in it leave the rest of the file to be checked.
    pub(super) fn aside<T>(&mut self, read: impl FnOnce(&mut Findings) -> T) -> T {
        let before = self.errors;
        let value = read(self);
        self.aside += self.errors - before;
        value
    }

    /// How many errors there are that leave routes and tunnels incomplete.
    pub(super) fn gaps(&self) -> usize {
        self.errors - self.aside
    }

    /// Drops what syntax errors at `places` make of the rest: what may only seem to be missing, and values that are not
    /// there to be judged.
    pub(super) fn forget_consequences(&mut self, places: &HashSet<usize>) {
        self.found.retain(|finding| !finding.follows && !places.contains(&finding.at));
    }

    /// What places share.
    pub(super) fn shapes(&mut self) -> &mut Shapes {
        &mut self.shapes
    }

    /// All findings in the order of the text.
    pub(super) fn into_diagnostics(mut self, source: &Source) -> Vec<Diagnostic> {
        self.found.sort_by_key(|finding| finding.at);
        let diagnostic = |finding: Finding| {
            let (line, column) = source.position(finding.at);
            let Finding { severity, message, help, .. } = finding;
            Diagnostic { file: source.file().to_owned(), line, column, severity, message, help }
        };
        self.found.into_iter().map(diagnostic).collect()
    }
}

/// Keys that a table may have: room for those of the largest, a tunnel's.
const MOST_KEYS: usize = 24;

/// A table that is being read. Keys of a table inside an item carry its name: `udp.port`.
#[derive(Debug)]
pub(super) struct Table<'a> {
    entries: Entries<'a>,
    name: &'static str,
    header: usize,
    /// Where the piece of text begins that was parsed.
    base: usize,
    known: Vec<&'static str>,
    found: Vec<(&'static str, usize)>,
}

impl<'a> Table<'a> {
    /// A table that begins at `header`. Its keys and values stand where the parser says, counted from `base`.
    pub(super) fn new(entries: Entries<'a>, name: &'static str, header: usize, base: usize) -> Self {
        Table {
            entries,
            name,
            header,
            base,
            known: Vec::with_capacity(MOST_KEYS),
            found: Vec::with_capacity(8),
        }
    }

    /// Where the table begins.
    pub(super) fn header(&self) -> usize {
        self.header
    }

    /// The value of a key, where it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let plain = plain(key);
        let value = Value::new(plain, self.entries.get(plain)?, self.base);
        self.found.push((key, value.at()));
        Some(value)
    }

    /// The value of a key that has to be there.
    pub(super) fn require(&mut self, key: &'static str, findings: &mut Findings) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            let message =
                format!("missing key `{0}` in {1} (expected `{0} = …`, found none)", plain(key), self.name);
            findings.error(self.header(), message).absence();
        }
        value
    }

    /// A table inside.
    pub(super) fn table(
        &mut self,
        key: &'static str,
        name: &'static str,
        findings: &mut Findings,
    ) -> Option<Table<'a>> {
        let value = self.get(key)?;
        let table = value.table(name);
        if table.is_none() {
            value.wrong(&format!("a table {name}"), findings);
        }
        table
    }

    /// An array of tables inside; empty where it is not there.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        name: &'static str,
        findings: &mut Findings,
    ) -> Vec<Table<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(items) = value.array() else {
            value.wrong(&format!("an array of tables, each under its own {name}"), findings);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            let item = Value::new(plain(key), item, self.base);
            match item.table(name) {
                Some(table) => tables.push(table),
                None => item.wrong(&format!("a table {name}"), findings),
            }
        }
        tables
    }

    /// Reports what was not asked for and returns where the rest stands.
    pub(super) fn finish(self, findings: &mut Findings) -> Place {
        let is_known = |name: &str| {
            self.found.iter().any(|(key, _)| *key == name)
                || self.found.iter().any(|(key, _)| plain(key) == name)
        };
        if !self.entries.keys().all(|(key, _)| is_known(key)) {
            self.report_unknown(findings);
        }
        Place::new(self.header, &self.found, findings.shapes())
    }

    fn report_unknown(&self, findings: &mut Findings) {
        let known: Vec<&str> = self.known.iter().map(|key| plain(key)).collect();
        for (found, at) in self.entries.keys() {
            if !known.contains(&found) {
                let nearest = nearest(found, known.iter().copied()).unwrap_or_default();
                let message = format!(
                    "unknown key `{}` in {} (expected a known key, the nearest is `{nearest}`)",
                    found.escape_debug(),
                    self.name
                );
                findings.error(self.base + at, message).help(format!("the keys are {}", known.join(", ")));
            }
        }
    }
}

/// The name that `found` was most likely meant to be.
pub(crate) fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Long input is no typing mistake of anything, and the comparison's cost is the product of both lengths.
    let found: String = found.chars().take(64).collect::<String>().to_lowercase();
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(&found, &name.to_lowercase());
    known.map(|name| (likeness(name), name)).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn plain(key: &'static str) -> &'static str {
    let dot = key.bytes().rposition(|byte| byte == b'.');
    dot.and_then(|dot| key.get(dot + 1..)).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_in_spite_of_case_and_length() {
        assert_eq!(nearest("LOCL", ["remote", "local"].into_iter()), Some("local"));
        assert_eq!(nearest(&"x".repeat(100_000), ["remote"].into_iter()), Some("remote"));
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}

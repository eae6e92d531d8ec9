//! A TOML document with places: tables that know which of their keys were asked for, values that say where they stand.
//!
//! A reader asks a [`Table`] for every key that it knows, whatever the key's value; what is left over at
//! [`Table::finish`] is unknown. So the list of known keys is never written down a second time.

use super::value::Value;
use crate::diagnostic::{Diagnostic, Severity};
use std::collections::HashSet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file's name and text, and where its lines begin.
#[derive(Clone, Debug)]
pub(super) struct Source {
    file: String,
    text: String,
    lines: Vec<usize>,
}

impl Source {
    pub(super) fn new(file: &str, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        // Editors do not count a byte order mark as a character of the first line.
        let first = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let lines = std::iter::once(first).chain(breaks).collect();
        Source { file: file.to_owned(), text, lines }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let rest = self.text.get(start..).unwrap_or_default();
        let column = rest.char_indices().take_while(|(at, _)| start + at < offset).count() + 1;
        (line, column)
    }

    pub(super) fn line(&self, offset: usize) -> usize {
        self.position(offset).0
    }
}

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
            let (file, message) = (source.file.clone(), finding.message.clone());
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

    /// All findings in the order of the text.
    pub(super) fn into_diagnostics(mut self, source: &Source) -> Vec<Diagnostic> {
        self.found.sort_by_key(|finding| finding.at);
        let diagnostic = |finding: Finding| {
            let (line, column) = source.position(finding.at);
            let Finding { severity, message, help, .. } = finding;
            Diagnostic { file: source.file.clone(), line, column, severity, message, help }
        };
        self.found.into_iter().map(diagnostic).collect()
    }
}

/// Where an item and its keys stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    header: usize,
    keys: Vec<(&'static str, usize)>,
}

/// What a key falls back to where it is absent: a profile gives a tunnel its `mtu` and `mss`.
const GIVEN_BY: [(&str, &str); 2] = [("mtu", "profile"), ("mss", "profile")];

impl Place {
    /// Where the item begins.
    pub(super) fn header(&self) -> usize {
        self.header
    }

    /// Where the value of `key` stands, `udp.port` being the key of a table inside; the nearest thing there is where it
    /// is absent.
    pub(super) fn of(&self, key: &str) -> usize {
        let find = |wanted: &str| self.keys.iter().find(|(key, _)| *key == wanted).map(|(_, at)| *at);
        let given = |key: &str| GIVEN_BY.iter().find(|(what, _)| *what == key).and_then(|(_, by)| find(by));
        let outer = || key.split_once('.').and_then(|(table, _)| find(table));
        find(key).or_else(|| given(key)).or_else(outer).unwrap_or(self.header)
    }

    /// The key that gives the value of `key`: itself, or what it falls back to; `None` where it is left to its default.
    pub(super) fn giver(&self, key: &str) -> Option<&'static str> {
        let known = |wanted: &str| self.keys.iter().find(|(key, _)| *key == wanted).map(|(key, _)| *key);
        known(key).or_else(|| GIVEN_BY.iter().find(|(what, _)| *what == key).and_then(|(_, by)| known(by)))
    }

    /// Adds the keys of a table inside.
    pub(super) fn join(&mut self, inner: Place) {
        self.keys.extend(inner.keys);
    }
}

/// A table that is being read. Keys of a table inside an item carry its name: `udp.port`.
#[derive(Debug)]
pub(super) struct Table<'a> {
    entries: &'a DeTable<'a>,
    name: &'static str,
    known: Vec<&'static str>,
    place: Place,
}

impl<'a> Table<'a> {
    pub(super) fn new(entries: &'a DeTable<'a>, name: &'static str, header: usize) -> Self {
        Table { entries, name, known: Vec::new(), place: Place { header, keys: Vec::new() } }
    }

    /// Where the table begins.
    pub(super) fn header(&self) -> usize {
        self.place.header
    }

    /// The value of a key, where it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let plain = plain(key);
        let value = self.entries.get(plain)?;
        let at = value.span().start;
        self.place.keys.push((key, at));
        Some(Value::new(plain, at, value.get_ref()))
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
        let Some(entries) = value.table() else {
            value.wrong(&format!("a table {name}"), findings);
            return None;
        };
        Some(Table::new(entries, name, value.at()))
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
            match item.get_ref() {
                DeValue::Table(entries) => tables.push(Table::new(entries, name, item.span().start)),
                other => Value::new(plain(key), item.span().start, other)
                    .wrong(&format!("a table {name}"), findings),
            }
        }
        tables
    }

    /// Reports what was not asked for and returns where the rest stands.
    pub(super) fn finish(self, findings: &mut Findings) -> Place {
        let known: Vec<&str> = self.known.iter().map(|key| plain(key)).collect();
        for key in self.entries.keys() {
            let found = key.get_ref().as_ref();
            if !known.contains(&found) {
                report_unknown(self.name, key, found, &known, findings);
            }
        }
        self.place
    }
}

fn report_unknown(
    table: &str,
    key: &Spanned<impl Sized>,
    found: &str,
    known: &[&str],
    findings: &mut Findings,
) {
    let nearest = nearest(found, known.iter().copied()).unwrap_or_default();
    let message = format!(
        "unknown key `{}` in {table} (expected a known key, the nearest is `{nearest}`)",
        found.escape_debug()
    );
    findings.error(key.span().start, message).help(format!("the keys are {}", known.join(", ")));
}

/// The name that `found` was most likely meant to be.
pub(crate) fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Long input is no typing mistake of anything, and the comparison's cost is the product of both lengths.
    let found: String = found.chars().take(64).collect::<String>().to_lowercase();
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(&found, &name.to_lowercase());
    known.map(|name| (likeness(name), name)).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn plain(key: &'static str) -> &'static str {
    key.rsplit_once('.').map_or(key, |(_, plain)| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let source = Source::new("f", "añb\nc\r\n\n".to_owned());
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(3), (1, 3));
        assert_eq!(source.position(5), (2, 1));
        assert_eq!(source.position(8), (3, 1));
        assert_eq!(source.position(99), (4, 1));
        let marked = Source::new("f", "\u{feff}ab\nc".to_owned());
        assert_eq!((marked.position(0), marked.position(3)), ((1, 1), (1, 1)));
        assert_eq!((marked.position(4), marked.position(6)), ((1, 2), (2, 1)));
    }

    #[test]
    fn a_place_falls_back_to_what_gave_the_value() {
        let place = Place { header: 5, keys: vec![("profile", 9), ("udp", 20), ("udp.kind", 30)] };
        assert_eq!(place.of("mtu"), 9);
        assert_eq!(place.of("udp.kind"), 30);
        assert_eq!(place.of("udp.port"), 20);
        assert_eq!((place.of("local"), place.of("")), (5, 5));
        assert_eq!((place.giver("mtu"), place.giver("udp.kind")), (Some("profile"), Some("udp.kind")));
        assert_eq!((place.giver("udp.port"), place.giver("local")), (None, None));
    }

    #[test]
    fn the_nearest_name_is_found_in_spite_of_case_and_length() {
        assert_eq!(nearest("LOCL", ["remote", "local"].into_iter()), Some("local"));
        assert_eq!(nearest(&"x".repeat(100_000), ["remote"].into_iter()), Some("remote"));
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}

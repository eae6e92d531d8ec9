//! What the TOML parser finds wrong, in words that name the earlier of two.

use super::document::Findings;
use super::source::Source;
use std::collections::{HashMap, HashSet};
use toml::de::{DeTable, DeValue, Error};

/// Adds the parser's errors, and drops the findings that only follow from them.
pub(super) fn add(errors: &[Error], document: &DeTable<'_>, source: &Source, findings: &mut Findings) {
    if errors.is_empty() {
        return;
    }
    let at = |error: &Error| error.span().map_or(0, |span| span.start);
    findings.forget_consequences(&errors.iter().map(at).collect::<HashSet<usize>>());
    let mut keys = HashMap::new();
    collect(document, &mut keys);
    let text = source.text();
    for error in errors {
        let named = error.span().and_then(|span| text.get(span)).unwrap_or_default();
        let message = match error.message() {
            "duplicate key" => duplicate(named.trim_matches(['"', '\'']), at(error), &keys, source),
            other => one_line(other),
        };
        findings.error(at(error), format!("syntax: {message}"));
    }
}

/// Where each key of the document stands, by its name.
fn collect<'a>(table: &'a DeTable<'_>, keys: &mut HashMap<&'a str, Vec<usize>>) {
    for (key, value) in table.iter() {
        keys.entry(key.get_ref().as_ref()).or_default().push(key.span().start);
        collect_value(value.get_ref(), keys);
    }
}

fn collect_value<'a>(value: &'a DeValue<'_>, keys: &mut HashMap<&'a str, Vec<usize>>) {
    match value {
        DeValue::Table(table) => collect(table, keys),
        DeValue::Array(items) => items.iter().for_each(|item| collect_value(item.get_ref(), keys)),
        _ => {}
    }
}

/// The parser keeps the first of two keys, which is the last of this name before the second. Of a table's header it keeps
/// the second; the first is the line before that says the same.
fn duplicate(name: &str, at: usize, keys: &HashMap<&str, Vec<usize>>, source: &Source) -> String {
    let text = source.text();
    let before = text.get(..at).unwrap_or_default();
    let first = if before.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with('[')) {
        let header = |line: &str| {
            let end = line.find(']').filter(|_| line.trim_start().starts_with('['))?;
            Some(line.get(..end)?.trim_start().trim_start_matches('[').trim().to_owned())
        };
        let mut lines: Vec<&str> = text.lines().take(source.line(at)).collect();
        let own = lines.pop().and_then(header);
        lines.iter().rposition(|line| own.is_some() && header(line) == own).map(|index| index + 1)
    } else {
        let places = keys.get(name).into_iter().flatten();
        places.filter(|first| **first < at).max().map(|first| source.line(*first))
    };
    let found = first.map_or("again".to_owned(), |first| format!("in line {first} already"));
    format!("duplicate key `{}` (expected it once in its table, found it {found})", name.escape_debug())
}

/// The parser's words without line breaks.
fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

//! The short way for an item that is nothing but its header and lines of a key with a text, a number, true or false, and tables
//! inside of such lines under a header of their own: nearly all of a large file are. It is read line by line, without the
//! parser's tokens, events and map, which take several times as long; wherever something else stands, the parser reads the
//! item.

use std::borrow::Cow;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    key: &'a str,
    at: usize,
    value: Spanned<DeValue<'a>>,
}

/// What a table has, in the one way of reading it or the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entries<'a> {
    Parsed(&'a DeTable<'a>),
    Plain(&'a [Entry<'a>]),
}

impl<'a> Entries<'a> {
    pub(super) fn get(self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        match self {
            Entries::Parsed(table) => table.get(key),
            Entries::Plain(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
        }
    }

    /// Every key with where it stands.
    pub(super) fn keys(self) -> impl Iterator<Item = (&'a str, usize)> {
        let (table, entries) = match self {
            Entries::Parsed(table) => (Some(table), &[][..]),
            Entries::Plain(entries) => (None, entries),
        };
        let parsed = table.into_iter().flat_map(|table| table.keys());
        let parsed = parsed.map(|key| (key.get_ref().as_ref(), key.span().start));
        parsed.chain(entries.iter().map(|entry| (entry.key, entry.at)))
    }
}

/// Reads an item with a header of two brackets, whose name is known, into `entries`. Returns where it begins; `None`, with
/// nothing said about the rest, where it is more than plain lines.
pub(super) fn read<'a>(text: &'a str, entries: &mut Vec<Entry<'a>>) -> Option<usize> {
    entries.clear();
    let mut at = 0;
    let mut item = None;
    let mut is_inside = false;
    for line in text.split_inclusive('\n') {
        let content = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
        let trimmed = skip_blanks(content);
        let start = at + content.len() - trimmed.len();
        at += line.len();
        let Some((_, name)) = item else {
            let (name, behind) = trimmed.strip_prefix("[[")?.split_once("]]")?;
            item = is_end(behind).then_some((start, name));
            item?;
            continue;
        };
        if is_end(trimmed) {
            continue;
        }
        if trimmed.starts_with('[') {
            entries.push(inner_table(trimmed, name, start)?);
            is_inside = true;
            continue;
        }
        let entry = entry(trimmed, start)?;
        match entries.last_mut().filter(|_| is_inside).map(|table| table.value.get_mut()) {
            Some(DeValue::Table(table)) => {
                let key = Spanned::new(entry.at..entry.at + entry.key.len(), Cow::Borrowed(entry.key));
                if table.insert(key, entry.value).is_some() {
                    return None;
                }
            }
            _ => entries.push(entry),
        }
    }
    let is_repeated =
        |(index, entry): (usize, &Entry<'_>)| entries.iter().take(index).any(|other| other.key == entry.key);
    let (begin, _) = item?;
    if entries.iter().enumerate().any(is_repeated) { None } else { Some(begin) }
}

/// The header of a table inside the item of this name, which has nothing yet.
fn inner_table<'a>(line: &'a str, name: &str, at: usize) -> Option<Entry<'a>> {
    let (inside, behind) = line.strip_prefix('[')?.split_once(']')?;
    let key = inside.strip_prefix(name)?.strip_prefix('.')?;
    let is_plain = !key.is_empty() && key.bytes().all(is_bare) && is_end(behind);
    let end = at + line.len() - behind.len();
    let table = Spanned::new(at..end, DeValue::Table(DeTable::new()));
    is_plain.then_some(Entry { key, at: end - "]".len() - key.len(), value: table })
}

/// Whether a key may have this byte without quotes.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// A line that begins with a key, `at` being where.
fn entry(line: &str, at: usize) -> Option<Entry<'_>> {
    let len = line.bytes().take_while(|byte| is_bare(*byte)).count();
    let (key, behind) = line.split_at_checked(len).filter(|_| len > 0)?;
    let value = skip_blanks(skip_blanks(behind).strip_prefix('=')?);
    let start = at + line.len() - value.len();
    let (value, len) = plain_value(value)?;
    Some(Entry { key, at, value: Spanned::new(start..start + len, value) })
}

/// A value with its length, where it is a plain one and the line ends behind it.
fn plain_value(text: &str) -> Option<(DeValue<'_>, usize)> {
    let (value, behind) = match text.strip_prefix('"') {
        Some(inside) => {
            let (inside, behind) = inside.split_once('"')?;
            // Escapes are the parser's to resolve, and what may not stand in a text its to find.
            if inside.bytes().any(|byte| byte == b'\\' || is_forbidden(byte)) {
                return None;
            }
            (DeValue::String(Cow::Borrowed(inside)), behind)
        }
        None => {
            let end = text.bytes().position(|byte| matches!(byte, b' ' | b'\t' | b'#')).unwrap_or(text.len());
            let (word, behind) = text.split_at_checked(end)?;
            let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
            let value = match word {
                "true" => DeValue::Boolean(true),
                "false" => DeValue::Boolean(false),
                _ if is_number => DeValue::parse(word).ok()?.into_inner(),
                _ => return None,
            };
            (value, behind)
        }
    };
    is_end(behind).then_some((value, text.len() - behind.len()))
}

/// Whether a line has nothing more but a comment.
fn is_end(line: &str) -> bool {
    let rest = skip_blanks(line);
    rest.is_empty() || (rest.starts_with('#') && !rest.bytes().any(is_forbidden))
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Control characters, of which TOML has but the tab within a line.
fn is_forbidden(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the parser has for an item: its beginning, and each key with its place, its value's place and what that is.
    fn parsed(text: &str) -> Option<(usize, Vec<String>)> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let root = root.into_inner();
        let [item] = &root.get("item")?.get_ref().as_array()?[..] else { return None };
        let table = item.get_ref().as_table()?;
        let entry = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            format!("{} {} {:?}", key.get_ref(), key.span().start, value)
        };
        (errors.is_empty() && root.len() == 1).then(|| (item.span().start, table.iter().map(entry).collect()))
    }

    fn plain(text: &str) -> Option<(usize, Vec<String>)> {
        let mut entries = Vec::new();
        let begin = read(text, &mut entries)?;
        let mut told: Vec<String> =
            entries.iter().map(|entry| format!("{} {} {:?}", entry.key, entry.at, entry.value)).collect();
        told.sort();
        Some((begin, told))
    }

    #[test]
    fn plain_lines_are_read_as_the_parser_reads_them() {
        let text = "  [[item]] # why\r\n a = \"b # c\"\t# d\n\n\tb-2=12\nc_ = true#\n # e\nd = 0\ne= \"\\t\"\n  [item.f] # g\n  a = 1\n\n[item.h]\n[item.i]\n j = \"k\"\na = 2";
        let text = text.replace("\\t", "\t");
        assert!(plain(&text).is_some());
        assert_eq!(plain(&text), parsed(&text));
    }

    #[test]
    fn all_else_is_left_to_the_parser() {
        let lines = [
            "a = 'b'",
            "a = \"\\n\"",
            "a = \"b",
            "a = \"b\" c",
            "a = 1.5",
            "a = 01",
            "a = -1",
            "a = [1]",
            "a = {}",
            "a",
            "a = ",
            "a.b = 1",
            "\"a\" = 1",
            "[item.b.c]",
            "[ item.b]",
            "[item.\"b\"]",
            "[other.b]",
            "[item.b]\n[item.b]",
            "[item.b]\nc = 1\nc = 2",
            "b = 1\n[item.b]",
            "[[item.b]]",
            "a = 1\na = 2",
            "a = \"\u{1}\"",
            "# \u{7f}",
            "a = 1 # \rb",
            "= 1",
            "\u{a0}",
        ];
        for line in lines {
            assert_eq!(plain(&format!("[[item]]\n{line}\n")), None, "{line:?}");
        }
        assert_eq!(plain("\u{a0}[[item]]\n"), None);
        assert_eq!(plain("[[item]] a\n"), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_parser_reads(
            text in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "b", "=", " ", "\t", "\n", "\r\n", "\"x\"", "\"", "1", "0", "true", "#", "_", ".", "\n[item.", "]\n", "é", "\u{7f}", "\\", ",",
                ]),
                0..24,
            ),
        ) {
            let text = format!("[[item]]\n{}", text.concat());
            if let Some(plain) = plain(&text) {
                let parsed = parsed(&text).map(|(begin, mut entries)| {
                    entries.sort();
                    (begin, entries)
                });
                prop_assert_eq!(Some(plain), parsed, "{:?}", text);
            }
        }
    }
}

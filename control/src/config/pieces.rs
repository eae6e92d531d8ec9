//! A file cut into its items, so that a large one is parsed item by item: the parser's own document is many times as large
//! as the text, and one of a hundred thousand tunnels takes longer to lay out in memory than to read.
//!
//! A cut is made in front of each line that can only be the header of an item or of a table at the top, whatever stands
//! around it. Where a piece then does not parse by itself, or says more than its header promised, the file is parsed as
//! a whole: that is where syntax errors are found and put in words.

use super::document::Table;
use super::plain::{self, Entries};
use std::cell::Cell;
use toml::de::{DeTable, DeValue, Error};

/// The arrays of tables whose items are read one by one.
pub(super) const ITEMS: [&str; 5] = ["port", "tunnel", "route", "neighbor", "mss_clamp"];

/// Where one item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    key: &'static str,
    start: usize,
    end: usize,
}

/// The items of a file, and the rest of it.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    text: &'a str,
    items: Vec<Piece>,
    /// The text without items: blanks stand for what was in front of the last table at the top, so that all is where it was.
    rest: String,
}

impl<'a> Pieces<'a> {
    /// Cuts `text`; `None` where a string may go over several lines, of which one may look like a header.
    pub(super) fn cut(text: &'a str) -> Option<Self> {
        if text.contains("\"\"\"") || text.contains("'''") {
            return None;
        }
        let mut pieces = Pieces { text, items: Vec::new(), rest: String::new() };
        let (mut key, mut start, mut at) = (None, 0, 0);
        for line in text.split_inclusive('\n') {
            if let Some(header) = Header::of(line) {
                pieces.add(key, start, at);
                start = at;
                key = match header {
                    Header::Item(key) => Some(key),
                    Header::Table => None,
                };
            }
            at += line.len();
        }
        pieces.add(key, start, at);
        Some(pieces)
    }

    fn add(&mut self, key: Option<&'static str>, start: usize, end: usize) {
        match key {
            Some(key) => self.items.push(Piece { key, start, end }),
            None => {
                let blanks = start - self.rest.len();
                self.rest.extend(std::iter::repeat_n(' ', blanks));
                self.rest.push_str(self.text.get(start..end).unwrap_or_default());
            }
        }
    }
}

/// What a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Item(&'static str),
    Table,
}

impl Header {
    /// `None` for a line that may be anything else, such as one of an array's elements.
    fn of(line: &str) -> Option<Self> {
        let inside = line.trim_start().strip_prefix('[')?;
        let (name, behind, is_item) = match inside.strip_prefix('[') {
            Some(inside) => {
                let (name, behind) = inside.split_once("]]")?;
                (name, behind, true)
            }
            None => {
                let (name, behind) = inside.split_once(']')?;
                (name, behind, false)
            }
        };
        let behind = behind.trim_start();
        if !(behind.is_empty() || behind.starts_with('#')) {
            return None;
        }
        if is_item {
            return ITEMS.into_iter().find(|item| *item == name).map(Header::Item);
        }
        // Words that are no values: an array of others may go over several lines.
        let is_word = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !["true", "false", "inf", "nan"].contains(&name);
        is_word.then_some(Header::Table)
    }
}

/// What is read: a whole document, or one of which the items are parsed when it is their turn.
#[derive(Debug)]
pub(super) struct Document<'a> {
    root: DeTable<'a>,
    pieces: Option<&'a Pieces<'a>>,
    errors: Vec<Error>,
    is_irregular: Cell<bool>,
}

impl<'a> Document<'a> {
    /// That of the whole text, as far as it could be read.
    pub(super) fn whole(text: &'a str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        Document { root: root.into_inner(), pieces: None, errors, is_irregular: Cell::new(false) }
    }

    /// That of a text in pieces; `None` where it has to be read as a whole.
    pub(super) fn in_pieces(pieces: &'a Pieces<'a>) -> Option<Self> {
        let (root, errors) = DeTable::parse_recoverable(&pieces.rest);
        let root = root.into_inner();
        let is_regular = errors.is_empty() && !ITEMS.iter().any(|key| root.contains_key(*key));
        is_regular.then_some(Document { root, pieces: Some(pieces), errors, is_irregular: Cell::new(false) })
    }

    /// All but items that are parsed one by one.
    pub(super) fn root(&self) -> &DeTable<'a> {
        &self.root
    }

    /// What the parser found wrong.
    pub(super) fn errors(&self) -> &[Error] {
        &self.errors
    }

    /// Whether some item was not what its header promised: then what was read is nothing to go by.
    pub(super) fn is_irregular(&self) -> bool {
        self.is_irregular.get()
    }

    /// How many items there are of those that are parsed one by one.
    pub(super) fn count(&self, key: &str) -> usize {
        self.pieces(key).count()
    }

    /// Hands each of the items that are parsed one by one to `read`.
    pub(super) fn each(&self, key: &str, name: &'static str, mut read: impl FnMut(Table<'_>)) {
        let mut entries = Vec::new();
        for piece in self.pieces(key) {
            let text = self.pieces.and_then(|pieces| pieces.text.get(piece.start..piece.end));
            let text = text.unwrap_or_default();
            if let Some(at) = plain::read(text, &mut entries) {
                read(Table::new(Entries::Plain(&entries), name, piece.start + at, piece.start));
                continue;
            }
            let (root, errors) = DeTable::parse_recoverable(text);
            match only_item(root.get_ref(), key).filter(|_| errors.is_empty()) {
                Some((entries, at)) => {
                    read(Table::new(Entries::Parsed(entries), name, piece.start + at, piece.start));
                }
                None => {
                    self.is_irregular.set(true);
                    return;
                }
            }
        }
    }

    fn pieces(&self, key: &str) -> impl Iterator<Item = &Piece> {
        self.pieces.into_iter().flat_map(|pieces| &pieces.items).filter(move |piece| piece.key == key)
    }
}

/// The item, and where it begins, of a document that has nothing else.
fn only_item<'a>(root: &'a DeTable<'a>, key: &str) -> Option<(&'a DeTable<'a>, usize)> {
    let value = root.get(key).filter(|_| root.len() == 1)?;
    match value.get_ref().as_array().map(|items| &items[..]) {
        Some([item]) => match item.get_ref() {
            DeValue::Table(entries) => Some((entries, item.span().start)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_header_only_where_it_can_be_nothing_else() {
        let rows = [
            ("[[tunnel]]\n", Some(Header::Item("tunnel"))),
            ("  [[route]]  # why\r\n", Some(Header::Item("route"))),
            ("[system]", Some(Header::Table)),
            ("[[tunnel.x]]\n", None),
            ("[tunnel.udp]\n", None),
            ("[[other]]\n", None),
            ("[[tunnel]], 1\n", None),
            ("[true]\n", None),
            ("[1]\n", None),
            ("# [system]\n", None),
            ("name = \"[system]\"\n", None),
        ];
        for (line, expected) in rows {
            assert_eq!(Header::of(line), expected, "{line:?}");
        }
    }

    #[test]
    fn all_but_the_items_stays_where_it_was() {
        let text = "a = 1\n[[tunnel]]\nname = \"t\"\n[system]\nb = 2\n[[route]]\n";
        let pieces = Pieces::cut(text).unwrap();
        assert_eq!(pieces.rest.find("a = 1"), text.find("a = 1"));
        assert_eq!(pieces.rest.find("[system]\nb = 2\n"), text.find("[system]\nb = 2\n"));
        assert!(!pieces.rest.contains("tunnel"));
        let keys: Vec<_> = pieces.items.iter().map(|item| (item.key, &text[item.start..item.end])).collect();
        assert_eq!(keys, [("tunnel", "[[tunnel]]\nname = \"t\"\n"), ("route", "[[route]]\n")]);
    }

    #[test]
    fn what_a_piece_cannot_say_is_read_as_a_whole() {
        let irregular = [
            "[[tunnel]]\n[[route]]\n[tunnel.udp]\nkind = \"fou\"\n", // about the tunnel before
            "[[tunnel]]\nname = \n[[route]]\n",
            "[[tunnel]]\n[[ tunnel ]]\n",
        ];
        for text in irregular {
            let pieces = Pieces::cut(text).unwrap();
            let document = Document::in_pieces(&pieces).unwrap();
            ITEMS.iter().for_each(|key| document.each(key, "", |_| ()));
            assert!(document.is_irregular(), "{text:?}");
        }
        for text in ["tunnel = []\n[[tunnel]]\n", "[[tunnel]]\n[tunnel]\n", "[a]\n[[port]]\n[a]\n"] {
            assert!(Document::in_pieces(&Pieces::cut(text).unwrap()).is_none(), "{text:?}");
        }
        assert!(Pieces::cut("a = \"\"\"\n[[tunnel]]\n\"\"\"\n").is_none());
    }
}

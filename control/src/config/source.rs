//! A file's name and text, and where its lines begin.
//!
//! The text of a file that runs is asked for now and then, and kept packed; while a file is read it is there as a whole.

use std::borrow::Cow;

/// Lines between two of which the beginning is kept; what lies between is counted when it is asked for.
const STRIDE: usize = 64;

/// Bytes that are packed together, up to the end of the line: so many are unpacked to find a line.
const BLOCK: usize = 32 * 1024;

/// What some editors put in front of a text. They do not count it as a character of the first line.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A file's name and text.
#[derive(Clone, Debug)]
pub(super) struct Source {
    file: String,
    text: Text,
}

#[derive(Clone, Debug)]
enum Text {
    Whole {
        text: String,
        /// Where each [`STRIDE`]th line begins.
        marks: Vec<usize>,
    },
    Packed(Vec<Block>),
}

/// Some lines of a text, packed.
#[derive(Clone, Debug)]
struct Block {
    start: usize,
    line: usize,
    len: usize,
    bytes: Box<[u8]>,
}

impl Source {
    pub(super) fn new(file: &str, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let marks = std::iter::once(0).chain(breaks).step_by(STRIDE).collect();
        Source { file: file.to_owned(), text: Text::Whole { text, marks } }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn text(&self) -> Cow<'_, str> {
        match &self.text {
            Text::Whole { text, .. } => Cow::Borrowed(text),
            Text::Packed(blocks) => blocks.iter().map(Block::unpacked).collect::<String>().into(),
        }
    }

    /// Packs the text; where lines are is told more slowly then.
    pub(super) fn pack(&mut self) {
        let Text::Whole { text, .. } = &self.text else { return };
        let mut blocks = Vec::new();
        let (mut rest, mut start, mut line) = (text.as_str(), 0, 1);
        while !rest.is_empty() {
            let tail = rest.as_bytes().get(BLOCK..).unwrap_or_default();
            let end = tail.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| BLOCK + at + 1);
            // Behind a line's end another character begins.
            let Some((lines, behind)) = rest.split_at_checked(end) else { break };
            let bytes = lz4_flex::block::compress(lines.as_bytes()).into();
            blocks.push(Block { start, line, len: end, bytes });
            line += lines.bytes().filter(|byte| *byte == b'\n').count();
            start += end;
            rest = behind;
        }
        self.text = Text::Packed(blocks);
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        match &self.text {
            Text::Whole { text, marks } => {
                let mark = marks.partition_point(|start| *start <= offset).saturating_sub(1);
                let start = marks.get(mark).copied().unwrap_or(0);
                position(
                    text.get(start..).unwrap_or_default(),
                    mark * STRIDE + 1,
                    offset.saturating_sub(start),
                )
            }
            Text::Packed(blocks) => {
                let block = blocks.partition_point(|block| block.start <= offset).saturating_sub(1);
                match blocks.get(block) {
                    Some(block) => {
                        position(&block.unpacked(), block.line, offset.saturating_sub(block.start))
                    }
                    None => (1, 1),
                }
            }
        }
    }

    pub(super) fn line(&self, offset: usize) -> usize {
        self.position(offset).0
    }
}

impl Block {
    fn unpacked(&self) -> String {
        // It is what was packed, so there is nothing to fail.
        let bytes = lz4_flex::block::decompress(&self.bytes, self.len).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// Line and column of a byte of `text`, which begins with `first`, a line's number.
fn position(text: &str, first: usize, offset: usize) -> (usize, usize) {
    let breaks = text.bytes().enumerate().take(offset).filter(|(_, byte)| *byte == b'\n');
    let (count, start) = breaks.fold((0, 0), |(count, _), (at, _)| (count + 1, at + 1));
    let line = text.get(start..).unwrap_or_default().char_indices();
    let before = line.take_while(|(at, _)| start + at < offset);
    let counts = |at: usize, character| start + at > 0 || first > 1 || character != BYTE_ORDER_MARK;
    let column = before.filter(|(at, character)| counts(*at, *character)).count() + 1;
    (first + count, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a byte is in a text that is there as a whole, which is where it is in a packed one.
    fn position(source: &Source, offset: usize) -> (usize, usize) {
        let mut packed = source.clone();
        packed.pack();
        assert_eq!(packed.text(), source.text());
        let position = source.position(offset);
        assert_eq!(packed.position(offset), position);
        position
    }

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let source = Source::new("f", "añb\nc\r\n\n".to_owned());
        assert_eq!(position(&source, 0), (1, 1));
        assert_eq!(position(&source, 3), (1, 3));
        assert_eq!(position(&source, 5), (2, 1));
        assert_eq!(position(&source, 8), (3, 1));
        assert_eq!(position(&source, 99), (4, 1));
        let marked = Source::new("f", "\u{feff}ab\nc".to_owned());
        assert_eq!((position(&marked, 0), position(&marked, 3)), ((1, 1), (1, 1)));
        assert_eq!((position(&marked, 4), position(&marked, 6)), ((1, 2), (2, 1)));
    }

    #[test]
    fn every_line_of_a_long_file_is_found() {
        let text: String = (0..1000).map(|line| "x".repeat(line % 3) + "\n").collect();
        let source = Source::new("f", text.clone());
        let mut at = 0;
        for (index, line) in text.lines().enumerate() {
            assert_eq!(position(&source, at), (index + 1, 1));
            assert_eq!(position(&source, at + line.len()), (index + 1, line.len() + 1));
            at += line.len() + 1;
        }
    }
}

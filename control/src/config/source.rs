//! A file's name and text, and where its lines begin.

/// Lines between two of which the beginning is kept; what lies between is counted when it is asked for.
const STRIDE: usize = 64;

/// A file's name and text.
#[derive(Clone, Debug)]
pub(super) struct Source {
    file: String,
    text: String,
    /// Where each [`STRIDE`]th line begins.
    marks: Vec<usize>,
}

impl Source {
    pub(super) fn new(file: &str, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        // Editors do not count a byte order mark as a character of the first line.
        let first = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let marks = std::iter::once(first).chain(breaks).step_by(STRIDE).collect();
        Source { file: file.to_owned(), text, marks }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let mark = self.marks.partition_point(|start| *start <= offset).saturating_sub(1);
        let mut line = mark * STRIDE + 1;
        let mut start = self.marks.get(mark).copied().unwrap_or(0);
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let from = start;
        for at in rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| from + at + 1) {
            if at > offset {
                break;
            }
            (line, start) = (line + 1, at);
        }
        let rest = self.text.get(start..).unwrap_or_default();
        let column = rest.char_indices().take_while(|(at, _)| start + at < offset).count() + 1;
        (line, column)
    }

    pub(super) fn line(&self, offset: usize) -> usize {
        self.position(offset).0
    }
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
    fn every_line_of_a_long_file_is_found() {
        let text: String = (0..1000).map(|line| "x".repeat(line % 3) + "\n").collect();
        let source = Source::new("f", text.clone());
        let mut at = 0;
        for (index, line) in text.lines().enumerate() {
            assert_eq!(source.position(at), (index + 1, 1));
            assert_eq!(source.position(at + line.len()), (index + 1, line.len() + 1));
            at += line.len() + 1;
        }
    }
}

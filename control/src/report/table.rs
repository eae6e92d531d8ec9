//! Tables for people: a header line, columns as wide as their widest cell.

use std::fmt::Write;

/// Two spaces between columns.
const GAP: &str = "  ";

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table; every row has a cell for each column.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, header first, without blanks at their ends.
    pub(crate) fn render(&self) -> String {
        let width = |at: usize, title: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(title.chars().count())
        };
        let widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(at, (title, _))| width(at, title)).collect();
        let header: Vec<&str> = self.columns.iter().map(|(title, _)| *title).collect();
        let mut text = self.line(&header, &widths);
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            text.push_str(&self.line(&cells, &widths));
        }
        text
    }

    fn line(&self, cells: &[&str], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            if !line.is_empty() {
                line.push_str(GAP);
            }
            // Writing to a string cannot fail.
            let _ = match align {
                Align::Left => write!(line, "{cell:<width$}"),
                Align::Right => write!(line, "{cell:>width$}"),
            };
        }
        let mut line = line.trim_end().to_owned();
        line.push('\n');
        line
    }
}

/// Nanoseconds in the unit in which they are a small number.
pub(crate) fn duration(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.1} s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("NAME", Align::Left), ("MTU", Align::Right)]);
        table.row(vec!["a".into(), "1500".into()]);
        table.row(vec!["longer".into(), "9".into()]);
        assert_eq!(table.render(), "NAME     MTU\na       1500\nlonger     9\n");
    }

    #[test]
    fn durations_choose_their_unit() {
        let shown: Vec<String> = [999, 1_500, 2_000_000, 3_200_000_000].map(duration).to_vec();
        assert_eq!(shown, ["999 ns", "1.5 µs", "2.0 ms", "3.2 s"]);
    }
}

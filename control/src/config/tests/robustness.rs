//! Whatever a file holds, it is refused or taken, never the end of the program.

use super::{BASE, findings};
use proptest::prelude::*;

const CUSTOMER: &str = include_str!("../../../../docs/examples/customer.toml");

/// Pieces that mean something, to be put where they do not belong.
const PIECES: [&str; 16] = [
    "[[tunnel]]\n",
    "[tunnel.udp]\n",
    "[[port]]\n",
    "[[port.vlan]]\n",
    "\"any\"",
    "\"::/0\"",
    "[",
    "]",
    "{",
    "}",
    "=",
    "99999999999999999999",
    "-1",
    "\"\"\"",
    "é\u{1F600}",
    "name = \"t\"\n",
];

proptest! {
    #[test]
    fn arbitrary_text_is_survived(text in "\\PC{0,400}") {
        findings(&text);
    }

    #[test]
    fn arbitrary_values_are_survived(key in "[a-z_]{1,12}", value in "\\PC{0,40}") {
        findings(&format!("{BASE}{key} = {value}\n[[tunnel]]\n{key} = \"{value}\"\n"));
    }

    #[test]
    fn mutated_files_are_survived(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, 0..PIECES.len()), 1..12),
        customer in any::<bool>(),
    ) {
        let mut text = if customer { CUSTOMER } else { BASE }.to_owned();
        for (index, cut, piece) in edits {
            let mut start = index.index(text.len() + 1);
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            let mut end = (start + cut).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.replace_range(start..end, PIECES[piece]);
        }
        for finding in findings(&text) {
            let line = text.split('\n').nth(finding.line - 1);
            prop_assert!(line.is_some_and(|line| finding.column <= line.chars().count() + 1), "{finding}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_an_error_at_its_place(line in 0usize..31, value in prop::sample::select(
        vec!["1979-05-27", "1.5", "[[]]", "{ x = 1 }", "nan"])) {
        let mut lines: Vec<String> = BASE.lines().map(str::to_owned).collect();
        if let Some((key, _)) = lines[line].split_once(" = ").filter(|(key, _)| !key.starts_with('#')) {
            let column = key.chars().count() + 4;
            lines[line] = format!("{key} = {value}");
            let found = findings(&lines.join("\n"));
            prop_assert!(found.iter().any(|finding| finding.line == line + 1 && finding.column >= column), "{found:#?}");
        }
    }
}

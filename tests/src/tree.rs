//! What stands in the source tree.

use crate::binary;

/// Whether the file at `path`, from the root of the tree, has a test function of this name: one with an attribute that
/// makes it a test, one in `proptest!`, or one that is handed to a runner by its name.
pub fn has_test(path: &str, name: &str) -> bool {
    let text = std::fs::read_to_string(binary::root().join(path)).unwrap_or_default();
    let Some(at) = text.find(&format!("fn {name}(")) else { return false };
    let before: Vec<&str> = text[..at].lines().rev().map(str::trim).take(4).collect();
    let is_marked =
        before.iter().take_while(|line| !line.starts_with('}')).any(|line| line.starts_with("#[test]"));
    // A runner's list has the name a second time, outside its definition.
    let word = |piece: &str| piece == name;
    let uses =
        text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).filter(|piece| word(piece));
    is_marked || uses.count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_and_others_not() {
        assert!(has_test("tests/src/tree.rs", "tests_are_found_and_others_not"));
        assert!(has_test("tests/tests/functional.rs", "what_cannot_start_says_why"));
        assert!(!has_test("tests/src/tree.rs", "no_such_test"));
        assert!(!has_test("no/such/file.rs", "tests_are_found_and_others_not"));
    }
}

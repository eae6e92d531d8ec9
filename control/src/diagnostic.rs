//! One finding in a configuration file, as people and programs read it.

use serde_json::{Value, json};
use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; something in it will hardly do what was meant.
    Warning,
}

/// A finding with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    /// The file as it was named.
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What was expected and what was found.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
}

impl Diagnostic {
    /// The object of `culvert check --json`.
    pub(crate) fn json(&self) -> Value {
        json!({
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "severity": self.severity.name(),
            "message": self.message,
            "help": self.help,
        })
    }
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// `FILE:LINE:COLUMN: error: what`, which editors jump to, and the help in a line of its own.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { file, line, column, severity, message, help } = self;
        write!(f, "{file}:{line}:{column}: {}: {message}", severity.name())?;
        match help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_carry_the_same() {
        let finding = Diagnostic {
            file: "a.toml".into(),
            line: 3,
            column: 7,
            severity: Severity::Error,
            message: "m".into(),
            help: Some("h".into()),
        };
        assert_eq!(finding.to_string(), "a.toml:3:7: error: m\n  help: h");
        let expected = json!({"file": "a.toml", "line": 3, "column": 7, "severity": "error", "message": "m", "help": "h"});
        assert_eq!(finding.json(), expected);
        let warning = Diagnostic { severity: Severity::Warning, help: None, ..finding };
        assert_eq!(warning.to_string(), "a.toml:3:7: warning: m");
        assert_eq!(warning.json()["help"], Value::Null);
    }
}

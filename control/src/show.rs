//! `culvert show`, `culvert plan` and `culvert reload`: the commands that a running daemon answers.

use crate::client::{AskError, ask};
use crate::protocol::{Changes, Request, Topic};
use crate::report::{people, print, print_json, print_on, say};
use serde_json::Value;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Moves to the top of the terminal and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A table; of the drop reasons those that occurred, or all of them.
    People {
        /// All drop reasons.
        all: bool,
    },
    /// As the daemon gave it.
    Json,
    /// HdrHistogram's percentile text; of latency only.
    Hgrm,
}

/// Shows `topic`, every `watch` where that is given.
pub(crate) fn command(socket: &Path, topic: Topic, form: Form, watch: Option<Duration>) -> ExitCode {
    if form == Form::Hgrm && topic != Topic::Latency {
        say(&"culvert: --hgrm is for latency only (expected `culvert show latency --hgrm`)");
        return ExitCode::from(2);
    }
    let request = match form {
        Form::Hgrm => Request::Hgrm {},
        _ => Request::Show { what: topic },
    };
    let clear = watch.is_some() && form != Form::Json && std::io::stdout().is_terminal();
    loop {
        let answer: Value = match ask(socket, &request) {
            Ok(answer) => answer,
            Err(error) => return complain(&error),
        };
        let text = match form {
            Form::People { all } => people::render(topic, &answer, all),
            Form::Json if watch.is_some() => format!("{answer}\n"),
            Form::Json => format!("{answer:#}\n"),
            Form::Hgrm => hgrm(&answer),
        };
        let text = if clear { format!("{CLEAR}{text}") } else { text };
        let Some(pause) = watch else { return print(&text) };
        if let Err(exit) = print_on(&text) {
            return exit;
        }
        std::thread::sleep(pause);
    }
}

/// Prints what the daemon would change to run `file`.
pub(crate) fn plan(socket: &Path, file: &Path, json: bool) -> ExitCode {
    change(socket, Some(file), json, |file| Request::Plan { file })
}

/// Has the daemon run `file`, or the file that it runs with as it now is, and prints what changed.
pub(crate) fn reload(socket: &Path, file: Option<&Path>, json: bool) -> ExitCode {
    change(socket, file, json, |file| Request::Reload { file })
}

fn change(
    socket: &Path,
    file: Option<&Path>,
    json: bool,
    request: fn(Option<PathBuf>) -> Request,
) -> ExitCode {
    // The daemon's working directory is another one.
    let file = match file.map(std::path::absolute).transpose() {
        Ok(file) => file,
        Err(error) => {
            say(&format_args!("culvert: cannot tell where the file is: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let changes: Changes = match ask(socket, &request(file)) {
        Ok(changes) => changes,
        Err(error) => return complain(&error),
    };
    changes.warnings.iter().for_each(|finding| say(&diagnostic_line(finding)));
    if json {
        return print_json(&changes);
    }
    for item in changes.restart.iter().flatten() {
        say(&format_args!("culvert: only a restart can change {item}"));
    }
    let mut text = changes.plan.text();
    if let Some(number) = changes.generation {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "generation {number}");
    }
    print(&text)
}

/// Says why there is no answer, with every finding in a file that the daemon refused.
fn complain(error: &AskError) -> ExitCode {
    if let AskError::Refused { diagnostics, .. } = error {
        diagnostics.iter().for_each(|finding| say(&diagnostic_line(finding)));
    }
    say(&format_args!("culvert: {error}"));
    ExitCode::FAILURE
}

/// A finding as `check` prints it.
fn diagnostic_line(finding: &Value) -> String {
    let text = |key: &str| match finding.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let [file, line, column, severity, message, help] =
        ["file", "line", "column", "severity", "message", "help"].map(text);
    let help = if help.is_empty() { help } else { format!("\n  help: {help}") };
    format!("{file}:{line}:{column}: {severity}: {message}{help}")
}

/// One text after the other, each under a comment line with its scope.
fn hgrm(answer: &Value) -> String {
    let entries = answer.as_array().into_iter().flatten();
    let text =
        |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    entries.map(|entry| format!("# {} (ns)\n{}\n", text(entry, "scope"), text(entry, "text"))).collect()
}

//! `culvert check`: everything that is wrong with a file, without a device, root or hugepages.

use crate::config::{self, Config, Slots};
use crate::diagnostic::{Diagnostic, Severity};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Checks the file at `path` and prints what was found: text on stderr, or JSON on stdout.
pub(crate) fn command(path: &Path, json: bool) -> ExitCode {
    let (findings, summary) = match check(path) {
        Ok((config, warnings)) => (warnings, Some(summary(&config))),
        Err(findings) => (findings, None),
    };
    let mut people = std::io::stderr().lock();
    if json {
        let array: Value = findings.iter().map(Diagnostic::json).collect();
        if let Err(error) = writeln!(std::io::stdout().lock(), "{array:#}") {
            let _ = writeln!(people, "culvert: cannot write to stdout: {error}");
            return ExitCode::FAILURE;
        }
    } else {
        // Nobody is left to tell when stderr is closed; the exit code still says it.
        for finding in &findings {
            let _ = writeln!(people, "{finding}");
        }
    }
    match summary {
        Some(summary) => {
            let _ = writeln!(people, "{summary}");
            ExitCode::SUCCESS
        }
        None => {
            let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
            let _ = writeln!(people, "{}: {}", path.display(), counted(errors, "error"));
            ExitCode::FAILURE
        }
    }
}

/// Reads, checks and compiles; `Ok`: the configuration with all warnings.
fn check(path: &Path) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut config = config::load(path)?;
    let mut warnings = config.warnings.clone();
    match config.compile(&config.stand_in_macs(), &mut Slots::default()) {
        Ok((_, tables)) => {
            warnings.extend(config.limit_warnings(&tables));
            warnings.sort_by_key(|finding| (finding.line, finding.column));
            Ok((config, warnings))
        }
        Err(errors) => {
            warnings.extend(errors);
            warnings.sort_by_key(|finding| (finding.line, finding.column));
            Err(warnings)
        }
    }
}

fn summary(config: &Config) -> String {
    let (tunnels, routes) = config.sizes();
    format!(
        "{}: ok: {}, {}, {}",
        config.file(),
        counted(config.ports.len(), "port"),
        counted(tunnels, "tunnel"),
        counted(routes, "route")
    )
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

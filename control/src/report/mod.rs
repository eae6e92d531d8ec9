//! What the daemon and `replay` report: counters and latency, merged over the workers and rendered.

pub(crate) mod counters;
#[cfg(feature = "dpdk")]
pub(crate) mod inventory;
#[cfg(feature = "dpdk")]
pub(crate) mod latency;
#[cfg(feature = "dpdk")]
pub(crate) mod load;
pub(crate) mod people;
pub(crate) mod table;

use serde::Serialize;
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

/// Writes what was asked for to stdout. A reader that has seen enough (`| head`) is no failure.
pub(crate) fn print(text: &str) -> ExitCode {
    print_on(text).err().unwrap_or(ExitCode::SUCCESS)
}

/// Writes a document to stdout as JSON, piece by piece: a plan may be many megabytes.
pub(crate) fn print_json(document: &impl Serialize) -> ExitCode {
    let mut stdout = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let written = serde_json::to_writer_pretty(&mut stdout, document).map_err(io::Error::from);
    written_to_stdout(written.and_then(|()| writeln!(stdout)).and_then(|()| stdout.flush()))
        .err()
        .unwrap_or(ExitCode::SUCCESS)
}

/// [`print()`] for a command that has more to say later. `Err`: nobody reads it, so that it is to end with this code.
pub(crate) fn print_on(text: &str) -> Result<(), ExitCode> {
    let mut stdout = io::stdout().lock();
    written_to_stdout(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

fn written_to_stdout(written: io::Result<()>) -> Result<(), ExitCode> {
    written.map_err(|error| {
        if error.kind() == ErrorKind::BrokenPipe {
            return ExitCode::SUCCESS;
        }
        say(&format_args!("culvert: cannot write to stdout: {error}"));
        ExitCode::FAILURE
    })
}

/// Writes a line for people to stderr; where nobody listens there is nobody to tell.
pub(crate) fn say(line: &dyn Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

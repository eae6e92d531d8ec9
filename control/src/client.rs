//! The commands' end of the control socket.

use crate::protocol::{Answer, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the daemon may take to answer: a large file to compile, and workers to wait for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens.
    #[error(
        "no culvert answers on {} ({source}); start one with `culvert run --config FILE`, or name the socket of one that runs with --socket PATH",
        path.display()
    )]
    NoDaemon {
        /// The socket that was tried.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else's.
    #[error("no leave to use {} ({source}); the daemon's socket is for the user that runs it", path.display())]
    NotAllowed {
        /// The socket that was tried.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke.
    #[error("culvert on {} did not answer: {source}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not this protocol.
    #[error("what answers on {} is not culvert: {what}", path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        what: String,
    },
    /// The daemon says no.
    #[error("{message}")]
    Refused {
        /// Its reason.
        message: String,
        /// Findings in a file, as `check --json` has them.
        diagnostics: Vec<Value>,
    },
}

/// Sends `request` to the daemon that listens on `path` and returns what it answers.
pub(crate) fn ask<T: DeserializeOwned>(path: &Path, request: &Request) -> Result<T, AskError> {
    let broken = |source| AskError::Broken { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        ErrorKind::PermissionDenied => AskError::NotAllowed { path: path.to_owned(), source },
        _ => AskError::NoDaemon { path: path.to_owned(), source },
    })?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut line = serde_json::to_vec(request).map_err(|error| broken(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|source| match source.kind() {
        ErrorKind::WouldBlock => broken(io::Error::new(ErrorKind::TimedOut, "it took too long")),
        _ => broken(source),
    })?;
    if answer.is_empty() {
        return Err(broken(io::Error::new(ErrorKind::UnexpectedEof, "it closed the connection")));
    }
    match serde_json::from_slice(&answer) {
        Ok(Answer::Done(value)) => Ok(value),
        Ok(Answer::Refused { message, diagnostics }) => Err(AskError::Refused { message, diagnostics }),
        Err(error) => Err(AskError::Foreign { path: path.to_owned(), what: error.to_string() }),
    }
}

//! The daemon's end of the control socket.
//!
//! Everything is done on the control thread without ever waiting for a client: sockets are non-blocking, a client has
//! [`PATIENCE`] for its request and as long to take the answer, and its request has a largest size. The file belongs to
//! the user who runs the daemon, from the moment at which it appears.

use crate::protocol::{Answer, MAX_REQUEST};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a client may take to send its request, and again to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long another daemon may take to set up its socket in the same folder.
const LOCKED_WITHIN: Duration = Duration::from_secs(2);

/// Clients served at a time; more wait in the listener's queue.
const MAX_CLIENTS: usize = 32;

/// The longest path that the system takes for a socket, without its closing zero byte.
const MAX_PATH: usize = 107;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// The system's limit.
    #[error("socket {}: the path has {} bytes; the system takes at most {MAX_PATH}", .0.display(), .0.as_os_str().len())]
    TooLong(PathBuf),
    /// Another daemon.
    #[error("another culvert answers on {}; stop it, or give this one a socket of its own ([control] socket)", .0.display())]
    Busy(PathBuf),
    /// A file of somebody's.
    #[error("socket {}: there is a {kind} already, which is left alone; remove it or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What is there.
        kind: &'static str,
    },
    /// Any other refusal.
    #[error("socket {}: {what}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// The listening socket and the clients that it serves. Dropped, it removes its file.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    /// Device and inode of the socket's file.
    identity: Option<(u64, u64)>,
    listener: UnixListener,
    clients: Vec<Client>,
    /// Before this moment no client is accepted: the system had no file descriptor for one.
    accept_from: Instant,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// Bytes of `outbox` that were sent.
    sent: usize,
    answered: bool,
    /// The client will send no more.
    closed: bool,
    /// The request was refused before its end: what is left of it is read and forgotten, so that the client, which is
    /// still writing, comes to read the answer.
    discarding: bool,
    until: Instant,
}

impl Socket {
    /// Listens on `path`. The folder is made where it is missing; the socket of a daemon that is gone is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        if path.as_os_str().len() > MAX_PATH {
            return Err(SocketError::TooLong(path.to_owned()));
        }
        let failed = |what| move |source| SocketError::Io { path: path.to_owned(), what, source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed("cannot make its folder"))?;
        // Two daemons that start at once must not both find the same stale socket and remove each other's.
        let lock = File::open(folder).map_err(failed("cannot open its folder"))?;
        lock_folder(&lock).map_err(|error| failed("cannot lock its folder")(error.into()))?;
        make_way(path)?;
        // The mode of a socket's file is what umask leaves of 0777; changing it afterwards would leave a moment in which
        // anybody can connect.
        let umask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(umask);
        let listener = listener.map_err(failed("cannot bind"))?;
        listener.set_nonblocking(true).map_err(failed("cannot set up"))?;
        let identity = std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()));
        Ok(Socket {
            path: path.to_owned(),
            identity,
            listener,
            clients: Vec::new(),
            accept_from: Instant::now(),
        })
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until `wake` is readable, a client wants something, or `until` is reached, serves the clients, and returns.
    /// Whole requests go to `answer`, which returns the answer's line.
    pub(crate) fn turn(
        &mut self,
        wake: BorrowedFd<'_>,
        until: Instant,
        mut answer: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> io::Result<()> {
        self.wait(wake, until)?;
        self.accept();
        let now = Instant::now();
        for client in &mut self.clients {
            client.serve(now, &mut answer);
        }
        self.clients.retain(|client| !client.is_done(now));
        Ok(())
    }

    fn wait(&self, wake: BorrowedFd<'_>, until: Instant) -> io::Result<()> {
        let now = Instant::now();
        let mut descriptors = vec![PollFd::from_borrowed_fd(wake, PollFlags::IN)];
        let mut until = until;
        if self.clients.len() < MAX_CLIENTS && now >= self.accept_from {
            descriptors.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        for client in &self.clients {
            descriptors.push(PollFd::from_borrowed_fd(client.stream.as_fd(), client.interest()));
            until = until.min(client.until);
        }
        let left = until.saturating_duration_since(now);
        // A full millisecond more than needed, so that the deadline is past on return.
        let timeout = Timespec::try_from(left + Duration::from_millis(1)).map_err(io::Error::other)?;
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn accept(&mut self) {
        while self.clients.len() < MAX_CLIENTS {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        self.clients.push(Client::new(stream));
                    }
                }
                Err(error) => {
                    let usual = [ErrorKind::WouldBlock, ErrorKind::Interrupted, ErrorKind::ConnectionAborted];
                    if !usual.contains(&error.kind()) {
                        self.accept_from = Instant::now() + Duration::from_secs(1);
                    }
                    return;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let current = std::fs::symlink_metadata(&self.path).ok().map(|file| (file.dev(), file.ino()));
        // Only this daemon's own file: another may have taken the path since.
        if current.is_some() && current == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        Client {
            stream,
            inbox: Vec::new(),
            outbox: Vec::new(),
            sent: 0,
            answered: false,
            closed: false,
            discarding: false,
            until: Instant::now() + PATIENCE,
        }
    }

    fn interest(&self) -> PollFlags {
        let mut interest = PollFlags::empty();
        if !self.closed && (!self.answered || self.discarding) {
            interest |= PollFlags::IN;
        }
        if self.sent < self.outbox.len() {
            interest |= PollFlags::OUT;
        }
        interest
    }

    fn serve(&mut self, now: Instant, answer: &mut impl FnMut(&[u8]) -> Vec<u8>) {
        self.read();
        if !self.answered {
            if let Some(end) = self.inbox.iter().position(|byte| *byte == b'\n') {
                let line = answer(self.inbox.get(..end).unwrap_or_default());
                self.reply(line);
            } else if self.inbox.len() > MAX_REQUEST {
                self.refuse(&format!("the request is longer than {MAX_REQUEST} bytes"));
            } else if self.closed && !self.inbox.is_empty() {
                self.refuse("the request ended before its line did: expected one line of JSON and a newline");
            } else if now >= self.until {
                let patience = PATIENCE.as_secs();
                self.refuse(&format!(
                    "no whole request within {patience} s: expected one line of JSON and a newline"
                ));
            }
        }
        self.write();
    }

    fn reply(&mut self, line: Vec<u8>) {
        self.outbox = line;
        self.outbox.push(b'\n');
        self.inbox = Vec::new();
        self.answered = true;
        self.until = Instant::now() + PATIENCE;
    }

    fn refuse(&mut self, message: &str) {
        self.reply(Answer::refused(message.to_owned()).line());
        self.discarding = true;
    }

    fn read(&mut self) {
        let mut chunk = [0; 16 * 1024];
        // Bounded, so that a client that never ends its request does not keep the others waiting.
        for _ in 0..=MAX_REQUEST / chunk.len() {
            if self.closed || (self.answered && !self.discarding) {
                return;
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => self.closed = true,
                Ok(_) if self.discarding => {}
                Ok(count) => self.inbox.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.closed = true,
            }
            if self.inbox.len() > MAX_REQUEST || self.inbox.last() == Some(&b'\n') {
                return;
            }
        }
    }

    fn write(&mut self) {
        while self.sent < self.outbox.len() {
            match self.stream.write(self.outbox.get(self.sent..).unwrap_or_default()) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    // The client is gone; nobody waits for the rest.
                    self.sent = self.outbox.len();
                    self.closed = true;
                }
            }
        }
        if self.answered {
            let _ = self.stream.shutdown(std::net::Shutdown::Write);
        }
    }

    fn is_done(&self, now: Instant) -> bool {
        let delivered = self.answered && self.sent == self.outbox.len();
        let left = self.closed && !self.answered;
        left || (delivered && (self.closed || !self.discarding)) || (self.answered && now >= self.until)
    }
}

/// Takes the lock of the socket's folder. Whoever else starts a daemon there lets go of it at once; anybody who may open
/// the folder could keep it, so that it is not waited for without end.
fn lock_folder(folder: &File) -> Result<(), Errno> {
    let until = Instant::now() + LOCKED_WITHIN;
    loop {
        match flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
}

/// Removes the socket of a daemon that is gone; anything else at `path` is an error.
fn make_way(path: &Path) -> Result<(), SocketError> {
    let failed = |what| move |source| SocketError::Io { path: path.to_owned(), what, source };
    let kind = match std::fs::symlink_metadata(path) {
        Ok(file) => file.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("cannot look at it")(error)),
    };
    if !kind.is_socket() {
        let kind = match (kind.is_dir(), kind.is_symlink(), kind.is_file()) {
            (true, _, _) => "folder",
            (_, true, _) => "symbolic link",
            (_, _, true) => "file",
            _ => "special file",
        };
        return Err(SocketError::NotASocket { path: path.to_owned(), kind });
    }
    match knock(path) {
        // A listener whose queue is full says "again": it is alive.
        Ok(()) | Err(Errno::AGAIN) => Err(SocketError::Busy(path.to_owned())),
        Err(Errno::CONNREFUSED) => {
            std::fs::remove_file(path).map_err(failed("cannot remove the one that a daemon left"))
        }
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed("cannot tell whether a daemon answers on it")(error.into())),
    }
}

/// Connects without waiting.
fn knock(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

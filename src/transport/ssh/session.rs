//! One connection to one host: an ssh master of our own making, and commands through it.
//!
//! The master is started here rather than by the openssh crate, because the crate cannot pass
//! options of its own and would set how host keys are checked. A master that is already there and
//! alive (a run of a few minutes ago left it) is used again.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use openssh::{Child, Session};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use super::super::TransportError;
use super::super::parse::{LARGEST_ANSWER, printable};
use super::super::probe::Mark;
use super::config::{Destination, PINNED_PLACE, hint};
use crate::names::{Digest, HostName};

/// sshd allows 10 sessions on a connection unless told otherwise (MaxSessions).
const MOST_SESSIONS: usize = 8;
/// How long a command may take to end after its answer.
const END_TIME: Duration = Duration::from_secs(30);
/// How long a login may take besides connecting: key agents ask people, hosts may stall.
const LOGIN_TIME: Duration = Duration::from_secs(180);
/// How much of ssh's own messages is read, in bytes; a host's banner is in them.
const MOST_LOG: u64 = 256 << 10;
/// How much of standard error is kept for people.
const STDERR_LINES: usize = 20;

/// A command's process on the host.
pub(super) type Process = Child<Arc<Session>>;

/// The way to one host.
pub(super) struct Connection {
    pub(super) host: HostName,
    pub(super) destination: Destination,
    directory: PathBuf,
    idle: Duration,
    /// The session and its number, from 1.
    session: Mutex<(Option<Arc<Session>>, usize)>,
    /// The machine was restarted: a session that is gone is made anew.
    ends: AtomicBool,
    sessions: Semaphore,
    round_trips: AtomicUsize,
}

impl Connection {
    pub(super) fn new(host: HostName, destination: Destination, directory: &Path, idle: Duration) -> Self {
        Self {
            host,
            destination,
            directory: directory.to_owned(),
            idle,
            session: Mutex::default(),
            ends: AtomicBool::new(false),
            sessions: Semaphore::new(MOST_SESSIONS),
            round_trips: AtomicUsize::new(0),
        }
    }

    pub(super) fn round_trips(&self) -> usize {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// Counts a command and waits until the connection has room for it.
    pub(super) async fn permit(&self) -> SemaphorePermit<'_> {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        self.sessions.acquire().await.expect("the semaphore is never closed")
    }

    /// The session and its number; the first caller makes it. One that was lost is handed out as it is, so that
    /// whatever is done with it fails: the host's lock was lost with it.
    pub(super) async fn session(&self) -> Result<(Arc<Session>, usize), TransportError> {
        let mut current = self.session.lock().await;
        let (session, number) = &mut *current;
        if let Some(session) = session
            && (!self.ends.load(Ordering::Relaxed) || is_alive(session).await)
        {
            return Ok((Arc::clone(session), *number));
        }
        *session = None;
        let made = self.open().await?;
        *number += 1;
        *session = Some(Arc::clone(&made));
        Ok((made, *number))
    }

    /// The session if it was made. One that is being made at this moment is not waited for.
    pub(super) fn opened(&self) -> Option<Arc<Session>> {
        self.session.try_lock().ok()?.0.clone()
    }

    /// From now on a session that is gone is made anew.
    pub(super) fn expect_end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// What ssh said last about the connection itself, a few lines. It also tells of every port of the host
    /// that nobody listens on.
    pub(super) fn last_words(&self) -> String {
        let said = self.said().unwrap_or_default();
        let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("channel ")).collect();
        last_lines(&lines.join("\n"), 2)
    }

    /// The end of what ssh said.
    fn said(&self) -> std::io::Result<String> {
        let mut log = std::fs::File::open(self.file(".log"))?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(MOST_LOG)))?;
        let mut said = Vec::new();
        log.take(MOST_LOG).read_to_end(&mut said)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// A file of this connection in the control directory. Its name holds everything that decides
    /// how the host is reached, so a changed plan never meets an old connection.
    fn file(&self, suffix: &str) -> PathBuf {
        let text = format!("{}\n{:?}\n{}", self.destination.name, self.destination.pinned, self.destination.config);
        self.directory.join(format!("{}{suffix}", Digest::of(text).short()))
    }

    /// A short name of this connection, for sockets.
    pub(super) fn short_name(&self) -> String {
        Digest::of(self.host.as_str()).short()
    }

    async fn open(&self) -> Result<Arc<Session>, TransportError> {
        let socket = self.file("");
        let failed = |reason: String| TransportError::Connect {
            host: self.host.clone(),
            destination: self.destination.name.clone(),
            hint: hint(&reason),
            reason,
        };
        if socket.exists() {
            let session = Session::resume_mux(socket.clone().into(), None);
            if is_alive(&session).await {
                return Ok(Arc::new(session));
            }
            // A socket without a master behind it would keep a new one from listening.
            let _gone = std::fs::remove_file(&socket);
        }
        let config = self.file(".conf");
        let log = self.file(".log");
        let write = |path: &Path, text: &str| {
            std::fs::write(path, text).map_err(|error| failed(format!("cannot write {}: {error}", path.display())))
        };
        let mut text = self.destination.config.clone();
        if let Some(line) = &self.destination.pinned {
            let keys = self.file(".keys");
            write(&keys, line)?;
            text = text.replace(PINNED_PLACE, &keys.to_string_lossy());
        }
        write(&config, &text)?;
        write(&log, "")?;
        let login = tokio::process::Command::new("ssh")
            .arg("-F")
            .arg(&config)
            .arg("-E")
            .arg(&log)
            .arg("-S")
            .arg(&socket)
            .args(["-M", "-f", "-N", "-o"])
            .arg(format!("ControlPersist={}", self.idle.as_secs().max(1)))
            .arg("--")
            .arg(&self.destination.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status();
        let status = tokio::time::timeout(LOGIN_TIME, login)
            .await
            .map_err(|_| failed(format!("the login takes longer than {} s", LOGIN_TIME.as_secs())))?
            .map_err(|error| failed(format!("cannot run ssh: {error}")))?;
        if !status.success() {
            let said = self.said().unwrap_or_else(|error| error.to_string());
            return Err(failed(last_lines(&said, STDERR_LINES)));
        }
        Ok(Arc::new(Session::resume_mux(socket.into(), None)))
    }

    /// Starts a fixed command text on the host.
    pub(super) async fn spawn(&self, command: &str, operation: &str) -> Result<Process, TransportError> {
        let (session, _) = self.session().await?;
        let mut command = Arc::clone(&session).arc_raw_command(command);
        command.stdin(openssh::Stdio::piped()).stdout(openssh::Stdio::piped()).stderr(openssh::Stdio::piped());
        match command.spawn().await {
            Ok(process) => Ok(process),
            Err(error) => Err(self.broken(&session, operation, &error).await),
        }
    }

    /// An error of the connection, or of a command in it: a signal on the host and a lost link
    /// look alike, so the master is asked whether it is still there.
    pub(super) async fn broken(&self, session: &Session, operation: &str, error: &openssh::Error) -> TransportError {
        let operation = operation.to_owned();
        if !is_alive(session).await {
            return TransportError::Lost { host: self.host.clone(), operation };
        }
        let reason = printable(&with_sources(error));
        TransportError::Command { host: self.host.clone(), operation, reason }
    }

    /// The exit status of a process that has said all it had to say: what `sh` would say, 255 if a
    /// signal ended it.
    pub(super) async fn status(&self, process: Process, operation: &str) -> Result<i32, TransportError> {
        let session = process.session();
        let Ok(ended) = tokio::time::timeout(END_TIME, process.wait()).await else {
            let reason = format!("it does not end ({} s after its last word)", END_TIME.as_secs());
            return Err(TransportError::Command { host: self.host.clone(), operation: operation.to_owned(), reason });
        };
        match ended {
            Ok(status) => Ok(status.code().unwrap_or(255)),
            // openssh's reading of the status 127.
            Err(openssh::Error::Remote(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(127),
            Err(error) => Err(self.broken(&session, operation, &error).await),
        }
    }

    /// Ends the master.
    pub(super) async fn end(&self) {
        if self.opened().is_none() {
            return;
        }
        let ended = tokio::process::Command::new("ssh")
            .args(["-F", "none", "-S"])
            .arg(self.file(""))
            .args(["-O", "exit", "--"])
            .arg(&self.destination.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status();
        // A master that does not answer ends by itself when it is idle.
        let _late = tokio::time::timeout(Duration::from_secs(5), ended).await;
        for suffix in [".conf", ".log", ".keys"] {
            let _missing = std::fs::remove_file(self.file(suffix));
        }
    }
}

/// Whether the master behind a session is still there.
async fn is_alive(session: &Session) -> bool {
    matches!(tokio::time::timeout(Duration::from_secs(5), session.check()).await, Ok(Ok(())))
}

/// Reads an answer up to its end mark (a process that holds the lock goes on after it) or the
/// end of the stream, at most `LARGEST_ANSWER` bytes. `true`: there is more than that.
pub(super) async fn read_answer(stream: &mut (impl AsyncRead + Unpin), mark: &Mark, answer: &mut Vec<u8>) -> std::io::Result<bool> {
    let end = mark.end();
    let mut seen = 0;
    loop {
        let before = answer.len();
        answer.reserve(64 << 10);
        if stream.read_buf(answer).await? == 0 {
            return Ok(false);
        }
        if memchr::memmem::find(&answer[seen..], end.as_bytes()).is_some() {
            return Ok(false);
        }
        if answer.len() > LARGEST_ANSWER {
            return Ok(true);
        }
        seen = before.saturating_sub(end.len()).max(seen);
    }
}

/// The longest line of a step's output that is looked at, in bytes; those of slipway are short.
const LONGEST_LINE: usize = 512;

/// Reads a line into `line`, without its end; of a long one only the beginning, so that a line
/// without an end takes no memory. `false`: there are no more.
pub(super) async fn next_line(stream: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut begun = false;
    loop {
        let read = stream.fill_buf().await?;
        if read.is_empty() {
            return Ok(begun);
        }
        begun = true;
        let end = read.iter().position(|byte| *byte == b'\n');
        let part = &read[..end.unwrap_or(read.len())];
        line.extend_from_slice(&part[..part.len().min(LONGEST_LINE - line.len())]);
        let used = end.map_or(read.len(), |end| end + 1);
        stream.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Sends a script to a process that waits for its length in a line of its own.
pub(super) async fn send_script(stream: &mut (impl tokio::io::AsyncWrite + Unpin), script: &str) -> std::io::Result<()> {
    stream.write_all(format!("{}\n{script}", script.len()).as_bytes()).await?;
    stream.flush().await
}

/// Reads a stream to its end and keeps its last lines, however much there is.
pub(super) async fn tail(mut stream: impl AsyncRead + Unpin) -> String {
    const KEPT: usize = 32 << 10;
    let mut kept = Vec::new();
    let mut chunk = vec![0; 8 << 10];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
    last_lines(&String::from_utf8_lossy(&kept), STDERR_LINES)
}

/// The last lines of a text, without control characters.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| printable(line.trim_end())).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_without_an_end_takes_no_memory() {
        let endless = tokio::io::repeat(b'x').take(200 << 20);
        let mut output = tokio::io::BufReader::new(endless.chain(&b"\n@done 1\nlast"[..]));
        let mut line = Vec::new();
        let mut seen = Vec::new();
        while next_line(&mut output, &mut line).await.unwrap() {
            assert!(line.capacity() <= 2 * LONGEST_LINE);
            seen.push(String::from_utf8(line.clone()).unwrap());
        }
        assert_eq!(seen[0].len(), LONGEST_LINE);
        assert_eq!(seen[1..], ["@done 1", "last"]);
    }

    #[tokio::test]
    async fn only_the_end_of_endless_complaints_is_kept() {
        let said = tail(tokio::io::repeat(b'x').take(200 << 20).chain(&b"\nthe end\x1b[2J\n"[..])).await;
        assert!(said.ends_with("the end\u{fffd}[2J") && said.len() < 128 << 10, "{}", said.len());
    }
}

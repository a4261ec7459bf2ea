//! How the engine reaches hosts: one trait, so that the same engine runs over SSH and over a
//! simulated cluster. Everything that is done to a host goes through `apply`, everything that is
//! seen of one through `probe` and `fetch`.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::artifact::Secret;
use crate::change::Change;
use crate::facts::Facts;
use crate::names::{HostName, RemotePath};
use crate::phase::StepId;
use crate::plan::Host;

pub mod parse;
pub mod probe;
pub mod records;
pub mod script;
pub mod shell;
pub mod ssh;

/// What a probe looks at. The whole answer comes back in one round trip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Directories and files whose whole content (files up to 1 MiB) comes back.
    pub roots: Vec<RemotePath>,
    /// Files below the roots of which only the existence is told (CA keys).
    pub without_content: Vec<RemotePath>,
    /// Directories outside the roots of which only mode and owner are told.
    pub directories: Vec<RemotePath>,
    /// Programs that are only looked at with `stat`.
    pub programs: Vec<RemotePath>,
    /// Packages of the operating system.
    pub packages: Vec<String>,
    /// systemd units.
    pub units: Vec<String>,
    /// Commands to look for.
    pub commands: Vec<String>,
    /// Kernel modules to look for.
    pub modules: Vec<String>,
    /// Kernel parameters to read.
    pub sysctls: Vec<String>,
    /// Tell which ports are listened on.
    pub ports: bool,
    /// Tell which interface has which address, not only the addresses.
    pub interfaces: bool,
    /// etcd's data directory.
    pub etcd_directory: Option<RemotePath>,
    /// The CRI socket.
    pub socket: Option<RemotePath>,
    /// Hold the host's lock from before the probe until the transport is closed, so that nobody
    /// else changes what was seen. The text names the operator and the run for whoever finds it
    /// taken. `None` writes nothing at all on the host.
    pub lock: Option<String>,
}

/// What one step does on its host.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// Which step.
    pub step: &'a StepId,
    /// What is to be done, in order; nothing here is of the cluster.
    pub changes: &'a [Change],
    /// After this time the host gives up.
    pub timeout: Duration,
}

/// Work ready to be sent: a script and the files it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Shown in errors: `etcd@cp-1`.
    pub step: String,
    /// A POSIX shell script, run as root in a directory that holds the payloads. It prints
    /// `@begin N` and `@done N` for the N-th change.
    pub script: String,
    /// Files beside the script, by the name the script uses.
    pub payloads: Vec<(String, Payload)>,
    /// How many changes the script makes.
    pub changes: usize,
    /// After this time the host ends the script.
    pub timeout: Duration,
    /// The last change takes the machine down, and the connection with it.
    pub restarts: bool,
}

/// A file that travels with a script.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Bytes in memory.
    Bytes(Secret),
    /// A file of the operator's machine, streamed.
    File(PathBuf),
}

/// Why a host could not be worked on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection.
    #[error("cannot connect to host {host} ({destination}): {reason}")]
    Connect {
        /// Which host.
        host: HostName,
        /// What `ssh` was asked to connect to.
        destination: String,
        /// What `ssh` said.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The login works, root rights do not.
    #[error("host {host}: {reason}")]
    Root {
        /// Which host.
        host: HostName,
        /// What `sudo` said.
        reason: String,
    },
    /// Another run holds the host's lock.
    #[error("host {host} is locked by another run: {holder}")]
    Locked {
        /// Which host.
        host: HostName,
        /// The text that run left.
        holder: String,
    },
    /// A command ended badly or answered nonsense.
    #[error("host {host}: {operation} failed: {reason}")]
    Command {
        /// Which host.
        host: HostName,
        /// `probe`, `fetch`, ….
        operation: String,
        /// Exit status and the last lines of standard error.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to host {host} was lost during {operation}")]
    Lost {
        /// Which host.
        host: HostName,
        /// What was going on.
        operation: String,
    },
}

/// Why a step failed on its host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The script failed.
    #[error("{}", failure_text(*change, *status))]
    Script {
        /// The index of the change that failed; `None` if it failed before the first.
        change: Option<usize>,
        /// Exit status; 124 means that the time ran out.
        status: i32,
        /// The last lines of standard error, without control characters.
        stderr: String,
    },
    /// The host could not be worked on.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

fn failure_text(change: Option<usize>, status: i32) -> String {
    let place = change.map_or_else(|| "before the first change".to_owned(), |index| format!("in change {}", index + 1));
    if status == 124 { format!("took too long, {place}") } else { format!("failed {place} with exit status {status}") }
}

/// A byte stream to a port of a host.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How the engine reaches hosts.
pub trait Transport: Send + Sync {
    /// Makes a host known that is not of the plan it was made for, under its name. It is reached with the
    /// plan's `ssh` and the host's own. Connects to none.
    ///
    /// # Errors
    /// Its settings cannot be used.
    fn introduce(&self, _host: &Host) -> Result<(), TransportError> {
        Ok(())
    }

    /// Looks at a host. Writes nothing on it, unless the request asks for the lock.
    fn probe(&self, host: &HostName, request: &ProbeRequest) -> impl Future<Output = Result<Facts, TransportError>> + Send;

    /// Reads files (CA keys). Files that are not there are left out of the answer.
    fn fetch(
        &self,
        host: &HostName,
        paths: &[RemotePath],
    ) -> impl Future<Output = Result<BTreeMap<RemotePath, Secret>, TransportError>> + Send;

    /// Makes changes on a host. `progress` is called with the index of each change that is done.
    fn apply(
        &self,
        host: &HostName,
        work: Work<'_>,
        progress: impl Fn(usize) + Send + Sync,
    ) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Opens a stream to an address as seen from the host, inside the connection to it.
    fn connect(
        &self,
        host: &HostName,
        address: SocketAddr,
    ) -> impl Future<Output = Result<Box<dyn Stream>, TransportError>> + Send;

    /// Runs a read-only script for people (the last log lines of a component) and returns its output
    /// without control characters.
    fn diagnose(&self, host: &HostName, script: &str) -> impl Future<Output = Result<String, TransportError>> + Send;

    /// Ends when the line to that host is gone on which this run holds its lock, with what the connection's
    /// program said last: from then on others may work there. Never ends while the line is good, or if no
    /// lock is held.
    fn lost(&self, _host: &HostName) -> impl Future<Output = String> + Send {
        std::future::pending()
    }

    /// The engine had the machine restarted: the line to it ends, its lock with it, and a new line is made when
    /// one is needed. Only for that: a line that is lost in any other way stays lost for this run, because
    /// somebody else may have worked on the host meanwhile.
    fn restarted(&self, _host: &HostName) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Commands sent to that host so far: the round trips a summary shows.
    fn round_trips(&self, host: &HostName) -> usize;

    /// Ends everything: locks are released, connections closed.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

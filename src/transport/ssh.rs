//! The transport to real hosts: the system's own ssh, one connection per host, kept open.
//!
//! Invariants: the text of a remote command holds no data; secrets travel on standard input only;
//! a command on a host always has an end (a time limit there, or our silence); nothing that was
//! not verified the OpenSSH way is talked to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::parse::{self, ParseError};
use super::probe::Mark;
use super::script::{self, ScriptContext};
use super::{ApplyError, Bundle, ProbeRequest, Stream, Transport, TransportError, Work, probe};
use crate::artifact::Secret;
use crate::facts::Facts;
use crate::names::{HostName, RemotePath, Span};
use crate::plan::{Host, Plan, Ssh};

mod config;
mod forwards;
mod lock;
mod payload;
mod remote;
mod session;

pub use config::{ConfigError, UserConfig};
use forwards::Forwards;
use lock::Lock;
use payload::{Cargo, SendError};
use remote::{Remote, refusal};
use session::{Connection, Process, last_lines, next_line, read_answer, send_script, tail};

/// How long a probe or a fetch may take, besides making the connection. A host that waits for a
/// step of an earlier run takes 30 seconds.
const ANSWER_TIME: Duration = Duration::from_secs(150);

/// How many lines a diagnosis has at most, each of bounded length.
const MOST_DIAGNOSIS_LINES: usize = 2000;

/// How the transport works on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshOptions {
    /// Where connections have their sockets: a directory of this user alone, with a short path.
    pub control_directory: PathBuf,
    /// Leave connections open for the next run of slipway, and use those an earlier one left.
    pub reuse: bool,
    /// An unused connection ends after this time, also when slipway was killed.
    pub idle: Duration,
    /// The user's and the system's ssh configuration.
    pub user_config: UserConfig,
    /// Put before every path on hosts. For tests; `None` for real.
    pub root: Option<RemotePath>,
}

impl SshOptions {
    /// The usual: sockets in `runtime_directory` (`$XDG_RUNTIME_DIR`) or else below /tmp, and
    /// connections that live ten minutes longer than a run.
    #[must_use]
    pub fn usual(runtime_directory: Option<&Path>, home: Option<&Path>, user: u32) -> Self {
        let control_directory = match runtime_directory {
            // A socket's path may have 107 bytes, and ssh adds 17 to the name it is given.
            Some(directory) if directory.as_os_str().len() < 50 => directory.join("slipway"),
            _ => PathBuf::from(format!("/tmp/slipway-{user}")),
        };
        let mut files: Vec<PathBuf> = home.map(|home| home.join(".ssh/config")).into_iter().collect();
        files.push("/etc/ssh/ssh_config".into());
        Self {
            control_directory,
            reuse: true,
            idle: Duration::from_secs(600),
            user_config: UserConfig { files },
            root: None,
        }
    }

    /// Keeps connections as the plan says: that long after a run, or not at all. Where it says
    /// nothing they are kept, but not in CI, where no next run comes by.
    #[must_use]
    pub fn keeping(mut self, persist: Option<Span>, in_ci: bool) -> Self {
        match persist {
            Some(persist) => {
                self.reuse = !persist.0.is_zero();
                if self.reuse {
                    self.idle = persist.0;
                }
            }
            None => self.reuse = !in_ci,
        }
        self
    }
}

/// Why the transport could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// A host's `ssh` settings are no good.
    #[error("host {host}: {source}")]
    Config {
        /// Which host.
        host: HostName,
        /// Which setting.
        source: ConfigError,
    },
    /// The directory for sockets.
    #[error("cannot use {directory} for ssh connections: {reason}")]
    ControlDirectory {
        /// Which.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The hosts of a plan over SSH. A connection is made when it is first needed.
pub struct SshTransport {
    hosts: RwLock<BTreeMap<HostName, Arc<Remotely>>>,
    /// How the plan reaches its hosts.
    ssh: Ssh,
    options: SshOptions,
    /// The CRI socket on every host.
    socket: RemotePath,
    /// The sockets of this run's forwards.
    forwards: tempfile::TempDir,
}

/// What this run has of one host.
struct Remotely {
    connection: Connection,
    lock: Mutex<Option<Lock>>,
    forwards: Mutex<Forwards>,
}

impl Remotely {
    /// Nothing is connected yet. `home` is where the connection has its socket.
    fn new(ssh: &Ssh, host: &Host, options: &SshOptions, home: &Path) -> Result<Self, ConfigError> {
        let destination = config::destination(ssh, host, &options.user_config)?;
        let connection = Connection::new(host.name.clone(), destination, home, options.idle);
        Ok(Self { connection, lock: Mutex::default(), forwards: Mutex::default() })
    }
}

impl SshTransport {
    /// Prepares the way to each host of the plan; connects to none.
    ///
    /// # Errors
    /// A host's settings cannot stand in an ssh configuration, or the control directory is not
    /// usable or not this user's alone.
    pub fn new(plan: &Plan, options: SshOptions) -> Result<Self, SshError> {
        let directory = &options.control_directory;
        let unusable = |reason: String| SshError::ControlDirectory { directory: directory.clone(), reason };
        prepare(directory).map_err(unusable)?;
        let forwards = tempfile::Builder::new()
            .prefix("f")
            .rand_bytes(6)
            .tempdir_in(directory)
            .map_err(|error| unusable(error.to_string()))?;
        // Without reuse the connections live where the forwards do, and go with them.
        let home = if options.reuse { directory.as_path() } else { forwards.path() };
        let mut hosts = BTreeMap::new();
        for host in &plan.hosts {
            let remotely = Remotely::new(&plan.ssh, host, &options, home)
                .map_err(|source| SshError::Config { host: host.name.clone(), source })?;
            hosts.insert(host.name.clone(), Arc::new(remotely));
        }
        let (hosts, ssh) = (RwLock::new(hosts), plan.ssh.clone());
        Ok(Self { hosts, ssh, options, socket: plan.runtime.socket.clone(), forwards })
    }

    fn all(&self) -> BTreeMap<HostName, Arc<Remotely>> {
        self.hosts.read().expect("no panic while it is held").clone()
    }

    fn remotely(&self, host: &HostName) -> Result<Arc<Remotely>, TransportError> {
        let known = self.hosts.read().expect("no panic while it is held").get(host).cloned();
        known.ok_or_else(|| TransportError::Command {
            host: host.clone(),
            operation: "connect".into(),
            reason: "the plan has no such host".into(),
        })
    }

    fn command(&self, connection: &Connection, remote: Remote) -> String {
        remote.text(connection.destination.sudo, self.options.root.as_ref())
    }

    /// Sends a script and reads its answer. The process goes on if the script does.
    async fn ask(
        &self,
        connection: &Connection,
        remote: Remote,
        operation: &str,
        script: &str,
        mark: &Mark,
    ) -> Result<(Process, Secret), TransportError> {
        let mut process = connection.spawn(&self.command(connection, remote), operation).await?;
        let mut input = process.stdin().take().expect("every process is started with pipes");
        let mut output = process.stdout().take().expect("every process is started with pipes");
        let errors = process.stderr().take().expect("every process is started with pipes");
        let errors = tokio::spawn(tail(errors));
        let mut answer = Vec::new();
        let talk = async {
            // A host that ends early (no sudo) says why on standard error.
            let _closed = send_script(&mut input, script).await;
            read_answer(&mut output, mark, &mut answer).await
        };
        let failed = |reason: String| TransportError::Command {
            host: connection.host.clone(),
            operation: operation.to_owned(),
            reason,
        };
        match tokio::time::timeout(ANSWER_TIME, talk).await {
            Err(_) => return Err(failed(format!("no answer after {} seconds", ANSWER_TIME.as_secs()))),
            Ok(Ok(true)) => return Err(failed("the answer is too large".into())),
            Ok(_) => {}
        }
        if memchr::memmem::find(&answer, mark.end().as_bytes()).is_some() {
            *process.stdin() = Some(input);
            *process.stdout() = Some(output);
            return Ok((process, Secret::new(answer)));
        }
        drop(input);
        let status = connection.status(process, operation).await?;
        let said = errors.await.unwrap_or_default();
        match refusal(&said) {
            Some(reason) => Err(TransportError::Root { host: connection.host.clone(), reason }),
            None => Err(failed(format!("exit status {status}\n{said}").trim().to_owned())),
        }
    }

    /// Sends a script and its files, and follows it. `progress` hears the index of each change that
    /// is done.
    ///
    /// # Errors
    /// The host was not reached, or the script failed.
    pub async fn run(
        &self,
        host: &HostName,
        bundle: &Bundle,
        progress: impl Fn(usize) + Send + Sync,
    ) -> Result<(), ApplyError> {
        let remotely = self.remotely(host)?;
        let connection = &remotely.connection;
        let operation = format!("step {}", bundle.step);
        if remotely.lock.lock().await.as_ref().is_some_and(Lock::is_lost) {
            return Err(TransportError::Lost { host: connection.host.clone(), operation: "holding the lock".into() }.into());
        }
        let _permit = connection.permit().await;
        let cargo = Cargo::of(bundle);
        let remote = if cargo.is_large() { Remote::LargeStep } else { Remote::Step };
        let mut process = connection.spawn(&self.command(connection, remote), &operation).await?;
        let input = process.stdin().take().expect("every process is started with pipes");
        let output = process.stdout().take().expect("every process is started with pipes");
        let errors = process.stderr().take().expect("every process is started with pipes");
        let errors = tokio::spawn(tail(errors));
        let failed = |reason: String| TransportError::Command {
            host: connection.host.clone(),
            operation: operation.clone(),
            reason,
        };
        let input = input.into_owned_fd().map_err(|error| failed(format!("cannot use a pipe: {error}")))?;
        let sending = tokio::task::spawn_blocking(move || cargo.write(std::fs::File::from(input)));

        let mut current = None;
        let mut begun = false;
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // What the script prints is of a host: lines that are none of ours are skipped.
        while let Ok(true) = next_line(&mut output, &mut line).await {
            let line = String::from_utf8_lossy(&line);
            begun = begun || line == probe::BEGIN;
            let index = |mark: &str| line.strip_prefix(mark).and_then(|number| number.parse::<usize>().ok());
            if !begun {
                continue;
            }
            if let Some(index) = index("@begin ").filter(|index| *index < bundle.changes) {
                current = Some(index);
            } else if let Some(index) = index("@done ").filter(|index| current == Some(*index)) {
                progress(index);
            }
        }
        let status = connection.status(process, &operation).await;
        // The machine takes the line and the script with it (143: the script's own word when it is told to
        // end), sometimes before they could say that it was asked to. Whether it restarts tells its boot id.
        if let Some(last) = current.filter(|last| bundle.restarts && last + 1 == bundle.changes)
            && matches!(status, Err(_) | Ok(143 | 255))
        {
            progress(last);
            return Ok(());
        }
        let status = status?;
        let sent = sending.await.map_err(|error| failed(error.to_string()))?;
        if let Err(error @ SendError::Read { .. }) = sent {
            return Err(failed(error.to_string()).into());
        }
        if status == 0 && begun {
            return Ok(());
        }
        let stderr = errors.await.unwrap_or_default();
        match refusal(&stderr) {
            Some(reason) if !begun => Err(TransportError::Root { host: connection.host.clone(), reason }.into()),
            _ => Err(ApplyError::Script { change: current, status, stderr }),
        }
    }
}

impl Transport for SshTransport {
    fn introduce(&self, host: &Host) -> Result<(), TransportError> {
        let home = if self.options.reuse { self.options.control_directory.as_path() } else { self.forwards.path() };
        let remotely = Remotely::new(&self.ssh, host, &self.options, home).map_err(|error| TransportError::Command {
            host: host.name.clone(),
            operation: "connect".into(),
            reason: error.to_string(),
        })?;
        self.hosts.write().expect("no panic while it is held").entry(host.name.clone()).or_insert_with(|| Arc::new(remotely));
        Ok(())
    }

    async fn probe(&self, host: &HostName, request: &ProbeRequest) -> Result<Facts, TransportError> {
        let remotely = self.remotely(host)?;
        let connection = &remotely.connection;
        let permit = connection.permit().await;
        // A probe after another one: the lock is this run's already.
        let mut held = remotely.lock.lock().await;
        let mut request = request.clone();
        if held.as_ref().is_some_and(|lock| !lock.is_lost()) {
            request.lock = None;
        }
        let mark = Mark::draw();
        let (process, answer) = self.ask(connection, Remote::Eval, "probe", &probe::script(&request, &mark), &mark).await?;
        let facts = parse::facts(&request, &mark, answer.expose()).map_err(|error| match error {
            ParseError::Locked(holder) => TransportError::Locked { host: host.clone(), holder },
            other => TransportError::Command { host: host.clone(), operation: "probe".into(), reason: other.to_string() },
        });
        match (&facts, &request.lock) {
            (Ok(_), Some(_)) => *held = Some(Lock::hold(process)),
            _ => {
                connection.status(process, "probe").await?;
            }
        }
        drop(permit);
        facts
    }

    async fn fetch(&self, host: &HostName, paths: &[RemotePath]) -> Result<BTreeMap<RemotePath, Secret>, TransportError> {
        let remotely = self.remotely(host)?;
        let connection = &remotely.connection;
        let _permit = connection.permit().await;
        let mark = Mark::draw();
        let script = probe::fetch_script(paths.iter().map(RemotePath::as_str), &mark);
        let (process, answer) = self.ask(connection, Remote::Eval, "fetch", &script, &mark).await?;
        connection.status(process, "fetch").await?;
        parse::fetched(paths, &mark, answer.expose()).map_err(|error| TransportError::Command {
            host: host.clone(),
            operation: "fetch".into(),
            reason: error.to_string(),
        })
    }

    async fn apply(
        &self,
        host: &HostName,
        work: Work<'_>,
        progress: impl Fn(usize) + Send + Sync,
    ) -> Result<(), ApplyError> {
        let context = ScriptContext { timeout: work.timeout, socket: self.socket.clone() };
        let bundle = script::bundle(&work.step.to_string(), work.changes, &context);
        self.run(host, &bundle, progress).await
    }

    async fn connect(&self, host: &HostName, address: SocketAddr) -> Result<Box<dyn Stream>, TransportError> {
        let remotely = self.remotely(host)?;
        let connection = &remotely.connection;
        let operation = format!("connect to {address}");
        let (session, number) = connection.session().await?;
        let mut forwards = remotely.forwards.lock().await;
        let path = forwards.socket(connection, (&session, number), address, self.forwards.path()).await?;
        drop(forwards);
        match UnixStream::connect(&path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(_) => Err(TransportError::Lost { host: host.clone(), operation }),
        }
    }

    async fn diagnose(&self, host: &HostName, script: &str) -> Result<String, TransportError> {
        let remotely = self.remotely(host)?;
        let connection = &remotely.connection;
        let _permit = connection.permit().await;
        let mark = Mark::draw();
        let marked = format!("printf '\\n{}\\n'\n({script}\n)\nprintf '\\n{}\\n'\n", probe::BEGIN, mark.line());
        let (process, answer) = self.ask(connection, Remote::EvalBriefly, "diagnose", &marked, &mark).await?;
        connection.status(process, "diagnose").await?;
        let text = String::from_utf8_lossy(answer.expose());
        let begin = text.find(&format!("{}\n", probe::BEGIN)).map_or(0, |place| place + probe::BEGIN.len() + 1);
        let end = text.rfind(mark.line()).unwrap_or(text.len());
        Ok(last_lines(text.get(begin..end).unwrap_or_default(), MOST_DIAGNOSIS_LINES))
    }

    async fn lost(&self, host: &HostName) -> String {
        if let Ok(remotely) = self.remotely(host) {
            let loss = remotely.lock.lock().await.as_ref().map(Lock::loss);
            if let Some(loss) = loss {
                loss.await;
                return remotely.connection.last_words();
            }
        }
        std::future::pending().await
    }

    async fn restarted(&self, host: &HostName) {
        if let Ok(remotely) = self.remotely(host) {
            // Its process ends with the machine, and that is no loss.
            drop(remotely.lock.lock().await.take());
            remotely.connection.expect_end();
        }
    }

    fn round_trips(&self, host: &HostName) -> usize {
        self.remotely(host).map_or(0, |remotely| remotely.connection.round_trips())
    }

    async fn close(&self) {
        futures_util::future::join_all(self.all().into_values().map(|remotely| async move {
            if let Some(lock) = remotely.lock.lock().await.take() {
                lock.release().await;
            }
            if let Some(session) = remotely.connection.opened() {
                remotely.forwards.lock().await.close(&session).await;
            }
            if !self.options.reuse {
                remotely.connection.end().await;
            }
        }))
        .await;
    }
}

/// Makes the directory, or makes sure that nobody else could have put anything into it.
fn prepare(directory: &Path) -> Result<(), String> {
    if directory.as_os_str().len() > 60 {
        return Err("its path is longer than 60 bytes, too long for sockets in it".into());
    }
    match std::fs::DirBuilder::new().mode(0o700).recursive(false).create(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.to_string()),
    }
    let found = std::fs::symlink_metadata(directory).map_err(|error| error.to_string())?;
    // The owner of a process of this user: a fresh file shows it without asking the system.
    let probe = tempfile::tempfile().and_then(|file| file.metadata()).map_err(|error| error.to_string())?;
    if !found.is_dir() || found.uid() != probe.uid() || found.mode() & 0o077 != 0 {
        return Err("it must be a directory that only you can read and write (mode 0700)".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_directory_must_be_ours_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("c");
        prepare(&directory).unwrap();
        prepare(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(prepare(&directory).unwrap_err().contains("0700"));
        let link = base.path().join("l");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(prepare(&link).is_err());
        assert!(prepare(&base.path().join("x".repeat(70))).unwrap_err().contains("60 bytes"));
    }

    #[test]
    fn long_runtime_directories_are_not_used_for_sockets() {
        let short = SshOptions::usual(Some(Path::new("/run/user/1000")), None, 1000);
        assert_eq!(short.control_directory, Path::new("/run/user/1000/slipway"));
        let long = SshOptions::usual(Some(Path::new(&format!("/{}", "x".repeat(80)))), None, 1000);
        assert_eq!(long.control_directory, Path::new("/tmp/slipway-1000"));
    }

    #[test]
    fn connections_are_kept_as_the_plan_says_and_else_unless_in_ci() {
        let kept = |persist: Option<u64>, in_ci| {
            let options = SshOptions::usual(None, None, 1000).keeping(persist.map(Span::seconds), in_ci);
            (options.reuse, options.idle.as_secs())
        };
        assert_eq!(kept(None, false), (true, 600));
        assert_eq!(kept(None, true), (false, 600));
        assert_eq!(kept(Some(60), true), (true, 60), "what the plan says goes first");
        assert_eq!(kept(Some(0), false), (false, 600), "within a run connections are still kept");
    }
}

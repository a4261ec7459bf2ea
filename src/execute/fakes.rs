//! A transport and a cluster in memory that follow a script: which step fails, hangs, panics or
//! takes how long. They write down who was at work when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use crate::artifact::{Artifact, Secret};
use crate::change::Change;
use crate::cluster::{Cluster, ClusterError};
use crate::facts::Facts;
use crate::graph::Gate;
use crate::names::{HostName, RemotePath};
use crate::transport::{ApplyError, ProbeRequest, Stream, Transport, TransportError, Work};

/// What a step does instead of succeeding at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Yields that many times first.
    Slow(usize),
    /// Fails in that change.
    Fail(usize),
    /// The connection breaks.
    Drop,
    /// Never ends.
    Hang,
    Panic,
}

#[derive(Debug, Default)]
pub(super) struct FakeTransport {
    pub acts: BTreeMap<String, Act>,
    /// Hosts to which the line is lost as soon as somebody listens for that.
    pub cut: BTreeSet<HostName>,
    pub log: Mutex<Log>,
}

/// Who was at work when.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Steps in the order they began.
    pub begun: Vec<String>,
    /// Steps in the order they ended well.
    pub ended: Vec<String>,
    pub running: BTreeSet<String>,
    /// The most hosts at work at once.
    pub most: usize,
    /// Whether two commands were ever in flight on one host.
    pub crowded: bool,
    pub trips: BTreeMap<HostName, usize>,
}

impl Transport for FakeTransport {
    async fn apply(
        &self,
        host: &HostName,
        work: Work<'_>,
        progress: impl Fn(usize) + Send + Sync,
    ) -> Result<(), ApplyError> {
        let name = work.step.to_string();
        {
            let mut log = self.log.lock().unwrap();
            *log.trips.entry(host.clone()).or_default() += 1;
            let suffix = format!("@{host}");
            log.crowded |= log.running.iter().any(|other| other.ends_with(&suffix));
            log.begun.push(name.clone());
            log.running.insert(name.clone());
            log.most = log.most.max(log.running.len());
        }
        let act = self.acts.get(&name).copied().unwrap_or(Act::Slow(1));
        for index in 0..work.changes.len() {
            tokio::task::yield_now().await;
            match act {
                Act::Slow(times) => {
                    for _ in 0..times {
                        tokio::task::yield_now().await;
                    }
                }
                Act::Fail(at) if at == index => {
                    self.log.lock().unwrap().running.remove(&name);
                    let stderr = "sh: 3: \u{1b}[31mmv: cannot move: No space left on device".into();
                    return Err(ApplyError::Script { change: Some(index), status: 1, stderr });
                }
                Act::Fail(_) => {}
                Act::Drop => {
                    self.log.lock().unwrap().running.remove(&name);
                    return Err(TransportError::Lost { host: host.clone(), operation: name }.into());
                }
                Act::Hang => std::future::pending().await,
                Act::Panic => {
                    self.log.lock().unwrap().running.remove(&name);
                    panic!("a bug in {name}");
                }
            }
            progress(index);
        }
        let mut log = self.log.lock().unwrap();
        log.running.remove(&name);
        log.ended.push(name);
        Ok(())
    }

    async fn lost(&self, host: &HostName) -> String {
        if self.cut.contains(host) {
            return "Timeout, server 192.0.2.1 not responding.".into();
        }
        std::future::pending().await
    }

    fn round_trips(&self, host: &HostName) -> usize {
        self.log.lock().unwrap().trips.get(host).copied().unwrap_or(0)
    }

    // The executor does none of the following.
    async fn probe(&self, host: &HostName, _: &ProbeRequest) -> Result<Facts, TransportError> {
        Err(TransportError::Lost { host: host.clone(), operation: "probe".into() })
    }
    async fn fetch(&self, host: &HostName, _: &[RemotePath]) -> Result<BTreeMap<RemotePath, Secret>, TransportError> {
        Err(TransportError::Lost { host: host.clone(), operation: "fetch".into() })
    }
    async fn connect(&self, host: &HostName, _: SocketAddr) -> Result<Box<dyn Stream>, TransportError> {
        Err(TransportError::Lost { host: host.clone(), operation: "connect".into() })
    }
    async fn diagnose(&self, host: &HostName, _: &str) -> Result<String, TransportError> {
        Err(TransportError::Lost { host: host.clone(), operation: "diagnose".into() })
    }
    async fn close(&self) {}
}

#[derive(Debug, Default)]
pub(super) struct FakeCluster {
    /// Gates that never hold, by what they print.
    pub closed: BTreeSet<String>,
    /// Gates and objects that get no answer.
    pub silent: BTreeSet<String>,
    /// Hosts whose kubelets are to be forgotten, as often as that was said.
    pub forgotten: Mutex<Vec<HostName>>,
    /// Objects and gates in the order they were asked for.
    pub log: Mutex<Vec<String>>,
}

impl Cluster for FakeCluster {
    // The executor does not ask.
    async fn changes(&self, _: Vec<Artifact>) -> Result<Vec<Option<Change>>, ClusterError> {
        Err(ClusterError::plain("not asked".into()))
    }

    fn forget_kubelet(&self, host: &HostName) {
        self.forgotten.lock().unwrap().push(host.clone());
    }

    async fn apply(&self, change: &Change) -> Result<(), ClusterError> {
        if self.silent.contains(&change.artifact.id()) {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        self.log.lock().unwrap().push(change.artifact.id());
        Ok(())
    }

    async fn wait_or_crash(&self, gate: &Gate, limit: Duration, _: &[RemotePath]) -> Result<(), ClusterError> {
        self.log.lock().unwrap().push("watched".into());
        self.wait(gate, limit).await
    }

    async fn wait(&self, gate: &Gate, _: Duration) -> Result<(), ClusterError> {
        self.log.lock().unwrap().push(gate.to_string());
        if self.silent.contains(&gate.to_string()) {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        if self.closed.contains(&gate.to_string()) {
            let detail = Some("etcdserver: no leader".into());
            let mut error = ClusterError::plain("status 503".into());
            error.detail = detail;
            error.hint = Some("see its log".into());
            return Err(error);
        }
        Ok(())
    }
}

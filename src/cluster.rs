//! The cluster's own interfaces, reached through the SSH connections: the Kubernetes API and etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use crate::artifact::Artifact;
use crate::change::Change;
use crate::departed::Nodes;
use crate::graph::Gate;
use crate::inventory::Inventory;
use crate::names::{HostName, RemotePath};
use crate::plan::Host;
use crate::upgrade::concerns::Concerns;

pub mod compare;
pub mod crashes;
pub mod departure;
pub mod drain;
pub mod etcd;
pub mod joining;
pub mod live;
pub mod maintenance;
pub mod marks;
pub mod quorum;
pub mod readiness;
pub mod served;
pub mod tokens;
pub mod trust;
pub mod wire;

use etcd::Member;

/// Why the cluster could not be asked or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ClusterError {
    /// What failed and why, without secrets.
    pub message: String,
    /// The last log lines of the component, or other text that helps a person.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Asking again gets the same answer.
    pub permanent: bool,
    /// The API does not know the object's kind (yet).
    pub unknown_kind: bool,
}

impl ClusterError {
    /// An error that may pass.
    #[must_use]
    pub fn plain(message: String) -> Self {
        Self { message, detail: None, hint: None, permanent: false, unknown_kind: false }
    }
}

/// The cluster as the engine sees it.
pub trait Cluster: Send + Sync {
    /// What is to be done about each of these objects and Nodes, in their order; `None` is nothing.
    /// Writes nothing.
    fn changes(
        &self,
        artifacts: Vec<Artifact>,
    ) -> impl Future<Output = Result<Vec<Option<Change>>, ClusterError>> + Send;

    /// What slipway made here, if it ever wrote that down.
    fn inventory(&self) -> impl Future<Output = Result<Option<Inventory>, ClusterError>> + Send {
        std::future::ready(Ok(None))
    }

    /// The members of slipway's own etcd, as one of them knows them that has a leader. A cluster that
    /// cannot tell is one in which no member joins.
    ///
    /// Whoever implements this also carries out `Artifact::Membership` in `apply`.
    fn members(&self) -> impl Future<Output = Result<Vec<Member>, ClusterError>> + Send {
        std::future::ready(Err(ClusterError::plain("etcd cannot be asked".into())))
    }

    /// Which of these conditions do not hold at this moment. Each is asked once and not waited for, so the
    /// answer may order work but never allows any. A cluster that cannot tell leaves the order as it is.
    fn closed(&self, _gates: &[Gate]) -> impl Future<Output = BTreeSet<Gate>> + Send {
        std::future::ready(BTreeSet::new())
    }

    /// What the API says of all Nodes. A cluster that cannot tell is one whose Nodes are not seen.
    fn nodes_seen(&self) -> impl Future<Output = Result<Nodes, ClusterError>> + Send {
        std::future::ready(Ok(Nodes::default()))
    }

    /// The same cluster with hosts that are about to leave it: their members are asked with the others.
    #[must_use]
    fn parting(self, _leaving: Vec<Host>) -> Self
    where
        Self: Sized,
    {
        self
    }

    /// Which pods of these Nodes may not be evicted, each with the reason.
    fn objections(&self, _nodes: &BTreeSet<HostName>) -> impl Future<Output = Result<BTreeMap<HostName, Vec<String>>, ClusterError>> + Send {
        std::future::ready(Ok(BTreeMap::new()))
    }

    /// What of the cluster's own traffic an upgrade may get in the way of.
    fn concerns(&self) -> impl Future<Output = Result<Concerns, ClusterError>> + Send {
        std::future::ready(Ok(Concerns::default()))
    }

    /// The engine is about to start the kubelet of that host, or just did: what was known of the one before says
    /// nothing of it, and `Gate::NodeReady` holds only when the new one was heard.
    fn forget_kubelet(&self, _host: &HostName) {}

    /// Makes one change to an object or a Node. Safe to repeat.
    fn apply(&self, change: &Change) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// Waits until the condition holds, at most for that time. The error says what was seen last.
    fn wait(&self, gate: &Gate, timeout: Duration) -> impl Future<Output = Result<(), ClusterError>> + Send;

    /// The same, for what can be put back: gives up as soon as a static pod by one of these manifests, which
    /// were just replaced, ended too often.
    fn wait_or_crash(&self, gate: &Gate, timeout: Duration, _replaced: &[RemotePath]) -> impl Future<Output = Result<(), ClusterError>> + Send {
        self.wait(gate, timeout)
    }
}

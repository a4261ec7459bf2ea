//! The graph of steps: what is done, in which order. It is built once, from the table of phases,
//! the changes and the stage of the cluster, before anything is done; edges carry order only.

use std::fmt;

use crate::change::Change;
use crate::names::HostName;
use crate::phase::StepId;

/// A node of the graph: a phase on a target. A step without changes stays in the graph and costs
/// nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// What it does, in order.
    pub changes: Vec<Change>,
    /// What it then waits for.
    pub gates: Vec<Gate>,
}

/// A condition that a step waits for after its changes, asked by the engine through the
/// SSH connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// The kubelet's health endpoint answers.
    KubeletHealthy(HostName),
    /// The etcd member answers `/health` as healthy (it needs quorum for that).
    EtcdHealthy(HostName),
    /// `/readyz` of the API server on that host answers `ok`.
    ApiServerReady(HostName),
    /// The controller manager and the scheduler on that host answer their health endpoints.
    ControllersHealthy(HostName),
    /// The Node exists.
    NodeRegistered(HostName),
    /// The Node's condition Ready is true.
    NodeReady(HostName),
    /// A Deployment or DaemonSet has all its pods updated and available.
    RolledOut {
        /// `Deployment` or `DaemonSet`.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KubeletHealthy(host) => write!(f, "kubelet of {host} is healthy"),
            Self::EtcdHealthy(host) => write!(f, "etcd member of {host} is healthy"),
            Self::ApiServerReady(host) => write!(f, "API server of {host} is ready"),
            Self::ControllersHealthy(host) => write!(f, "controller manager and scheduler of {host} are healthy"),
            Self::NodeRegistered(host) => write!(f, "node {host} is registered"),
            Self::NodeReady(host) => write!(f, "node {host} is ready"),
            Self::RolledOut { kind, namespace, name } => write!(f, "{kind} {namespace}/{name} is rolled out"),
        }
    }
}

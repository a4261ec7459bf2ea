//! What becomes of a host's Node around an upgrade of its kubelet: it is emptied, and it takes pods
//! again. Both can be done twice with the same result.
//!
//! A Node that slipway cordoned carries an annotation that says so. It is written in the same
//! request as the cordon and taken away in the same as the uncordon, so a run that dies in between
//! leaves a trace that the next one finds; and a Node that its operator cordoned stays cordoned.

use std::fmt;
use std::time::Duration;

use crate::names::{HostName, KubernetesVersion, Span};

/// The annotation of Nodes that slipway cordoned. Its value is the version they go to.
pub const CORDONED_ANNOTATION: &str = "slipway.dev/cordoned-for";

/// What is done to a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maintenance {
    /// It gets no new pods, and those it has are evicted as their disruption budgets allow.
    Emptied {
        /// Which Node.
        node: HostName,
        /// What its kubelet goes to.
        version: KubernetesVersion,
        /// How long the pods may take to leave.
        limit: Span,
    },
    /// It runs again after a restart: its kubelet answers, it is ready, and so is every pod that stayed.
    Back {
        /// Which Node.
        node: HostName,
        /// The boot id it had, if the machine is restarted: it must report another one.
        boot: Option<String>,
    },
    /// Its kubelet reports that version and is ready; then it takes pods again, unless its operator
    /// had cordoned it.
    Returned {
        /// Which Node.
        node: HostName,
        /// What its kubelet shall report.
        version: KubernetesVersion,
        /// Whether it can become ready (without a pod network it cannot).
        ready: bool,
    },
}

impl Maintenance {
    /// How much longer than other changes it may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        match self {
            Self::Emptied { limit, .. } => limit.0,
            Self::Back { .. } | Self::Returned { .. } => Duration::ZERO,
        }
    }
}

impl fmt::Display for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emptied { node, .. } => write!(f, "drain of Node/{node}"),
            Self::Back { node, .. } => write!(f, "Node/{node} to run again"),
            Self::Returned { node, .. } => write!(f, "return of Node/{node}"),
        }
    }
}

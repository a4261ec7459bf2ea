//! Changes to the documents that slipway generates, for what no field of the plan says.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::HostName;

/// A change to a generated document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Patch {
    /// Which document.
    pub target: PatchTarget,
    /// Only on these hosts; left out, on all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<HostName>,
    /// How the patch is read.
    #[serde(default, rename = "type")]
    pub kind: PatchKind,
    /// The patch: an object, or for `json` a list of operations.
    pub patch: serde_json::Value,
}

/// A document that can be patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PatchTarget {
    /// The static pod of etcd.
    Etcd,
    /// The static pod of the API server.
    KubeApiserver,
    /// The static pod of the controller manager.
    KubeControllerManager,
    /// The static pod of the scheduler.
    KubeScheduler,
    /// A host's KubeletConfiguration.
    KubeletConfiguration,
    /// The Deployment of CoreDNS.
    CorednsDeployment,
    /// The DaemonSet of kube-proxy.
    KubeProxyDaemonset,
}

/// How a patch is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PatchKind {
    /// A strategic merge: lists of containers, volumes, … are merged by their key.
    #[default]
    Strategic,
    /// RFC 7386 merge: lists are replaced, null removes.
    Merge,
    /// RFC 6902: a list of operations.
    Json,
}

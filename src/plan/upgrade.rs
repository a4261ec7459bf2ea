//! How a living cluster goes to another version of Kubernetes, and how its Nodes are emptied for that
//! or for settings that they cannot take with pods.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;
use crate::names::{KubernetesVersion, Span};

/// How a living cluster goes to another version of Kubernetes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upgrade {
    /// When a Node is drained before its kubelet is replaced.
    #[serde(default)]
    pub drain: DrainPolicy,
    /// How long the pods of one Node may take to leave.
    #[serde(default = "defaults::drain_timeout")]
    pub drain_timeout: Span,
    /// Evict pods with emptyDir volumes too; the data in them is lost. Otherwise such a pod keeps the
    /// upgrade from beginning.
    #[serde(default)]
    pub delete_empty_dir_data: bool,
    /// Evict pods without a controller too; nothing starts them again. Otherwise such a pod keeps the
    /// upgrade from beginning.
    #[serde(default)]
    pub evict_unmanaged: bool,
    /// How many snapshots from before upgrades a host keeps in /var/lib/slipway/snapshots: what etcd held (on
    /// one host) and the files that were replaced. The first of an upgrade stays beyond that. With 0 none is
    /// taken.
    #[serde(default = "defaults::snapshots")]
    pub snapshots: u8,
}

/// When a Node is drained before its kubelet is replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DrainPolicy {
    /// If the kubelet goes to another minor version, as Kubernetes' documentation asks for, and for settings
    /// that a Node with pods cannot take.
    #[default]
    Minor,
    /// Whenever the kubelet goes to another version.
    Always,
    /// Never, for settings that ask for it neither: pods stay where they are.
    Never,
}

impl DrainPolicy {
    /// Whether a Node is drained on the way from that version (`None`: nobody can tell) to this one.
    #[must_use]
    pub fn applies(self, from: Option<KubernetesVersion>, to: KubernetesVersion) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Minor => from.is_none_or(|from| (from.major, from.minor) != (to.major, to.minor)),
        }
    }
}

impl Default for Upgrade {
    fn default() -> Self {
        Self {
            drain: DrainPolicy::default(),
            drain_timeout: defaults::drain_timeout(),
            delete_empty_dir_data: false,
            evict_unmanaged: false,
            snapshots: defaults::snapshots(),
        }
    }
}

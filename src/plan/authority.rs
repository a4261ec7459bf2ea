//! Who keeps the keys of the cluster's CAs.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who keeps the keys of the cluster's CAs. Whoever has them owns the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AuthorityKeys {
    /// The hosts that use them, as with kubeadm. Every run finds them there, and the controller
    /// manager signs the kubelets' requests by itself.
    #[default]
    Hosts,
    /// The operator: they lie encrypted (age) in a directory of the machine slipway runs on, made by
    /// `slipway certs create-ca`, and never on a host. The controller manager signs nothing then:
    /// kubelets' requests wait for `slipway certs approve`, and `kubeadm join` does not work.
    Operator(KeyStore),
    /// Somebody else: slipway knows only the certificates. `slipway certs csr` writes requests for
    /// all others, `slipway certs import` brings in what was signed. Kubelets cannot renew their
    /// client certificates by themselves then, and `kubeadm join` does not work.
    #[serde(rename_all = "camelCase")]
    External {
        /// The cluster's CA, PEM; with an intermediate CA, first the one that signs.
        cluster: PathBuf,
        /// The front proxy's CA, PEM.
        front_proxy: PathBuf,
        /// etcd's CA, PEM; left out with `etcd.external`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        etcd: Option<PathBuf>,
    },
}

/// A directory with encrypted CA keys, and how they are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyStore {
    /// The directory; relative paths count from that of the plan.
    pub directory: PathBuf,
    /// Who can read the keys: age recipients (`age1…`). Without any a passphrase is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// The file with the age identity of one recipient, which nobody else may be able to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// A file whose first line is the passphrase, which nobody else may be able to read; left out,
    /// it is asked for on the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
}

impl AuthorityKeys {
    /// Whether hosts have the keys.
    #[must_use]
    pub fn are_on_hosts(&self) -> bool {
        *self == Self::Hosts
    }

    /// The operator's store, if the keys are in one.
    #[must_use]
    pub fn store(&self) -> Option<&KeyStore> {
        match self {
            Self::Operator(store) => Some(store),
            Self::Hosts | Self::External { .. } => None,
        }
    }
}

//! What is wanted: for each phase and target the artifacts that shall be there. A pure function of
//! the plan, of what the hosts *are*, of how things stand, and of the keys and certificates. It
//! never sees what was found of slipway's own things; comparing is `diff`'s work.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::names::Digest;

pub mod formed;
pub mod images;
pub mod local_proxy;
pub mod pod_network;
pub mod programs;
pub mod runtime;
pub mod system;

pub use crate::standing::Standing;

/// What was read from files of the operator's machine that the plan names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LocalFiles {
    /// Digests of files to upload.
    pub digests: BTreeMap<PathBuf, Digest>,
    /// Image archives.
    pub archives: BTreeMap<PathBuf, ArchiveContent>,
    /// Objects of the network provider's manifests, in order.
    pub manifests: Vec<Value>,
    /// Files of an external etcd: CA, client certificate and key.
    pub external_etcd: Option<ExternalEtcdFiles>,
}

/// What an image archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveContent {
    /// The images' names.
    pub names: Vec<String>,
    /// A digest that changes with the content (of the archive's own table of contents).
    pub digest: Digest,
}

/// Files of an external etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalEtcdFiles {
    /// The CA certificate, PEM.
    pub authority: String,
    /// The client certificate, PEM.
    pub certificate: String,
    /// The client key, PEM.
    pub key: crate::artifact::Secret,
}

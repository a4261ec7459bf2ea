//! Packages of the hosts' operating system in the plan: from which repository those of Kubernetes
//! come, by which key that is known to be it, and in which versions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Program, defaults, schema};
use crate::names::KubernetesVersion;

/// Where packages come from; for programs whose source is `packages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Packages {
    /// The repository of Kubernetes' packages, or a mirror of it. `{minor}` stands for the cluster's
    /// minor version (`1.34`), `{format}` for `deb` or `rpm`.
    #[serde(default = "defaults::package_repository")]
    pub repository: String,
    /// The key that signs it. Needed as soon as a package of Kubernetes is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SigningKey>,
    /// The revision of the packages of Kubernetes, such as `1.1` (deb) or `150500.1.1` (rpm). Left
    /// out, any revision of the right version is left as it is, and the newest one is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Exact versions of packages that do not go with Kubernetes' version: `crictl`, `cniPlugins`,
    /// `containerd`, `runc`; with or without a revision. Left out, whatever is installed is left as it
    /// is, and the newest one is installed where there is none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "schema::VersionByProgram")]
    pub versions: BTreeMap<Program, String>,
}

/// A key that signs packages: a local file or an address, and its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningKey {
    /// The key as text (`-----BEGIN PGP PUBLIC KEY BLOCK-----`), a local file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// In the place of a file, where it is fetched from (`https://`) by the machine that runs slipway, with its
    /// curl, each time the hosts are compared with the plan. `{minor}` stands for the cluster's minor version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its fingerprint: 40 hexadecimal digits. Another key is never trusted.
    pub fingerprint: String,
}

impl SigningKey {
    /// The fingerprint without spaces, in upper case.
    #[must_use]
    pub fn plain_fingerprint(&self) -> String {
        self.fingerprint.replace(' ', "").to_ascii_uppercase()
    }

    /// Where it is fetched from, if it is no file.
    #[must_use]
    pub fn address(&self, version: KubernetesVersion) -> Option<String> {
        self.url.as_ref().map(|url| url.replace("{minor}", &version.minor_release()))
    }
}

impl Default for Packages {
    fn default() -> Self {
        Self { repository: defaults::package_repository(), key: None, revision: None, versions: BTreeMap::new() }
    }
}

//! Phase `programs`: what slipway brings to hosts, and where programs are.

use std::path::{Path, PathBuf};

use super::LocalFiles;
use crate::artifact::{Artifact, ProgramSource};
use crate::facts::System;
use crate::names::RemotePath;
use crate::plan::{Plan, Program, Source};

/// Where slipway puts programs: never over what the system's packages own.
const DIRECTORY: &str = "/usr/local/bin";
/// Where the CNI plugins' own releases expect to be unpacked.
pub const CNI_DIRECTORY: &str = "/opt/cni/bin";

/// A local file or a checksum that a plan needs and that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No checksum for that architecture.
    #[error("`binaries.{program}` has no sha256 for architecture {architecture}")]
    NoDigest {
        /// The program's key in the plan file.
        program: String,
        /// The host's architecture.
        architecture: String,
    },
    /// The local file was not read.
    #[error("`binaries.{program}` names the file {file}, which is not there")]
    NoFile {
        /// The program's key in the plan file.
        program: String,
        /// The file, after `{{arch}}` was replaced.
        file: String,
    },
}

/// The local file of an upload for that architecture.
#[must_use]
pub fn upload_file(file: &Path, architecture: &str) -> PathBuf {
    PathBuf::from(file.to_string_lossy().replace("{arch}", architecture))
}

/// The path by which it is seen that the program is installed, and for archives the directory
/// they are unpacked into.
fn placement(program: Program) -> (RemotePath, Option<RemotePath>) {
    let (path, unpack) = match program {
        Program::Kubelet => ("kubelet", None),
        Program::Kubectl => ("kubectl", None),
        Program::Kubeadm => ("kubeadm", None),
        Program::Crictl => ("crictl", None),
        Program::Runc => ("runc", None),
        Program::CniPlugins => return (RemotePath::fixed("/opt/cni/bin/bridge"), Some(RemotePath::fixed(CNI_DIRECTORY))),
        Program::Containerd => ("containerd", Some(RemotePath::fixed("/usr/local"))),
    };
    (RemotePath::fixed(&format!("{DIRECTORY}/{path}")), unpack)
}

fn key(program: Program) -> String {
    serde_json::to_value(program).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Where the kubelet is on that host: where slipway puts it, else where it was found.
#[must_use]
pub fn kubelet_path(plan: &Plan, system: &System) -> RemotePath {
    match plan.binaries.get(&Program::Kubelet) {
        Some(Source::Upload(_) | Source::Download { .. }) => placement(Program::Kubelet).0,
        _ => system.commands.get("kubelet").and_then(|path| path.parse().ok()).unwrap_or_else(|| RemotePath::fixed("/usr/bin/kubelet")),
    }
}

/// Where the CNI plugins are on that host.
#[must_use]
pub fn cni_directory(plan: &Plan, system: &System) -> String {
    if let Some(directory) = &plan.runtime.cni_directory {
        return directory.to_string();
    }
    match plan.binaries.get(&Program::CniPlugins) {
        Some(Source::Upload(_) | Source::Download { .. }) => CNI_DIRECTORY.to_owned(),
        _ => system.cni_directory.clone().unwrap_or_else(|| CNI_DIRECTORY.to_owned()),
    }
}

/// Every path a program may be installed at, for the probe.
#[must_use]
pub fn paths(plan: &Plan) -> Vec<RemotePath> {
    plan.binaries.keys().map(|program| placement(*program).0).collect()
}

/// What this phase wants on a host.
///
/// # Errors
/// A checksum or a local file is missing.
pub fn artifacts(plan: &Plan, system: &System, local: &LocalFiles) -> Result<Vec<Artifact>, ProgramError> {
    let mut artifacts = Vec::new();
    for (program, source) in &plan.binaries {
        let (path, unpack) = placement(*program);
        let (source, digest) = match source {
            Source::Preinstalled => continue,
            Source::Upload(file) => {
                let file = upload_file(file, &system.architecture);
                let digest = local.digests.get(&file).copied().ok_or_else(|| ProgramError::NoFile {
                    program: key(*program),
                    file: file.display().to_string(),
                })?;
                (ProgramSource::Upload(file), digest)
            }
            Source::Download { address, sha256 } => {
                let digest = sha256.get(&system.architecture).copied().ok_or_else(|| ProgramError::NoDigest {
                    program: key(*program),
                    architecture: system.architecture.clone(),
                })?;
                (ProgramSource::Download(address.replace("{arch}", &system.architecture)), digest)
            }
        };
        artifacts.push(Artifact::Program { path, source, digest, unpack });
    }
    Ok(artifacts)
}

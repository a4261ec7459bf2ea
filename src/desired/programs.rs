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
        Some(source) if source.is_file() => placement(Program::Kubelet).0,
        Some(Source::Packages) => RemotePath::fixed("/usr/bin/kubelet"),
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
        Some(source) if source.is_brought() => CNI_DIRECTORY.to_owned(),
        _ => system.cni_directory.clone().unwrap_or_else(|| CNI_DIRECTORY.to_owned()),
    }
}

/// Every path a program may be installed at, for the probe.
#[must_use]
pub fn paths(plan: &Plan) -> Vec<RemotePath> {
    plan.binaries.iter().filter(|(_, source)| **source != Source::Packages).map(|(program, _)| placement(*program).0).collect()
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
            Source::Preinstalled | Source::Packages => continue,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Digest;

    fn plan(binaries: &str) -> Plan {
        let text = format!(
            "version: 1\nkubernetes: {{version: v1.34.2}}\nbinaries: {binaries}\nhosts: [{{name: a, address: 192.0.2.1, roles: [worker]}}]\n"
        );
        crate::yaml::read(&text).unwrap()
    }

    fn arm() -> System {
        let commands = [("kubelet".to_owned(), "/usr/bin/kubelet".to_owned())].into();
        System { architecture: "arm64".into(), commands, cni_directory: Some("/usr/lib/cni".into()), ..System::default() }
    }

    const DIGEST: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    #[test]
    fn the_hosts_architecture_decides_file_address_and_checksum() {
        let plan = plan(&format!(
            "{{kubelet: {{upload: 'files/{{arch}}/kubelet'}}, cniPlugins: {{download: {{address: 'https://example.test/{{arch}}.tgz', sha256: {{arm64: '{DIGEST}'}}}}}}}}"
        ));
        let file = PathBuf::from("files/arm64/kubelet");
        let local = LocalFiles { digests: [(file.clone(), Digest::of("k"))].into(), ..LocalFiles::default() };
        let found = artifacts(&plan, &arm(), &local).unwrap();
        let expected = [
            Artifact::Program {
                path: RemotePath::fixed("/usr/local/bin/kubelet"),
                source: ProgramSource::Upload(file),
                digest: Digest::of("k"),
                unpack: None,
            },
            Artifact::Program {
                path: RemotePath::fixed("/opt/cni/bin/bridge"),
                source: ProgramSource::Download("https://example.test/arm64.tgz".into()),
                digest: DIGEST.parse().unwrap(),
                unpack: Some(RemotePath::fixed(CNI_DIRECTORY)),
            },
        ];
        assert_eq!(found, expected);
        assert_eq!(paths(&plan), [RemotePath::fixed("/usr/local/bin/kubelet"), RemotePath::fixed("/opt/cni/bin/bridge")]);
    }

    #[test]
    fn what_is_missing_is_named_as_in_the_plan_file() {
        let upload = plan("{cniPlugins: {upload: 'c-{arch}.tgz'}}");
        let error = artifacts(&upload, &arm(), &LocalFiles::default()).unwrap_err();
        assert_eq!(error.to_string(), "`binaries.cniPlugins` names the file c-arm64.tgz, which is not there");
        let download = plan(&format!("{{runc: {{download: {{address: 'https://example.test/r', sha256: {{amd64: '{DIGEST}'}}}}}}}}"));
        let error = artifacts(&download, &arm(), &LocalFiles::default()).unwrap_err();
        assert_eq!(error.to_string(), "`binaries.runc` has no sha256 for architecture arm64");
    }

    #[test]
    fn programs_are_where_slipway_puts_them_or_where_they_were_found() {
        let brought = plan("{kubelet: {upload: k}, cniPlugins: {upload: c}}");
        assert_eq!(kubelet_path(&brought, &arm()).as_str(), "/usr/local/bin/kubelet");
        assert_eq!(cni_directory(&brought, &arm()), CNI_DIRECTORY);
        let installed = plan("{kubelet: preinstalled}");
        assert_eq!(kubelet_path(&installed, &arm()).as_str(), "/usr/bin/kubelet");
        assert_eq!(cni_directory(&installed, &arm()), "/usr/lib/cni");
        assert_eq!(artifacts(&installed, &arm(), &LocalFiles::default()), Ok(Vec::new()));
        let mut own = plan("{}");
        own.runtime.cni_directory = Some(RemotePath::fixed("/srv/cni"));
        assert_eq!(cni_directory(&own, &arm()), "/srv/cni");
    }
}

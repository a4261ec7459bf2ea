//! Where programs, images and manifests come from.

use std::path::Path;

use super::super::field::{FieldPath, field};
use super::super::local_files::key_of;
use super::super::problem::Problems;
use super::super::{Cni, ManifestSource, Packages, Plan, Program, Source};
use crate::desired::packages::{follows_kubernetes, needs_repository};
use super::syntax::{host_and_port, wrong_url};

/// The architectures that slipway knows, by Kubernetes' names.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];
/// What stands for the architecture in an address or file name.
const PLACEHOLDER: &str = "{arch}";

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    for (program, source) in &plan.binaries {
        let path = field("binaries").key(&key_of(*program));
        match source {
            Source::Preinstalled | Source::Packages => {}
            Source::Upload(file) => upload(*program, file, &path.key("upload"), problems),
            Source::Download { address, sha256 } => {
                let path = path.key("download");
                url(address, &path.key("address"), problems);
                placeholders(address, &path.key("address"), problems);
                archive(*program, address, &path.key("address"), problems);
                if sha256.is_empty() {
                    let message = "a download needs the digest of the file for every architecture of the hosts";
                    problems.error("digest-missing", path.key("sha256"), message).hint("`amd64: …` or `arm64: …`");
                }
                for architecture in sha256.keys().filter(|name| !ARCHITECTURES.contains(&name.as_str())) {
                    let message = format!("`{architecture}` is not an architecture that slipway knows");
                    problems.error("architecture", path.key("sha256").key(architecture), message).hint("amd64 or arm64");
                }
                let digests: std::collections::BTreeSet<_> = sha256.values().collect();
                if digests.len() > 1 && !address.contains(PLACEHOLDER) {
                    let message = "one address cannot have several digests";
                    problems.error("placeholder", path.key("address"), message).hint("put `{arch}` where the architecture stands");
                }
            }
        }
    }
    if let Cni::Manifest { sources } = &plan.network.cni {
        manifests(sources, problems);
    }
    for (index, archive) in plan.images.archives.iter().enumerate() {
        let path = field("images").key("archives").index(index).key("file");
        not_empty(&archive.file, &path, problems);
    }
    packages(plan, problems);
    mirrors(plan, problems);
}

fn packages(plan: &Plan, problems: &mut Problems) {
    let (path, packages) = (field("packages"), &plan.packages);
    let is_used = plan.binaries.values().any(|source| *source == Source::Packages);
    if !is_used && *packages != Packages::default() {
        problems.warning("unused", path.clone(), "no program of `binaries` has the source `packages`, so this has no effect");
    }
    let filled_in = packages.repository.replace("{minor}", "1").replace("{format}", "deb");
    if let Some(wrong) = wrong_url(&filled_in, true) {
        problems.error("url-syntax", path.key("repository"), format!("`{}` is not the address of a repository: {wrong}", packages.repository));
    } else if filled_in.contains(['{', '}']) {
        problems
            .error("placeholder", path.key("repository"), "only `{minor}` and `{format}` are filled in here")
            .hint("write everything else out");
    } else if !filled_in.ends_with('/') {
        problems.error("url-syntax", path.key("repository"), "the address of a repository ends with `/`");
    }
    match &packages.key {
        None if needs_repository(plan) => {
            problems
                .error("key-missing", path.key("key"), "packages of Kubernetes are only installed if the plan says which key signs them")
                .hint("`key: {file: Release.key, fingerprint: …}`, or `url:` with the file's address, which is below the repository's; the fingerprint is what its maintainers publish");
        }
        None => {}
        Some(key) => {
            let path = path.key("key");
            match (&key.file, &key.url) {
                (Some(file), None) => not_empty(file, &path.key("file"), problems),
                (None, Some(address)) => {
                    let filled_in = address.replace("{minor}", "1");
                    url(&filled_in, &path.key("url"), problems);
                    if filled_in.contains(['{', '}']) {
                        problems.error("placeholder", path.key("url"), "only `{minor}` is filled in here").hint("write everything else out");
                    }
                }
                (None, None) => _ = problems.error("key-source", path.clone(), "nothing says where the key is").hint("`file:` with a local file, or `url:` with an address"),
                (Some(_), Some(_)) => _ = problems.error("key-source", path.clone(), "the key is either a local file or at an address").hint("leave out `file` or `url`"),
            }
            let plain = key.plain_fingerprint();
            if plain.len() != 40 || !plain.bytes().all(|b| b.is_ascii_hexdigit()) {
                problems.error("fingerprint", path.key("fingerprint"), "a fingerprint is 40 hexadecimal digits");
            }
        }
    }
    let is_version = |text: &str| text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~:-".contains(&b));
    if let Some(revision) = packages.revision.as_ref().filter(|revision| !is_version(revision)) {
        problems.error("version-syntax", path.key("revision"), format!("`{revision}` is not the revision of a package"));
    }
    for (program, version) in &packages.versions {
        let path = path.key("versions").key(&key_of(*program));
        if !is_version(version) {
            problems.error("version-syntax", path.clone(), format!("`{version}` is not the version of a package"));
        }
        if follows_kubernetes(*program) {
            problems.error("version-syntax", path, "this package has the version of Kubernetes").hint("`kubernetes.version` and `packages.revision` say it");
        }
    }
}

fn manifests(sources: &[ManifestSource], problems: &mut Problems) {
    let path = field("network").key("cni").key("manifest").key("sources");
    if sources.is_empty() {
        problems.error("manifest-missing", path.clone(), "no manifest is named").hint("to go without a network, set `cni: none`");
    }
    for (index, source) in sources.iter().enumerate() {
        match source {
            ManifestSource::File(file) => not_empty(file, &path.index(index).key("file"), problems),
            ManifestSource::Url { address, .. } => url(address, &path.index(index).key("url").key("address"), problems),
        }
    }
}

fn mirrors(plan: &Plan, problems: &mut Problems) {
    for (registry, mirror) in &plan.runtime.mirrors {
        let path = field("runtime").key("mirrors").key(registry);
        // It names a directory on hosts.
        let names = |registry: &str| host_and_port(registry).is_some_and(|(host, _)| !host.split('.').any(str::is_empty));
        if registry != "_default" && !names(registry) {
            problems
                .error("registry-syntax", path.clone(), format!("`{registry}` is not the host of a registry"))
                .hint("without `https://` and without a path, such as `docker.io`; `_default` stands for all");
        }
        for (index, endpoint) in mirror.endpoints.iter().enumerate() {
            if let Some(wrong) = wrong_url(endpoint, true) {
                problems.error("url-syntax", path.key("endpoints").index(index), format!("`{endpoint}` is not an address: {wrong}"));
            }
        }
    }
    if !plan.runtime.managed && (!plan.runtime.mirrors.is_empty() || !plan.runtime.settings.is_empty()) {
        let message = "the runtime is not managed by slipway, so its mirrors and settings have no effect";
        problems.warning("unused", field("runtime").key("managed"), message);
    }
}

fn upload(program: Program, file: &Path, path: &FieldPath, problems: &mut Problems) {
    not_empty(file, path, problems);
    let name = file.to_string_lossy();
    placeholders(&name, path, problems);
    archive(program, &name, path, problems);
}

fn not_empty(file: &Path, path: &FieldPath, problems: &mut Problems) {
    if file.as_os_str().is_empty() {
        problems.error("file-name", path.clone(), "the name of the file is empty");
    }
}

fn url(address: &str, path: &FieldPath, problems: &mut Problems) {
    if let Some(wrong) = wrong_url(address, false) {
        problems.error("url-syntax", path.clone(), format!("`{address}` is not an address to download from: {wrong}"));
    }
}

fn placeholders(text: &str, path: &FieldPath, problems: &mut Problems) {
    if text.replace(PLACEHOLDER, "").contains(['{', '}']) {
        problems.error("placeholder", path.clone(), "only `{arch}` is filled in here").hint("write everything else out");
    }
}

/// CNI plugins and containerd come as archives, everything else as the program itself.
fn archive(program: Program, name: &str, path: &FieldPath, problems: &mut Problems) {
    let is_archive = name.ends_with(".tgz") || name.ends_with(".tar.gz");
    let wants_archive = matches!(program, Program::CniPlugins | Program::Containerd);
    if is_archive != wants_archive {
        let message = if wants_archive { "an archive (`.tgz`, `.tar.gz`) is wanted here" } else { "the program itself is wanted here, not an archive" };
        problems.error("archive", path.clone(), message);
    }
}

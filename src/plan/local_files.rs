//! The files of the operator's machine that a plan names.

use std::path::{Path, PathBuf};

use super::field::{FieldPath, field};
use super::problem::Problems;
use super::{AuthorityKeys, Cni, ManifestSource, Plan, Program, Source};

/// What stands for the architecture in the name of a file.
const ARCHITECTURE: &str = "{arch}";

/// Calls `visit` with every local file of the plan and the field that names it.
pub fn for_each(plan: &mut Plan, mut visit: impl FnMut(FieldPath, &mut PathBuf)) {
    if let Some(external) = &mut plan.etcd.external {
        let path = field("etcd").key("external");
        visit(path.key("caFile"), &mut external.ca_file);
        visit(path.key("certificateFile"), &mut external.certificate_file);
        visit(path.key("keyFile"), &mut external.key_file);
    }
    if let AuthorityKeys::External { cluster, front_proxy, etcd } = &mut plan.pki.authority {
        let path = field("pki").key("authority").key("external");
        visit(path.key("cluster"), cluster);
        visit(path.key("frontProxy"), front_proxy);
        if let Some(etcd) = etcd {
            visit(path.key("etcd"), etcd);
        }
    }
    if let Cni::Manifest { sources } = &mut plan.network.cni {
        let path = field("network").key("cni").key("manifest").key("sources");
        for (index, source) in sources.iter_mut().enumerate() {
            if let ManifestSource::File(file) = source {
                visit(path.index(index).key("file"), file);
            }
        }
    }
    for (program, source) in &mut plan.binaries {
        if let Source::Upload(file) = source {
            visit(field("binaries").key(&key_of(*program)).key("upload"), file);
        }
    }
    if let Some(file) = plan.packages.key.as_mut().and_then(|key| key.file.as_mut()) {
        visit(field("packages").key("key").key("file"), file);
    }
    for (index, archive) in plan.images.archives.iter_mut().enumerate() {
        visit(field("images").key("archives").index(index).key("file"), &mut archive.file);
    }
    let ssh = field("ssh");
    for (name, file) in [
        ("identityFile", &mut plan.ssh.identity_file),
        ("configFile", &mut plan.ssh.config_file),
        ("knownHostsFile", &mut plan.ssh.known_hosts_file),
    ] {
        if let Some(file) = file {
            visit(ssh.key(name), file);
        }
    }
    for (index, host) in plan.hosts.iter_mut().enumerate() {
        if let Some(file) = &mut host.ssh.identity_file {
            visit(field("hosts").index(index).key("ssh").key("identityFile"), file);
        }
    }
}

/// Calls `visit` with the paths of the key store, of which none needs to be there yet or always: the
/// directory is made by a command, and an identity is only needed to sign.
pub fn for_each_of_key_store(plan: &mut Plan, mut visit: impl FnMut(&mut PathBuf)) {
    let AuthorityKeys::Operator(store) = &mut plan.pki.authority else { return };
    visit(&mut store.directory);
    [&mut store.identity_file, &mut store.passphrase_file].into_iter().flatten().for_each(visit);
}

/// How a program is called in `binaries`.
pub(super) fn key_of(program: Program) -> String {
    match serde_json::to_value(program) {
        Ok(serde_json::Value::String(key)) => key,
        _ => String::new(),
    }
}

/// The full path of a file as it is named in a plan.
#[must_use]
pub fn resolve(file: &Path, directory: &Path, home: Option<&Path>) -> PathBuf {
    match (file.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => directory.join(file),
    }
}

/// Reports a file that is not there. For a name with `{arch}`, one of the architectures is enough.
pub(super) fn check_presence(file: &Path, path: FieldPath, problems: &mut Problems) {
    let name = file.to_string_lossy();
    let present = if name.contains(ARCHITECTURE) {
        ["amd64", "arm64"].iter().any(|architecture| Path::new(&name.replace(ARCHITECTURE, architecture)).is_file())
    } else {
        file.is_file()
    };
    if !present {
        let what = if file.is_dir() { "is a directory, not a file" } else { "is not there" };
        problems
            .error("local-file-missing", path, format!("the file {name} {what}"))
            .hint("relative paths count from the directory of the plan file, `~/` from your home");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_count_from_the_plan_or_from_home() {
        let resolve = |file| resolve(Path::new(file), Path::new("/plans"), Some(Path::new("/home/ann")));
        assert_eq!(resolve("a/b"), Path::new("/plans/a/b"));
        assert_eq!(resolve("/a/b"), Path::new("/a/b"));
        assert_eq!(resolve("~/a"), Path::new("/home/ann/a"));
        assert_eq!(resolve("~ann/a"), Path::new("/plans/~ann/a"));
    }
}

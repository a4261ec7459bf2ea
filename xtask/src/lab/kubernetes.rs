//! Kubernetes itself, built from Debian's source package.
//!
//! Debian 12 ships the complete tree of v1.20.2 with all its dependencies, so
//! the build needs nothing else from the network. The version that the programs
//! report is stamped in from outside: stamping the same source twice gives two
//! releases between which an upgrade can be tried.

use super::cache::{Cache, build_once, create_directory, key, read_text, write_file};
use super::command::{command, read, run_logged};
use super::packages::{BUILD_PACKAGES, ensure_installed, unpack_source};
use crate::error::{Error, Explain, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The version of the source package, and of the lab's images.
pub const SOURCE_VERSION: &str = "v1.20.2";

/// What runs on a host itself.
pub const HOST_PROGRAMS: [&str; 3] = ["kubelet", "kubeadm", "kubectl"];

/// What runs in containers.
pub const IMAGE_PROGRAMS: [&str; 4] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
];

/// A stand-in for crictl, which kubeadm needs and Debian 12 does not have.
const CRICTL: &str = include_str!("crictl.sh");

/// Raised when the way Kubernetes is built changes.
const BUILD_VERSION: &str = "1";

/// Where the programs of a version are, or would be.
pub fn directory(cache: &Cache, version: &str) -> PathBuf {
    cache.path("kubernetes").join(version)
}

/// All versions that are built.
pub fn versions(cache: &Cache) -> Vec<String> {
    let entries = fs::read_dir(cache.path("kubernetes"))
        .into_iter()
        .flatten()
        .flatten();
    let mut versions: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| parse(name).is_ok())
        .collect();
    versions.sort();
    versions
}

/// The programs of a version; built when they are not there yet.
pub fn programs(cache: &Cache, version: &str) -> Result<PathBuf> {
    let minor = parse(version)?;
    let target = directory(cache, version);
    let current = key(&[BUILD_VERSION, version]);
    if target.exists() && fs::read_to_string(target.join("key")).is_ok_and(|key| key == current) {
        return Ok(target);
    }
    super::cache::remove_directory(&target)?;
    let title = format!("Kubernetes {version} (ten minutes on two cores the first time)");
    build_once(&target, &title, |partial| {
        ensure_installed(BUILD_PACKAGES)?;
        let tree = source(cache)?;
        let stamp = partial.join("version");
        write_file(
            &stamp,
            format!(
                "KUBE_GIT_COMMIT='{}'\nKUBE_GIT_TREE_STATE='archive'\nKUBE_GIT_VERSION='{version}'\n\
                 KUBE_GIT_MAJOR='1'\nKUBE_GIT_MINOR='{minor}'\n",
                "0".repeat(40)
            ),
        )?;
        let wanted: Vec<&str> = HOST_PROGRAMS.into_iter().chain(IMAGE_PROGRAMS).collect();
        let targets: Vec<String> = wanted.iter().map(|name| format!("cmd/{name}")).collect();
        let mut make = command("make", [format!("WHAT={}", targets.join(" "))]);
        make.current_dir(&tree)
            .env("GOPATH", tree.join(".go"))
            .env("CGO_ENABLED", "0")
            .env("KUBE_GIT_VERSION_FILE", &stamp);
        run_logged(&mut make, &cache.path("kubernetes/build.log"))?;
        let built = tree.join("_output/local/bin/linux").join(architecture()?);
        for name in wanted {
            fs::copy(built.join(name), partial.join(name))
                .explain(|| format!("the build made no `{name}`"))?;
        }
        write_file(&partial.join("key"), &current)
    })?;
    Ok(target)
}

/// A layer that puts the host programs into a host's /usr/bin.
///
/// A layer of its own: a host that replaces them changes only its own disk.
pub fn host_layer(cache: &Cache, version: &str) -> Result<PathBuf> {
    let programs = programs(cache, version)?;
    let layer = cache
        .path("layers")
        .join(key(&[version, BUILD_VERSION, CRICTL]));
    build_once(
        &layer,
        &format!("a layer with Kubernetes {version}"),
        |partial| {
            let target = partial.join("usr/bin");
            create_directory(&target)?;
            for name in HOST_PROGRAMS {
                fs::hard_link(programs.join(name), target.join(name))
                    .explain(|| format!("cannot link {name} into {}", target.display()))?;
            }
            let crictl = target.join("crictl");
            write_file(&crictl, CRICTL)?;
            fs::set_permissions(&crictl, fs::Permissions::from_mode(0o755))
                .explain(|| "cannot make crictl a program".into())
        },
    )?;
    Ok(layer)
}

/// This machine's architecture in Go's words.
pub fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(Error::new(format!(
            "the lab cannot build Kubernetes for {other}"
        ))),
    }
}

/// The minor version; only releases of the one source we have can be stamped.
fn parse(version: &str) -> Result<u8> {
    let numbers: Option<Vec<u8>> = version.strip_prefix('v').map(|rest| {
        rest.split('.')
            .map_while(|number| number.parse().ok())
            .collect()
    });
    match numbers.as_deref() {
        Some([1, minor @ (20 | 21), patch]) if version == format!("v1.{minor}.{patch}") => Ok(*minor),
        _ => Err(Error::new(format!(
            "the lab cannot build Kubernetes `{version}`: its source is {SOURCE_VERSION}, \
             which can be stamped as any v1.20.N or v1.21.N"
        ))),
    }
}

/// The unpacked and repaired source tree.
fn source(cache: &Cache) -> Result<PathBuf> {
    let tree = cache.path("kubernetes/tree");
    build_once(&tree, "the Kubernetes source tree", |partial| {
        unpack_source(cache, "kubernetes", partial)?;
        repair_reflect2(partial)?;
        let home = partial.join(".go/src/k8s.io");
        create_directory(&home)?;
        std::os::unix::fs::symlink("../../..", home.join("kubernetes"))
            .explain(|| "cannot link the source tree into its GOPATH".into())
    })?;
    Ok(tree)
}

/// Replaces the vendored reflect2 by Debian's, one patch release younger.
///
/// Built with Go 1.18 or later the vendored one makes programs that write YAML
/// panic.
fn repair_reflect2(tree: &Path) -> Result<()> {
    let vendored = tree.join("vendor/github.com/modern-go/reflect2");
    let package = "golang-github-modern-go-reflect2-dev";
    let list = read(&mut command("dpkg-query", ["-L", package]))?;
    let is_code = |path: &Path| {
        path.extension()
            .is_some_and(|extension| extension == "go" || extension == "s")
    };
    let entries =
        fs::read_dir(&vendored).explain(|| format!("cannot list {}", vendored.display()))?;
    for path in entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_code(path))
    {
        fs::remove_file(&path).explain(|| format!("cannot remove {}", path.display()))?;
    }
    for path in list.lines().map(Path::new).filter(|path| is_code(path)) {
        write_file(
            &vendored.join(path.file_name().unwrap_or_default()),
            read_text(path)?,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_releases_of_the_source_are_accepted() {
        assert!(parse("v1.20.2").is_ok());
        assert!(parse("v1.21.14").is_ok());
        for version in [
            "1.20.2",
            "v1.20",
            "v1.20.2-rc.1",
            "v1.22.0",
            "v1.20.02",
            "tree",
        ] {
            assert!(parse(version).is_err(), "{version}");
        }
    }
}

//! Everything that comes from Debian: programs for this machine, root file
//! systems, and source packages.
//!
//! Where packages come from is asked of the machine's own apt, so the lab works
//! behind any mirror and names none itself.

use super::cache::{Cache, build_once, create_directory, key, remove_directory, write_file};
use super::command::{bound, command, read, run, run_logged, succeeds};
use crate::error::{Error, Explain, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The Debian release of the hosts, and the one that has Kubernetes' source.
const RELEASE: &str = "bookworm";

/// Programs this machine needs to run hosts.
pub const MACHINE_PACKAGES: &[&str] = &[
    "debootstrap",
    "systemd-container",
    "iproute2",
    "openssh-client",
    "kmod",
];

/// Programs this machine needs to build Kubernetes.
pub const BUILD_PACKAGES: &[&str] = &[
    "golang-go",
    "golang-github-modern-go-reflect2-dev",
    "dpkg-dev",
    "make",
    "rsync",
    "jq",
];

/// What a host has: a server as a user would set it up for Kubernetes, without
/// any part of Kubernetes itself.
const HOST_PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "sudo",
    "ca-certificates",
    "iproute2",
    "iptables",
    "ebtables",
    "ethtool",
    "conntrack",
    "socat",
    "kmod",
    "procps",
    "containerd",
    "runc",
    "containernetworking-plugins",
];

/// What the container images are cut from.
const IMAGE_PACKAGES: &[&str] = &[
    "etcd-server",
    "etcd-client",
    "haproxy",
    "keepalived",
    "wget",
    "iptables",
    "conntrack",
    "ipset",
    "kmod",
];

/// Raised when the way a root file system is finished changes.
const FINISH_VERSION: &str = "1";

/// Installs the packages this machine does not have yet.
pub fn ensure_installed(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| {
            let format = "-f=${db:Status-Status}";
            read(&mut command("dpkg-query", ["-W", format, package]))
                .is_ok_and(|status| status == "installed")
                .eq(&false)
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("lab: installing {} on this machine", missing.join(" "));
    let install = || {
        let mut install = command("apt-get", ["install", "-y", "--no-install-recommends"]);
        install
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive");
        install
    };
    if !succeeds(&mut install()) {
        run(&mut command("apt-get", ["update"]))?;
        run(&mut install()).explain(|| {
            format!(
                "this machine (Debian or a relative of it) needs the packages {}",
                missing.join(" ")
            )
        })?;
    }
    Ok(())
}

/// The hosts' root file system; made when it is not there yet.
pub fn host_root(cache: &Cache) -> Result<PathBuf> {
    root(cache, "the hosts' root file system", HOST_PACKAGES)
}

/// The same with Python, which some other tools need on the hosts they manage.
pub fn host_root_with_python(cache: &Cache) -> Result<PathBuf> {
    let packages: Vec<&str> = HOST_PACKAGES.iter().copied().chain(["python3"]).collect();
    root(cache, "a root file system with Python", &packages)
}

/// The root file system container images are cut from.
pub fn image_root(cache: &Cache) -> Result<PathBuf> {
    root(cache, "the images' root file system", IMAGE_PACKAGES)
}

/// Tells one content of the images' root file system from another.
pub fn image_root_key() -> String {
    root_key(IMAGE_PACKAGES)
}

fn root_key(packages: &[&str]) -> String {
    key(&[RELEASE, &packages.join(","), FINISH_VERSION])
}

fn root(cache: &Cache, title: &str, packages: &[&str]) -> Result<PathBuf> {
    let list = packages.join(",");
    let directory = cache.path("base").join(root_key(packages));
    build_once(&directory, title, |partial| {
        let downloads = cache.path("packages");
        create_directory(&downloads)?;
        let mirror = mirror()?;
        // Its own mount namespace: whatever debootstrap mounts ends with it.
        let mut debootstrap = bound("unshare", ["-m", "--propagation", "private"]);
        debootstrap
            .args(["debootstrap", "--variant=minbase"])
            .arg(format!("--include={list}"))
            .arg(format!("--cache-dir={}", downloads.display()))
            .arg(RELEASE)
            .arg(partial)
            .arg(mirror);
        run_logged(&mut debootstrap, &cache.path("base/debootstrap.log"))?;
        finish(partial)
    })?;
    Ok(directory)
}

/// Takes out what must differ between hosts or is of no use in the lab.
fn finish(root: &Path) -> Result<()> {
    for directory in [
        "var/cache/apt",
        "var/lib/apt/lists",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
    ] {
        remove_directory(&root.join(directory))?;
    }
    create_directory(&root.join("var/cache/apt/archives/partial"))?;
    create_directory(&root.join("var/lib/apt/lists/partial"))?;
    write_file(&root.join("etc/machine-id"), "")?;
    let ssh = root.join("etc/ssh");
    for entry in fs::read_dir(&ssh).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path())
                .explain(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Downloads and unpacks a source package into `directory`.
pub fn unpack_source(cache: &Cache, package: &str, directory: &Path) -> Result<()> {
    let state = cache.path("apt");
    let download = state.join("source");
    for needed in ["lists/partial", "cache/archives/partial", "source"] {
        create_directory(&state.join(needed))?;
    }
    let sources: String = repositories()?
        .iter()
        .map(|repository| {
            let Repository {
                uri,
                suite,
                component,
            } = repository;
            format!("deb-src {uri} {suite} {component}\n")
        })
        .collect();
    write_file(&state.join("sources.list"), sources)?;
    let apt = |arguments: &[&str]| {
        let mut apt = command("apt-get", ["-o", "Dir::Etc::sourceparts=/dev/null"]);
        for (option, path) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::State::lists", "lists"),
            ("Dir::Cache", "cache"),
        ] {
            apt.arg("-o")
                .arg(format!("{option}={}", state.join(path).display()));
        }
        apt.args(["-o", "APT::Sandbox::User=root"])
            .args(arguments)
            .current_dir(&download);
        apt
    };
    run(&mut apt(&["update"]))?;
    run(&mut apt(&["source", "--download-only", package])).explain(|| {
        format!(
            "this machine's apt sources have no source package `{package}`; Debian {RELEASE} has it"
        )
    })?;
    let description = fs::read_dir(&download)
        .explain(|| format!("cannot list {}", download.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!("{package}_")) && name.ends_with(".dsc")
        })
        .ok_or_else(|| Error::new(format!("apt downloaded no description of `{package}`")))?;
    remove_directory(directory)?;
    run(command("dpkg-source", ["-x", "--no-check", "--no-copy"])
        .arg(description)
        .arg(directory))
}

/// One place this machine's apt gets Debian packages from.
struct Repository {
    uri: String,
    suite: String,
    component: String,
}

/// The Debian repositories of this machine, as apt itself understands them.
fn repositories() -> Result<Vec<Repository>> {
    let list = || {
        read(&mut command(
            "apt-get",
            [
                "indextargets",
                "--format",
                "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)",
                "Created-By: Packages",
            ],
        ))
    };
    let parse = |text: String| -> Vec<Repository> {
        text.lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (origin, suite) = (words.next()?, words.next()?);
                let (component, uri) = (words.next()?, words.next()?);
                (origin == "Debian").then(|| Repository {
                    uri: uri.into(),
                    suite: suite.into(),
                    component: component.into(),
                })
            })
            .collect()
    };
    let mut found = parse(list()?);
    if found.is_empty() {
        run(&mut command("apt-get", ["update"]))?;
        found = parse(list()?);
    }
    if found.is_empty() {
        return Err(Error::new(
            "this machine's apt has no Debian repository: the lab is made from Debian packages",
        ));
    }
    Ok(found)
}

fn mirror() -> Result<String> {
    let repositories = repositories()?;
    let own = repositories
        .iter()
        .find(|repository| repository.suite == RELEASE);
    own.map(|repository| repository.uri.clone()).ok_or_else(|| {
        Error::new(format!(
            "this machine's apt has no repository for Debian {RELEASE}; add one to its sources"
        ))
    })
}

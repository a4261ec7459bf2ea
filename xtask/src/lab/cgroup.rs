//! Gives every host a control group subtree of its own.
//!
//! Several kubelets on one machine would otherwise fight over the same
//! `/kubepods`. A host's first process is put into a group made for the host,
//! then enters a cgroup namespace, and from there that group looks like the
//! root. How this is done depends on the machine:
//!
//! - version 1: a directory in every hierarchy, mounted again for the host;
//! - version 2 with systemd: nspawn asks systemd for a delegated scope itself;
//! - version 2 without systemd: one directory in the only hierarchy.

use super::cache::create_directory;
use super::command::{command, run};
use crate::error::{Error, Explain, Result};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "slipway-lab-";

/// How this machine's control groups are set up.
pub enum Layout {
    /// Hierarchies of version 1, perhaps with an empty one of version 2.
    Separate(Vec<Hierarchy>),
    /// One hierarchy of version 2.
    Unified { systemd: bool },
}

/// One mounted hierarchy.
#[derive(Debug, PartialEq)]
pub struct Hierarchy {
    directory: PathBuf,
    kind: String,
    options: String,
}

impl Layout {
    /// Looks at this machine's mounts.
    pub fn detect() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")
            .explain(|| "cannot read /proc/self/mounts".into())?;
        let systemd = Path::new("/run/systemd/system").exists();
        parse(&mounts, systemd)
    }

    /// Whether the lab itself, not systemd, makes the groups.
    pub fn is_manual(&self) -> bool {
        !matches!(self, Self::Unified { systemd: true })
    }

    /// The host's group in every hierarchy that the lab manages.
    fn groups(&self, host: &str) -> Vec<PathBuf> {
        let name = format!("{PREFIX}{host}");
        match self {
            Self::Separate(all) => all.iter().map(|one| one.directory.join(&name)).collect(),
            Self::Unified { systemd: true } => Vec::new(),
            Self::Unified { systemd: false } => vec![Path::new(ROOT).join(name)],
        }
    }

    /// Moves the calling process into the host's groups, making them first.
    pub fn enter(&self, host: &str) -> Result<()> {
        for group in self.groups(host) {
            create_directory(&group)?;
            let above = group.parent().unwrap_or(Path::new(ROOT)).to_path_buf();
            // A new cpuset group is empty and takes no process until filled.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if group.join("cgroup.clone_children").exists() && above.join(file).exists() {
                    let value = fs::read(above.join(file))
                        .explain(|| format!("cannot read {file} of {}", above.display()))?;
                    write(&group.join(file), &value)?;
                }
            }
            if group.join("cpuset.cpus").exists() {
                let _ = fs::write(group.join("cgroup.clone_children"), "1");
            }
            let _ = fs::write(group.join("memory.use_hierarchy"), "1");
            write(&group.join("cgroup.procs"), std::process::id().to_string().as_bytes())?;
        }
        Ok(())
    }

    /// In a fresh cgroup and mount namespace: mounts what the host shall see.
    pub fn mount(&self) -> Result<()> {
        match self {
            Self::Separate(all) => {
                run(&mut command("mount", ["-t", "tmpfs", "tmpfs", ROOT]))?;
                for hierarchy in all {
                    create_directory(&hierarchy.directory)?;
                    let mut mount = command("mount", ["-t", &hierarchy.kind]);
                    if !hierarchy.options.is_empty() {
                        mount.args(["-o", &hierarchy.options]);
                    }
                    run(mount.arg("cgroup").arg(&hierarchy.directory))?;
                }
                Ok(())
            }
            Self::Unified { systemd: true } => Ok(()),
            Self::Unified { systemd: false } => {
                run(&mut command("mount", ["-t", "cgroup2", "cgroup2", ROOT]))
            }
        }
    }

    /// The ids of all processes in the host's groups.
    pub fn processes(&self, host: &str) -> Vec<u32> {
        let mut found = Vec::new();
        for group in self.groups(host) {
            for directory in subtree(&group) {
                let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                // 0 stands for a process of another process namespace.
                found.extend(text.lines().filter_map(|id| id.parse::<u32>().ok()));
            }
        }
        found.retain(|id| *id > 1);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Removes the host's empty groups.
    pub fn remove(&self, host: &str) -> Result<()> {
        for group in self.groups(host) {
            for directory in subtree(&group) {
                remove_group(&directory)?;
            }
        }
        Ok(())
    }

    /// The hosts that have groups, running or not.
    pub fn hosts(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .groups("")
            .iter()
            .filter_map(|group| fs::read_dir(group.parent()?).ok())
            .flat_map(|entries| entries.flatten())
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some(name.strip_prefix(PREFIX)?.to_string())
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

fn parse(mounts: &str, systemd: bool) -> Result<Layout> {
    let mut separate = Vec::new();
    let mut unified = None;
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, directory, kind, options, ..] = fields[..] else {
            continue;
        };
        if !Path::new(directory).starts_with(ROOT) {
            continue;
        }
        let hierarchy = |options: String| Hierarchy {
            directory: directory.into(),
            kind: kind.into(),
            options,
        };
        match kind {
            "cgroup" => separate.push(hierarchy(controllers(options))),
            "cgroup2" => unified = Some(hierarchy(String::new())),
            _ => {}
        }
    }
    match (separate.is_empty(), unified) {
        (true, None) => Err(Error::new(
            "no control groups are mounted at /sys/fs/cgroup: the lab's hosts need them",
        )),
        (true, Some(_)) => Ok(Layout::Unified { systemd }),
        (false, unified) => {
            separate.extend(unified);
            Ok(Layout::Separate(separate))
        }
    }
}

/// The mount options that say which controllers a hierarchy has.
fn controllers(options: &str) -> String {
    let general = ["rw", "ro", "relatime", "noatime", "nosuid", "nodev", "noexec", "xattr"];
    let mut names: Vec<&str> = options
        .split(',')
        .filter(|option| !general.contains(option) && !option.starts_with("release_agent"))
        .filter(|option| *option != "clone_children")
        .collect();
    if names.iter().any(|name| name.starts_with("name=")) {
        names.insert(0, "none");
    }
    names.join(",")
}

/// A group and all below it, deepest first.
fn subtree(group: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(subtree(&entry.path()));
        }
    }
    if group.exists() {
        all.push(group.to_path_buf());
    }
    all
}

/// A group whose last process has just ended stays busy for a moment.
fn remove_group(group: &Path) -> Result<()> {
    let mut attempts = 0;
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(_) if attempts < 100 => {
                attempts += 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(error) => {
                return Err(error)
                    .explain(|| format!("cannot remove the control group {}", group.display()));
            }
        }
    }
}

fn write(path: &Path, value: &[u8]) -> Result<()> {
    fs::write(path, value).explain(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_keeps_joined_controllers_and_the_named_hierarchy() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,relatime,cpu,cpuacct 0 0\n\
            cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
            cgroup /mnt/elsewhere cgroup rw,cpu 0 0\n";
        let Ok(Layout::Separate(all)) = parse(mounts, false) else {
            panic!("not read as version 1");
        };
        let options: Vec<&str> = all.iter().map(|one| one.options.as_str()).collect();
        assert_eq!(options, ["cpu,cpuacct", "none,name=systemd", ""]);
    }

    #[test]
    fn version_2_alone_is_unified() {
        let mounts = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert!(matches!(parse(mounts, true), Ok(Layout::Unified { systemd: true })));
        assert!(parse("proc /proc proc rw 0 0\n", true).is_err());
    }
}

//! What a changed setting means for the Node that runs with it: nothing, a restart, or a Node that is
//! emptied first. Pure: a function of the changes of a host, which hold what is there and what is
//! wanted. Invariant: a setting that nobody judged costs a restart and no drain, and every one that
//! upstream calls unsafe beside running pods has a row in one of the two tables below this module.

use serde::Serialize;

use crate::artifact::Artifact;
use crate::change::{Change, Reason};
use crate::desired::{packages, runtime};
use crate::names::RemotePath;
use crate::paths;

pub mod care;
pub mod containerd;
pub mod kubelet;

/// What becomes of the pods of a Node when a setting changes, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Impact {
    /// It is read again while the program runs.
    Live,
    /// The program restarts, and pods run on.
    Restart,
    /// Pods move away first, because those that stay would go on as before or be refused.
    Drain,
    /// Besides, the kubelet stands still while its notes about CPUs and memory are thrown away: it does
    /// not start with those of another policy.
    Forget,
    /// Besides, the kubelet stands still while all pods end that are left, static ones too: the kubelet
    /// or the runtime would not find them again after it.
    Remake,
}

/// A setting that changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Setting {
    /// The field or flag, as the program calls it.
    pub name: String,
    /// What it means.
    pub impact: Impact,
}

impl Setting {
    fn new(name: impl Into<String>, impact: Impact) -> Self {
        Self { name: name.into(), impact }
    }
}

/// The settings that these changes of a host change and that need more than a restart, by name. `pinned` says
/// whether the kubelet ties containers to CPUs or memory, before or after.
#[must_use]
pub fn unsettling(changes: &[&Change], pinned: bool) -> Vec<Setting> {
    let mut all: Vec<Setting> = changes.iter().flat_map(|change| settings(change, pinned)).filter(|setting| setting.impact >= Impact::Drain).collect();
    all.sort();
    all.dedup();
    all
}

/// The settings that one change of a host changes. Only what replaces something counts: what was not
/// there before, nobody ran with.
#[must_use]
pub fn settings(change: &Change, pinned: bool) -> Vec<Setting> {
    match &change.artifact {
        Artifact::File { path, content, .. } => {
            let (Some(before), Ok(after)) = (&change.before, std::str::from_utf8(content.bytes())) else { return Vec::new() };
            if *path == paths::kubelet_configuration() {
                kubelet::fields(before, after, pinned)
            } else if *path == paths::kubelet_flags() {
                kubelet::flags(before, after, pinned)
            } else if path.as_str() == runtime::CONFIGURATION_FILE {
                containerd::settings(before, after)
            } else {
                Vec::new()
            }
        }
        // Containers that run belong to the shims of the version that started them.
        Artifact::Program { path, .. } if matches!(change.reason, Reason::Content { .. }) => {
            let program = runtime_programs().into_iter().find(|(_, place)| place == path);
            program.map(|(name, _)| Setting::new(name, Impact::Drain)).into_iter().collect()
        }
        // Another version; one that is only held runs already.
        Artifact::Package { name, .. } if matches!(&change.reason, Reason::Value { found } if !found.contains(' ')) => {
            let name = packages::OF_RUNTIME.into_iter().find(|package| package == name);
            name.map(|name| Setting::new(name, Impact::Drain)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// The programs of the runtime and where slipway puts them.
#[must_use]
pub fn runtime_programs() -> [(&'static str, RemotePath); 2] {
    [("containerd", RemotePath::fixed("/usr/local/bin/containerd")), ("runc", RemotePath::fixed("/usr/local/bin/runc"))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Content;
    use crate::names::{Digest, Mode};

    fn file(path: RemotePath, before: Option<&str>, after: &str) -> Change {
        let reason = if before.is_some() { Reason::Content { found: None, drift: false } } else { Reason::Missing };
        Change {
            artifact: Artifact::File { path, mode: Mode(0o644), content: Content::plain(after) },
            reason,
            before: before.map(str::to_owned),
        }
    }

    #[test]
    fn what_was_not_there_unsettles_nobody() {
        let after = "cgroupDriver: systemd\n";
        assert_eq!(settings(&file(paths::kubelet_configuration(), None, after), true), []);
        let before = "cgroupDriver: cgroupfs\n";
        let expected = [Setting::new("cgroupDriver", Impact::Remake)];
        assert_eq!(settings(&file(paths::kubelet_configuration(), Some(before), after), false), expected);
        assert_eq!(settings(&file(RemotePath::fixed("/etc/other.yaml"), Some(before), after), true), []);
    }

    #[test]
    fn a_program_of_the_runtime_drains_when_it_is_replaced() {
        let program = |path: &str, reason| Change {
            artifact: Artifact::Program {
                path: RemotePath::fixed(path),
                source: crate::artifact::ProgramSource::Download("https://example.com/x".into()),
                digest: Digest::of("x"),
                unpack: None,
            },
            reason,
            before: None,
        };
        let replaced = Reason::Content { found: None, drift: false };
        assert_eq!(settings(&program("/usr/local/bin/containerd", replaced.clone()), false), [Setting::new("containerd", Impact::Drain)]);
        assert_eq!(settings(&program("/usr/local/bin/containerd", Reason::Missing), false), []);
        assert_eq!(settings(&program("/usr/local/bin/kubelet", replaced), false), []);
    }

    #[test]
    fn only_what_needs_more_than_a_restart_is_gathered_once() {
        let yaml = file(paths::kubelet_configuration(), Some("cgroupDriver: cgroupfs\nmaxPods: 110\n"), "cgroupDriver: systemd\nmaxPods: 120\n");
        let toml = file(RemotePath::fixed(runtime::CONFIGURATION_FILE), Some("oom_score = 0\nroot = \"/a\"\n"), "oom_score = 1\nroot = \"/b\"\n");
        let names: Vec<String> = unsettling(&[&yaml, &toml, &yaml], false).into_iter().map(|setting| setting.name).collect();
        assert_eq!(names, ["cgroupDriver", "root"]);
    }
}

//! Compares what is wanted of a host with what was found. Pure; it never sees the plan.

use std::collections::BTreeSet;

use crate::artifact::{Artifact, Content, Secret};
use crate::change::{Change, Reason};
use crate::desired::packages::satisfies;
use crate::facts::{FoundFile, FoundKind, System, State};
use crate::meaning::{self, Meaning};
use crate::names::{Digest, Mode, RemotePath};
use crate::paths;
use crate::transport::records::{self, Record};

/// The changes that make the host as wanted, in the order of the artifacts. `changed` collects
/// the files that change, over all phases of a host in their order: a unit restarts when one of its
/// inputs is among them.
#[must_use]
pub fn host_changes(
    artifacts: Vec<Artifact>,
    system: &System,
    state: &State,
    changed: &mut BTreeSet<RemotePath>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for artifact in artifacts {
        let Some((reason, before)) = difference(&artifact, system, state, changed) else { continue };
        if let Artifact::File { path, .. } | Artifact::Program { path, .. } = &artifact {
            changed.insert(path.clone());
        }
        if let Artifact::Package { name, version, program: Some(path), .. } = &artifact
            && !is_installed(name, version.as_deref(), state)
        {
            changed.insert(path.clone());
        }
        changes.push(Change { artifact, reason, before });
    }
    changes
}

/// Why this artifact is not as wanted, and what is there instead if that may be shown.
fn difference(
    artifact: &Artifact,
    system: &System,
    state: &State,
    changed: &BTreeSet<RemotePath>,
) -> Option<(Reason, Option<String>)> {
    let plain = |reason| Some((reason, None));
    match artifact {
        Artifact::Directory { path, mode } => match state.files.get(path) {
            None => plain(Reason::Missing),
            Some(FoundFile { kind: FoundKind::Directory, mode: found, owner, .. }) => {
                ownership(*found, *mode, *owner).and_then(plain)
            }
            // Administrators move data directories behind a link; what it points to is theirs.
            Some(FoundFile { kind: FoundKind::Link(_), .. }) => None,
            Some(_) => plain(Reason::Kind),
        },
        Artifact::File { path, mode, content } => file_difference(path, *mode, content, state, changed),
        Artifact::Link { path, target } => match state.files.get(path).map(|found| &found.kind) {
            None => plain(Reason::Missing),
            Some(FoundKind::Link(found)) if found == target => None,
            Some(FoundKind::Link(found)) => plain(Reason::Value { found: format!("a link to {found}") }),
            Some(_) => plain(Reason::Kind),
        },
        // Its record goes after it: one that is left shows that a run was cut off in between.
        Artifact::Absent { path } => {
            let left = state.files.contains_key(path) || !records::written(path, state).is_empty();
            left.then_some((Reason::Unwanted, None))
        }
        Artifact::Program { path, digest, .. } => match state.programs.get(path) {
            None => plain(Reason::Missing),
            Some(found) if found.noted == Some(*digest) => None,
            Some(found) => plain(Reason::Content { found: found.noted, drift: false }),
        },
        Artifact::Package { name, version, held, .. } => match state.packages.get(name) {
            None => plain(Reason::Missing),
            Some(found) if !is_installed(name, version.as_deref(), state) => plain(Reason::Value { found: found.version.clone() }),
            Some(found) if *held && !found.held => plain(Reason::Value { found: format!("{}, not held", found.version) }),
            Some(_) => None,
        },
        Artifact::Module { name } => (!system.modules.contains(name)).then_some((Reason::Missing, None)),
        Artifact::Sysctl { key, value } => match system.sysctls.get(key) {
            Some(found) if found == value => None,
            Some(found) => plain(Reason::Value { found: found.clone() }),
            None => plain(Reason::Missing),
        },
        Artifact::NoSwap => {
            (!system.swap.is_empty()).then(|| (Reason::Value { found: format!("on: {}", system.swap.join(", ")) }, None))
        }
        Artifact::Unit { name, inputs, stamp, .. } => unit_difference(name, inputs, *stamp, state, changed).and_then(plain),
        Artifact::Image { names, digest, .. } => {
            if names.iter().any(|name| !state.images.contains(name)) {
                return Some((Reason::Missing, None));
            }
            // Without a note nobody knows where images of these names came from.
            let noted = state.text(&records::archive_note(names)).and_then(|noted| noted.trim().parse().ok());
            if noted == Some(*digest) { None } else { plain(Reason::Content { found: noted, drift: false }) }
        }
        Artifact::Pulled { name } => (!state.images.contains(name)).then_some((Reason::Missing, None)),
        // Objects are compared with the API's answer, in `cluster`.
        Artifact::Object(_) | Artifact::NodeMarks(_) => None,
        // `joining` makes this change itself, from etcd's own list.
        Artifact::Membership(_) => None,
        // `upgrade` makes these changes itself, from what the API says of Nodes and from what else changes.
        Artifact::Maintenance(_) | Artifact::Halted { .. } | Artifact::Restarted { .. } | Artifact::Snapshot(_) => None,
        // `teardown` makes these changes itself, from records.
        Artifact::Undone(_) | Artifact::Departed(_) => None,
    }
}

/// Whether a package is there in the wanted version.
fn is_installed(name: &str, version: Option<&str>, state: &State) -> bool {
    state.packages.get(name).is_some_and(|found| version.is_none_or(|wanted| satisfies(&found.version, wanted)))
}

fn ownership(found: Mode, wanted: Mode, owner: u32) -> Option<Reason> {
    if owner != 0 {
        return Some(Reason::Owner { found: owner });
    }
    (found != wanted).then_some(Reason::Mode { found })
}

fn file_difference(
    path: &RemotePath,
    mode: Mode,
    content: &Content,
    state: &State,
    changed: &BTreeSet<RemotePath>,
) -> Option<(Reason, Option<String>)> {
    let Some(found) = state.files.get(path) else { return Some((Reason::Missing, None)) };
    let FoundKind::File { digest, content: bytes } = &found.kind else { return Some((Reason::Kind, None)) };
    if *digest != Some(content.digest()) {
        let written = records::written(path, state);
        if written.is_empty() && means_the_same(path, content, bytes.as_ref(), state, changed) {
            return ownership(found.mode, mode, found.owner).map(|reason| (reason, None));
        }
        let drift = !written.is_empty() && !written.iter().any(|written| Some(*written) == *digest);
        let before = bytes
            .as_ref()
            .filter(|_| !content.is_secret())
            .and_then(|bytes| bytes.expose_text())
            .map(str::to_owned);
        return Some((Reason::Content { found: *digest, drift }, before));
    }
    let wanted = if has_mode_of_kubeadm(path, found.mode, state) { found.mode } else { mode };
    ownership(found.mode, wanted, found.owner).map(|reason| (reason, None))
}

/// Whether a public part of a pair is readable as one of kubeadm's commands leaves it. `kubeadm init` and a
/// `kubeadm join` that fetched it give it different modes, which also changed in v1.22; taking that for a
/// difference would restart everything that reads it.
fn has_mode_of_kubeadm(path: &RemotePath, found: Mode, state: &State) -> bool {
    let is_public = path.is_within(&paths::pki_directory()) && [".crt", ".pub"].iter().any(|end| path.as_str().ends_with(end));
    is_public && [Mode(0o600), Mode(0o644)].contains(&found) && records::written(path, state).is_empty()
}

/// Whether a file that somebody else wrote already says what is wanted. A pod that does not say with
/// which credentials it was started runs with those that are there as long as slipway changed none.
fn means_the_same(
    path: &RemotePath,
    content: &Content,
    found: Option<&Secret>,
    state: &State,
    changed: &BTreeSet<RemotePath>,
) -> bool {
    let wanted = std::str::from_utf8(content.bytes()).ok();
    let (Some(wanted), Some(found)) = (wanted, found.and_then(Secret::expose_text)) else { return false };
    match meaning::of_file(path, wanted, found) {
        Meaning::Other => false,
        Meaning::Same => true,
        Meaning::Unstamped => {
            let credential = |path: &RemotePath| {
                path.is_within(&paths::kubernetes_directory()) && !path.is_within(&paths::manifests_directory())
            };
            let written = |record: &Record| matches!(record, Record::Path { path, directory: false, .. } if credential(path));
            !changed.iter().any(credential) && !records::all(state).iter().any(written)
        }
    }
}

fn unit_difference(
    name: &str,
    inputs: &[RemotePath],
    stamp: Digest,
    state: &State,
    changed: &BTreeSet<RemotePath>,
) -> Option<Reason> {
    let found = state.units.get(name).cloned().unwrap_or_default();
    let changed_inputs: Vec<RemotePath> = inputs.iter().filter(|input| changed.contains(*input)).cloned().collect();
    let outdated = !changed_inputs.is_empty() || found.stamp != Some(stamp);
    if outdated && found.enabled.is_empty() {
        return Some(Reason::Missing);
    }
    // Whatever else it lacks: who is changed after whom depends on what runs now.
    if found.active != "active" {
        return Some(Reason::Stopped { found: if found.active.is_empty() { "not loaded".into() } else { found.active } });
    }
    if outdated {
        return Some(Reason::Inputs { changed: changed_inputs });
    }
    (!found.enabled.starts_with("enabled")).then_some(Reason::Disabled)
}

#[cfg(test)]
mod tests;

//! From the changes of a step to the script that makes them on a host.
//!
//! Pure. The script is fixed shell functions (script/*.sh, which a person can read and shellcheck
//! can judge) followed by calls with quoted arguments, so a plan can never become shell. Killed at
//! any point and run again, a script reaches the same end state: every change is one rename, and
//! what slipway needs to know of the past is written before the change it is about.
//!
//! # What a host keeps of slipway
//!
//! Below `/var/lib/slipway` (mode 0700), one small file for each thing, so that a crash cannot
//! tear a list apart. A *name* below is a path without its first `/`, with `%` as `%25` and `/`
//! as `%2F`, or `sha256-DIGEST` of the whole path if that is longer than 200 bytes; nobody has to
//! decode it, because each file says in its first line what it is about. All are `key=value` lines.
//!
//! - `records/NAME` for a path: `path=`; `kind=` `file`, `link`, `directory`, `program` or `absent`;
//!   `before=`, what was there before slipway's first change: `absent`, `original` (kept, see below),
//!   `directory`, or for directories that were there `directory MODE UID:GID`; and `written=`, the
//!   digest of what slipway last wrote (for a link of its target, for a file of an archive of that
//!   archive). Two `written=` lines: a run was cut off between the old and the new content.
//! - `records/unit:NAME`: `unit=`, `kind=unit`, `before=ENABLED ACTIVE` (`absent` for a unit that was
//!   not there), as systemd called it.
//! - `records/sysctl:KEY`: `sysctl=`, `kind=sysctl`, `before=` the live value.
//! - `records/module:NAME`: `module=`, `kind=module`, `before=absent`; only if slipway loaded it.
//! - `records/image:NAME` (escaped): `image=`, `kind=image`, `before=absent`; only if slipway brought it.
//! - `records/package:NAME`: `package=`, `kind=package`, `before=` `absent`, or the version that was
//!   there and `install` or `hold`; also for packages that came with one.
//! - `records/swap`: `kind=swap`, `before=active`, a `device=` for each active swap, a `unit=` for each
//!   swap unit that was masked.
//! - `surroundings`: what was there before slipway's first change that no record is about, because
//!   Kubernetes itself makes or changes it: `path=`, `interface=`, `parameter=FILE=VALUE`, and
//!   after `images=known` an `image=` for each image in the runtime. Missing on hosts that a slipway
//!   without it changed first.
//! - `runtime-started`: containerd was off and a reset started it; it is stopped again.
//! - `original/PATH`: the file or link that was there, with its mode and owner.
//! - `stamps/UNIT`: the stamp in the first line, then an `input=` for each path the unit reads. A
//!   change of an input removes the stamp.
//! - `programs/NAME`: `path=`, `digest=`, `size=`, `mtime=` of a program when slipway installed it.
//! - `archives/DIGEST` (of the images' names): the digest of the archive that slipway last loaded
//!   them from.
//! - `snapshots/TIME_FROM_to_TO/`: from before an upgrade, copies of the files that it replaces, by their
//!   paths, and on one host `etcd.db`, a snapshot of etcd. `snapshots/.part` and `.old` are halves of one.
//! - `stage/`, `staged-elsewhere`, `images-before`, `work/`: of a running step, or of one that died; the
//!   next step of that kind uses or clears them.

use std::path::Path;
use std::time::Duration;

use super::shell::Script;
use super::{Bundle, Payload, records};
use crate::artifact::snapshot::Snapshot;
use crate::artifact::undone::Undone;
use crate::artifact::{Artifact, ProgramSource, Secret, UnitCheck};
use crate::change::{Change, Reason};
use crate::names::{Digest, RemotePath};

/// What a script has to know besides its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptContext {
    /// After this time the host ends the script.
    pub timeout: Duration,
    /// The CRI socket.
    pub socket: RemotePath,
}

const MANIFESTS: &str = "/etc/kubernetes/manifests";
const BASE: &str = include_str!("script/base.sh");
const RECORDS: &str = include_str!("script/records.sh");
const FILES: &str = include_str!("script/files.sh");
const SURROUNDINGS: &str = include_str!("script/surroundings.sh");
const PROGRAMS: &str = include_str!("script/programs.sh");
const SYSTEM: &str = include_str!("script/system.sh");
const UNITS: &str = include_str!("script/units.sh");
const IMAGES: &str = include_str!("script/images.sh");
const UNDO: &str = include_str!("script/undo.sh");
const LEFTOVERS: &str = include_str!("script/leftovers.sh");
const NETWORK: &str = include_str!("script/network.sh");
const PACKAGES: &str = include_str!("script/packages.sh");
const SNAPSHOT: &str = include_str!("script/snapshot.sh");
const PODS: &str = include_str!("script/pods.sh");

/// The static pod that runs by another manifest until this change.
fn replaced_pod(change: &Change) -> Option<&str> {
    let (Artifact::File { path, .. } | Artifact::Absent { path }) = &change.artifact else { return None };
    let replaced = matches!(change.reason, Reason::Content { .. } | Reason::Paused | Reason::PutBack | Reason::Unwanted) && *path.parent().as_str() == *MANIFESTS;
    path.file_name().strip_suffix(".yaml").filter(|_| replaced)
}

/// The script and payloads that make these changes on a host.
///
/// Objects and Node marks are not of a host: the engine gives them to the `Cluster`. One that
/// comes here makes a script that says so and fails, before it changes anything.
#[must_use]
pub fn bundle(step: &str, changes: &[Change], context: &ScriptContext) -> Bundle {
    let mut writer = Writer { script: Script::new(), payloads: Vec::new(), socket: &context.socket };
    writer.functions(changes);
    for (index, change) in changes.iter().enumerate() {
        let number = index.to_string();
        writer.script.call("begin", [&number]);
        writer.change(change);
        writer.script.call("finish", [&number]);
    }
    Bundle {
        step: step.to_owned(),
        script: writer.script.finish(),
        payloads: writer.payloads,
        changes: changes.len(),
        timeout: context.timeout,
        restarts: changes.last().is_some_and(|change| matches!(change.artifact, Artifact::Restarted { machine: true, .. })),
    }
}

struct Writer<'a> {
    script: Script,
    payloads: Vec<(String, Payload)>,
    socket: &'a RemotePath,
}

impl Writer<'_> {
    /// The functions that the changes need, and what has to be known before the first change.
    fn functions(&mut self, changes: &[Change]) {
        let any = |wanted: fn(&Artifact) -> bool| changes.iter().any(|change| wanted(&change.artifact));
        self.script.fixed(BASE).fixed(RECORDS).fixed(FILES).fixed(SURROUNDINGS);
        if any(|artifact| matches!(artifact, Artifact::Program { .. })) {
            self.script.fixed(PROGRAMS);
        }
        if any(|artifact| matches!(artifact, Artifact::Package { .. } | Artifact::Undone(Undone::Package { .. }))) {
            self.script.fixed(PACKAGES);
        }
        if changes.iter().any(|change| replaced_pod(change).is_some()) {
            self.script.fixed(PODS);
        }
        if any(|artifact| matches!(artifact, Artifact::Module { .. } | Artifact::Sysctl { .. } | Artifact::NoSwap)) {
            self.script.fixed(SYSTEM);
        }
        if any(|artifact| matches!(artifact, Artifact::Unit { .. } | Artifact::Halted { .. } | Artifact::Restarted { .. })) {
            self.script.fixed(UNITS);
        }
        if any(|artifact| matches!(artifact, Artifact::Image { .. } | Artifact::Pulled { .. })) {
            self.script.fixed(IMAGES);
        }
        if any(|artifact| matches!(artifact, Artifact::Halted { pods: true, .. })) {
            self.script.fixed(LEFTOVERS);
        }
        if any(|artifact| matches!(artifact, Artifact::Snapshot(_))) {
            self.script.fixed(SNAPSHOT);
        }
        if any(|artifact| matches!(artifact, Artifact::Undone(_))) {
            self.script.fixed(LEFTOVERS).fixed(NETWORK).fixed(UNDO);
        } else {
            self.script.call("note_surroundings", [self.socket.as_str()]);
        }
        if any(Artifact::is_of_cluster) {
            self.script.call("fail", ["an object of the cluster was sent to a host; this is a bug of slipway"]);
        }
    }

    fn change(&mut self, change: &Change) {
        match &change.artifact {
            Artifact::Directory { path, mode } => {
                self.script.call("make_directory", [path.as_str(), &mode.to_string()]);
            }
            Artifact::File { path, mode, content } => {
                let payload = self.payload(Payload::Bytes(Secret::new(content.bytes())));
                let digest = content.digest().to_string();
                let pod = replaced_pod(change);
                if let Some(pod) = pod {
                    self.script.call("note_pod", [self.socket.as_str(), pod]);
                }
                self.script.call("install_file", [path.as_str(), &mode.to_string(), &digest, &payload]);
                if let Some(pod) = pod {
                    self.script.call("await_pod", [pod]);
                }
            }
            Artifact::Link { path, target } => {
                self.script.call("make_link", [path.as_str(), target, &Digest::of(target).to_string()]);
            }
            Artifact::Absent { path } => {
                let pod = replaced_pod(change);
                if let Some(pod) = pod {
                    self.script.call("note_pod", [self.socket.as_str(), pod]);
                }
                self.script.call("remove_file", [path.as_str()]);
                if let Some(pod) = pod {
                    self.script.call("await_pod", [pod]);
                }
            }
            Artifact::Program { path, source, digest, unpack } => self.program(path, source, digest, unpack.as_ref()),
            Artifact::Package { name, version, program, held } => {
                let (version, program) = (version.as_deref().unwrap_or_default(), program.as_ref().map_or("", RemotePath::as_str));
                self.script.call("install_package", [name.as_str(), version, if *held { "yes" } else { "no" }, program]);
            }
            Artifact::Module { name } => {
                self.script.call("load_module", [&name.replace('-', "_"), name]);
            }
            Artifact::Sysctl { key, value } => {
                self.script.call("set_parameter", [key, &sysctl_file(key), value]);
            }
            Artifact::NoSwap => {
                self.script.fixed("swap_off");
            }
            Artifact::Unit { name, inputs, stamp, check } => self.unit(name, inputs, stamp, *check, &change.reason),
            Artifact::Halted { unit, files, pods } => {
                self.script.call("halt_unit", [unit.as_str()].into_iter().chain(files.iter().map(RemotePath::as_str)));
                if *pods {
                    self.script.call("end_pods", [self.socket.as_str()]);
                }
            }
            Artifact::Restarted { units, machine: false } => {
                self.script.call("restart_units", units.iter().map(String::as_str));
            }
            Artifact::Restarted { machine: true, .. } => {
                self.script.fixed("reboot_machine");
            }
            Artifact::Image { names, archive, digest } => self.image(names, archive, digest),
            Artifact::Pulled { name } => {
                self.script.call("pull_image", [self.socket.as_str(), name]);
            }
            // `functions` made the script fail before its first change.
            Artifact::Object(_) | Artifact::NodeMarks(_) | Artifact::Membership(_) | Artifact::Maintenance(_) | Artifact::Departed(_) => {}
            Artifact::Snapshot(Snapshot { way, files, etcd, keep }) => {
                let (way, keep, etcd) = (way.to_string(), keep.to_string(), etcd.as_ref().map_or("", RemotePath::as_str));
                let arguments = [self.socket.as_str(), &way, &keep, etcd];
                self.script.call("take_snapshot", arguments.into_iter().chain(files.iter().map(RemotePath::as_str)));
            }
            Artifact::Undone(undone) => self.undone(undone),
        }
    }

    fn program(&mut self, path: &RemotePath, source: &ProgramSource, digest: &Digest, unpack: Option<&RemotePath>) {
        match source {
            ProgramSource::Upload(file) => {
                let payload = self.payload(Payload::File(file.clone()));
                self.script.call("upload", [&payload]);
            }
            ProgramSource::Download(address) => {
                self.script.call("download", [address]);
            }
        }
        let digest = digest.to_string();
        match unpack {
            None => self.script.call("install_program", [path.as_str(), &digest]),
            Some(directory) => self.script.call("unpack_program", [path.as_str(), &digest, directory.as_str()]),
        };
    }

    fn unit(&mut self, name: &str, inputs: &[RemotePath], stamp: &Digest, check: Option<UnitCheck>, reason: &Reason) {
        // A unit that only was not enabled runs with its inputs already: no outage for that.
        let restart = if matches!(reason, Reason::Disabled) { "stopped" } else { "always" };
        let stamp = stamp.to_string();
        let arguments = [name, &stamp, restart].into_iter().chain(inputs.iter().map(RemotePath::as_str));
        self.script.call("start_unit", arguments);
        match check {
            Some(UnitCheck::Containerd) => {
                self.script.call("await_containerd", [self.socket.as_str()]);
            }
            None => {}
        }
        self.script.fixed("stamp_unit");
    }

    fn image(&mut self, names: &[String], archive: &Path, digest: &Digest) {
        let payload = self.payload(Payload::File(archive.to_owned()));
        let (note, digest) = (records::archive_note(names), digest.to_string());
        let arguments = [self.socket.as_str(), &payload, note.as_str(), &digest];
        let arguments = arguments.into_iter().chain(names.iter().map(String::as_str));
        self.script.call("import_images", arguments);
    }

    fn undone(&mut self, undone: &Undone) {
        let socket = self.socket.as_str();
        match undone {
            Undone::Stopped { unit } => self.script.call("stop_unit", [unit]),
            Undone::Pods => self.script.call("remove_pods", [socket]),
            Undone::Mounts => self.script.fixed("remove_mounts"),
            Undone::Images { names } => {
                self.script.call("undo_images", [socket].into_iter().chain(names.iter().map(String::as_str)))
            }
            Undone::Route { family, network, gateway } => self.script.call("undo_route", [family, network, gateway]),
            Undone::PodNetwork => self.script.fixed("remove_network"),
            Undone::Kubernetes { foreign, etcd } => {
                let directory = etcd.as_ref().map(RemotePath::as_str);
                self.script.call("remove_data", [if *foreign { "yes" } else { "no" }].into_iter().chain(directory))
            }
            Undone::Path { path, .. } => self.script.call("undo_path", [path.as_str()]),
            Undone::Package { name, .. } => self.script.call("undo_package", [name]),
            Undone::Unit { name } => self.script.call("undo_unit", [name]),
            Undone::Sysctl { key } => self.script.call("undo_parameter", [key, &sysctl_file(key)]),
            Undone::Module { name } => self.script.call("undo_module", [name]),
            Undone::Swap => self.script.fixed("undo_swap"),
            Undone::Surroundings => self.script.fixed("undo_surroundings"),
            Undone::Records => self.script.fixed("forget"),
        };
    }

    fn payload(&mut self, payload: Payload) -> String {
        let name = format!("payload-{}", self.payloads.len());
        self.payloads.push((name.clone(), payload));
        name
    }
}

/// Where a kernel parameter is below /proc/sys. As for sysctl(8): dots separate, and a slash
/// then stands for a dot within a name (an interface `eth0.100`); if the first separator is a
/// slash, slashes separate.
pub(super) fn sysctl_file(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(place) if key[place..].starts_with('.') => key
            .chars()
            .map(|character| match character {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests;

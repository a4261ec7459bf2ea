//! What the changes of one host ask for besides themselves: that its kubelet stands still, that notes
//! or pods are gone meanwhile, that images come again. Pure. It only takes changes out of their
//! phases and puts them into one list in the order of Kubernetes' own descriptions (stop the kubelet, stop
//! and change the runtime, change the kubelet, start); who empties the Node around it is `upgrade::turns`.

use std::collections::BTreeMap;

use super::kubelet::{self, STATE_FILES};
use super::{Impact, Setting, containerd, runtime_programs};
use crate::artifact::Artifact;
use crate::change::{Change, Reason};
use crate::desired::kubelet::UNIT;
use crate::desired::packages;
use crate::names::RemotePath;
use crate::paths;
use crate::phase::Phase;

/// What is wanted of a host, by phase.
pub type Wanted = BTreeMap<Phase, Vec<Artifact>>;
/// What differs on a host, by phase.
pub type Differing = BTreeMap<Phase, Vec<Change>>;

/// The runtime's unit.
const RUNTIME: &str = "containerd.service";

/// The care a host's changes need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Care {
    /// Settings that need more than a restart, by name.
    settings: Vec<Setting>,
    /// Whether one of them is the runtime's.
    of_runtime: bool,
    /// Where the kubelet keeps its notes.
    root: String,
}

impl Care {
    /// Judges the changes of a host on which a kubelet has run.
    #[must_use]
    pub fn of(wanted: &Wanted, changes: &Differing) -> Self {
        let of = |phases: &[Phase]| -> Vec<&Change> { phases.iter().filter_map(|phase| changes.get(phase)).flatten().collect() };
        let (configuration, flags) = (paths::kubelet_configuration(), paths::kubelet_flags());
        let after = |path: &RemotePath| text(wanted.get(&Phase::Kubelet).into_iter().flatten(), path);
        let before = |path: &RemotePath| {
            let change = of(&[Phase::Kubelet]).into_iter().find(|change| is_file(&change.artifact, path));
            change.and_then(|change| change.before.clone()).unwrap_or_else(|| after(path))
        };
        let pinned = kubelet::is_pinning(&before(&configuration), &before(&flags)) || kubelet::is_pinning(&after(&configuration), &after(&flags));
        let runtime = super::unsettling(&of(&[Phase::Programs, Phase::Runtime]), pinned);
        let mut settings = super::unsettling(&of(&[Phase::Kubelet]), pinned);
        let of_runtime = !runtime.is_empty();
        settings.extend(runtime);
        // The notes that are there are where the kubelet that runs keeps them.
        Self { settings, of_runtime, root: kubelet::root_directory(&before(&flags)) }
    }

    /// Whether pods have to leave, or more.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.settings.is_empty()
    }

    /// Whether the kubelet has to stand still, wherever its pods are.
    #[must_use]
    pub fn halts(&self) -> bool {
        self.of_runtime || self.has(Impact::Forget) || self.has(Impact::Remake)
    }

    fn has(&self, impact: Impact) -> bool {
        self.settings.iter().any(|setting| setting.impact == impact)
    }

    /// Why, for people.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason::Configuration { settings: self.settings.iter().map(|setting| setting.name.clone()).collect() }
    }

    /// The kubelet stands still from here until its unit is started.
    #[must_use]
    pub fn halt(&self) -> Option<Change> {
        let notes = STATE_FILES.iter().filter(|_| self.has(Impact::Forget));
        let files = notes.filter_map(|name| format!("{}/{name}", self.root).parse().ok()).collect();
        let artifact = Artifact::Halted { unit: UNIT.into(), files, pods: self.has(Impact::Remake) };
        self.halts().then(|| Change { artifact, reason: self.reason(), before: None })
    }

    /// Images that were in a place which the runtime no longer looks at.
    #[must_use]
    pub fn images(&self, wanted: &Wanted) -> Vec<Change> {
        let moved = self.settings.iter().any(|setting| containerd::moves_images(&setting.name));
        let images = wanted.get(&Phase::Images).into_iter().flatten().filter(|_| moved);
        images.map(|artifact| Change { artifact: artifact.clone(), reason: self.reason(), before: None }).collect()
    }

    /// Without emptying the Node, because its kubelet does not run: it is stopped before the first thing that
    /// it must not see.
    pub fn halt_in_place(&self, changes: &mut Differing) {
        let first = if self.of_runtime { Phase::Runtime } else { Phase::Kubelet };
        if let Some(halt) = self.halt() {
            changes.entry(first).or_default().insert(0, halt);
        }
    }
}

/// Takes the changes with which a running containerd restarts out of their phases: its programs, what it
/// reads at start, its unit. Empty if it does not run or has nothing to restart for.
pub fn take_runtime(changes: &mut Differing) -> Vec<Change> {
    let Some(inputs) = changes.get(&Phase::Runtime).and_then(|changes| restart_inputs(changes)).map(<[RemotePath]>::to_vec) else {
        return Vec::new();
    };
    let programs = runtime_programs();
    let mut taken = Vec::new();
    if let Some(all) = changes.get_mut(&Phase::Programs) {
        taken.extend(all.extract_if(.., |change| match &change.artifact {
            Artifact::Program { path, .. } => programs.iter().any(|(_, place)| place == path),
            Artifact::Package { name, .. } => packages::OF_RUNTIME.contains(&name.as_str()),
            _ => false,
        }));
    }
    if let Some(all) = changes.get_mut(&Phase::Runtime) {
        taken.extend(all.extract_if(.., |change| match &change.artifact {
            Artifact::File { path, .. } => inputs.contains(path),
            Artifact::Unit { name, .. } => name == RUNTIME,
            _ => false,
        }));
    }
    taken
}

/// What containerd reads at start, if these changes restart one that runs.
#[must_use]
pub fn restart_inputs(changes: &[Change]) -> Option<&[RemotePath]> {
    changes.iter().find_map(|change| match (&change.artifact, &change.reason) {
        (Artifact::Unit { name, inputs, .. }, Reason::Inputs { .. }) if name == RUNTIME => Some(inputs.as_slice()),
        _ => None,
    })
}

fn is_file(artifact: &Artifact, wanted: &RemotePath) -> bool {
    matches!(artifact, Artifact::File { path, .. } if path == wanted)
}

fn text<'a>(artifacts: impl Iterator<Item = &'a Artifact>, wanted: &RemotePath) -> String {
    let mut contents = artifacts.filter_map(|artifact| match artifact {
        Artifact::File { path, content, .. } if path == wanted => Some(String::from_utf8_lossy(content.bytes()).into_owned()),
        _ => None,
    });
    contents.next().unwrap_or_default()
}

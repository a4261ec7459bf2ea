//! What is kept before a release of etcd or of the API servers is replaced: on one host what etcd holds,
//! on each host the files that the upgrade replaces. Pure: a function of the steps that planning found, of
//! what the probes saw, and of which members are healthy.
//!
//! Invariant: what is kept for an upgrade is from before it. A run that finds nothing of it done takes
//! snapshots anew, because more was stored since; one that goes on with it takes only what is missing.

use std::collections::{BTreeMap, BTreeSet};

use super::fallback::image;
use crate::artifact::Artifact;
use crate::artifact::snapshot::{Snapshot, Way};
use crate::change::{Change, Reason};
use crate::facts::{Facts, FoundKind};
use crate::graph::{Gate, Step};
use crate::names::{HostName, KubernetesVersion, RemotePath};
use crate::paths;
use crate::phase::{Phase, Stage, StepId, Target};
use crate::plan::Plan;
use crate::preflight::{Finding, Severity};

/// The check's name, for `preflight.ignore`.
pub const CHECK: &str = "upgrade-snapshot";

/// Phases whose files are copied: those that say how components run.
const COPIED: [Phase; 8] = [
    Phase::Etcd,
    Phase::ControlPlane,
    Phase::Controllers,
    Phase::LocalProxy,
    Phase::Vip,
    Phase::Kubelet,
    Phase::KubeletUpgrade,
    Phase::FormerEndpoint,
];

/// Which hosts and phases a run is about; nothing means all.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    /// The hosts.
    pub hosts: &'a [HostName],
    /// The phases.
    pub phases: &'a [Phase],
}

impl Chosen<'_> {
    fn has_host(&self, host: &HostName) -> bool {
        self.hosts.is_empty() || self.hosts.contains(host)
    }

    fn has(&self, step: &StepId) -> bool {
        let host = match &step.target {
            Target::Host(host) => self.has_host(host),
            Target::Cluster => self.hosts.is_empty(),
        };
        host && (self.phases.is_empty() || self.phases.contains(&step.phase))
    }
}

/// What is to be kept of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfEtcd {
    /// Somebody else runs it.
    Nothing,
    /// A host has it from before this upgrade.
    Kept,
    /// What it holds now.
    Now,
}

/// What is to be kept before a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    way: Way,
    begun: bool,
    etcd: OfEtcd,
    /// Hosts whose member may be asked, in the order of the plan.
    members: Vec<HostName>,
    /// Files that are replaced, by host.
    files: BTreeMap<HostName, Vec<RemotePath>>,
}

/// A manifest that moves to another release.
struct Move<'a> {
    step: &'a StepId,
    path: RemotePath,
    old: String,
    new: String,
}

impl Move<'_> {
    fn is_of_api_server(&self) -> bool {
        self.path == paths::api_server_manifest()
    }
}

/// What the chosen steps ask for; nothing if they bring no other release, or if the plan wants none kept.
#[must_use]
pub fn due(plan: &Plan, facts: &BTreeMap<HostName, Facts>, stage: Stage, steps: &[Step], chosen: Chosen<'_>) -> Option<Due> {
    if stage == Stage::Fresh || plan.upgrade.snapshots == 0 {
        return None;
    }
    let moves: Vec<Move<'_>> = steps.iter().flat_map(|step| moves(step, facts)).collect();
    if !moves.iter().any(|moved| chosen.has(moved.step)) {
        return None;
    }
    let way = way(&moves)?;
    let begun = moves.iter().any(|moved| facts.values().filter_map(|facts| runs(facts, &moved.path)).any(|image| image == moved.new));
    let is_kept = |facts: &Facts, etcd: bool| begun && facts.state.snapshots.iter().any(|taken| taken.way.to() == way.to() && (taken.etcd || !etcd));
    let etcd = match plan.etcd.external {
        Some(_) => OfEtcd::Nothing,
        None if facts.values().any(|facts| is_kept(facts, true)) => OfEtcd::Kept,
        None => OfEtcd::Now,
    };
    let has_member = |host: &HostName| facts.get(host).is_some_and(|facts| facts.state.etcd_data && runs(facts, &paths::etcd_manifest()).is_some());
    let members = plan.etcd_hosts().map(|host| host.name.clone()).filter(|host| chosen.has_host(host) && has_member(host)).collect();
    let mut files: BTreeMap<HostName, BTreeSet<RemotePath>> = BTreeMap::new();
    for step in steps.iter().filter(|step| COPIED.contains(&step.id.phase) && chosen.has(&step.id)) {
        let Target::Host(host) = &step.id.target else { continue };
        let Some(facts) = facts.get(host).filter(|facts| !is_kept(facts, false)) else { continue };
        let replaced = step.changes.iter().filter_map(replaced).filter(|path| is_file(facts, path)).cloned();
        files.entry(host.clone()).or_default().extend(replaced);
    }
    let files = files.into_iter().filter(|(_, files)| !files.is_empty()).map(|(host, files)| (host, files.into_iter().collect())).collect();
    Some(Due { way, begun, etcd, members, files })
}

impl Due {
    /// What to ask before it is decided whose member is asked for what it holds.
    #[must_use]
    pub fn questions(&self) -> Vec<Gate> {
        let members = if self.etcd == OfEtcd::Now { &self.members[..] } else { &[] };
        members.iter().cloned().map(Gate::EtcdHealthy).collect()
    }

    /// The steps, and what stands in their way. `closed` is what of `questions` does not hold.
    #[must_use]
    pub fn steps(self, plan: &Plan, facts: &BTreeMap<HostName, Facts>, closed: &BTreeSet<Gate>) -> (Vec<Step>, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut found = |host: Option<&HostName>, severity, message: String, hint: &str| {
            findings.push(Finding { host: host.cloned(), check: CHECK, severity, message, hint: hint.to_owned() });
        };
        // What is half done has to be brought to its end, with or without.
        let severity = if self.begun { Severity::Warning } else { Severity::Error };
        let way = &self.way;
        let mut holder = None;
        if self.etcd == OfEtcd::Nothing && !self.begun {
            let message = format!("the etcd of this cluster is not slipway's, so no snapshot of it is taken before {}", way.to());
            found(None, Severity::Warning, message, "take one yourself before the upgrade");
        }
        if self.etcd == OfEtcd::Now {
            let healthy: Vec<&HostName> = self.members.iter().filter(|host| !closed.contains(&Gate::EtcdHealthy((*host).clone()))).collect();
            let roomy = healthy.iter().find(|host| shortage(&facts[**host]).is_none());
            holder = roomy.or(healthy.first()).copied().cloned();
            match &holder {
                None => {
                    let message = format!("none of the chosen hosts has a healthy member of etcd, so no snapshot can be taken before {}", way.to());
                    let hint = "mend etcd first with a plan of the version that runs, choose a host with etcd too, or go without (`upgrade: {snapshots: 0}`)";
                    found(None, severity, message, hint);
                }
                Some(host) => {
                    if let Some(shortage) = shortage(&facts[host]) {
                        found(Some(host), severity, shortage, "free some space, or go without a snapshot (`upgrade: {snapshots: 0}`)");
                    }
                }
            }
        }
        let hosts: BTreeSet<&HostName> = self.files.keys().chain(&holder).collect();
        let steps = hosts.into_iter().map(|host| self.step(plan, host, holder.as_ref() == Some(host))).collect();
        (steps, findings)
    }

    fn step(&self, plan: &Plan, host: &HostName, etcd: bool) -> Step {
        let snapshot = Snapshot {
            way: self.way.clone(),
            files: self.files.get(host).cloned().unwrap_or_default(),
            etcd: etcd.then(|| plan.etcd.data_directory.clone()),
            keep: plan.upgrade.snapshots,
        };
        let reason = Reason::Upgrade { from: self.way.from().parse().ok() };
        Step {
            before: etcd.then(|| Gate::EtcdHealthy(host.clone())).into_iter().collect(),
            changes: vec![Change { artifact: Artifact::Snapshot(snapshot), reason, before: None }],
            ..Step::empty(StepId { phase: Phase::Snapshot, target: Target::Host(host.clone()) })
        }
    }
}

/// The manifests of etcd and of the API server that a step moves to another release.
fn moves<'a>(step: &'a Step, facts: &BTreeMap<HostName, Facts>) -> Vec<Move<'a>> {
    let Target::Host(host) = &step.id.target else { return Vec::new() };
    let Some(facts) = facts.get(host) else { return Vec::new() };
    let moved = |change: &'a Change| {
        let (Artifact::File { path, content, .. }, Reason::Content { .. }) = (&change.artifact, &change.reason) else { return None };
        let (old, new) = (runs(facts, path)?, image(content.review())?);
        // Where images come from is no release; of etcd a user's own build may have the same tag.
        let moves = if *path == paths::etcd_manifest() { old != new } else { *path == paths::api_server_manifest() && last(old) != last(new) };
        moves.then(|| Move { step: &step.id, path: path.clone(), old: old.to_owned(), new: new.to_owned() })
    };
    step.changes.iter().filter_map(moved).collect()
}

/// From the oldest release that is replaced to the new one: of Kubernetes, or if only etcd moves of that.
fn way(moves: &[Move<'_>]) -> Option<Way> {
    let oldest = |moved: &&Move<'_>| tag(&moved.old).parse::<KubernetesVersion>().ok();
    if let Some(moved) = moves.iter().filter(|moved| moved.is_of_api_server()).min_by_key(oldest) {
        return Some(Way::new(tag(&moved.old), tag(&moved.new)));
    }
    let moved = moves.first()?;
    Some(Way::new(&format!("etcd-{}", tag(&moved.old)), &format!("etcd-{}", tag(&moved.new))))
}

/// The image that a host's manifest runs.
fn runs<'a>(facts: &'a Facts, path: &RemotePath) -> Option<&'a str> {
    image(facts.state.text(path)?)
}

/// Name and tag of an image, wherever it comes from.
fn last(image: &str) -> &str {
    image.rsplit_once('/').map_or(image, |(_, last)| last)
}

fn tag(image: &str) -> &str {
    let name = last(image.split('@').next().unwrap_or(image));
    name.rsplit_once(':').map_or(name, |(_, tag)| tag)
}

/// The file that a change replaces or takes away, if it may be read by whoever reads the snapshot.
fn replaced(change: &Change) -> Option<&RemotePath> {
    match &change.artifact {
        Artifact::File { path, content, .. } => (!content.is_secret()).then_some(path),
        Artifact::Absent { path } => Some(path),
        _ => None,
    }
}

fn is_file(facts: &Facts, path: &RemotePath) -> bool {
    facts.state.files.get(path).is_some_and(|found| matches!(found.kind, FoundKind::File { .. }))
}

/// What of the disk is too small: a snapshot is as big as the database, and as much again of a tenth and
/// 64 MiB is left for etcd and everything else (`script/snapshot.sh` looks again).
fn shortage(facts: &Facts) -> Option<String> {
    let size = facts.state.etcd_bytes?;
    let needed = size + size / 10 + (64 << 20);
    let etcd = facts.state.etcd_free_bytes.map(|free| ("etcd's data directory", free));
    let library = facts.system.free_bytes.get("/var/lib").map(|free| ("/var/lib", *free));
    let (place, free) = [etcd, library].into_iter().flatten().find(|(_, free)| *free < needed)?;
    Some(format!("only {} MiB are free on {place}, and a snapshot of etcd needs {}", free >> 20, needed >> 20))
}

#[cfg(test)]
mod tests;

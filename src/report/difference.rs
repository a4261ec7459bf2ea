//! The changes of a graph for people and programs: what `diff` shows and `apply` asks about.
//! One value, printed as text or as JSON. Secrets appear by their description only.

use std::fmt::Write as _;

use serde::Serialize;

use super::visible::visible;
use crate::artifact::Artifact;
use crate::change::{Change, Reason};
use crate::graph::waves::Waves;
use crate::graph::{Step, StepGraph};
use crate::names::{Digest, HostName, RemotePath};
use crate::phase::{Stage, StepId, Target};

mod reviewed;

pub use reviewed::digest;

/// Everything that will change, in the order of the graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Whether the cluster is there.
    pub stage: Stage,
    /// The digest of the change set; `apply --expect` takes it.
    pub digest: Digest,
    /// Steps that change something.
    pub steps: Vec<StepDifference>,
    /// Units and static pods that restart.
    pub restarts: Vec<Restart>,
    /// Hosts that are changed after one another.
    pub order: Waves,
    /// The same in one line.
    pub order_text: Option<String>,
    /// Steps that would change something but were not selected, with how many changes.
    pub not_selected: Vec<(String, usize)>,
}

/// The changes of one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepDifference {
    /// `phase@target`.
    #[serde(serialize_with = "super::as_text")]
    pub step: StepId,
    /// In the order they are made.
    pub changes: Vec<ChangeDifference>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeDifference {
    /// What kind of change.
    pub kind: Kind,
    /// The artifact's id.
    pub artifact: String,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people.
    pub why: String,
    /// What a secret is, instead of its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// A unified diff, or the whole text of something new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was not there.
    Add,
    /// It was there, but otherwise.
    Change,
    /// It will be gone.
    Remove,
}

/// Something that restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restart {
    /// On which host.
    pub host: HostName,
    /// The unit without suffix, or the static pod.
    pub name: String,
}

impl Kind {
    fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Change => '~',
            Self::Remove => '-',
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Add => "\u{1b}[32m",
            Self::Change => "\u{1b}[33m",
            Self::Remove => "\u{1b}[31m",
        }
    }
}

/// How the text form looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Show the whole text of new files too.
    pub full: bool,
    /// Colour signs and diffs.
    pub colour: bool,
}

impl Difference {
    /// What the graph will change.
    #[must_use]
    pub fn of(graph: &StepGraph) -> Self {
        let selected = || graph.steps().filter(|step| !step.changes.is_empty() && graph.is_selected(&step.id));
        let steps = selected().map(|step| StepDifference {
            step: step.id.clone(),
            changes: step.changes.iter().map(ChangeDifference::of).collect(),
        });
        let not_selected = graph.left_out().map(|step| (step.id.to_string(), step.changes.len()));
        Self {
            stage: graph.stage(),
            digest: digest(graph),
            steps: steps.collect(),
            restarts: selected().flat_map(restarts).collect(),
            order: graph.waves().clone(),
            order_text: graph.order_text(),
            not_selected: not_selected.collect(),
        }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many changes are of that kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.steps.iter().flat_map(|step| &step.changes).filter(|change| change.kind == kind).count()
    }

    /// The text for people, safe for a terminal.
    #[must_use]
    pub fn to_text(&self, look: Look) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let _ = writeln!(text, "{}", step.step);
            for change in &step.changes {
                change.write(&mut text, look);
            }
        }
        if !self.steps.is_empty() {
            text.push('\n');
        }
        if !self.restarts.is_empty() {
            let _ = writeln!(text, "restarts: {}", restarts_text(&self.restarts));
        }
        if let Some(order) = &self.order_text {
            let _ = writeln!(text, "order: {order}");
        }
        for (step, changes) in &self.not_selected {
            let _ = writeln!(text, "not selected: {step} ({changes} changes)");
        }
        let (added, changed, removed) = (self.count(Kind::Add), self.count(Kind::Change), self.count(Kind::Remove));
        if self.is_empty() {
            text.push_str("nothing to do\n");
        } else {
            let _ = writeln!(
                text,
                "total: {added} to add, {changed} to change, {removed} to remove in {} steps",
                self.steps.len()
            );
        }
        let _ = writeln!(text, "digest: {}", self.digest);
        text
    }
}

impl ChangeDifference {
    fn of(change: &Change) -> Self {
        let kind = match (&change.artifact, &change.reason) {
            (Artifact::Absent { .. }, _) | (_, Reason::Unwanted) => Kind::Remove,
            (_, Reason::Missing) => Kind::Add,
            _ => Kind::Change,
        };
        let (mut secret, mut text) = (None, None);
        match &change.artifact {
            Artifact::File { content, .. } if content.is_secret() => secret = Some(content.review().to_owned()),
            Artifact::File { content, .. } => text = text_difference(change, content.review()),
            Artifact::Object(object) if object.secret => secret = Some("the data of this object is secret".into()),
            _ => {}
        }
        let (artifact, why) = (change.artifact.id(), change.reason.to_string());
        Self { kind, artifact, reason: change.reason.clone(), why, secret, text }
    }

    fn write(&self, text: &mut String, look: Look) {
        let (on, off) = if look.colour { (self.kind.colour(), "\u{1b}[0m") } else { ("", "") };
        let _ = write!(text, "  {on}{}{off} {}: {}", self.kind.sign(), visible(&self.artifact), visible(&self.why));
        let mut secret = self.secret.iter().flat_map(|secret| secret.lines());
        if let Some(first) = secret.next() {
            let _ = write!(text, " (secret: {})", visible(first));
        }
        text.push('\n');
        for line in secret {
            let _ = writeln!(text, "      {}", visible(line));
        }
        let Some(lines) = self.text.as_ref().filter(|_| look.full || self.kind == Kind::Change) else { return };
        for line in lines.lines() {
            let colour = match line.as_bytes().first() {
                Some(b'+') if look.colour => Kind::Add.colour(),
                Some(b'-') if look.colour => Kind::Remove.colour(),
                _ => "",
            };
            let end = if colour.is_empty() { "" } else { "\u{1b}[0m" };
            let _ = writeln!(text, "      {colour}{}{end}", visible(line));
        }
    }
}

/// A unified diff where there was text, the whole new text where there was nothing.
fn text_difference(change: &Change, wanted: &str) -> Option<String> {
    match (&change.before, &change.reason) {
        (Some(before), _) if before != wanted => {
            let lines = similar::TextDiff::from_lines(before.as_str(), wanted);
            Some(lines.unified_diff().context_radius(2).to_string())
        }
        (None, Reason::Missing) => Some(wanted.lines().map(|line| format!("+{line}\n")).collect()),
        _ => None,
    }
}

/// What a step restarts: units whose inputs changed, and static pods whose manifest changes.
fn restarts(step: &Step) -> Vec<Restart> {
    let Target::Host(host) = &step.id.target else { return Vec::new() };
    // Where kubeadm's kubelet configuration (`staticPodPath`) looks for static pods.
    let manifests = RemotePath::fixed("/etc/kubernetes/manifests");
    let name = |change: &Change| match (&change.artifact, &change.reason) {
        (Artifact::Unit { name, .. }, Reason::Inputs { .. } | Reason::Upgrade { .. } | Reason::Configuration { .. }) => Some(name.trim_end_matches(".service").to_owned()),
        (Artifact::File { path, .. }, Reason::Content { .. } | Reason::Resumed) if path.parent() == manifests => {
            Some(path.file_name().trim_end_matches(".yaml").to_owned())
        }
        _ => None,
    };
    step.changes.iter().filter_map(name).map(|name| Restart { host: host.clone(), name }).collect()
}

/// `cp-1 etcd, kubelet; cp-2 kubelet`, in the order in which hosts first come.
fn restarts_text(restarts: &[Restart]) -> String {
    let mut hosts: Vec<(&HostName, Vec<&str>)> = Vec::new();
    for restart in restarts {
        match hosts.iter_mut().find(|(host, _)| **host == restart.host) {
            Some((_, names)) => names.push(&restart.name),
            None => hosts.push((&restart.host, vec![&restart.name])),
        }
    }
    let texts: Vec<String> = hosts.iter().map(|(host, names)| format!("{host} {}", names.join(", "))).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests;

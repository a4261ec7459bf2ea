//! What people and programs see of a run: events as they happen, the report they fold into, and
//! failures with everything a person needs to go on.
//!
//! Nothing here can hold a secret: events carry names, counts and what hosts wrote to standard
//! error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::graph::StepGraph;
use crate::names::{Digest, HostName};
use crate::phase::{Stage, StepId, Target};

pub mod difference;
pub mod history;
pub mod journal;
pub mod summary;
pub mod terminal;
pub mod visible;

/// Something that happened in a run. With `--output json` each is one line: an object whose
/// `event` is the variant in kebab-case, with the fields below in camelCase. Steps are written
/// `phase@target`, lengths of time in seconds. Names and meanings of fields stay; new ones may come.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Event {
    /// The first event.
    RunStarted {
        /// Whether the cluster was there.
        stage: Stage,
        /// The digest of the change set.
        digest: Digest,
        /// Steps with something to do.
        steps: usize,
        /// Changes they make.
        changes: usize,
        /// Steps with nothing to do.
        #[serde(serialize_with = "as_texts")]
        up_to_date: Vec<StepId>,
        /// Steps that were not selected.
        #[serde(serialize_with = "as_texts")]
        not_selected: Vec<StepId>,
    },
    /// A step began.
    StepStarted {
        /// Which.
        #[serde(serialize_with = "as_text")]
        step: StepId,
        /// How many changes it makes.
        changes: usize,
    },
    /// One change of a step is done.
    ChangeDone {
        /// Which step.
        #[serde(serialize_with = "as_text")]
        step: StepId,
        /// How many of its changes are done now.
        done: usize,
        /// How many it makes.
        of: usize,
        /// The id of the artifact.
        artifact: String,
    },
    /// A step waits: for its gates when its changes are done, or for what must hold before them.
    Waiting {
        /// Which step.
        #[serde(serialize_with = "as_text")]
        step: StepId,
        /// What for.
        gates: Vec<String>,
    },
    /// A step ended, or will not begin.
    StepFinished {
        /// Which step.
        #[serde(serialize_with = "as_text")]
        step: StepId,
        /// How.
        outcome: Outcome,
        /// How long it ran; zero if it did not begin.
        #[serde(serialize_with = "as_seconds")]
        elapsed: Duration,
    },
    /// The operator asked to stop.
    Stopping {
        /// Whether running steps were cut off; else they may end.
        abort: bool,
    },
    /// The last event.
    RunFinished {
        /// How long the run took.
        #[serde(serialize_with = "as_seconds")]
        elapsed: Duration,
        /// Commands sent to each host, from the first probe on.
        round_trips: BTreeMap<HostName, usize>,
        /// The steps that decided how long the run took, each after the one before.
        #[serde(serialize_with = "as_texts")]
        longest_path: Vec<StepId>,
    },
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// There was nothing to do.
    UpToDate,
    /// Everything was done.
    Changed {
        /// How many changes; zero for a step that only waited.
        changes: usize,
    },
    /// It failed.
    Failed(Box<StepFailure>),
    /// It did not begin because a step before it failed.
    Blocked {
        /// The step that failed.
        #[serde(serialize_with = "as_text")]
        by: StepId,
    },
    /// It did not begin, or was cut off, because the operator asked to stop.
    Cancelled,
    /// It was not selected.
    NotSelected,
}

/// Why a step failed, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepFailure {
    /// Which step.
    #[serde(serialize_with = "as_text")]
    pub step: StepId,
    /// The change it failed in: its artifact's id, or the gate it waited for.
    pub change: Option<String>,
    /// What happened, in one line.
    pub message: String,
    /// Exit status of the command, if there was one.
    pub status: Option<i32>,
    /// The last lines of standard error or of the component's log; empty if there are none.
    pub stderr: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl StepFailure {
    /// The host it happened on; `None` for a step on the cluster.
    #[must_use]
    pub fn host(&self) -> Option<&HostName> {
        match &self.step.target {
            Target::Host(host) => Some(host),
            Target::Cluster => None,
        }
    }
}

impl fmt::Display for StepFailure {
    /// Several lines: what and where, the status, the output, the hint. Safe for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let visible = visible::visible;
        write!(f, "{} on {}: ", self.step.phase, self.step.target)?;
        if let Some(change) = &self.change {
            write!(f, "{}: ", visible(change))?;
        }
        write!(f, "{}", visible(&self.message))?;
        if let Some(status) = self.status.filter(|_| !self.message.contains("exit status")) {
            write!(f, " (exit status {status})")?;
        }
        for line in self.stderr.lines().filter(|line| !line.trim().is_empty()) {
            write!(f, "\n    | {}", visible(line))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {}", visible(hint))?;
        }
        Ok(())
    }
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepRecord {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it ran.
    #[serde(serialize_with = "as_seconds")]
    pub elapsed: Duration,
}

/// What became of a run: the fold of its events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Every step that ended or will not begin.
    pub steps: BTreeMap<StepId, StepRecord>,
    /// How long the run took.
    pub elapsed: Duration,
    /// Commands sent to each host.
    pub round_trips: BTreeMap<HostName, usize>,
    /// The steps that decided how long the run took.
    pub longest_path: Vec<StepId>,
}

impl Report {
    /// Takes in one event.
    pub fn record(&mut self, event: &Event) {
        let idle = |outcome| StepRecord { outcome, elapsed: Duration::ZERO };
        match event {
            Event::RunStarted { up_to_date, not_selected, .. } => {
                self.steps.extend(up_to_date.iter().map(|id| (id.clone(), idle(Outcome::UpToDate))));
                self.steps.extend(not_selected.iter().map(|id| (id.clone(), idle(Outcome::NotSelected))));
            }
            Event::StepFinished { step, outcome, elapsed } => {
                self.steps.insert(step.clone(), StepRecord { outcome: outcome.clone(), elapsed: *elapsed });
            }
            Event::RunFinished { elapsed, round_trips, longest_path } => {
                self.elapsed = *elapsed;
                self.round_trips.clone_from(round_trips);
                self.longest_path.clone_from(longest_path);
            }
            Event::StepStarted { .. } | Event::ChangeDone { .. } | Event::Waiting { .. } | Event::Stopping { .. } => {}
        }
    }

    /// Whether everything that was selected is as wanted now.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        let good =
            |outcome: &Outcome| matches!(outcome, Outcome::UpToDate | Outcome::Changed { .. } | Outcome::NotSelected);
        self.steps.values().all(|record| good(&record.outcome))
    }

    /// The failures, in the order of the phases.
    pub fn failures(&self) -> impl Iterator<Item = &StepFailure> {
        self.steps.values().filter_map(|record| match &record.outcome {
            Outcome::Failed(failure) => Some(&**failure),
            _ => None,
        })
    }

    /// How many changes were made by steps that ended well.
    #[must_use]
    pub fn changes(&self) -> usize {
        let made = |record: &StepRecord| if let Outcome::Changed { changes } = record.outcome { changes } else { 0 };
        self.steps.values().map(made).sum()
    }

    /// The longest path through the graph with the times measured so far.
    #[must_use]
    pub fn measured_path(&self, graph: &StepGraph) -> Vec<StepId> {
        let ids: Vec<&StepId> = graph.steps().map(|step| &step.id).collect();
        let elapsed = |id: &StepId| self.steps.get(id).map_or(0, |record| record.elapsed.as_micros());
        let weights: Vec<u64> = ids.iter().map(|id| u64::try_from(elapsed(id)).unwrap_or(u64::MAX >> 16)).collect();
        let path = graph.shape().longest_path(&weights);
        path.into_iter().filter(|&index| weights[index] > 0).map(|index| ids[index].clone()).collect()
    }

    /// Hosts with a step that began.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<&HostName> {
        let hosts = self.steps.keys().filter_map(|id| match &id.target {
            Target::Host(host) => Some(host),
            Target::Cluster => None,
        });
        hosts.chain(self.round_trips.keys()).collect()
    }
}

fn as_text<S: Serializer, T: fmt::Display>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
fn as_texts<S: Serializer, T: fmt::Display>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}
/// Seconds with three decimals.
fn as_seconds<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value.as_secs_f64() * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests;

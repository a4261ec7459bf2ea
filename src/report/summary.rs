//! The end of a run in a few lines: a table of hosts, the failures, the totals.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{Outcome, Report};
use crate::phase::Target;

/// What became of the steps of one target.
#[derive(Default)]
struct Line {
    changes: usize,
    failed: usize,
    blocked: usize,
    cancelled: usize,
    busy: Duration,
}

/// More hosts than this, and those without anything to tell are only counted.
const SHOWN_IDLE: usize = 20;

impl Report {
    /// The text, safe for a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for failure in self.failures() {
            let _ = writeln!(text, "error: {failure}\n");
        }
        self.write_table(&mut text);
        let blocked = self.count(|outcome| matches!(outcome, Outcome::Blocked { .. }));
        let cancelled = self.count(|outcome| *outcome == Outcome::Cancelled);
        let failed = self.failures().count();
        let _ = write!(text, "{} in {}", counted(self.changes(), "change"), seconds(self.elapsed));
        for (number, word) in [(failed, "failed"), (blocked, "blocked"), (cancelled, "cancelled")] {
            if number > 0 {
                let _ = write!(text, ", {} {word}", counted(number, "step"));
            }
        }
        let trips: usize = self.round_trips.values().sum();
        let most = self.round_trips.values().max().copied().unwrap_or(0);
        let _ = writeln!(text, "; {} (at most {most} per host)", counted(trips, "round trip"));
        if !self.longest_path.is_empty() {
            let names: Vec<String> = self
                .longest_path
                .iter()
                .map(|id| format!("{id} {}", seconds(self.steps.get(id).map_or(Duration::ZERO, |record| record.elapsed))))
                .collect();
            let _ = writeln!(text, "longest path: {}", names.join(" → "));
        }
        text
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.steps.values().filter(|record| wanted(&record.outcome)).count()
    }

    fn write_table(&self, text: &mut String) {
        let mut lines: BTreeMap<Target, Line> = BTreeMap::new();
        for host in self.hosts() {
            lines.entry(Target::Host(host.clone())).or_default();
        }
        for (id, record) in &self.steps {
            let line = lines.entry(id.target.clone()).or_default();
            line.busy += record.elapsed;
            match &record.outcome {
                Outcome::Changed { changes } => line.changes += changes,
                Outcome::Failed(_) => line.failed += 1,
                Outcome::Blocked { .. } => line.blocked += 1,
                Outcome::Cancelled => line.cancelled += 1,
                Outcome::UpToDate | Outcome::NotSelected => {}
            }
        }
        let idle = |line: &Line| line.busy.is_zero() && line.failed + line.blocked + line.cancelled == 0;
        let hide = lines.len() > SHOWN_IDLE;
        let width = lines.keys().map(|target| target.to_string().len()).max().unwrap_or(0).max(4);
        let _ = writeln!(text, "{:<width$}  result     changes  round trips      time", "host");
        let mut hidden = 0;
        for (target, line) in &lines {
            if hide && idle(line) {
                hidden += 1;
                continue;
            }
            let result = match line {
                Line { failed: 1.., .. } => "failed",
                Line { blocked: 1.., .. } => "blocked",
                Line { cancelled: 1.., .. } => "cancelled",
                line if idle(line) => "up to date",
                _ => "done",
            };
            let trips = match target {
                Target::Host(host) => self.round_trips.get(host).copied().unwrap_or(0).to_string(),
                Target::Cluster => "-".into(),
            };
            let (name, time) = (target.to_string(), seconds(line.busy));
            let _ = writeln!(text, "{name:<width$}  {result:<10} {:>7}  {trips:>11}  {time:>8}", line.changes);
        }
        if hidden > 0 {
            let _ = writeln!(text, "{} up to date", counted(hidden, "more host"));
        }
        text.push('\n');
    }
}

/// `1 step`, `2 steps`.
#[must_use]
pub fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `1.2 s`, from a minute on `2 min 5 s`.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

//! The graph as text for a terminal: one line per phase, then the critical path and the order
//! among hosts.

use std::fmt::Write as _;

use super::{Step, StepGraph, estimate};
use crate::names::HostName;
use crate::phase::{After, Phase, RULES, Stage, Target};

/// How many host names a line shows before it counts the rest.
const SHOWN_HOSTS: usize = 8;

impl StepGraph {
    /// The text. Levels count from 1: a step of level 3 has two steps before it that must end
    /// one after another.
    #[must_use]
    pub fn to_text(&self) -> String {
        let shape = self.shape();
        let (levels, weights) = (shape.levels(), estimate::weights(self));
        let steps: Vec<&Step> = self.steps().collect();
        let stage = if self.stage() == Stage::Fresh { "fresh" } else { "living" };
        let mut text = format!(
            "{stage} cluster: {} steps on {} hosts, {} changes\n\n",
            steps.len(),
            self.hosts().len(),
            self.changes()
        );
        let mut rows = vec![["level", "phase", "changes", "where", "after"].map(str::to_owned)];
        for rule in RULES {
            let members: Vec<usize> = (0..steps.len()).filter(|&index| steps[index].id.phase == rule.phase).collect();
            let (Some(lowest), Some(highest)) = (
                members.iter().map(|&index| levels[index] + 1).min(),
                members.iter().map(|&index| levels[index] + 1).max(),
            ) else {
                continue;
            };
            let level = if lowest == highest { lowest.to_string() } else { format!("{lowest}-{highest}") };
            let changes: usize = members.iter().map(|&index| steps[index].changes.len()).sum();
            rows.push([
                level,
                rule.phase.to_string(),
                changes.to_string(),
                place(&steps, &members),
                prerequisites(rule.after),
            ]);
        }
        text.push_str(&table(&rows));

        let path = shape.longest_path(&weights);
        let seconds: u64 = path.iter().map(|&index| weights[index]).sum();
        let names: Vec<String> = path.iter().map(|&index| steps[index].id.to_string()).collect();
        let _ = writeln!(text, "\nlongest path (about {seconds} s): {}", path_text(&names));
        if let Some(order) = self.order_text() {
            let _ = writeln!(text, "order: {order}");
        }
        for step in self.left_out() {
            let _ = writeln!(text, "not selected: {} ({} changes)", step.id, step.changes.len());
        }
        text
    }

    /// The order among hosts in one line, if there is one.
    #[must_use]
    pub fn order_text(&self) -> Option<String> {
        let waves = self.waves();
        let mut parts = Vec::new();
        if !waves.carriers.is_empty() {
            parts.push(join(&waves.carriers, " → "));
        }
        if !waves.workers.is_empty() {
            let all: Vec<HostName> = waves.workers.clone();
            parts.push(format!("{} ({} at a time)", join(&all, ", "), waves.at_once));
        }
        if !waves.kubelets.carriers.is_empty() {
            parts.push(format!("kubelets: {}", join(&waves.kubelets.carriers, " → ")));
        }
        if let [first, others @ ..] = &waves.kubelets.workers[..] {
            let others = if others.is_empty() { String::new() } else { format!(" → {} ({} at a time)", join(others, ", "), waves.at_once) };
            parts.push(format!("kubelets of workers: {first}{others}"));
        }
        if !waves.joining.is_empty() {
            parts.push(format!("{} (joining, all at once)", join(&waves.joining, ", ")));
        }
        if !waves.leaving.is_empty() {
            parts.push(format!("{} (leaving)", join(&waves.leaving, ", ")));
        }
        (!parts.is_empty()).then(|| parts.join("; then "))
    }
}

/// Names with arrows between them; of a long path only both ends.
#[must_use]
pub fn path_text(names: &[String]) -> String {
    /// How many names at each end.
    const END: usize = 8;
    if names.len() <= 2 * END + 8 {
        return names.join(" → ");
    }
    let (first, rest) = names.split_at(END);
    let (middle, last) = rest.split_at(rest.len() - END);
    format!("{} → {} more → {}", first.join(" → "), middle.len(), last.join(" → "))
}

fn join(hosts: &[HostName], separator: &str) -> String {
    let mut names: Vec<String> = hosts.iter().take(SHOWN_HOSTS).map(ToString::to_string).collect();
    if hosts.len() > SHOWN_HOSTS {
        names.push(format!("{} more", hosts.len() - SHOWN_HOSTS));
    }
    names.join(separator)
}

fn prerequisites(after: &[After]) -> String {
    let name = |after: &After| match after {
        After::Here(phase) => phase.to_string(),
        After::Everywhere(phase) if crate::phase::rule(*phase).on == crate::phase::On::Cluster => {
            Phase::to_string(phase)
        }
        After::Everywhere(phase) => format!("all {phase}"),
    };
    if after.is_empty() { "-".into() } else { after.iter().map(name).collect::<Vec<_>>().join(", ") }
}

fn place(steps: &[&Step], members: &[usize]) -> String {
    let hosts: Vec<HostName> = members
        .iter()
        .filter_map(|&index| match &steps[index].id.target {
            Target::Host(host) => Some(host.clone()),
            Target::Cluster => None,
        })
        .collect();
    if hosts.is_empty() { "cluster".into() } else { join(&hosts, " ") }
}

/// Columns as wide as their widest cell; the last one is not padded.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

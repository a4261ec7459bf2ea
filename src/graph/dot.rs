//! The graph in Graphviz's DOT language: one box per host, implied edges left out, the longest
//! path bold.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Step, StepGraph, estimate};
use crate::phase::Target;

impl StepGraph {
    /// The DOT text.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let shape = self.shape();
        let path = shape.longest_path(&estimate::weights(self));
        let steps: Vec<&Step> = self.steps().collect();
        let mut text = String::from(
            "digraph slipway {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n",
        );
        let mut groups: BTreeMap<&Target, Vec<usize>> = BTreeMap::new();
        for (index, step) in steps.iter().enumerate() {
            groups.entry(&step.id.target).or_default().push(index);
        }
        for (number, (target, members)) in groups.into_iter().enumerate() {
            let _ = writeln!(text, "  subgraph cluster_{number} {{\n    label={};", quoted(&target.to_string()));
            for index in members {
                let step = steps[index];
                let mut label = step.id.phase.to_string();
                if !step.changes.is_empty() {
                    let _ = write!(label, "\n{}", super::picture::count(step.changes.len(), "change"));
                }
                let bold = if path.contains(&index) { ", penwidth=2.5" } else { "" };
                let _ = writeln!(text, "    {} [label={}{bold}];", quoted(&step.id.to_string()), quoted(&label));
            }
            text.push_str("  }\n");
        }
        for (earlier, later) in shape.reduced_edges() {
            let bold = path.windows(2).any(|pair| pair == [earlier, later]);
            let style = if bold { " [penwidth=2.5]" } else { "" };
            let _ = writeln!(
                text,
                "  {} -> {}{style};",
                quoted(&steps[earlier].id.to_string()),
                quoted(&steps[later].id.to_string())
            );
        }
        text.push_str("}\n");
        text
    }
}

/// A quoted string of the language. Names of steps hold nothing to escape; labels hold line ends.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

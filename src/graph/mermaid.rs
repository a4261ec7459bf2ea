//! The graph in Mermaid's language, which code hosts draw inside Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Step, StepGraph, estimate};
use crate::phase::Target;

impl StepGraph {
    /// The Mermaid text. Nodes have numbers for names because Mermaid reserves words.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let shape = self.shape();
        let path = shape.longest_path(&estimate::weights(self));
        let steps: Vec<&Step> = self.steps().collect();
        let mut text = String::from("flowchart LR\n");
        let mut groups: BTreeMap<&Target, Vec<usize>> = BTreeMap::new();
        for (index, step) in steps.iter().enumerate() {
            groups.entry(&step.id.target).or_default().push(index);
        }
        for (number, (target, members)) in groups.into_iter().enumerate() {
            let _ = writeln!(text, "  subgraph t{number}[\"{target}\"]");
            for index in members {
                let step = steps[index];
                let changes = match step.changes.len() {
                    0 => String::new(),
                    changes => format!("<br/>{}", super::picture::count(changes, "change")),
                };
                let _ = writeln!(text, "    s{index}[\"{}{changes}\"]", step.id.phase);
            }
            text.push_str("  end\n");
        }
        for (earlier, later) in shape.reduced_edges() {
            let arrow = if path.windows(2).any(|pair| pair == [earlier, later]) { "==>" } else { "-->" };
            let _ = writeln!(text, "  s{earlier} {arrow} s{later}");
        }
        if !path.is_empty() {
            text.push_str("  classDef critical stroke-width:3px\n");
            let names: Vec<String> = path.iter().map(|index| format!("s{index}")).collect();
            let _ = writeln!(text, "  class {} critical", names.join(","));
        }
        text
    }
}

//! The graph as SVG. Columns are levels (a step stands right of everything it waits for), rows
//! are hosts; hosts that look the same share a row when there are many. The longest path is
//! marked. No layout program is needed and the same graph gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::order::Shape;
use super::{Step, StepGraph, estimate};
use crate::phase::{Phase, Stage, Target};

/// With more hosts than this, hosts of the same looks share a row.
const SEPARATE_ROWS: usize = 10;

const NODE_WIDTH: usize = 128;
const NODE_HEIGHT: usize = 38;
const COLUMN: usize = NODE_WIDTH + 52;
const LINE: usize = NODE_HEIGHT + 10;
const ROW_PADDING: usize = 12;
const TOP: usize = 76;
const LEFT: usize = 24;

/// Light and dark in one file: the viewer's preference decides.
const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#1f2933}\
.back{fill:#ffffff}.band{fill:#f3f5f7}.title{font-size:17px;font-weight:600}.sub,.legend{font-size:12.5px;fill:#52606d}\
.host{font-size:14px;font-weight:600}.phase{font-size:13px}.more{font-size:11px;fill:#52606d}\
.node{fill:#ffffff;stroke:#9aa5b1;stroke-width:1.2}.change{fill:#dbeafe;stroke:#3b82c4}\
.idle .phase,.idle .more{fill:#7b8794}.critical .node,.node.critical{stroke:#c2410c;stroke-width:2.6}\
.edge{fill:none;stroke:#9aa5b1;stroke-width:1.2;opacity:.75}.edge.critical{stroke:#c2410c;stroke-width:2.6;opacity:1}\
.tip{fill:#9aa5b1}.tip.critical{fill:#c2410c}\
@media (prefers-color-scheme:dark){text{fill:#e4e7eb}.back{fill:#161b22}.band{fill:#1e252e}.sub,.legend,.more{fill:#9aa5b1}\
.node{fill:#161b22;stroke:#616e7c}.change{fill:#1e3a5f;stroke:#5a9bd5}.edge{stroke:#616e7c}.tip{fill:#616e7c}\
.critical .node,.node.critical,.edge.critical{stroke:#fb923c}.tip.critical{fill:#fb923c}}";

/// A box of the picture: one step, or the same step of several hosts.
struct Drawn {
    phase: Phase,
    row: usize,
    column: usize,
    /// Place among the boxes of the same row and column.
    line: usize,
    changes: usize,
    critical: bool,
}

/// A row: hosts of the same looks, or the cluster.
struct Row {
    name: String,
    first_line: usize,
    lines: usize,
}

impl StepGraph {
    /// The SVG text.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let weights = estimate::weights(self);
        let shape = self.shape();
        let path = shape.longest_path(&weights);
        let (nodes, rows, box_of) = place(self, &shape, &path);
        let merged = Shape::new(nodes.len(), merged_edges(&shape, &box_of));
        let bold: BTreeSet<(usize, usize)> = path.windows(2).map(|pair| (box_of[pair[0]], box_of[pair[1]])).collect();

        let label_width = 24 + 8 * rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let left = LEFT + label_width;
        let columns = nodes.iter().map(|node| node.column + 1).max().unwrap_or(1);
        let width = (left + columns * COLUMN).max(720);
        let bottom = rows.last().map_or(TOP, |row| top_of(&rows, rows.len() - 1) + row.lines * LINE + ROW_PADDING);
        let height = bottom + 52;
        let at = |node: &Drawn| (left + node.column * COLUMN, top_of(&rows, node.row) + node.line * LINE + ROW_PADDING / 2 + 5);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n<rect class=\"back\" width=\"{width}\" height=\"{height}\"/>\n",
            escaped(&self.heading())
        );
        let seconds: u64 = path.iter().map(|&index| weights[index]).sum();
        let _ = writeln!(svg, "<text class=\"title\" x=\"{LEFT}\" y=\"32\">{}</text>", escaped(&self.heading()));
        let _ = writeln!(
            svg,
            "<text class=\"sub\" x=\"{LEFT}\" y=\"54\">{}; longest path {}, about {seconds} s</text>",
            count(self.changes(), "change"),
            count(path.len(), "step")
        );
        for (index, row) in rows.iter().enumerate() {
            let (y, tall) = (top_of(&rows, index), row.lines * LINE + ROW_PADDING);
            if index % 2 == 0 {
                let _ = writeln!(svg, "<rect class=\"band\" x=\"0\" y=\"{y}\" width=\"{width}\" height=\"{tall}\"/>");
            }
            let middle = y + tall / 2 + 5;
            let _ = writeln!(svg, "<text class=\"host\" x=\"{LEFT}\" y=\"{middle}\">{}</text>", escaped(&row.name));
        }
        // Bold edges last, so that they lie on top.
        let mut edges: Vec<(usize, usize)> = merged.reduced_edges().into_iter().chain(bold.iter().copied()).collect();
        edges.sort_unstable_by_key(|edge| (bold.contains(edge), *edge));
        edges.dedup();
        for edge in edges {
            svg.push_str(&edge_line(at(&nodes[edge.0]), at(&nodes[edge.1]), bold.contains(&edge)));
        }
        for node in &nodes {
            svg.push_str(&node_box(node, at(node)));
        }
        svg.push_str(&legend(bottom + 30));
        svg.push_str("</svg>\n");
        svg
    }

    fn heading(&self) -> String {
        let stage = if self.stage() == Stage::Fresh { "Bootstrap" } else { "Change of a living cluster" };
        format!("{stage}: {} on {}", count(self.shape().len(), "step"), count(self.hosts().len(), "host"))
    }
}

/// `1 step`, `2 steps`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Boxes (in an order in which edges lead forward), rows, and the box of each step.
fn place(graph: &StepGraph, shape: &Shape, path: &[usize]) -> (Vec<Drawn>, Vec<Row>, Vec<usize>) {
    let steps: Vec<&Step> = graph.steps().collect();
    let levels = shape.levels();
    let critical: BTreeSet<usize> = path.iter().copied().collect();
    let mut by_target: BTreeMap<&Target, Vec<usize>> = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        by_target.entry(&step.id.target).or_default().push(index);
    }
    // What makes two hosts look the same: the same phases with as many changes in the same columns.
    let merge = by_target.len() > SEPARATE_ROWS + 1;
    let mut groups: Vec<(Vec<(Phase, usize, usize)>, Vec<&Target>)> = Vec::new();
    for (target, members) in &by_target {
        let looks: Vec<_> = members.iter().map(|&index| (steps[index].id.phase, levels[index], steps[index].changes.len())).collect();
        match groups.iter_mut().find(|(other, _)| merge && **target != Target::Cluster && *other == looks) {
            Some((_, targets)) => targets.push(target),
            None => groups.push((looks, vec![target])),
        }
    }
    groups.sort_by_key(|(_, targets)| (*targets[0] == Target::Cluster, targets[0].clone()));

    let (mut nodes, mut rows, mut box_of) = (Vec::new(), Vec::new(), vec![0; steps.len()]);
    let mut first_line = 0;
    let mut slots: Vec<(usize, usize, Phase)> = Vec::new();
    for (row, (looks, targets)) in groups.iter().enumerate() {
        let mut used: BTreeMap<usize, usize> = BTreeMap::new();
        for &(phase, column, changes) in looks {
            let line = used.entry(column).or_default();
            nodes.push(Drawn { phase, row, column, line: *line, changes: changes * targets.len(), critical: false });
            slots.push((column, row, phase));
            *line += 1;
        }
        let lines = used.values().copied().max().unwrap_or(1);
        let name = match targets[..] {
            [only] => only.to_string(),
            [first, .., last] => format!("{first} … {last} ({})", targets.len()),
            [] => String::new(),
        };
        rows.push(Row { name, first_line, lines });
        first_line += lines;
    }
    // Columns grow along every edge, so sorting by column makes positions topological.
    let mut sorted: Vec<usize> = (0..nodes.len()).collect();
    sorted.sort_by_key(|&index| slots[index]);
    let mut position = vec![0; nodes.len()];
    for (place, &index) in sorted.iter().enumerate() {
        position[index] = place;
    }
    let mut ordered: Vec<Option<Drawn>> = nodes.into_iter().map(Some).collect();
    let mut nodes: Vec<Drawn> = sorted.iter().filter_map(|&index| ordered[index].take()).collect();
    for (index, step) in steps.iter().enumerate() {
        let row = groups.iter().position(|(_, targets)| targets.contains(&&step.id.target)).unwrap_or(0);
        let slot = slots.iter().position(|slot| *slot == (levels[index], row, step.id.phase)).unwrap_or(0);
        box_of[index] = position[slot];
        nodes[position[slot]].critical |= critical.contains(&index);
    }
    (nodes, rows, box_of)
}

fn merged_edges(shape: &Shape, box_of: &[usize]) -> BTreeSet<(usize, usize)> {
    let edges = shape.children.iter().enumerate().flat_map(|(earlier, children)| children.iter().map(move |&later| (earlier, later)));
    edges.map(|(earlier, later)| (box_of[earlier], box_of[later])).collect()
}

fn top_of(rows: &[Row], row: usize) -> usize {
    TOP + rows[row].first_line * LINE + row * ROW_PADDING
}

fn edge_line(from: (usize, usize), to: (usize, usize), critical: bool) -> String {
    let (x1, y1, x2, y2) = (from.0 + NODE_WIDTH, from.1 + NODE_HEIGHT / 2, to.0 - 6, to.1 + NODE_HEIGHT / 2);
    let class = if critical { " critical" } else { "" };
    // Over several columns the line runs level first and bends in the gap before its target, so
    // it does not slope across boxes.
    let bend = x2.saturating_sub(40).max(x1);
    let middle = bend.midpoint(x2);
    format!(
        "<path class=\"edge{class}\" d=\"M{x1} {y1}H{bend}C{middle} {y1} {middle} {y2} {x2} {y2}\"/><path class=\"tip{class}\" d=\"M{x2} {}l6 4l-6 4z\"/>\n",
        y2 - 4
    )
}

fn node_box(node: &Drawn, (x, y): (usize, usize)) -> String {
    let mut class = String::from(if node.changes > 0 { "node change" } else { "node" });
    if node.critical {
        class.push_str(" critical");
    }
    let idle = if node.changes > 0 { "" } else { " class=\"idle\"" };
    let middle = x + NODE_WIDTH / 2;
    let name = node.phase.to_string();
    let mut text = format!("<g{idle}><rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{NODE_WIDTH}\" height=\"{NODE_HEIGHT}\" rx=\"6\"/>");
    let baseline = if node.changes > 0 { y + 17 } else { y + 24 };
    let _ = write!(text, "<text class=\"phase\" x=\"{middle}\" y=\"{baseline}\" text-anchor=\"middle\">{}</text>", escaped(&name));
    if node.changes > 0 {
        let more = count(node.changes, "change");
        let _ = write!(text, "<text class=\"more\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{more}</text>", y + 31);
    }
    text.push_str("</g>\n");
    text
}

fn legend(y: usize) -> String {
    let entries = [("node change", "changes something"), ("node", "nothing to change"), ("node critical", "on the longest path")];
    let mut text = String::new();
    for (index, (class, meaning)) in entries.into_iter().enumerate() {
        let x = LEFT + index * 190;
        let _ = writeln!(
            text,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"22\" height=\"14\" rx=\"3\"/><text class=\"legend\" x=\"{}\" y=\"{y}\">{meaning}</text>",
            y - 11,
            x + 30
        );
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

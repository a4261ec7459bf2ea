//! Order over a graph of steps: topological order, cycles, levels, longest paths, and the edges
//! that matter for a drawing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::IntoNeighbors as _;

use super::Step;
use crate::phase::StepId;

/// Kahn's algorithm with a sorted set of ready steps, so that the answer depends only on the
/// steps and edges, not on the order they came in (petgraph's own sort does depend on it).
/// The error is one whole cycle.
pub(super) fn topological(graph: &DiGraph<Step, ()>) -> Result<Vec<NodeIndex>, Vec<StepId>> {
    let mut waiting: Vec<usize> =
        graph.node_indices().map(|node| graph.neighbors_directed(node, Incoming).count()).collect();
    let mut ready: BTreeSet<(&StepId, NodeIndex)> =
        graph.node_indices().filter(|node| waiting[node.index()] == 0).map(|node| (&graph[node].id, node)).collect();
    let mut order = Vec::with_capacity(graph.node_count());
    while let Some((_, node)) = ready.pop_first() {
        order.push(node);
        for next in graph.neighbors_directed(node, Outgoing) {
            waiting[next.index()] -= 1;
            if waiting[next.index()] == 0 {
                ready.insert((&graph[next].id, next));
            }
        }
    }
    if order.len() == graph.node_count() { Ok(order) } else { Err(cycle(graph)) }
}

/// A shortest cycle through the smallest step that lies on one.
fn cycle(graph: &DiGraph<Step, ()>) -> Vec<StepId> {
    let on_cycles = tarjan_scc(graph)
        .into_iter()
        .filter(|component| component.len() > 1 || component.iter().any(|&node| graph.find_edge(node, node).is_some()));
    let Some(start) = on_cycles.flatten().min_by_key(|&node| &graph[node].id) else { return Vec::new() };
    let mut came_from = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for next in graph.neighbors_directed(node, Outgoing) {
            if next == start {
                let mut path = vec![graph[node].id.clone()];
                let mut here = node;
                while let Some(&previous) = came_from.get(&here) {
                    here = previous;
                    path.push(graph[here].id.clone());
                }
                path.reverse();
                return path;
            }
            if let std::collections::btree_map::Entry::Vacant(entry) = came_from.entry(next) {
                entry.insert(node);
                queue.push_back(next);
            }
        }
    }
    vec![graph[start].id.clone()]
}

/// Edges between positions in a topological order: an edge always leads to a higher position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What each position waits for, ascending.
    pub parents: Vec<Vec<usize>>,
    /// What waits for each position, ascending.
    pub children: Vec<Vec<usize>>,
}

impl Shape {
    /// A shape from edges (earlier, later); positions are below `count`.
    #[must_use]
    pub fn new(count: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut edges: Vec<(usize, usize)> = edges.into_iter().collect();
        edges.sort_unstable();
        edges.dedup();
        let mut shape = Self { parents: vec![Vec::new(); count], children: vec![Vec::new(); count] };
        for (earlier, later) in edges {
            debug_assert!(earlier < later, "positions are topological");
            shape.parents[later].push(earlier);
            shape.children[earlier].push(later);
        }
        shape
    }

    /// How many positions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// The number of edges on the longest path that leads to each position.
    #[must_use]
    pub fn levels(&self) -> Vec<usize> {
        let mut levels = vec![0; self.len()];
        for index in 0..self.len() {
            levels[index] = self.parents[index].iter().map(|&parent| levels[parent] + 1).max().unwrap_or(0);
        }
        levels
    }

    /// The weight of the heaviest path that starts at each position, including its own.
    #[must_use]
    pub fn remaining(&self, weights: &[u64]) -> Vec<u64> {
        let mut remaining = weights.to_vec();
        for index in (0..self.len()).rev() {
            remaining[index] += self.children[index].iter().map(|&child| remaining[child]).max().unwrap_or(0);
        }
        remaining
    }

    /// The heaviest path, from its first position to its last one with a weight. Among equals
    /// the first in topological order.
    #[must_use]
    pub fn longest_path(&self, weights: &[u64]) -> Vec<usize> {
        let remaining = self.remaining(weights);
        let heaviest = |candidates: &mut dyn Iterator<Item = usize>| {
            candidates
                .filter(|&index| remaining[index] > 0)
                .min_by_key(|&index| (std::cmp::Reverse(remaining[index]), index))
        };
        let mut path: Vec<usize> = heaviest(&mut (0..self.len())).into_iter().collect();
        while let Some(&last) = path.last() {
            let Some(next) = heaviest(&mut self.children[last].iter().copied()) else { break };
            path.push(next);
        }
        path
    }

    /// The edges that are not implied by others, ascending.
    #[must_use]
    pub fn reduced_edges(&self) -> Vec<(usize, usize)> {
        let mut graph: DiGraph<(), (), usize> = DiGraph::default();
        let nodes: Vec<_> = (0..self.len()).map(|_| graph.add_node(())).collect();
        for (earlier, children) in self.children.iter().enumerate() {
            for &later in children {
                graph.add_edge(nodes[earlier], nodes[later], ());
            }
        }
        let (list, _) = petgraph::algo::tred::dag_to_toposorted_adjacency_list::<_, usize>(&graph, &nodes);
        let (reduction, _) = petgraph::algo::tred::dag_transitive_reduction_closure(&list);
        let mut edges: Vec<(usize, usize)> =
            (0..self.len()).flat_map(|from| reduction.neighbors(from).map(move |to| (from, to))).collect();
        edges.sort_unstable();
        edges
    }
}

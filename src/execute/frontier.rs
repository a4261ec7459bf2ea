//! Which steps are ready, running, done or blocked. Pure: it knows nothing of time or hosts, so
//! every order it allows can be tested.
//!
//! Two rules are enforced here whatever the edges say: one step per host at a time, and in a
//! living cluster at most one etcd member being changed, from its first disruptive step until its
//! host is healthy again. A member whose change failed keeps that right: nothing may follow it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::graph::order::Shape;
use crate::graph::rounds::Round;
use crate::graph::{StepGraph, estimate, waves};
use crate::names::HostName;
use crate::phase::{Stage, StepId, Target};
use crate::plan::Limits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Ready,
    Running,
    Done,
    Failed,
    Blocked,
}

/// A host whose etcd member is being changed, and in which round of the run.
type Turn = (HostName, Round);

/// What the frontier knows of a step.
#[derive(Debug)]
struct Node {
    id: StepId,
    state: State,
    /// Without anything to do it is passed through as soon as it is reached.
    relevant: bool,
    uploads: bool,
    /// The etcd member whose settling depends on it, and in which round: its changes disrupt or it
    /// waits for health.
    member: Option<Turn>,
    disrupts: bool,
    /// Expected seconds until the end of the run from here.
    remaining: u64,
    /// Steps before it that are not done.
    missing: usize,
}

/// Which limit a step counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Cluster,
    Host,
    Upload,
}

impl Node {
    fn kind(&self) -> Kind {
        match self.id.target {
            Target::Cluster => Kind::Cluster,
            Target::Host(_) if self.uploads => Kind::Upload,
            Target::Host(_) => Kind::Host,
        }
    }
}

/// A ready step that may never begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The step.
    pub step: StepId,
    /// The host whose etcd member is being changed.
    pub holder: HostName,
    /// The step of that host that failed. `None` means that the graph itself breaks the rule.
    pub failed: Option<StepId>,
    /// Steps that will not begin because of this.
    pub blocked: Vec<StepId>,
}

/// The state of a run.
#[derive(Debug)]
pub struct Frontier {
    nodes: Vec<Node>,
    shape: Shape,
    positions: BTreeMap<StepId, usize>,
    /// Ready steps by kind; longest remaining path first, then topological order. Kinds that are at
    /// their limit are passed over whole: with thousands of hosts nearly all that is ready waits.
    ready: BTreeMap<Kind, BTreeSet<(Reverse<u64>, usize)>>,
    /// The steps of each etcd member that must be done before the next one is changed.
    members: BTreeMap<Turn, Vec<usize>>,
    busy: BTreeSet<HostName>,
    uploads: usize,
    parallel_hosts: usize,
    parallel_uploads: usize,
    disrupted: Option<Turn>,
}

impl Frontier {
    /// Nothing has begun.
    #[must_use]
    pub fn new(graph: &StepGraph, limits: &Limits) -> Self {
        let shape = graph.shape();
        let remaining = shape.remaining(&estimate::weights(graph));
        let guarded = graph.stage() == Stage::Living;
        let mut nodes = Vec::with_capacity(shape.len());
        for ((index, step), relevant) in graph.steps().enumerate().zip(graph.relevant()) {
            let member = match &step.id.target {
                Target::Host(host) if guarded && graph.etcd_hosts().contains(host) => {
                    Round::of(step.id.phase).map(|round| (host.clone(), round))
                }
                _ => None,
            };
            nodes.push(Node {
                id: step.id.clone(),
                state: State::Waiting,
                relevant,
                uploads: step.uploads(),
                disrupts: member.is_some()
                    && relevant
                    && waves::is_disruptive(step.id.phase)
                    && !step.changes.is_empty(),
                member,
                remaining: remaining[index],
                missing: shape.parents[index].len(),
            });
        }
        let positions = nodes.iter().enumerate().map(|(index, node)| (node.id.clone(), index)).collect();
        let mut members: BTreeMap<Turn, Vec<usize>> = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.relevant) {
            if let Some(member) = &node.member {
                members.entry(member.clone()).or_default().push(index);
            }
        }
        let mut frontier = Self {
            nodes,
            shape,
            positions,
            ready: BTreeMap::new(),
            members,
            busy: BTreeSet::new(),
            uploads: 0,
            parallel_hosts: limits.parallel_hosts.max(1),
            parallel_uploads: limits.parallel_uploads.max(1),
            disrupted: None,
        };
        for index in 0..frontier.nodes.len() {
            if frontier.nodes[index].state == State::Waiting && frontier.nodes[index].missing == 0 {
                frontier.reach(index);
            }
        }
        frontier
    }

    /// The most urgent step that may begin now; it runs from here on.
    pub fn start(&mut self) -> Option<StepId> {
        let first = |ready: &BTreeSet<(Reverse<u64>, usize)>| ready.iter().copied().find(|&(_, index)| self.may_begin(index));
        let open = self.ready.iter().filter(|(kind, _)| self.has_room(**kind));
        let (key, index) = open.filter_map(|(_, ready)| first(ready)).min().map(|key| (key, key.1))?;
        self.unready(key);
        let node = &mut self.nodes[index];
        node.state = State::Running;
        self.uploads += usize::from(node.uploads);
        if let Target::Host(host) = &node.id.target {
            self.busy.insert(host.clone());
        }
        if node.disrupts {
            self.disrupted.clone_from(&node.member);
        }
        Some(node.id.clone())
    }

    fn unready(&mut self, key: (Reverse<u64>, usize)) {
        if let Some(ready) = self.ready.get_mut(&self.nodes[key.1].kind()) {
            ready.remove(&key);
        }
    }

    /// Whether a step of that kind could begin as far as the limits go.
    fn has_room(&self, kind: Kind) -> bool {
        let hosts = self.busy.len() < self.parallel_hosts;
        match kind {
            Kind::Cluster => true,
            Kind::Host => hosts,
            Kind::Upload => hosts && self.uploads < self.parallel_uploads,
        }
    }

    fn may_begin(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let host_free = match &node.id.target {
            Target::Host(host) => !self.busy.contains(host),
            Target::Cluster => true,
        };
        host_free && self.has_room(node.kind()) && self.quorum_allows(node)
    }

    fn quorum_allows(&self, node: &Node) -> bool {
        !node.disrupts || self.disrupted.is_none() || self.disrupted == node.member
    }

    /// A running step ended. Returns the steps that will not begin because it failed.
    pub fn finish(&mut self, id: &StepId, succeeded: bool) -> Vec<StepId> {
        let Some(&index) = self.positions.get(id) else { return Vec::new() };
        let node = &mut self.nodes[index];
        if node.state != State::Running {
            return Vec::new();
        }
        self.uploads -= usize::from(node.uploads);
        if let Target::Host(host) = &node.id.target {
            self.busy.remove(host);
        }
        if succeeded {
            self.complete(index);
            self.settle();
            Vec::new()
        } else {
            node.state = State::Failed;
            self.block(index)
        }
    }

    /// When nothing runs and `start` has nothing: gives up a ready step that the quorum forbids.
    /// `None` means that everything has come to its end.
    pub fn refuse(&mut self) -> Option<Refusal> {
        let holder = self.disrupted.clone()?;
        let key = self.ready.values().flatten().copied().filter(|key| !self.quorum_allows(&self.nodes[key.1])).min()?;
        self.unready(key);
        let failed =
            self.nodes.iter().find(|node| node.state == State::Failed && node.member.as_ref() == Some(&holder));
        // A step outside the unsettled phases may have failed and blocked the member's own steps.
        let failed = failed.map(|node| node.id.clone()).or_else(|| self.blocker(&holder));
        let node = &mut self.nodes[key.1];
        node.state = if failed.is_some() { State::Blocked } else { State::Failed };
        let step = node.id.clone();
        let blocked = self.block(key.1);
        Some(Refusal { step, holder: holder.0, failed, blocked })
    }

    /// The failed step before a blocked step of that member.
    fn blocker(&self, holder: &Turn) -> Option<StepId> {
        let mut queue: Vec<usize> = (0..self.nodes.len())
            .filter(|&index| {
                self.nodes[index].state == State::Blocked && self.nodes[index].member.as_ref() == Some(holder)
            })
            .collect();
        let mut seen = BTreeSet::new();
        while let Some(index) = queue.pop() {
            if self.nodes[index].state == State::Failed {
                return Some(self.nodes[index].id.clone());
            }
            queue.extend(self.shape.parents[index].iter().copied().filter(|&parent| seen.insert(parent)));
        }
        None
    }

    /// Steps that have something to do and neither ended nor were given up.
    #[must_use]
    pub fn unfinished(&self) -> Vec<StepId> {
        let open = |node: &&Node| node.relevant && matches!(node.state, State::Waiting | State::Ready | State::Running);
        self.nodes.iter().filter(open).map(|node| node.id.clone()).collect()
    }

    /// Everything before it is done.
    fn reach(&mut self, index: usize) {
        if self.nodes[index].relevant {
            self.nodes[index].state = State::Ready;
            let key = (Reverse(self.nodes[index].remaining), index);
            self.ready.entry(self.nodes[index].kind()).or_default().insert(key);
        } else {
            self.complete(index);
        }
    }

    fn complete(&mut self, index: usize) {
        self.nodes[index].state = State::Done;
        for child in self.shape.children[index].clone() {
            self.nodes[child].missing -= 1;
            if self.nodes[child].missing == 0 && self.nodes[child].state == State::Waiting {
                self.reach(child);
            }
        }
    }

    /// Lets the next etcd member be changed if the last one's host has nothing left to do.
    fn settle(&mut self) {
        let Some(holder) = &self.disrupted else { return };
        let mut own = self.members.get(holder).into_iter().flatten();
        if own.all(|&index| self.nodes[index].state == State::Done) {
            self.disrupted = None;
        }
    }

    /// Gives up everything after a step. Returns what had something to do.
    fn block(&mut self, index: usize) -> Vec<StepId> {
        let mut blocked = BTreeSet::new();
        let mut queue = self.shape.children[index].clone();
        while let Some(next) = queue.pop() {
            if self.nodes[next].state == State::Waiting {
                self.nodes[next].state = State::Blocked;
                blocked.insert(next);
                queue.extend(&self.shape.children[next]);
            }
        }
        blocked
            .into_iter()
            .filter(|&index| self.nodes[index].relevant)
            .map(|index| self.nodes[index].id.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests;

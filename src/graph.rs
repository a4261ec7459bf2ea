//! The graph of steps: what is done, in which order. It is built once, from the table of phases,
//! the changes and the stage of the cluster, before anything is done; edges carry order only.
//!
//! Everything here is pure: the same plan and changes give the same graph, the same order and
//! the same pictures, whatever order the input came in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use petgraph::graph::{DiGraph, NodeIndex};

use crate::artifact::{Artifact, ProgramSource};
use crate::change::Change;
use crate::names::{HostName, KubernetesVersion};
use crate::phase::{Phase, Stage, StepId, Target};

mod build;
pub mod dot;
pub mod estimate;
pub mod leaving;
pub mod mermaid;
pub mod order;
pub mod picture;
mod precaution;
pub mod rounds;
pub mod text;
pub mod waves;

use order::Shape;
use waves::Waves;

/// A node of the graph: a phase on a target. A step without changes stays in the graph and costs
/// nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// What must hold before its first change; not asked if there is none.
    pub before: Vec<Gate>,
    /// What it does, in order.
    pub changes: Vec<Change>,
    /// What it then waits for.
    pub gates: Vec<Gate>,
    /// What puts the host back as it was, if that does not come: a new version that does not come up is
    /// no reason to be without the old one.
    pub fallback: Vec<Change>,
}

/// A condition that a step waits for before or after its changes, asked by the engine through the
/// SSH connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// The kubelet's health endpoint answers.
    KubeletHealthy(HostName),
    /// The etcd member answers `/health` as healthy (it needs quorum for that).
    EtcdHealthy(HostName),
    /// `/readyz` of the API server on that host answers `ok`.
    ApiServerReady(HostName),
    /// The controller manager and the scheduler on that host answer their health endpoints.
    ControllersHealthy(HostName),
    /// The Node exists.
    NodeRegistered(HostName),
    /// The Node's condition Ready is true, and its kubelet said so since it was last started: the word of one
    /// that ended stays for most of a minute.
    NodeReady(HostName),
    /// The Node's kubelet reports that it is of this version.
    KubeletVersion {
        /// Which host.
        host: HostName,
        /// Which version.
        version: KubernetesVersion,
    },
    /// A Deployment or DaemonSet has all its pods updated and available.
    RolledOut {
        /// `Deployment` or `DaemonSet`.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// etcd keeps its quorum while the member on that host is down.
    QuorumWithout(HostName),
    /// Another API server is ready while the one on that host is not.
    ApiServersWithout(HostName),
    /// An API server answers at the virtual address, asked from that host.
    VipAnswers(HostName),
}

impl Gate {
    /// The host it is about, if it is about one.
    #[must_use]
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::KubeletHealthy(host)
            | Self::EtcdHealthy(host)
            | Self::ApiServerReady(host)
            | Self::ControllersHealthy(host)
            | Self::NodeRegistered(host)
            | Self::NodeReady(host)
            | Self::KubeletVersion { host, .. }
            | Self::QuorumWithout(host)
            | Self::ApiServersWithout(host)
            | Self::VipAnswers(host) => Some(host),
            Self::RolledOut { .. } => None,
        }
    }
}

impl fmt::Display for Gate {
    /// Reads after "waiting for".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KubeletHealthy(host) => write!(f, "kubelet on {host}"),
            Self::EtcdHealthy(host) => write!(f, "etcd on {host}"),
            Self::ApiServerReady(host) => write!(f, "API server on {host}"),
            Self::ControllersHealthy(host) => write!(f, "controller manager and scheduler on {host}"),
            Self::NodeRegistered(host) => write!(f, "registration of node {host}"),
            Self::NodeReady(host) => write!(f, "node {host} to be ready"),
            Self::KubeletVersion { host, version } => write!(f, "kubelet {version} on {host}"),
            Self::RolledOut { kind, namespace, name } => write!(f, "roll-out of {kind} {namespace}/{name}"),
            Self::QuorumWithout(host) => write!(f, "an etcd quorum without {host}"),
            Self::ApiServersWithout(host) => write!(f, "an API server besides the one on {host}"),
            Self::VipAnswers(host) => write!(f, "the virtual address, asked from {host}"),
        }
    }
}

impl Step {
    /// A step that does nothing.
    #[must_use]
    pub fn empty(id: StepId) -> Self {
        Self { id, before: Vec::new(), changes: Vec::new(), gates: Vec::new(), fallback: Vec::new() }
    }

    /// Whether it sends files of the operator's machine that may be big.
    #[must_use]
    pub fn uploads(&self) -> bool {
        self.changes.iter().any(|change| {
            matches!(
                change.artifact,
                Artifact::Image { .. } | Artifact::Program { source: ProgramSource::Upload(_), .. }
            )
        })
    }
}

/// Why a graph cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Steps wait for each other.
    #[error("these steps wait for each other: {}", cycle_text(.0))]
    Cycle(Vec<StepId>),
    /// There are two steps of one name.
    #[error("there are two steps {0}")]
    Duplicate(StepId),
    /// The table of phases has no such step for this plan, or an edge names one that is not there.
    #[error("the plan has no place for step {0}")]
    NoPlace(StepId),
    /// A host was asked for that has no step.
    #[error("the plan has no host {0}")]
    NoHost(HostName),
}

fn cycle_text(steps: &[StepId]) -> String {
    let names: Vec<String> = steps.iter().chain(steps.first()).map(ToString::to_string).collect();
    names.join(" → ")
}

/// The steps and their order. It has no cycle.
#[derive(Debug, Clone)]
pub struct StepGraph {
    graph: DiGraph<Step, ()>,
    by_id: BTreeMap<StepId, NodeIndex>,
    topological: Vec<NodeIndex>,
    stage: Stage,
    etcd_hosts: BTreeSet<HostName>,
    waves: Waves,
    deselected: BTreeSet<StepId>,
}

impl StepGraph {
    /// A graph from steps and edges (earlier, later) as they are given, without the table of
    /// phases. `etcd_hosts` are the hosts whose members make the quorum.
    ///
    /// # Errors
    /// Two steps share a name, an edge names an unknown step, or there is a cycle.
    pub fn assemble(
        stage: Stage,
        etcd_hosts: BTreeSet<HostName>,
        steps: Vec<Step>,
        edges: impl IntoIterator<Item = (StepId, StepId)>,
    ) -> Result<Self, GraphError> {
        let mut graph = DiGraph::new();
        let mut by_id = BTreeMap::new();
        for step in steps {
            let id = step.id.clone();
            if by_id.insert(id.clone(), graph.add_node(step)).is_some() {
                return Err(GraphError::Duplicate(id));
            }
        }
        let node = |id: StepId| by_id.get(&id).copied().ok_or(GraphError::NoPlace(id));
        // Not with `update_edge`: it looks through all edges of a step, and every host waits for a few.
        let mut pairs = edges.into_iter().map(|(earlier, later)| Ok((node(earlier)?, node(later)?))).collect::<Result<Vec<_>, GraphError>>()?;
        pairs.sort_unstable();
        pairs.dedup();
        for (earlier, later) in pairs {
            graph.add_edge(earlier, later, ());
        }
        let topological = order::topological(&graph).map_err(GraphError::Cycle)?;
        let (waves, deselected) = (Waves::default(), BTreeSet::new());
        Ok(Self { graph, by_id, topological, stage, etcd_hosts, waves, deselected })
    }

    /// Keeps only steps on these hosts and of these phases; an empty set means all. The order
    /// among the chosen steps stays. The others count as done; `left_out` tells which of them
    /// would have changed something. With hosts given, steps on the cluster are not chosen.
    ///
    /// In a living cluster the health of a changed host stays chosen: without it the next host
    /// would follow unchecked. So do snapshots of chosen hosts: they are only there if what is chosen needs
    /// them.
    ///
    /// # Errors
    /// A host is not in the graph.
    pub fn select(mut self, hosts: &BTreeSet<HostName>, phases: &BTreeSet<Phase>) -> Result<Self, GraphError> {
        let known = self.hosts();
        if let Some(host) = hosts.iter().find(|host| !known.contains(host)) {
            return Err(GraphError::NoHost(host.clone()));
        }
        let chosen = |id: &StepId| {
            let host_chosen = match &id.target {
                Target::Host(host) => hosts.is_empty() || hosts.contains(host),
                Target::Cluster => hosts.is_empty(),
            };
            host_chosen && (phases.is_empty() || phases.contains(&id.phase))
        };
        let disrupted: BTreeSet<&Target> = self
            .steps()
            .filter(|step| {
                self.stage == Stage::Living && waves::disrupts(step)
            })
            .filter(|step| chosen(&step.id))
            .map(|step| &step.id.target)
            .collect();
        let kept = |id: &StepId| {
            let host_chosen = matches!(&id.target, Target::Host(host) if hosts.is_empty() || hosts.contains(host));
            chosen(id) || id.phase == Phase::Healthy && disrupted.contains(&id.target) || id.phase == Phase::Snapshot && host_chosen
        };
        let deselected = self.by_id.keys().filter(|id| !kept(id)).cloned().collect();
        self.deselected = deselected;
        Ok(self)
    }

    /// Steps that would change something but were not selected.
    pub fn left_out(&self) -> impl Iterator<Item = &Step> {
        self.steps().filter(|step| !step.changes.is_empty() && !self.is_selected(&step.id))
    }

    /// Whether the step was selected (all are, before `select`).
    #[must_use]
    pub fn is_selected(&self, id: &StepId) -> bool {
        !self.deselected.contains(id)
    }

    /// All steps in topological order, which is the same for the same set of steps and edges.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.topological.iter().map(|&node| &self.graph[node])
    }

    /// The step of that name.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.by_id.get(id).map(|&node| &self.graph[node])
    }

    /// Steps and edges by position in topological order.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let mut position = vec![0; self.graph.node_count()];
        for (index, node) in self.topological.iter().enumerate() {
            position[node.index()] = index;
        }
        Shape::new(
            self.graph.node_count(),
            self.graph
                .raw_edges()
                .iter()
                .map(|edge| (position[edge.source().index()], position[edge.target().index()])),
        )
    }

    /// Whether a cluster was there when the graph was made.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Hosts whose etcd members make the quorum.
    #[must_use]
    pub fn etcd_hosts(&self) -> &BTreeSet<HostName> {
        &self.etcd_hosts
    }

    /// Hosts that are changed after one another.
    #[must_use]
    pub fn waves(&self) -> &Waves {
        &self.waves
    }

    /// Hosts that have steps.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<HostName> {
        self.by_id
            .keys()
            .filter_map(|id| match &id.target {
                Target::Host(host) => Some(host.clone()),
                Target::Cluster => None,
            })
            .collect()
    }

    /// How many changes the selected steps make.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.steps().filter(|step| self.is_selected(&step.id)).map(|step| step.changes.len()).sum()
    }

    /// For each step in topological order, whether it has anything to do: it is selected and has
    /// changes, or it has gates and something before or after it changes. Gates of a cluster in
    /// which nothing changes around them are not asked.
    #[must_use]
    pub fn relevant(&self) -> Vec<bool> {
        let shape = self.shape();
        let steps: Vec<&Step> = self.steps().collect();
        let selected: Vec<bool> = steps.iter().map(|step| self.is_selected(&step.id)).collect();
        let changes: Vec<bool> =
            steps.iter().zip(&selected).map(|(step, selected)| *selected && !step.changes.is_empty()).collect();
        // What is only kept aside is no reason to ask after anything.
        let moving: Vec<bool> = steps.iter().zip(&changes).map(|(step, changes)| *changes && step.id.phase != Phase::Snapshot).collect();
        let (mut before, mut after) = (moving.clone(), moving);
        for index in 0..steps.len() {
            before[index] |= shape.parents[index].iter().any(|&parent| before[parent]);
        }
        for index in (0..steps.len()).rev() {
            after[index] |= shape.children[index].iter().any(|&child| after[child]);
        }
        (0..steps.len())
            .map(|index| {
                selected[index]
                    && (changes[index] || (!steps[index].gates.is_empty() && (before[index] || after[index])))
            })
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests;

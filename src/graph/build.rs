//! From the table of phases to a graph: nodes for every phase and target, edges from the rules,
//! and in a living cluster the order among hosts.

use std::collections::{BTreeMap, BTreeSet};

use super::leaving::{self, Leaving};
use super::precaution;
use super::rounds;
use super::waves::{self, Waves};
use super::{Gate, GraphError, Step, StepGraph};
use crate::names::HostName;
use crate::phase::{After, On, Phase, RULES, Rule, Stage, StepId, Target, rule};
use crate::plan::{Host, Limits, Plan};

/// Where phases have steps: the plan, with its hosts by name.
struct Places<'a> {
    plan: &'a Plan,
    hosts: BTreeMap<&'a HostName, &'a Host>,
    /// Hosts that keep a CA, which every host's certificates wait for.
    keepers: Vec<Target>,
}

impl StepGraph {
    /// The graph of a plan. Steps that are not given do nothing, but are there: order passes
    /// through them.
    ///
    /// # Errors
    /// A step is given twice or has no place in the plan. The rules themselves have no cycle.
    pub fn build(plan: &Plan, stage: Stage, steps: Vec<Step>, limits: &Limits) -> Result<Self, GraphError> {
        Self::mending(plan, stage, steps, limits, &BTreeSet::new())
    }

    /// The same, with those of `waves::doubts` that do not hold: hosts that are not well come before those
    /// that are.
    ///
    /// # Errors
    /// As for `build`.
    pub fn mending(plan: &Plan, stage: Stage, steps: Vec<Step>, limits: &Limits, closed: &BTreeSet<Gate>) -> Result<Self, GraphError> {
        Self::parting(plan, stage, steps, &[], limits, closed)
    }

    /// The same, with steps of hosts that left the plan.
    ///
    /// # Errors
    /// As for `build`.
    pub fn parting(
        plan: &Plan,
        stage: Stage,
        steps: Vec<Step>,
        leaving: &[Leaving],
        limits: &Limits,
        closed: &BTreeSet<Gate>,
    ) -> Result<Self, GraphError> {
        let waves = Waves { leaving: leaving::order(leaving).into_iter().map(|leaving| leaving.host.clone()).collect(), ..Waves::of(plan, stage, &steps, limits, closed) };
        let joining: Vec<Target> = steps.iter().filter(|step| waves::joins_etcd(step)).map(|step| step.id.target.clone()).collect();
        let places = Places { plan, hosts: plan.hosts.iter().map(|host| (&host.name, host)).collect(), keepers: targets(plan, rule(Phase::Authority)) };
        let mut given = BTreeMap::new();
        for step in steps {
            if let Some(twin) = given.insert(step.id.clone(), step) {
                return Err(GraphError::Duplicate(twin.id));
            }
        }
        let mut nodes = Vec::new();
        let mut edges = Vec::new();
        for rule in RULES {
            for target in targets(plan, rule) {
                let id = StepId { phase: rule.phase, target };
                edges.extend(places.prerequisites(rule, &id.target).into_iter().map(|earlier| (earlier, id.clone())));
                nodes.push(given.remove(&id).unwrap_or_else(|| Step::empty(id)));
            }
        }
        let places_step = |id: &StepId| places.has_step(id.phase, &id.target);
        let occasional: BTreeSet<StepId> = given.keys().filter(|id| rounds::is_occasional(id.phase) && places_step(id)).cloned().collect();
        nodes.extend(occasional.iter().filter_map(|id| given.remove(id)));
        edges.extend(rounds::edges(&occasional, &control_planes(plan, &waves), |rule, target| places.prerequisites(rule, target), places_step));
        if occasional.iter().any(|id| rounds::is_of_upgrade(id.phase) || id.phase == Phase::Snapshot) {
            edges.extend(images_before(&waves, &nodes, places_step));
        }
        let apart = leaving::edges(leaving, &waves, &nodes, places_step);
        for (earlier, later) in &apart {
            nodes.extend(given.remove(earlier));
            nodes.extend(given.remove(later));
        }
        edges.extend(apart);
        let firsts = RULES.iter().filter(|rule| rule.after.is_empty()).flat_map(|rule| targets(plan, rule).into_iter().map(|target| StepId { phase: rule.phase, target }));
        edges.extend(precaution::edges(&nodes, firsts));
        if let Some((id, _)) = given.pop_first() {
            return Err(GraphError::NoPlace(id));
        }
        edges.extend(waves.edges(|id| places.has_step(id.phase, &id.target)));
        if stage == Stage::Fresh {
            edges.extend(places.kubelets_after_api_servers());
        }
        for target in joining {
            let exists = |id: &StepId| places.has_step(id.phase, &id.target);
            edges.retain(|edge| !is_turned(edge, &target));
            edges.extend(kubelet_before_etcd(&target).into_iter().filter(|(earlier, later)| exists(earlier) && exists(later)));
        }
        let etcd_hosts = plan.etcd_hosts().map(|host| host.name.clone()).collect();
        Ok(Self { waves, ..Self::assemble(stage, etcd_hosts, nodes, edges)? })
    }
}

/// All control planes, in the order in which they are changed.
fn control_planes(plan: &Plan, waves: &Waves) -> Vec<HostName> {
    let mut names: Vec<HostName> = plan.control_planes().map(|host| host.name.clone()).collect();
    names.sort_by_key(|name| waves.carriers.iter().position(|carrier| carrier == name));
    names
}

/// While the version changes, every host has its images before the first API server or member of etcd is
/// touched: a registry that does not answer stops the upgrade before it has begun.
fn images_before(waves: &Waves, steps: &[Step], exists: impl Fn(&StepId) -> bool) -> Vec<(StepId, StepId)> {
    let images = steps.iter().filter(|step| step.id.phase == Phase::Images && !step.changes.is_empty()).map(|step| &step.id);
    let Some(first) = waves.carriers.first() else { return Vec::new() };
    let starts = waves.ends(first, &exists).0;
    // Where containerd restarts in its host's turn, images can only come after that.
    let waits = |id: &&StepId| !matches!(&id.target, Target::Host(host) if waves.runtimes.contains(host));
    images.filter(waits).flat_map(|id| starts.iter().map(|start| (id.clone(), start.clone()))).collect()
}

fn targets(plan: &Plan, rule: &Rule) -> Vec<Target> {
    if rule.on == On::Cluster {
        return vec![Target::Cluster];
    }
    let hosts = plan.hosts.iter().filter(|host| rule.on.includes(plan, host));
    hosts.map(|host| Target::Host(host.name.clone())).collect()
}

/// An edge that does not hold on a host that joins etcd.
fn is_turned((earlier, later): &(StepId, StepId), target: &Target) -> bool {
    earlier.target == *target
        && later.target == *target
        && later.phase == Phase::Kubelet
        && matches!(earlier.phase, Phase::Etcd | Phase::ControlPlane)
}

/// A member that joins a living etcd is announced, started and given its vote in one step, so its
/// kubelet has to run before; and its API server starts when the member serves it.
fn kubelet_before_etcd(target: &Target) -> [(StepId, StepId); 4] {
    let edge = |earlier, later| {
        let step = |phase| StepId { phase, target: target.clone() };
        (step(earlier), step(later))
    };
    [
        edge(Phase::Kubelet, Phase::Etcd),
        edge(Phase::Kubelet, Phase::ControlPlane),
        edge(Phase::Etcd, Phase::Healthy),
        edge(Phase::ControlPlane, Phase::Healthy),
    ]
}

impl Places<'_> {
    /// In a fresh cluster the kubelets of the other hosts start when there are API servers to talk to.
    /// A kubelet that finds none asks again after longer and longer waits (up to 7 s for its Node, up to
    /// 30 s and more for Services and Pods), and would be ready later than one that starts later.
    fn kubelets_after_api_servers(&self) -> Vec<(StepId, StepId)> {
        let (healthy, kubelets) = (targets(self.plan, rule(Phase::Healthy)), targets(self.plan, rule(Phase::Kubelet)));
        let waiting = kubelets.into_iter().filter(|target| !self.has_step(Phase::Healthy, target));
        let step = |phase, target: &Target| StepId { phase, target: target.clone() };
        waiting
            .flat_map(|later| {
                let later = step(Phase::Kubelet, &later);
                healthy.iter().map(|target| (step(Phase::Healthy, target), later.clone())).collect::<Vec<_>>()
            })
            .collect()
    }

    fn has_step(&self, phase: Phase, target: &Target) -> bool {
        match target {
            Target::Cluster => rule(phase).on == On::Cluster,
            Target::Host(name) => self.hosts.get(name).is_some_and(|host| rule(phase).on.includes(self.plan, host)),
        }
    }

    fn prerequisites(&self, of: &Rule, target: &Target) -> Vec<StepId> {
        let mut steps = Vec::new();
        for after in of.after {
            match *after {
                After::Here(phase) if self.has_step(phase, target) => steps.push(StepId { phase, target: target.clone() }),
                After::Here(_) => {}
                After::Everywhere(phase) if rule(phase).on == On::Keepers => {
                    steps.extend(self.keepers.iter().map(|target| StepId { phase, target: target.clone() }));
                }
                After::Everywhere(phase) => {
                    steps.extend(targets(self.plan, rule(phase)).into_iter().map(|target| StepId { phase, target }));
                }
            }
        }
        steps
    }
}

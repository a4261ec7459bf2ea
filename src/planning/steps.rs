//! The steps with what differs: of every host what is wanted against what was found, and of the cluster
//! what its API says. A step without changes is there too, because its gates may be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use jiff::Timestamp;

use crate::artifact::{Artifact, Secret};
use crate::change::{Change, Reason};
use crate::cluster::Cluster;
use crate::desired::{self, Inputs};
use crate::diff::host_changes;
use crate::facts::Facts;
use crate::failure::{Failure, Kind};
use crate::graph::{Gate, Step};
use crate::inventory::{self, Inventory, ObjectName};
use crate::kubernetes::objects::ObjectInputs;
use crate::names::{Digest, HostName};
use crate::parallel;
use crate::phase::{On, Phase, RULES, Rule, Stage, StepId, Target, OCCASIONAL_RULES};
use crate::plan::Host;
use crate::preflight::{Finding, Severity};
use crate::upgrade::turns::{NodeSeen, Turns};
use crate::{bootstrap_token, departed, joining, pause, upgrade};

/// The steps on hosts, with what differs on each.
pub(super) fn on_hosts(
    inputs: &Inputs<'_>,
    facts: &BTreeMap<HostName, Facts>,
    nodes: &BTreeMap<HostName, NodeSeen>,
) -> Result<Vec<Step>, Failure> {
    let turns = Turns::of(inputs.plan, facts, nodes);
    let seen: Vec<(&Host, &Facts)> = inputs.plan.hosts.iter().filter_map(|host| Some((host, facts.get(&host.name)?))).collect();
    // What one host gets follows from no other's steps.
    let contents = Mutex::default();
    let steps = parallel::map(&seen, |(host, seen)| {
        let mut steps = on_host(inputs, host, seen, &turns)?;
        share_contents(&mut steps, &mut contents.lock().expect("no panic while it is held"));
        Ok(steps)
    });
    Ok(steps.into_iter().collect::<Result<Vec<_>, Failure>>()?.into_iter().flatten().collect())
}

fn share_contents(steps: &mut [Step], met: &mut BTreeMap<Digest, Secret>) {
    for change in steps.iter_mut().flat_map(|step| &mut step.changes) {
        if let Artifact::File { content, .. } = &mut change.artifact {
            content.share(met);
        }
    }
}

fn on_host(inputs: &Inputs<'_>, host: &Host, seen: &Facts, turns: &Turns) -> Result<Vec<Step>, Failure> {
    let Facts { system, state } = seen;
    let mut steps = Vec::new();
    let mut changed = BTreeSet::new();
    let phases = desired::of_host(inputs, host).map_err(|error| Failure::from_error(Kind::Plan, &error))?;
    let mut changes: BTreeMap<Phase, Vec<Change>> = BTreeMap::new();
    let mut kept: BTreeMap<Phase, Vec<Artifact>> = BTreeMap::new();
    for (phase, artifacts) in phases {
        if matches!(phase, Phase::Images | Phase::Etcd | Phase::ControlPlane | Phase::Kubelet) {
            kept.insert(phase, artifacts.clone());
        }
        changes.insert(phase, host_changes(artifacts, system, state, &mut changed));
    }
    let join = inputs.standing.joins.get(&host.name);
    // With no other API server there is nobody to give the requests to.
    let others = inputs.standing.stage == Stage::Living && desired::has_other_api_server(host, inputs.standing);
    let wanted = kept.get(&Phase::ControlPlane).map_or(&[][..], Vec::as_slice);
    let paused = others && join.is_none() && pause::around_etcd(&mut changes, wanted, state);
    if let Some(join) = join {
        joining::around_etcd(&mut changes, join, &kept, state);
    } else if inputs.standing.stage == Stage::Living {
        turns.defer(host, seen, &kept, &mut changes);
    }
    let is_to_do = |rule: &&Rule| changes.get(&rule.phase).is_some_and(|changes| !changes.is_empty());
    let occasional: Vec<&Rule> = OCCASIONAL_RULES.iter().filter(is_to_do).collect();
    for rule in RULES.iter().chain(occasional).filter(|rule| rule.on.includes(inputs.plan, host)) {
        let mut gates = desired::gates(rule.phase, inputs.plan, Some(host), inputs.standing.stage, inputs.local);
        if (paused || join.is_some()) && rule.phase == Phase::Etcd {
            gates.push(Gate::EtcdHealthy(host.name.clone()));
        }
        if rule.phase == Phase::KubeletUpgrade {
            gates.splice(0..0, turns.gates(host, seen));
        }
        let changes = changes.remove(&rule.phase).unwrap_or_default();
        let mut fallback = Vec::new();
        if inputs.standing.stage == Stage::Living && join.is_none() {
            let version = format!(":{}", inputs.plan.kubernetes.version);
            let (back, more) = upgrade::fallback::of(rule.phase, host, seen, &version, &changes);
            gates.extend(more.into_iter().filter(|gate| !gates.contains(gate)).collect::<Vec<_>>());
            fallback = back;
        }
        // A kubelet that is stopped may take its pods with it, in whatever phase that is.
        let halts = changes.iter().any(|change| matches!(change.artifact, Artifact::Halted { .. }));
        let disrupts = if halts { Phase::Kubelet } else { rule.phase };
        steps.push(Step {
            id: StepId { phase: rule.phase, target: Target::Host(host.name.clone()) },
            before: desired::preconditions(disrupts, inputs.plan, host, inputs.standing),
            changes,
            gates,
            fallback,
        });
    }
    Ok(steps)
}

/// The list of what slipway made, and what of it this run must not forget.
pub(super) struct Listed {
    /// The list: `None` if nobody tells, and within that `None` if there is none.
    pub found: Option<Option<Inventory>>,
    /// Marks of hosts that leave and have no Node: on the list until they are gone.
    pub leaving: BTreeMap<HostName, String>,
    /// Nobody leaves in this run, so no mark of a host is dropped.
    pub keeps_hosts: bool,
}

impl Listed {
    /// The list that is wanted in the end.
    fn wanted<'a>(&self, inputs: &Inputs<'_>, artifacts: impl Iterator<Item = &'a Artifact>) -> Inventory {
        let mut wanted = Inventory { hosts: departed::marks(inputs.plan), ..Inventory::of(artifacts) };
        if let (true, Some(Some(found))) = (self.keeps_hosts, &self.found) {
            for (host, mark) in &found.hosts {
                wanted.hosts.entry(host.clone()).or_insert_with(|| mark.clone());
            }
        }
        wanted
    }
}

/// The steps on the cluster, with what differs there, and what stays there although nobody wants it.
pub(super) async fn on_cluster<C: Cluster>(
    inputs: &Inputs<'_>,
    cluster: &C,
    now: Timestamp,
    list: Listed,
) -> Result<(Vec<Step>, Vec<Finding>), Failure> {
    let objects = ObjectInputs {
        plan: inputs.plan,
        release: inputs.release,
        ca_pem: &inputs.material.api.ca_pem,
        token: Some(bootstrap_token::first(inputs.plan.name.as_str(), now)),
    };
    let wanted = desired::cluster::artifacts(inputs, &objects).map_err(|error| Failure::from_error(Kind::Plan, &error))?;
    let listed = list.wanted(inputs, wanted.iter().flat_map(|(_, artifacts)| artifacts));
    let (mut phases, mut artifacts): (Vec<Phase>, Vec<Artifact>) =
        wanted.into_iter().flat_map(|(phase, artifacts)| artifacts.into_iter().map(move |artifact| (phase, artifact))).unzip();
    // A cluster that is only being formed is not asked; nothing is pruned where nobody can be.
    let unasked = if inputs.standing.stage == Stage::Fresh { Reason::Missing } else { Reason::Unseen };
    let inventory = list.found;
    if let Some(inventory) = inventory.as_ref().and_then(Option::as_ref) {
        for artifact in &mut artifacts {
            if let Artifact::NodeMarks(marks) = artifact {
                inventory.retract(marks);
            }
        }
        let unwanted = inventory.unwanted(&listed);
        phases.extend(unwanted.iter().map(|_| Phase::Prune));
        artifacts.extend(unwanted.into_iter().map(|name| Artifact::Object(name.absent())));
    }
    let answers = match inputs.standing.stage {
        Stage::Fresh => None,
        Stage::Living => cluster.changes(artifacts.clone()).await.ok(),
    };
    let is_answered = answers.is_some() || inputs.standing.stage == Stage::Fresh;
    let answers = answers.unwrap_or_else(|| {
        let unseen = |(phase, artifact)| (phase != Phase::Prune).then(|| Change { artifact, reason: unasked.clone(), before: None });
        phases.iter().copied().zip(artifacts).map(unseen).collect()
    });
    let mut changes: BTreeMap<Phase, Vec<Change>> = BTreeMap::new();
    for (phase, change) in phases.into_iter().zip(answers) {
        changes.entry(phase).or_default().extend(change);
    }
    let mut kept = Vec::new();
    if let (true, Some(inventory)) = (is_answered, inventory) {
        let gone = changes.remove(&Phase::Prune).unwrap_or_default();
        let is_changed = changes.values().any(|changes| !changes.is_empty()) || !list.leaving.is_empty();
        let begun_here = inputs.plan.pki.adopted.is_none();
        let meanwhile = Inventory { hosts: list.leaving, ..Inventory::default() };
        let pruning = inventory::pruning(inventory.as_ref(), &meanwhile, &listed, gone, is_changed, begun_here);
        changes.entry(Phase::ClusterObjects).or_default().splice(0..0, pruning.first);
        changes.insert(Phase::Prune, pruning.last);
        kept = pruning.kept;
    }
    let has_changes = |rule: &&Rule| changes.get(&rule.phase).is_some_and(|changes| !changes.is_empty());
    let occasional: Vec<&Rule> = OCCASIONAL_RULES.iter().filter(has_changes).collect();
    let rules = RULES.iter().chain(occasional).filter(|rule| rule.on == On::Cluster);
    let steps = rules
        .map(|rule| Step {
            id: StepId { phase: rule.phase, target: Target::Cluster },
            before: Vec::new(),
            changes: changes.remove(&rule.phase).unwrap_or_default(),
            gates: desired::gates(rule.phase, inputs.plan, None, inputs.standing.stage, inputs.local),
            fallback: Vec::new(),
        })
        .collect();
    Ok((steps, kept.iter().map(stays).collect()))
}

/// What is no longer wanted and not slipway's to delete.
fn stays(name: &ObjectName) -> Finding {
    Finding {
        host: None,
        check: "no-longer-wanted",
        severity: Severity::Warning,
        message: format!("{name} was made by slipway and is no longer wanted; it stays, as others may have something in it"),
        hint: "delete it yourself when nobody needs it".into(),
    }
}

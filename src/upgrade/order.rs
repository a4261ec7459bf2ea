//! A run on chosen hosts or phases must not overtake the API servers it left out. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::api_server;
use super::turns::{NodeSeen, Turns};
use crate::facts::Facts;
use crate::graph::StepGraph;
use crate::names::{HostName, KubernetesVersion};
use crate::phase::{Phase, StepId, Target};
use crate::plan::Plan;

/// Why chosen steps may not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
    /// Something would be newer than an API server.
    #[error("{step} would bring {wanted} to it while the API server on {host} {}", seen(*running))]
    Overtakes {
        /// The step.
        step: StepId,
        /// The plan's version.
        wanted: KubernetesVersion,
        /// The host with the older API server.
        host: HostName,
        /// Its version; `None` where the host was not seen.
        running: Option<KubernetesVersion>,
    },
}

fn seen(running: Option<KubernetesVersion>) -> String {
    running.map_or_else(|| "was not seen".to_owned(), |version| format!("stays at {version}"))
}

impl OrderRefusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let Self::Overtakes { host, .. } = self;
        format!("nothing may be newer than an API server: bring {host} to the version first, or leave out `--host` and `--phase`")
    }
}

/// Looks at the steps that bring something its next version after the API servers, and at the API servers that
/// this run does not touch. A kubelet that is only given other settings stays what it is.
///
/// # Errors
/// One reason for each step that would overtake one of them.
pub fn check(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    nodes: &BTreeMap<HostName, NodeSeen>,
    graph: &StepGraph,
) -> Result<(), Vec<OrderRefusal>> {
    let wanted = plan.kubernetes.version;
    let chosen = |phase: Phase, host: &HostName| graph.is_selected(&StepId { phase, target: Target::Host(host.clone()) });
    let behind = plan.control_planes().find_map(|host| {
        let running = facts.get(&host.name).map(api_server);
        match running {
            None => Some((host.name.clone(), None)),
            Some(Some(running)) if running != wanted && !chosen(Phase::ControlPlane, &host.name) => Some((host.name.clone(), Some(running))),
            Some(_) => None,
        }
    });
    let Some((host, running)) = behind else { return Ok(()) };
    let turns = Turns::of(plan, facts, nodes);
    let brings = |id: &StepId| match (id.phase, &id.target) {
        (Phase::Controllers, _) => true,
        (Phase::KubeletUpgrade, Target::Host(name)) => facts.get(name).is_some_and(|facts| turns.goes_on(name, facts)),
        _ => false,
    };
    let late: BTreeSet<StepId> = graph
        .steps()
        .filter(|step| brings(&step.id))
        .filter(|step| graph.is_selected(&step.id) && step.changes.iter().any(|change| !change.artifact.is_of_cluster()))
        .map(|step| step.id.clone())
        .collect();
    let refusals: Vec<OrderRefusal> =
        late.into_iter().map(|step| OrderRefusal::Overtakes { step, wanted, host: host.clone(), running }).collect();
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Secret;
    use crate::desired::kubelet::UNIT;
    use crate::facts::{FoundFile, FoundKind, FoundUnit};
    use crate::graph::Step;
    use crate::graph::tests::{file, object};
    use crate::names::{Digest, Mode, RemotePath};
    use crate::phase::Stage;
    use crate::standing::API_SERVER_MANIFEST;

    fn plan() -> Plan {
        let host = |name: &str, number: u32, role: &str| format!("  - {{name: {name}, address: 192.0.2.{number}, roles: [{role}]}}\n");
        let hosts = [host("a", 1, "control-plane"), host("b", 2, "control-plane"), host("w", 3, "worker")].concat();
        crate::yaml::read(&format!("version: 1\nkubernetes: {{version: v1.34.2}}\nbinaries: {{kubelet: {{upload: x}}}}\nendpoint: {{localProxy: {{}}}}\nhosts:\n{hosts}")).unwrap()
    }

    /// API servers of these versions, and a worker whose kubelet is the older one; a host without one was not seen.
    fn facts(running: &[(&str, &str)]) -> BTreeMap<HostName, Facts> {
        let one = |(host, version): &(&str, &str)| {
            let manifest = format!("{{spec: {{containers: [{{image: 'r/kube-apiserver:{version}'}}]}}}}");
            let kind = FoundKind::File { digest: Some(Digest::of(&manifest)), content: Some(Secret::new(manifest)) };
            let mut facts = Facts::default();
            facts.state.files.insert(RemotePath::fixed(API_SERVER_MANIFEST), FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind });
            (host.parse().unwrap(), facts)
        };
        let mut facts: BTreeMap<HostName, Facts> = running.iter().map(one).collect();
        facts.insert("w".parse().unwrap(), kubelet("v1.33.4"));
        facts
    }

    /// A host on which a kubelet of that version has run.
    fn kubelet(version: &str) -> Facts {
        let mut facts = Facts::default();
        facts.system.kubelet_version = version.into();
        facts.state.units.insert(UNIT.into(), FoundUnit { active: "active".into(), enabled: "enabled".into(), ..FoundUnit::default() });
        facts
    }

    fn step(phase: Phase, host: &str) -> Step {
        Step { changes: vec![file("/etc/x")], ..Step::empty(StepId { phase, target: Target::Host(host.parse().unwrap()) }) }
    }

    /// What is refused if only these hosts and phases are chosen; none means all.
    fn refused(running: &[(&str, &str)], steps: Vec<Step>, hosts: &[&str], phases: &[Phase]) -> Vec<String> {
        refused_by(&facts(running), &BTreeMap::new(), steps, hosts, phases)
    }

    fn refused_by(
        facts: &BTreeMap<HostName, Facts>,
        nodes: &BTreeMap<HostName, NodeSeen>,
        steps: Vec<Step>,
        hosts: &[&str],
        phases: &[Phase],
    ) -> Vec<String> {
        let plan = plan();
        let graph = StepGraph::build(&plan, Stage::Living, steps, &plan.limits).unwrap();
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let graph = graph.select(&hosts, &phases.iter().copied().collect()).unwrap();
        let refusals = check(&plan, facts, nodes, &graph).err().unwrap_or_default();
        refusals.iter().map(|refusal| format!("{refusal}; {}", refusal.hint())).collect()
    }

    const OLD: &[(&str, &str)] = &[("a", "v1.34.2"), ("b", "v1.33.4")];
    const NEW: &[(&str, &str)] = &[("a", "v1.34.2"), ("b", "v1.34.2")];

    #[test]
    fn a_kubelet_or_controller_does_not_overtake_an_api_server_that_is_left_out() {
        let kubelet = || vec![step(Phase::KubeletUpgrade, "w"), step(Phase::ControlPlane, "b")];
        let said = refused(OLD, kubelet(), &["w"], &[]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("kubelet-upgrade@w would bring v1.34.2 to it while the API server on b stays at v1.33.4; nothing may be newer"), "{said:?}");
        let both = || vec![step(Phase::Controllers, "a"), step(Phase::KubeletUpgrade, "w")];
        assert_eq!(refused(OLD, both(), &[], &[Phase::Controllers]).len(), 1);
        assert_eq!(refused(OLD, both(), &["a", "w"], &[]).len(), 2, "each step is named");
    }

    #[test]
    fn a_run_that_brings_the_api_server_too_may_go() {
        let steps = || vec![step(Phase::KubeletUpgrade, "w"), step(Phase::ControlPlane, "b")];
        assert_eq!(refused(OLD, steps(), &[], &[]), Vec::<String>::new());
        assert_eq!(refused(OLD, steps(), &["b", "w"], &[]), Vec::<String>::new());
        assert_eq!(refused(OLD, steps(), &["w"], &[Phase::Kubelet]), Vec::<String>::new(), "nothing late is chosen");
        assert_eq!(refused(NEW, steps(), &["w"], &[]), Vec::<String>::new(), "all API servers are there");
    }

    #[test]
    fn an_api_server_that_was_not_seen_counts_as_old() {
        let said = refused(&[("a", "v1.34.2")], vec![step(Phase::KubeletUpgrade, "w")], &["w"], &[]);
        assert!(said.len() == 1 && said[0].contains("while the API server on b was not seen"), "{said:?}");
    }

    #[test]
    fn other_settings_of_a_kubelet_are_no_version() {
        let settings = || vec![step(Phase::KubeletUpgrade, "w")];
        let mut facts = facts(&[("a", "v1.34.2")]);
        facts.insert("w".parse().unwrap(), kubelet("v1.34.2"));
        assert_eq!(refused_by(&facts, &BTreeMap::new(), settings(), &["w"], &[]), Vec::<String>::new());
        // The program is new already, what runs is not: a restart would bring it.
        let runs = NodeSeen { version: Some("v1.33.4".parse().unwrap()), ..NodeSeen::default() };
        let nodes = BTreeMap::from([("w".parse().unwrap(), runs)]);
        assert_eq!(refused_by(&facts, &nodes, settings(), &["w"], &[]).len(), 1);
    }

    #[test]
    fn giving_a_node_back_overtakes_nobody() {
        let back = Step { changes: vec![object("x")], ..step(Phase::KubeletUpgrade, "w") };
        assert_eq!(refused(OLD, vec![back], &["w"], &[]), Vec::<String>::new());
    }
}

//! What an upgrade would meet, found before anything is changed and told all at once. Pure: a function
//! of the plan, of what the probes saw, and of what the API says.
//!
//! An upgrade that was begun is judged more mildly: what it finds may be what it left.

use std::collections::{BTreeMap, BTreeSet};

use super::api_server;
use super::concerns::Concerns;
use super::snapshot;
use super::turns::NodeSeen;
use crate::artifact::Artifact;
use crate::artifact::maintenance::Maintenance;
use crate::cluster::maintenance::REMEDY;
use crate::facts::Facts;
use crate::change::Reason;
use crate::graph::{Step, StepGraph};
use crate::graph::rounds::is_of_upgrade;
use crate::names::{HostName, KubernetesVersion};
use crate::plan::Plan;
use crate::preflight::{Finding, Severity};

/// The names of these checks, for `preflight.ignore`.
pub const CHECK_NAMES: &[&str] =
    &["upgrade-deprecated-apis", "upgrade-eviction", "upgrade-kubelet-skew", "upgrade-node-ready", snapshot::CHECK, "upgrade-webhooks"];

/// How far a living cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything is of the plan's version.
    Done,
    /// So it is, but Nodes are drained for another reason.
    Settings,
    /// Nothing is yet; the oldest API server's version.
    Ahead(KubernetesVersion),
    /// Some parts are.
    Begun,
}

/// How far the cluster is on its way to the plan's version, for what the chosen steps of a run do.
#[must_use]
pub fn progress(plan: &Plan, facts: &BTreeMap<HostName, Facts>, graph: &StepGraph) -> Progress {
    let wanted = plan.kubernetes.version;
    let servers: Vec<KubernetesVersion> = facts.values().filter_map(api_server).collect();
    let chosen = graph.steps().filter(|step| is_of_upgrade(step.id.phase) && graph.is_selected(&step.id) && !step.changes.is_empty());
    let (settings, moves): (Vec<&Step>, Vec<&Step>) = chosen.partition(|step| is_of_settings(step));
    if moves.is_empty() && servers.iter().all(|version| *version == wanted) {
        return if settings.is_empty() { Progress::Done } else { Progress::Settings };
    }
    match servers.iter().min() {
        Some(oldest) if !servers.contains(&wanted) => Progress::Ahead(*oldest),
        _ => Progress::Begun,
    }
}

/// Whether a step takes care of a Node for its settings alone.
fn is_of_settings(step: &Step) -> bool {
    let any = |wanted: fn(&Reason) -> bool| step.changes.iter().any(|change| wanted(&change.reason));
    any(|reason| matches!(reason, Reason::Configuration { .. })) && !any(|reason| matches!(reason, Reason::Upgrade { .. }))
}

/// Nodes that the chosen steps of a run drain.
#[must_use]
pub fn drained(graph: &StepGraph) -> BTreeSet<HostName> {
    let chosen = graph.steps().filter(|step| graph.is_selected(&step.id)).flat_map(|step| &step.changes);
    let emptied = chosen.filter_map(|change| match &change.artifact {
        Artifact::Maintenance(Maintenance::Emptied { node, .. }) => Some(node.clone()),
        _ => None,
    });
    emptied.collect()
}

/// Everything that stands in the way or that a person should know.
#[must_use]
pub fn findings(
    plan: &Plan,
    progress: Progress,
    nodes: &BTreeMap<HostName, NodeSeen>,
    drained: &BTreeSet<HostName>,
    concerns: &Concerns,
) -> Vec<Finding> {
    if progress == Progress::Done {
        return Vec::new();
    }
    let wanted = plan.kubernetes.version;
    let mut findings = Vec::new();
    let of_version = progress != Progress::Settings;
    for (host, seen) in nodes {
        let mut found = |check, severity, message: String, hint: &str| {
            findings.push(Finding { host: Some(host.clone()), check, severity, message, hint: hint.to_owned() });
        };
        if let Some(kubelet) = seen.version.filter(|kubelet| of_version && kubelet.minor < oldest_kubelet(wanted)) {
            let message = format!("its kubelet {kubelet} is too old for API servers of {wanted}");
            let hint = format!("bring all kubelets to v{}.{} or later first", wanted.major, oldest_kubelet(wanted));
            found("upgrade-kubelet-skew", Severity::Error, message, &hint);
        }
        if of_version && !seen.ready {
            let severity = if matches!(progress, Progress::Ahead(_)) { Severity::Error } else { Severity::Warning };
            let hint = "mend it first (`slipway status` tells more), or take the host out of the plan";
            found("upgrade-node-ready", severity, "its Node is not ready".into(), hint);
        }
        for objection in seen.objections.iter().filter(|_| drained.contains(host)) {
            found("upgrade-eviction", Severity::Error, format!("its Node cannot be drained: {objection}"), REMEDY);
        }
    }
    let mut found = |check, message: String, hint: &str| {
        findings.push(Finding { host: None, check, severity: Severity::Warning, message, hint: hint.to_owned() });
    };
    for api in concerns.deprecated.iter().filter(|api| of_version && api.removed_in <= wanted.minor && !removed_before(api.removed_in, progress)) {
        let message = format!("{} is gone since v1.{}, and was asked for since the API servers started", api.name, api.removed_in);
        found("upgrade-deprecated-apis", message, "find who asks (the audit log names them) and move them to the API's successor");
    }
    for webhook in &concerns.webhooks {
        let message = format!("webhook {webhook} must answer before pods or Nodes may change (failurePolicy Fail)");
        found("upgrade-webhooks", message, "see that it runs on more than one Node, or pods may not start while its own is moved");
    }
    for finding in &mut findings {
        if plan.preflight.ignore.contains(finding.check) {
            finding.severity = Severity::Warning;
        }
    }
    findings.sort();
    findings
}

/// An API that the running version has no more cannot be lost.
fn removed_before(removed_in: u32, progress: Progress) -> bool {
    matches!(progress, Progress::Ahead(from) if removed_in <= from.minor)
}

/// The oldest minor release of kubelets beside API servers of that version (Kubernetes' version skew
/// policy: three before, and two until v1.27).
fn oldest_kubelet(api_servers: KubernetesVersion) -> u32 {
    api_servers.minor.saturating_sub(if api_servers.minor >= 28 { 3 } else { 2 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::concerns::DeprecatedApi;

    fn plan(more: &str) -> Plan {
        let text = format!("version: 1\nkubernetes: {{version: v1.34.2}}\n{more}hosts:\n  - {{name: a, address: 192.0.2.1, roles: [control-plane]}}\n");
        crate::yaml::read(&text).unwrap()
    }

    fn node(version: &str, ready: bool) -> NodeSeen {
        NodeSeen { version: version.parse().ok(), ready, ..NodeSeen::default() }
    }

    fn told(progress: Progress, more: &str) -> String {
        let blocked = NodeSeen { objections: vec!["pod n/p has no controller".into()], ..node("v1.33.4", true) };
        let nodes = [("a", node("v1.30.1", true)), ("b", node("v1.33.4", false)), ("c", blocked), ("d", node("v1.34.2", true))];
        let nodes = nodes.map(|(name, node)| (name.parse().unwrap(), node)).into();
        let api = |removed_in, name: &str| DeprecatedApi { removed_in, name: name.into() };
        let concerns = Concerns {
            deprecated: [api(32, "old.v1beta3"), api(34, "now.v1beta1"), api(35, "later.v1beta1")].into(),
            webhooks: ["guard/a.example".to_owned()].into(),
        };
        findings(&plan(more), progress, &nodes, &["c".parse().unwrap()].into(), &concerns).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn everything_is_told_at_once() {
        let ahead = Progress::Ahead("v1.33.4".parse().unwrap());
        insta::assert_snapshot!(told(ahead, ""));
        assert_eq!(told(Progress::Done, ""), "");
    }

    #[test]
    fn what_an_upgrade_left_does_not_stop_it_and_names_can_be_ignored() {
        assert!(told(Progress::Begun, "").contains("warning[upgrade-node-ready]: host b: its Node is not ready"), "{}", told(Progress::Begun, ""));
        let ignored = told(Progress::Begun, "preflight: {ignore: [upgrade-eviction, upgrade-kubelet-skew]}\n");
        assert!(!ignored.contains("error"), "{ignored}");
    }
}

//! How a cluster is: what probes, API servers and etcd members answered, folded into one value that
//! is printed as text or as JSON. Pure; nothing here asks anything. Whatever did not answer is a row
//! with its reason, never a missing row.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::etcd::{Member, MemberStatus};
use crate::facts::Facts;
use crate::names::{ClusterName, HostName, KubernetesVersion};
use crate::phase::Stage;
use crate::plan::Plan;

pub mod certificates;
mod etcd;
pub(crate) mod host;
pub(crate) mod text;
pub mod inventory;

pub use certificates::CertificateStatus;
pub use etcd::{EtcdStatus, MemberRow};
pub use host::{HostStatus, NodeStatus, UnitStatus};

/// Everything that was asked, with what was answered. A host that did not answer the probe is in
/// `absent` and nowhere else.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// What the probes saw.
    pub facts: BTreeMap<HostName, Facts>,
    /// Why hosts could not be probed.
    pub absent: BTreeMap<HostName, String>,
    /// Health of the kubelets.
    pub kubelets: BTreeMap<HostName, Answer>,
    /// `/readyz` of the API servers.
    pub api_servers: BTreeMap<HostName, Answer>,
    /// Health of the controller managers.
    pub controller_managers: BTreeMap<HostName, Answer>,
    /// Health of the schedulers.
    pub schedulers: BTreeMap<HostName, Answer>,
    /// The Nodes by name, or why no API server tells them; `None` if there is no cluster to ask.
    pub nodes: Option<Result<BTreeMap<String, Value>, String>>,
    /// Health of the etcd members.
    pub members_health: BTreeMap<HostName, Answer>,
    /// What each member says about itself.
    pub members_status: BTreeMap<HostName, Result<MemberStatus, String>>,
    /// The members as one of them knows them; `None` if there is no etcd of slipway's to ask.
    pub members: Option<Result<Vec<Member>, String>>,
}

/// Healthy, or what was seen instead.
pub type Answer = Result<(), String>;

/// How a cluster is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The Kubernetes version the plan wants.
    pub kubernetes_version: KubernetesVersion,
    /// `living`, `fresh` (no cluster was formed yet), or null if no host that would know answers.
    pub stage: Option<Stage>,
    /// All in all.
    pub verdict: Verdict,
    /// In the order of the plan.
    pub hosts: Vec<HostStatus>,
    /// etcd; null if somebody else runs it, or there is no cluster.
    pub etcd: Option<EtcdStatus>,
    /// What is wrong, one sentence each.
    pub problems: Vec<Problem>,
    /// What will be wrong, or should be looked at; it does not count for the verdict.
    pub warnings: Vec<Problem>,
}

/// All in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything is as it should be.
    Healthy,
    /// Something is not.
    Unhealthy,
    /// A host cannot be reached, so not everything was seen.
    Unreachable,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where; null if it is the cluster's.
    pub host: Option<HostName>,
    /// What.
    pub message: String,
}

impl Problem {
    fn on(host: &HostName, message: String) -> Self {
        Self { host: Some(host.clone()), message }
    }

    fn of_cluster(message: impl Into<String>) -> Self {
        Self { host: None, message: message.into() }
    }
}

/// Folds what was answered.
#[must_use]
pub fn fold(plan: &Plan, stage: Option<Stage>, answers: &Answers, now: Timestamp) -> Status {
    let living = stage == Some(Stage::Living);
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    match stage {
        Some(Stage::Fresh) => problems.push(Problem::of_cluster("there is no cluster yet; `slipway apply` makes it")),
        None => problems.push(Problem::of_cluster("no host that would know answers, so whether there is a cluster is unknown")),
        Some(Stage::Living) => {}
    }
    if let Some(Err(reason)) = &answers.nodes {
        // The hosts' own rows say why their API servers are not ready.
        let none_ready = !answers.api_servers.is_empty() && answers.api_servers.values().all(Result::is_err);
        let reason = if none_ready { "no API server is ready".to_owned() } else { brief(reason) };
        problems.push(Problem::of_cluster(format!("the Nodes are unknown: {reason}")));
    }
    let hosts: Vec<HostStatus> = plan.hosts.iter().map(|host| host::fold(plan, host, answers, now)).collect();
    for host in &hosts {
        problems.extend(host.problems(living).into_iter().map(|message| Problem::on(&host.name, message)));
        warnings.extend(host.warnings().into_iter().map(|message| Problem::on(&host.name, message)));
    }
    let etcd = living.then(|| etcd::fold(plan, answers)).flatten();
    if let Some(etcd) = &etcd {
        problems.extend(etcd.problems());
    }
    let verdict = if !answers.absent.is_empty() {
        Verdict::Unreachable
    } else if problems.is_empty() {
        Verdict::Healthy
    } else {
        Verdict::Unhealthy
    };
    let (cluster, kubernetes_version) = (plan.name.clone(), plan.kubernetes.version);
    Status { cluster, kubernetes_version, stage, verdict, hosts, etcd, problems, warnings }
}

/// The telling part of what a component said, on one line: of `/readyz`'s list, the failed checks.
fn brief(reason: &str) -> String {
    let failed: Vec<&str> = reason.lines().filter_map(|line| line.strip_prefix("[-]")).collect();
    let mut text = if failed.is_empty() { reason.lines().next().unwrap_or_default().trim().to_owned() } else { failed.join("; ") };
    if text.is_empty() {
        "it says it is not healthy".clone_into(&mut text);
    }
    text
}

#[cfg(test)]
mod tests;

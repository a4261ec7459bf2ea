//! One host: what it is, its units, its Node, its components and its certificates.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::certificates::{self, CertificateStatus};
use super::{Answer, Answers, brief};
use crate::desired::kubelet;
use crate::names::HostName;
use crate::plan::{Host, Plan, Role};

/// How a host is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// The host and its Node.
    pub name: HostName,
    /// The address other hosts reach it at.
    pub address: IpAddr,
    /// What it is for.
    pub roles: Vec<Role>,
    /// Why it could not be probed; null if it was.
    pub unreachable: Option<String>,
    /// The operating system, for people.
    pub os: String,
    /// The kernel's release.
    pub kernel: String,
    /// The container runtime with its version; the Node's word if there is one.
    pub runtime: String,
    /// The version of the kubelet that is installed; empty if there is none.
    pub kubelet_installed: String,
    /// Units that keep a node going.
    pub units: Vec<UnitStatus>,
    /// The Node; null if it is not known.
    pub node: Option<NodeStatus>,
    /// `ok` or what was seen instead, of the components the host runs: `kubelet`, `apiServer`,
    /// `controllerManager`, `scheduler`, `etcd`.
    pub components: BTreeMap<&'static str, String>,
    /// All certificates, the one that ends first at the front.
    pub certificates: Vec<CertificateStatus>,
}

/// A unit of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// Its name with suffix.
    pub name: String,
    /// `active`, `inactive`, `failed`, … or `missing`.
    pub active: String,
    /// Whether it starts with the host.
    pub enabled: bool,
}

/// What the API knows of a Node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Whether the Node is there.
    pub registered: bool,
    /// Whether its condition Ready is true.
    pub ready: bool,
    /// Why not; null if it is.
    pub reason: Option<String>,
    /// Whether new pods are kept away.
    pub cordoned: bool,
    /// The kubelet's version as it reported it.
    pub kubelet_version: String,
}

/// The word for a component that is healthy.
pub(super) const OK: &str = "ok";

/// The components in the order they are shown, with their names for people.
pub(super) const COMPONENTS: [(&str, &str); 5] = [
    ("kubelet", "kubelet"),
    ("apiServer", "API server"),
    ("controllerManager", "controller manager"),
    ("scheduler", "scheduler"),
    ("etcd", "etcd"),
];

/// Folds what was answered about one host.
pub(super) fn fold(plan: &Plan, host: &Host, answers: &Answers, now: Timestamp) -> HostStatus {
    let name = &host.name;
    let mut status = HostStatus {
        name: name.clone(),
        address: host.address,
        roles: host.roles.iter().copied().collect(),
        unreachable: answers.absent.get(name).cloned(),
        os: String::new(),
        kernel: String::new(),
        runtime: String::new(),
        kubelet_installed: String::new(),
        units: Vec::new(),
        node: None,
        components: BTreeMap::new(),
        certificates: Vec::new(),
    };
    let questions: [&BTreeMap<HostName, Answer>; 5] = [
        &answers.kubelets,
        &answers.api_servers,
        &answers.controller_managers,
        &answers.schedulers,
        &answers.members_health,
    ];
    for ((component, _), answers) in COMPONENTS.iter().zip(questions) {
        if let Some(answer) = answers.get(name) {
            let word = answer.as_ref().map_or_else(|reason| brief(reason), |()| OK.to_owned());
            status.components.insert(component, word);
        }
    }
    if let Some(facts) = answers.facts.get(name) {
        let system = &facts.system;
        status.os.clone_from(&system.os_name);
        status.kernel.clone_from(&system.kernel);
        if !system.containerd_version.is_empty() {
            status.runtime = format!("containerd {}", system.containerd_version);
        }
        status.kubelet_installed.clone_from(&system.kubelet_version);
        let mut units = vec![kubelet::UNIT];
        if plan.runtime.managed {
            units.push("containerd.service");
        }
        status.units = units
            .into_iter()
            .map(|unit| {
                let found = facts.state.units.get(unit).cloned().unwrap_or_default();
                let active = if found.enabled.is_empty() { "missing".to_owned() } else { found.active };
                UnitStatus { name: unit.to_owned(), active, enabled: found.enabled.starts_with("enabled") }
            })
            .collect();
        status.certificates = certificates::found(&facts.state, plan.pki.renew_before, now);
    }
    if host.is_node()
        && let Some(Ok(nodes)) = &answers.nodes
    {
        let found = nodes.get(name.as_str());
        if let Some(version) = found.and_then(|node| text(node, "/status/nodeInfo/containerRuntimeVersion")) {
            status.runtime = version.replacen("://", " ", 1);
        }
        status.node = Some(node_status(found));
    }
    status
}

fn text<'a>(node: &'a Value, pointer: &str) -> Option<&'a str> {
    node.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// What the API's Node says; `None` if there is none.
pub(crate) fn node_status(found: Option<&Value>) -> NodeStatus {
    let Some(node) = found else {
        let reason = Some("not registered".to_owned());
        return NodeStatus { registered: false, ready: false, reason, cordoned: false, kubelet_version: String::new() };
    };
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let condition = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let ready = condition.is_some_and(|condition| condition["status"] == "True");
    let said = condition.and_then(|condition| condition["message"].as_str());
    NodeStatus {
        registered: true,
        ready,
        reason: (!ready).then(|| said.map_or_else(|| "the kubelet has not reported yet".to_owned(), brief)),
        cordoned: node.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false),
        kubelet_version: text(node, "/status/nodeInfo/kubeletVersion").unwrap_or_default().to_owned(),
    }
}

impl HostStatus {
    /// The leaf certificate, or with `authority` the CA certificate, that ends first.
    pub(super) fn first_to_end(&self, authority: bool) -> Option<&CertificateStatus> {
        self.certificates.iter().find(|certificate| certificate.authority == authority)
    }

    /// What is wrong. Before there is a cluster, only what keeps the host from being seen.
    pub(super) fn problems(&self, living: bool) -> Vec<String> {
        if let Some(reason) = &self.unreachable {
            return vec![format!("unreachable: {}", brief(reason))];
        }
        if !living {
            return Vec::new();
        }
        let mut problems: Vec<String> = self
            .units
            .iter()
            .filter(|unit| unit.active != "active")
            .map(|unit| format!("unit {} is {}", unit.name, unit.active))
            .collect();
        if let Some(node) = self.node.as_ref().filter(|node| !node.ready) {
            let reason = node.reason.as_deref().unwrap_or_default();
            problems.push(if node.registered { format!("the Node is not ready: {reason}") } else { "there is no such Node".into() });
        }
        for (component, name) in COMPONENTS {
            if let Some(seen) = self.components.get(component).filter(|seen| *seen != OK) {
                problems.push(format!("{name}: {seen}"));
            }
        }
        let broken = self.certificates.iter().filter_map(|certificate| Some((certificate, certificate.problem.as_ref()?)));
        problems.extend(broken.map(|(certificate, problem)| format!("certificate {}: {problem}", certificate.name)));
        problems
    }

    /// What will be wrong.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for certificate in self.certificates.iter().filter(|certificate| certificate.due && certificate.problem.is_none()) {
            let days = certificate.days_left.unwrap_or_default();
            warnings.push(format!("certificate {} ends in {days} days", certificate.name));
        }
        for unit in self.units.iter().filter(|unit| unit.active == "active" && !unit.enabled) {
            warnings.push(format!("unit {} does not start with the host", unit.name));
        }
        if let Some(node) = &self.node {
            let (reported, installed) = (&node.kubelet_version, &self.kubelet_installed);
            if !reported.is_empty() && !installed.is_empty() && reported != installed {
                warnings.push(format!("kubelet {installed} is installed, but {reported} runs"));
            }
            if node.cordoned {
                warnings.push("the Node is cordoned: new pods are kept away".into());
            }
        }
        warnings
    }
}

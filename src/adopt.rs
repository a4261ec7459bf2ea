//! A plan for a cluster that kubeadm made: what its objects and hosts say, in the words of a plan
//! file. Pure: the shell (`cli/adopt.rs`) reads, this decides, and nothing is written on any host.
//!
//! What runs decides, not what kubeadm once was told: manifests and files of hosts go before the
//! ConfigMaps. Each step renders what slipway would write so far and puts what differs into fields of
//! the plan, the most meaningful first: fields with a name, then flags, volumes and variables, then
//! patches. What no field can say is in `Adoption::left`, with the reason; nothing is left out silently.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::facts::Facts;
use crate::names::HostName;
use crate::plan::problem::Severity;
use crate::plan::{Plan, load, report};
use crate::release::{Release, UnsupportedRelease};
use crate::standing::API_SERVER_MANIFEST;
use crate::trust::inspect;
use crate::{names, paths};

mod addons;
mod base;
pub mod components;
mod kubelets;
pub mod nodes;
pub mod operations;
mod shared;
pub(crate) mod units;

/// What the API of a cluster said. Objects are as the API returns them.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// All Nodes.
    pub nodes: Vec<Value>,
    /// `ClusterConfiguration` of the ConfigMap kube-system/kubeadm-config.
    pub cluster_configuration: Value,
    /// ConfigMap kube-system/kube-proxy.
    pub kube_proxy: Option<Value>,
    /// ConfigMap kube-system/coredns.
    pub core_dns: Option<Value>,
    /// Deployment kube-system/coredns.
    pub core_dns_deployment: Option<Value>,
}

/// Everything that was read of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// What the API said.
    pub objects: &'a Objects,
    /// What the hosts are and have, by the name of their Node.
    pub facts: &'a BTreeMap<HostName, Facts>,
    /// The plan's `ssh`: how hosts are reached.
    pub ssh: &'a Value,
    /// `ssh` of single hosts, by the name of their Node.
    pub host_ssh: &'a BTreeMap<HostName, Value>,
}

/// Something that the plan does not say, or that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remainder {
    /// Where it is: a host and a file, or an object.
    pub place: String,
    /// What it is and what becomes of it.
    pub reason: String,
}

/// The plan of a cluster, and what it does not say.
#[derive(Debug, Clone)]
pub struct Adoption {
    /// The plan file.
    pub text: String,
    /// The same, checked.
    pub plan: Plan,
    /// What the plan does not say.
    pub left: Vec<Remainder>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// slipway does not know that Kubernetes.
    #[error(transparent)]
    Release(#[from] UnsupportedRelease),
    /// Something the plan is made of is not as kubeadm makes it.
    #[error("{place}: {reason}")]
    Unreadable {
        /// Where.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The API servers listen on a port that a plan cannot say.
    #[error("the API server of {host} listens on port {port}; slipway's listen on 6443")]
    Port {
        /// Which host.
        host: HostName,
        /// Its port.
        port: String,
    },
    /// A plan needs an odd number of members, so that losing one is worth something.
    #[error("the cluster has {count} control planes with etcd ({hosts}), and a plan has an odd number of members: {count} survive no more losses than {}", count - 1)]
    EvenMembers {
        /// How many.
        count: usize,
        /// On which hosts.
        hosts: String,
    },
    /// What was read makes no valid plan.
    #[error("what was read makes no valid plan: {0}")]
    Invalid(String),
}

impl AdoptError {
    fn unreadable(place: impl ToString, reason: impl ToString) -> Self {
        Self::Unreadable { place: place.to_string(), reason: reason.to_string() }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::EvenMembers { .. } => {
                "let one more control plane join (`kubeadm join --control-plane`) or take one out (`kubeadm reset` on it, then \
                 `kubectl delete node`), and adopt the cluster then; nothing was changed"
            }
            _ => "nothing was changed",
        }
    }
}

/// A plan that grows: the document of the file, and what could not be put into it.
struct Draft {
    document: Value,
    left: Vec<Remainder>,
}

impl Draft {
    /// The plan as it is now.
    fn plan(&self) -> Result<Plan, AdoptError> {
        serde_json::from_value(self.document.clone()).map_err(|error| AdoptError::Invalid(error.to_string()))
    }

    /// The object below these keys, made if it is not there.
    fn object(&mut self, keys: &[&str]) -> &mut Map<String, Value> {
        let mut value = &mut self.document;
        for key in keys {
            value = &mut value[*key];
        }
        if !value.is_object() {
            *value = json!({});
        }
        value.as_object_mut().expect("it was just made one")
    }

    /// The entry of a host.
    fn host(&mut self, name: &HostName) -> Option<&mut Value> {
        self.document["hosts"].as_array_mut()?.iter_mut().find(|host| host["name"] == name.as_str())
    }

    fn leave(&mut self, place: impl ToString, reason: impl ToString) {
        self.left.push(Remainder { place: place.to_string(), reason: reason.to_string() });
    }
}

/// Writes the plan of a cluster.
///
/// # Errors
/// The cluster is none that a plan can describe at all.
pub fn adopt(found: &Found<'_>) -> Result<Adoption, AdoptError> {
    let mut draft = Draft { document: base::document(found)?, left: Vec::new() };
    let release = Release::of(draft.plan()?.kubernetes.version)?;
    check_ports(found)?;
    check_members(&draft.plan()?)?;
    nodes::fill(&mut draft, found, &release)?;
    components::images(&mut draft, found, &release)?;
    kubelets::pause_image(&mut draft, found, &release)?;
    components::fill(&mut draft, found, &release)?;
    kubelets::fill(&mut draft, found, &release)?;
    addons::fill(&mut draft, found, &release)?;
    base::names(&mut draft, found)?;
    finish(draft)
}

/// The fingerprint of a host's cluster CA.
#[must_use]
pub fn fingerprint(facts: &Facts) -> Option<names::Digest> {
    let bytes = facts.state.content(&paths::ca_certificate())?;
    inspect::certificate(bytes).ok().map(|certificate| certificate.fingerprint())
}

fn check_ports(found: &Found<'_>) -> Result<(), AdoptError> {
    for (host, facts) in found.facts {
        let Some(text) = facts.state.text(&names::RemotePath::fixed(API_SERVER_MANIFEST)) else { continue };
        let port = components::flag(text, "secure-port").unwrap_or_else(|| "6443".to_owned());
        if port != "6443" {
            return Err(AdoptError::Port { host: host.clone(), port });
        }
    }
    Ok(())
}

fn check_members(plan: &Plan) -> Result<(), AdoptError> {
    let hosts: Vec<&str> = plan.etcd_hosts().map(|host| host.name.as_str()).collect();
    if !hosts.is_empty() && hosts.len().is_multiple_of(2) {
        return Err(AdoptError::EvenMembers { count: hosts.len(), hosts: hosts.join(", ") });
    }
    Ok(())
}

/// The text, after everything that a plan must not say was taken out and told: `load` decides what
/// that is, so a plan that is written is one that is read.
fn finish(mut draft: Draft) -> Result<Adoption, AdoptError> {
    loop {
        let text = text(&mut draft);
        let problems = match load::parse(&text) {
            Ok((plan, _)) => return Ok(Adoption { text, plan, left: draft.left }),
            Err(problems) => problems,
        };
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        let Some(problem) = errors.into_iter().find(|problem| may_go(&problem.path.to_string())) else {
            return Err(AdoptError::Invalid(format!("\n{}", report::render(&problems, &text, "plan", false))));
        };
        let before = draft.document.clone();
        problem.path.remove_from(&mut draft.document);
        if draft.document == before {
            return Err(AdoptError::Invalid(format!("\n{}", report::render(&problems, &text, "plan", false))));
        }
        draft.leave(&problem.path, format!("a plan must not say what the cluster has there ({})", problem.message));
    }
}

/// Whether a field that is no good may be left out: settings of components and marks of Nodes, and
/// nothing that says what the cluster is.
fn may_go(path: &str) -> bool {
    let settings = ["kubelet.", "kubeProxy.", "coreDns.", "apiServer.", "controllerManager.", "scheduler.", "etcd.extra"];
    let of_host = path.strip_prefix("hosts[").and_then(|path| path.split_once("].")).map(|(_, path)| path);
    settings.iter().any(|setting| path.starts_with(setting))
        || of_host.is_some_and(|path| ["kubelet.", "labels.", "taints"].iter().any(|field| path.starts_with(field)))
}

fn text(draft: &mut Draft) -> String {
    draft.left.sort();
    draft.left.dedup();
    let mut text = String::from(
        "# Written by `slipway adopt` from a cluster that kubeadm made. `slipway diff` shows what `slipway apply`\n\
         # would change. `pki.adopted` says whose hosts these are; it can stay.\n",
    );
    for Remainder { place, reason } in &draft.left {
        let line: String = format!("{place}: {reason}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str(&format!("# Not in this plan: {line}\n"));
    }
    text.push_str(&crate::yaml::write(&draft.document));
    text
}

#[cfg(test)]
mod tests;

//! What keeps hosts that left the plan from being taken out of the cluster. Found before anything is
//! changed, and told all at once. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Departing, is_drained, may_have_member};
use crate::cluster::etcd::Member;
use crate::cluster::maintenance::REMEDY;
use crate::facts::Facts;
use crate::names::{HostName, KubernetesVersion};
use crate::plan::Plan;
use crate::standing::member_of;
use crate::upgrade::api_server;

/// Why hosts that left the plan are not taken out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rest of etcd could not go on.
    #[error("without {leaving}, which left the plan, etcd would lose its quorum: {healthy} of the {left} members that stay are healthy, {needed} are needed")]
    Quorum {
        /// Hosts that leave with a member.
        leaving: String,
        /// Members that stay and are healthy.
        healthy: usize,
        /// Members that stay.
        left: usize,
        /// How many make their quorum.
        needed: usize,
    },
    /// Nobody tells who etcd's members are.
    #[error("{leaving} left the plan with a member of etcd, and nobody tells who its members are: {reason}")]
    MembersUnseen {
        /// Hosts that leave.
        leaving: String,
        /// Why nobody does.
        reason: String,
    },
    /// Nobody would serve the API.
    #[error("without {leaving}, which left the plan, no API server of the plan would be there")]
    LastControlPlane {
        /// Control planes that leave.
        leaving: String,
    },
    /// A Node cannot be drained.
    #[error("host {host} left the plan, and its Node cannot be drained: {objection}")]
    Eviction {
        /// Which host.
        host: HostName,
        /// Which pod, and why.
        objection: String,
    },
    /// Its API server would be left behind by an upgrade.
    #[error("host {host} left the plan while the cluster goes to {wanted}: its API server is {found}, and nothing may be newer than an API server")]
    Upgrade {
        /// Which host.
        host: HostName,
        /// The version of its API server.
        found: KubernetesVersion,
        /// The plan's.
        wanted: KubernetesVersion,
    },
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Quorum { .. } | Self::MembersUnseen { .. } => {
                "mend the members that stay first, or put the hosts back into the plan; `slipway status` shows them"
            }
            Self::LastControlPlane { .. } => {
                "put a control plane back into the plan and let its successor join first; `slipway reset` without `--host` ends a cluster"
            }
            Self::Eviction { .. } => REMEDY,
            Self::Upgrade { .. } => "one after the other: take hosts out with the version the cluster has, then change the version",
        }
    }
}

/// All reasons to refuse. `healthy` are hosts whose members are; `servers` control planes that have an API
/// server.
#[must_use]
pub fn refusals(
    plan: &Plan,
    departing: &[Departing],
    members: Result<&[Member], &str>,
    healthy: &BTreeSet<HostName>,
    servers: &BTreeSet<HostName>,
    facts: &BTreeMap<HostName, Facts>,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let names = |wanted: &dyn Fn(&Departing) -> bool| -> String {
        let names: Vec<&str> = departing.iter().filter(|departing| wanted(departing)).map(|departing| departing.host.name.as_str()).collect();
        names.join(", ")
    };
    let with_member = names(&|departing| departing.member.is_some());
    match members {
        Ok(members) if !with_member.is_empty() => {
            let goes = |member: &Member| departing.iter().any(|departing| member_of(&departing.host, std::slice::from_ref(member)).is_some());
            let left: Vec<&Member> = members.iter().filter(|member| !member.learner && !goes(member)).collect();
            let is_healthy = |member: &&&Member| {
                plan.etcd_hosts().any(|host| healthy.contains(&host.name) && member_of(host, std::slice::from_ref(**member)).is_some())
            };
            let (good, needed) = (left.iter().filter(is_healthy).count(), left.len() / 2 + 1);
            if good < needed {
                refusals.push(Refusal::Quorum { leaving: with_member, healthy: good, left: left.len(), needed });
            }
        }
        Ok(_) => {}
        Err(reason) => {
            let could_have = names(&|departing| may_have_member(plan, &departing.host));
            if !could_have.is_empty() {
                refusals.push(Refusal::MembersUnseen { leaving: could_have, reason: reason.to_owned() });
            }
        }
    }
    let control_planes = names(&|departing| departing.host.is_control_plane());
    if !control_planes.is_empty() && !servers.iter().any(|host| facts.contains_key(host)) {
        refusals.push(Refusal::LastControlPlane { leaving: control_planes });
    }
    let wanted = plan.kubernetes.version;
    for departing in departing {
        let host = || departing.host.name.clone();
        if is_drained(plan, departing) {
            let objections = departing.node.iter().flat_map(|node| &node.objections);
            refusals.extend(objections.map(|objection| Refusal::Eviction { host: host(), objection: objection.clone() }));
        }
        if let super::Machine::Found(facts) = &departing.machine
            && let Some(found) = api_server(facts).filter(|found| *found != wanted)
        {
            refusals.push(Refusal::Upgrade { host: host(), found, wanted });
        }
    }
    refusals
}

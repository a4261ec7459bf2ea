//! Who etcd's members are and how each is started: as found, as first members of a new cluster, or
//! on the way into a living one. Pure.
//!
//! A living cluster is asked for its list of members; beside what hosts have of data that decides
//! all there is to decide, so a join that was cut off anywhere is continued:
//!
//! | data on the host | in etcd's list | then |
//! |---|---|---|
//! | yes | a member with a vote | as it is |
//! | yes | a learner | it gets its vote |
//! | yes | nothing | refused: it was removed, and etcd never takes it back |
//! | no | nothing | announced as learner, started, gets its vote |
//! | no | a learner that never started | started, gets its vote |
//! | no | a member with a vote that never started | started |
//! | no | a member that was started | its data is gone: removed, then like nothing |

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{ETCD_MANIFEST, InitialCluster, Refusal, Standing, peer_url};
use crate::artifact::membership::Membership;
use crate::cluster::etcd::{Member, MemberId};
use crate::facts::{Facts, State};
use crate::names::{HostName, RemotePath};
use crate::phase::Stage;
use crate::plan::{Host, Plan};
use crate::yaml;

/// What is left of a host's way into the membership of an etcd that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// It is to be announced. `None` if an earlier run did.
    pub announce: Option<Membership>,
    /// It is to get its vote. `None` if it was announced with one (as kubeadm did before 1.29).
    pub vote: Option<Membership>,
}

impl Join {
    /// Whether etcd's list already has a member for the host: until this one is well, no other member
    /// should be touched.
    #[must_use]
    pub fn is_repair(membership: &Membership) -> bool {
        match membership {
            Membership::Learner { replaces, .. } => replaces.is_some(),
            Membership::Voter { .. } => true,
        }
    }
}

/// What a manifest says about its member.
struct Manifest {
    initial: Option<InitialCluster>,
    data_directory: Option<String>,
}

fn manifest(state: &State) -> Option<Manifest> {
    let pod: Value = yaml::read(state.text(&RemotePath::fixed(ETCD_MANIFEST))?).ok()?;
    let command = pod.pointer("/spec/containers/0/command")?.as_array()?;
    let flag = |name: &str| {
        command.iter().filter_map(Value::as_str).find_map(|argument| argument.strip_prefix(name)).map(str::to_owned)
    };
    let state = match flag("--initial-cluster-state=").as_deref() {
        Some("existing") => Some("existing"),
        Some(_) => Some("new"),
        None => None,
    };
    let initial = flag("--initial-cluster=").map(|members| InitialCluster { members, state });
    Some(Manifest { initial, data_directory: flag("--data-dir=") })
}

/// All members of the plan, started together.
fn together(plan: &Plan) -> InitialCluster {
    let members: Vec<String> = plan.etcd_hosts().map(|host| format!("{}={}", host.name, peer_url(host))).collect();
    InitialCluster { members: members.join(","), state: Some("new") }
}

/// The members of a cluster that is formed. One that started with others already cannot be told.
pub(super) fn first_members(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    refusals: &mut Vec<Refusal>,
) -> BTreeMap<HostName, InitialCluster> {
    let wanted = together(plan);
    for host in plan.etcd_hosts() {
        let Some(state) = facts.get(&host.name).map(|facts| &facts.state).filter(|state| state.etcd_data) else { continue };
        let found = manifest(state).and_then(|manifest| manifest.initial).map(|initial| initial.members);
        if let Some(found) = found.filter(|found| *found != wanted.members) {
            refusals.push(Refusal::OtherMembers { host: host.name.clone(), found, wanted: wanted.members.clone() });
        }
    }
    plan.etcd_hosts().map(|host| (host.name.clone(), wanted.clone())).collect()
}

/// The members of a living cluster as their manifests have them. A host that has data and no
/// manifest gets one: etcd takes its membership from its data.
pub(super) fn as_started(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    refusals: &mut Vec<Refusal>,
) -> BTreeMap<HostName, InitialCluster> {
    let mut members = BTreeMap::new();
    for host in plan.etcd_hosts() {
        let found = facts.get(&host.name).and_then(|facts| manifest(&facts.state));
        let elsewhere = found.as_ref().and_then(|manifest| manifest.data_directory.clone());
        if let Some(found) = elsewhere.filter(|found| *found != plan.etcd.data_directory.as_str()) {
            refusals.push(Refusal::DataElsewhere { host: host.name.clone(), found, wanted: plan.etcd.data_directory.clone() });
        }
        let initial = found.and_then(|manifest| manifest.initial);
        members.insert(host.name.clone(), initial.unwrap_or_else(|| together(plan)));
    }
    members
}

/// A host that is to be started as a member that etcd knows of.
struct Joiner<'a> {
    host: &'a Host,
    /// What etcd's list has for it.
    known: Option<&'a Member>,
    has_data: bool,
}

impl Joiner<'_> {
    /// Its old member, which has data that is gone.
    fn replaces(&self) -> Option<MemberId> {
        self.known.filter(|member| !self.has_data && !member.name.is_empty()).map(|member| member.id)
    }

    fn is_announced(&self) -> bool {
        self.known.is_some() && self.replaces().is_none()
    }
}

impl Standing {
    /// The same with what etcd says about its members, or why nobody says anything. `chosen` are the
    /// hosts that this run works on; empty means all.
    ///
    /// # Errors
    /// All reasons to refuse.
    pub fn with_members(
        mut self,
        plan: &Plan,
        facts: &BTreeMap<HostName, Facts>,
        members: Result<&[Member], String>,
        chosen: &[HostName],
    ) -> Result<Self, Vec<Refusal>> {
        if self.stage == Stage::Fresh {
            return Ok(self);
        }
        let (mut refusals, mut joiners) = (Vec::new(), Vec::new());
        for host in plan.etcd_hosts() {
            let Some(state) = facts.get(&host.name).map(|facts| &facts.state) else { continue };
            let members = match &members {
                Ok(members) => *members,
                Err(reason) if !state.etcd_data && manifest(state).is_none() => {
                    refusals.push(Refusal::MembersUnseen { host: host.name.clone(), reason: reason.clone() });
                    continue;
                }
                // It was a member once, and what it is now can be told when etcd answers.
                Err(_) => continue,
            };
            let joiner = Joiner { host, known: member_of(host, members), has_data: state.etcd_data };
            match joiner.known {
                Some(member) if joiner.has_data && !member.learner => {}
                None if joiner.has_data => refusals.push(Refusal::Removed { host: host.name.clone() }),
                _ => joiners.push(joiner),
            }
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        if let Ok(members) = members {
            self.order_in(plan, members, joiners, chosen);
        }
        Ok(self)
    }

    /// Hosts whose member was started once and whose data is not there: it would be replaced.
    #[must_use]
    pub fn data_gone(&self) -> BTreeSet<HostName> {
        let is_gone = |join: &Join| matches!(join.announce, Some(Membership::Learner { replaces: Some(_), .. }));
        self.joins.iter().filter(|(_, join)| is_gone(join)).map(|(host, _)| host.clone()).collect()
    }

    /// One after another: each is started with the members that there are when its turn comes.
    /// Members without data first, then those that come new; what is not chosen comes in a later run.
    fn order_in(&mut self, plan: &Plan, members: &[Member], mut joiners: Vec<Joiner<'_>>, chosen: &[HostName]) {
        let is_chosen = |joiner: &Joiner<'_>| chosen.is_empty() || chosen.contains(&joiner.host.name);
        joiners.sort_by_key(|joiner| (!is_chosen(joiner), joiner.known.is_none(), joiner.host.is_control_plane()));
        let mut present: BTreeMap<MemberId, Vec<(String, String)>> = members
            .iter()
            .map(|member| (member.id, member.peer_urls.iter().map(|url| (name_of(plan, member), url.clone())).collect()))
            .collect();
        let mut joined: Vec<(String, String)> = Vec::new();
        for joiner in joiners {
            let (name, url) = (joiner.host.name.clone(), peer_url(joiner.host));
            if let Some(old) = joiner.replaces() {
                present.remove(&old);
            }
            if !joiner.is_announced() {
                joined.push((name.to_string(), url.clone()));
            }
            let all: BTreeSet<&(String, String)> = present.values().flatten().chain(&joined).collect();
            let mut peers: Vec<String> = all.iter().map(|(_, url)| url.clone()).collect();
            peers.sort();
            let learner = || Membership::Learner { host: name.clone(), peer_url: url.clone(), replaces: joiner.replaces(), peers };
            let announced_voter = joiner.is_announced() && joiner.known.is_some_and(|member| !member.learner);
            let join = Join {
                announce: (!joiner.is_announced()).then(learner),
                vote: (!announced_voter).then(|| Membership::Voter { host: name.clone(), peer_url: url.clone() }),
            };
            // A learner that has data ignores how it was started.
            if !joiner.has_data {
                let list: Vec<String> = all.iter().map(|(name, url)| format!("{name}={url}")).collect();
                let initial = InitialCluster { members: list.join(","), state: Some("existing") };
                self.etcd.insert(name.clone(), initial);
            }
            self.joins.insert(name, join);
        }
    }
}

/// Members on no host of the plan, by their names or, if they never started, their peer URLs. They
/// count for the quorum, and nobody can see how they are.
#[must_use]
pub fn strangers(plan: &Plan, members: &[Member]) -> Vec<String> {
    let known: Vec<MemberId> = plan.etcd_hosts().filter_map(|host| member_of(host, members)).map(|member| member.id).collect();
    let strangers = members.iter().filter(|member| !known.contains(&member.id));
    let text = |member: &Member| match member.name.as_str() {
        "" => member.peer_urls.join(", "),
        name => format!("{name} ({})", member.peer_urls.join(", ")),
    };
    strangers.map(text).collect()
}

/// The member of a host: the one with its URL, else one with its name (the host's address changed).
#[must_use]
pub fn member_of<'a>(host: &Host, members: &'a [Member]) -> Option<&'a Member> {
    let url = peer_url(host);
    let at = members.iter().find(|member| member.peer_urls.contains(&url));
    at.or_else(|| members.iter().find(|member| member.name == host.name.as_str()))
}

/// A member that never started has no name yet; etcd only compares the URLs.
fn name_of(plan: &Plan, member: &Member) -> String {
    if !member.name.is_empty() {
        return member.name.clone();
    }
    let host = plan.etcd_hosts().find(|host| member.peer_urls.contains(&peer_url(host)));
    host.map_or_else(|| format!("member-{}", member.id), |host| host.name.to_string())
}

#[cfg(test)]
mod tests;

//! The members of etcd, side by side.

use serde::Serialize;

use super::{Answers, Problem, brief};
use crate::cluster::etcd::{Member, MemberId};
use crate::names::HostName;
use crate::plan::{Host, Plan};
use crate::standing::peer_url;

/// etcd as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdStatus {
    /// Members that have a vote.
    pub voters: usize,
    /// How many of them are healthy.
    pub healthy: usize,
    /// How many must be for etcd to accept writes.
    pub quorum: usize,
    /// All members, known to etcd or only to the plan.
    pub members: Vec<MemberRow>,
    /// Why the members cannot be listed; the rows are then those of the plan. Null if they can.
    pub unlisted: Option<String>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberRow {
    /// Its host; null if it is on no host of the plan.
    pub host: Option<HostName>,
    /// Its name; empty if it was never started.
    pub name: String,
    /// Its number in hexadecimal digits; null if it is unknown.
    pub id: Option<MemberId>,
    /// What it is.
    pub role: MemberRole,
    /// etcd's version; empty if the member does not answer.
    pub version: String,
    /// Bytes of its database file; null if it does not answer.
    pub database_bytes: Option<u64>,
    /// Entries it is behind the furthest member; null if it does not answer.
    pub lag: Option<u64>,
    /// `ok` or what was seen instead.
    pub health: String,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// It leads.
    Leader,
    /// It votes.
    Voter,
    /// It has no vote yet.
    Learner,
    /// etcd does not know it.
    Stranger,
}

/// Folds what was answered about etcd; `None` if nobody was asked.
pub(super) fn fold(plan: &Plan, answers: &Answers) -> Option<EtcdStatus> {
    let listed = answers.members.as_ref()?;
    let members: &[Member] = listed.as_deref().unwrap_or_default();
    let furthest = answers.members_status.values().flatten().map(|status| status.raft_index).max().unwrap_or(0);
    let mut rows: Vec<MemberRow> = plan
        .etcd_hosts()
        .map(|host| {
            let member = members.iter().find(|member| is_on(member, host));
            row_of_host(host, member, listed.is_ok(), answers, furthest)
        })
        .collect();
    let elsewhere = members.iter().filter(|member| !plan.etcd_hosts().any(|host| is_on(member, host)));
    rows.extend(elsewhere.map(|member| MemberRow {
        host: None,
        name: member.name.clone(),
        id: Some(member.id),
        role: if member.learner { MemberRole::Learner } else { MemberRole::Voter },
        version: String::new(),
        database_bytes: None,
        lag: None,
        health: format!("on no host of the plan ({})", member.peer_urls.join(", ")),
    }));
    let is_voter = |row: &&MemberRow| matches!(row.role, MemberRole::Leader | MemberRole::Voter);
    let voters = rows.iter().filter(is_voter).count();
    Some(EtcdStatus {
        voters,
        healthy: rows.iter().filter(is_voter).filter(|row| row.health == super::host::OK).count(),
        quorum: voters / 2 + 1,
        members: rows,
        unlisted: listed.as_ref().err().map(|reason| brief(reason)),
    })
}

/// kubeadm and slipway name members after their hosts; before its first start a member has no name.
fn is_on(member: &Member, host: &Host) -> bool {
    member.name == host.name.as_str() || member.peer_urls.iter().any(|url| *url == peer_url(host))
}

fn row_of_host(host: &Host, member: Option<&Member>, listed: bool, answers: &Answers, furthest: u64) -> MemberRow {
    let status = answers.members_status.get(&host.name).and_then(|status| status.as_ref().ok());
    let health = match answers.members_health.get(&host.name) {
        Some(Ok(())) => super::host::OK.to_owned(),
        Some(Err(reason)) => brief(reason),
        None => "the host is unreachable".to_owned(),
    };
    let learner = member.is_some_and(|member| member.learner) || status.is_some_and(|status| status.is_learner);
    let role = match status {
        _ if listed && member.is_none() => MemberRole::Stranger,
        _ if learner => MemberRole::Learner,
        Some(status) if status.leads() => MemberRole::Leader,
        _ => MemberRole::Voter,
    };
    MemberRow {
        host: Some(host.name.clone()),
        name: member.map_or_else(String::new, |member| member.name.clone()),
        id: member.map(|member| member.id).or_else(|| status.map(|status| status.member())),
        role,
        version: status.map_or_else(String::new, |status| status.version.clone()),
        database_bytes: status.map(|status| status.db_size),
        lag: status.map(|status| furthest.saturating_sub(status.raft_index)),
        health,
    }
}

impl EtcdStatus {
    /// What is wrong that no host's own row says.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(reason) = &self.unlisted {
            problems.push(Problem::of_cluster(format!("etcd's members cannot be listed: {reason}")));
        }
        if self.healthy < self.quorum {
            let Self { voters, healthy, quorum, .. } = self;
            problems.push(Problem::of_cluster(format!("etcd has no quorum: {healthy} of {voters} members are healthy, {quorum} needed")));
        }
        if self.unlisted.is_none() && self.healthy >= self.quorum && !self.members.iter().any(|row| row.role == MemberRole::Leader) {
            problems.push(Problem::of_cluster("no etcd member that answers leads"));
        }
        for row in &self.members {
            match (row.role, &row.host) {
                (MemberRole::Stranger, Some(host)) => problems.push(Problem::on(host, "etcd does not know a member of this host".into())),
                (MemberRole::Learner, host) => problems.push(Problem {
                    host: host.clone(),
                    message: format!("etcd member {} has no vote yet", if row.name.is_empty() { "without a name" } else { &row.name }),
                }),
                (_, None) => problems.push(Problem::of_cluster(format!(
                    "etcd member {} ({}) is {}",
                    row.name,
                    row.id.unwrap_or_default(),
                    row.health
                ))),
                _ => {}
            }
        }
        problems
    }
}

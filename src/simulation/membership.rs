//! etcd's membership as each of its members lets it be changed, behind the same trait as the real one,
//! so that the engine's own way of announcing, promoting and removing is what is tried. Each change is
//! checked: it is the only one at a time, takes no quorum away, and no API server still asks who is removed.
//!
//! The refusals are etcd's (server/etcdserver/server.go, with the strict check of reconfigurations that
//! is its default): one learner at a time, none while a voter is away; a vote only for a learner that
//! has started; no removal that leaves fewer voters up than the rest needs.

use std::time::Duration;

use crate::cluster::ClusterError;
use crate::cluster::etcd::{Member, MemberId, MemberStatus, MembershipApi};
use crate::names::{Digest, HostName};

use super::etcd::EtcdCluster;
use super::{SharedWorld, World};

/// How long a change takes until all members have it.
const AGREEMENT: Duration = Duration::from_millis(200);
/// How long a question takes.
const QUESTION: Duration = Duration::from_millis(10);

/// The member of etcd on a host, as the engine speaks to it.
#[derive(Debug, Clone)]
pub struct SimulatedMember {
    world: SharedWorld,
    host: HostName,
}

impl SimulatedMember {
    pub(super) fn new(world: SharedWorld, host: HostName) -> Self {
        Self { world, host }
    }

    /// Asks the member something, if it answers at all.
    async fn ask<A>(&self, question: impl FnOnce(&mut World, Digest, Duration) -> Result<A, String>) -> Result<A, ClusterError> {
        self.world.pass(QUESTION).await;
        let world = &mut *self.world.lock();
        let now = world.elapsed();
        let cluster = world.answering(&self.host, now);
        cluster.and_then(|cluster| question(world, cluster, now)).map_err(ClusterError::plain)
    }

    /// Changes the membership. It takes a while, in which nobody else may.
    async fn change<A>(&self, change: impl FnOnce(&mut World, Digest, Duration) -> Result<A, String>) -> Result<A, ClusterError> {
        {
            let mut world = self.world.lock();
            world.membership_changes += 1;
            if world.membership_changes > 1 {
                let broken = format!("etcd's membership changes through {} while it changes elsewhere", self.host);
                world.violations.push(broken);
            }
        }
        self.world.pass(AGREEMENT).await;
        let changed = self.ask(|world, cluster, now| world.guarded("a change of etcd's membership", now, |world| change(world, cluster, now))).await;
        let mut world = self.world.lock();
        world.membership_changes = world.membership_changes.saturating_sub(1);
        changed
    }
}

impl MembershipApi for SimulatedMember {
    async fn members(&self) -> Result<Vec<Member>, ClusterError> {
        self.ask(|world, cluster, now| {
            world.agree_with(&self.host, &cluster, now)?;
            Ok(world.clusters[&cluster].members.clone())
        })
        .await
    }

    async fn status(&self) -> Result<MemberStatus, ClusterError> {
        self.ask(|world, cluster, now| {
            let mut status = MemberStatus::default();
            let own = world.member_of(&self.host).map(|record| record.id);
            status.is_learner = own.and_then(|id| world.clusters[&cluster].member(id)).is_some_and(|member| member.learner);
            if world.agree_with(&self.host, &cluster, now).is_ok() {
                status.leader = world.up(&cluster, now).into_iter().min().unwrap_or_default();
            }
            Ok(status)
        })
        .await
    }

    async fn add_learner(&self, peer_url: &str) -> Result<Member, ClusterError> {
        self.change(|world, id, now| {
            world.agree_with(&self.host, &id, now)?;
            let up = world.up(&id, now).len();
            let cluster = cluster(world, &id)?;
            if cluster.member_at(peer_url).is_some() {
                return Err("etcdserver: Peer URLs already exists".into());
            }
            if cluster.members.iter().any(|member| member.learner) {
                return Err("etcdserver: too many learner members in cluster".into());
            }
            if up < cluster.voters().count() {
                return Err("etcdserver: unhealthy cluster".into());
            }
            Ok(cluster.add(Member { peer_urls: vec![peer_url.to_owned()], learner: true, ..Member::default() }))
        })
        .await
    }

    async fn promote(&self, member: MemberId) -> Result<(), ClusterError> {
        self.change(|world, id, now| {
            world.agree_with(&self.host, &id, now)?;
            let is_running = world.is_running(&id, member, now);
            let cluster = cluster(world, &id)?;
            let learner = cluster.members.iter_mut().find(|other| other.id == member && other.learner);
            let learner = learner.ok_or("etcdserver: can only promote a learner member")?;
            if !is_running {
                return Err("etcdserver: can only promote a learner member which is in sync with leader".into());
            }
            learner.learner = false;
            Ok(())
        })
        .await
    }

    async fn remove(&self, member: MemberId) -> Result<(), ClusterError> {
        self.change(|world, id, now| {
            world.agree_with(&self.host, &id, now)?;
            world.remove_member(&id, member, now)
        })
        .await
    }
}

fn cluster<'a>(world: &'a mut World, id: &Digest) -> Result<&'a mut EtcdCluster, String> {
    world.clusters.get_mut(id).ok_or_else(|| "connection refused".to_owned())
}

impl World {
    /// The cluster of a host's member, if that answers at all.
    fn answering(&mut self, host: &HostName, now: Duration) -> Result<Digest, String> {
        self.reachable(host)?;
        self.retry(host, now);
        self.hosts[host].pods.get("etcd").ok_or("connection refused")?.answers(now)?;
        let record = self.member_of(host).ok_or("connection refused")?;
        if self.clusters.contains_key(&record.cluster) { Ok(record.cluster) } else { Err("connection refused".into()) }
    }

    /// No API server of another host still asks a member that goes although it serves.
    fn check_nobody_asks(&mut self, host: &HostName) {
        let asks = |server: &&HostName| *server != host && self.asked_by(server).iter().flatten().any(|member| member == host);
        let asking: Vec<HostName> = self.api_servers.iter().filter(asks).cloned().collect();
        for server in asking {
            self.violations.push(format!("the member on {host} is removed while the API server of {server} asks it"));
        }
    }

    /// Takes a member out of the membership; if it runs, it ends.
    fn remove_member(&mut self, id: &Digest, member: MemberId, now: Duration) -> Result<(), String> {
        let up = self.up(id, now);
        let cluster = cluster(self, id)?;
        let gone = cluster.member(member).ok_or("etcdserver: member not found")?;
        let left = up.iter().filter(|other| **other != member).count();
        if !gone.learner && left < (cluster.voters().count() - 1) / 2 + 1 {
            return Err("etcdserver: re-configuration failed due to not enough started members".into());
        }
        cluster.members.retain(|other| other.id != member);
        let is_on = |host: &&HostName| self.hosts[*host].etcd.values().any(|record| record.cluster == *id && record.id == member);
        let on: Vec<HostName> = self.keepers.iter().filter(is_on).cloned().collect();
        for host in on {
            if up.contains(&member) {
                self.check_nobody_asks(&host);
            }
            self.host_mut(&host).pods.remove("etcd");
        }
        Ok(())
    }
}

//! etcd as far as membership and quorum go: which cluster a member joins, who is up, and what is
//! stored. The rules are etcd's own: a member with data ignores how it is told to begin; one without
//! begins a new cluster whose identity follows from its first members, or joins one that lists it.
//! Members count for one another only if each trusts the other's certificate (`peers`). How the membership
//! changes is in `membership`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::etcd::{Member, MemberId};
use crate::names::{Digest, HostName, RemotePath};
use crate::yaml;

use super::World;

/// What a member has on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRecord {
    /// Of which cluster it is a member.
    pub cluster: Digest,
    /// Who it is there.
    pub id: MemberId,
}

/// A cluster of etcd.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EtcdCluster {
    /// Its members, in the order they came.
    pub members: Vec<Member>,
    /// Whether it ever had a quorum.
    pub formed: bool,
    /// Members that ever told the others where their clients reach them.
    pub published: BTreeSet<MemberId>,
    /// How many members it ever had: each gets a number of its own.
    pub numbered: u64,
    /// What is stored: objects of the API by id.
    pub objects: BTreeMap<String, Value>,
}

impl EtcdCluster {
    /// A cluster of these first members: names by peer URL.
    fn begin(initial: &BTreeMap<String, String>) -> Self {
        let mut cluster = Self::default();
        for (url, name) in initial {
            cluster.add(Member { name: name.clone(), peer_urls: vec![url.clone()], ..Member::default() });
        }
        cluster
    }

    /// Adds a member under the next number.
    pub(super) fn add(&mut self, member: Member) -> Member {
        self.numbered += 1;
        let member = Member { id: MemberId(self.numbered), ..member };
        self.members.push(member.clone());
        member
    }

    /// Members with a vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.learner)
    }

    /// The member of that number.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The member with that peer URL.
    #[must_use]
    pub fn member_at(&self, peer_url: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.peer_urls.iter().any(|url| url == peer_url))
    }

    /// How many members with a vote must be up for anything to be stored.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters().count() / 2 + 1
    }

    /// How many must stay up while slipway works on it. With one or two members every restart
    /// interrupts etcd, so there all others are enough.
    #[must_use]
    pub fn protected(&self) -> usize {
        self.quorum().min(self.voters().count().saturating_sub(1))
    }
}

/// What a manifest tells a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// Its data directory.
    pub directory: RemotePath,
    /// Its own peer URL.
    pub peer_url: String,
    /// The first members: name and peer URL.
    pub initial: BTreeMap<String, String>,
    /// Whether it begins a new cluster.
    pub new: bool,
}

/// The flags of the first container of a manifest.
#[must_use]
pub fn command(manifest: &str) -> Vec<String> {
    let pod: Value = yaml::read(manifest).unwrap_or_default();
    let command = pod.pointer("/spec/containers/0/command").and_then(Value::as_array).cloned().unwrap_or_default();
    command.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The value of a flag.
#[must_use]
pub fn flag<'a>(command: &'a [String], name: &str) -> Option<&'a str> {
    command.iter().find_map(|argument| argument.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('='))
}

/// Reads what a member is told.
#[must_use]
pub fn flags(command: &[String]) -> Option<Flags> {
    let flag = |name| flag(command, name);
    let initial = flag("initial-cluster")?.split(',').filter_map(|member| member.split_once('='));
    Some(Flags {
        directory: flag("data-dir")?.parse().ok()?,
        peer_url: flag("initial-advertise-peer-urls")?.to_owned(),
        initial: initial.map(|(name, url)| (url.to_owned(), name.to_owned())).collect(),
        new: flag("initial-cluster-state") != Some("existing"),
    })
}

impl World {
    /// A member begins on a host. The error is what it would log before it ends.
    ///
    /// # Errors
    /// It may not begin.
    pub(super) fn begin_member(&mut self, host: &HostName, flags: &Flags) -> Result<(), String> {
        let stored = self.hosts[host].etcd.get(&flags.directory).copied();
        let record = match stored {
            Some(record) => record,
            None => self.first_record(host, flags)?,
        };
        let cluster = self.clusters.get(&record.cluster).ok_or("its cluster is gone")?;
        if cluster.member(record.id).is_none() {
            return Err("the member has been permanently removed from the cluster".into());
        }
        self.keepers.insert(host.clone());
        self.host_mut(host).etcd.insert(flags.directory.clone(), record);
        Ok(())
    }

    /// What a member without data becomes.
    fn first_record(&mut self, host: &HostName, flags: &Flags) -> Result<MemberRecord, String> {
        if !flags.new {
            return self.joined_record(flags);
        }
        let initial: String = flags.initial.iter().map(|(url, name)| format!("{name}={url},")).collect();
        let id = Digest::of(initial);
        if !self.clusters.contains_key(&id) {
            if !self.clusters.is_empty() {
                self.violations.push(format!("a second etcd cluster begins on {host}"));
            }
            self.clusters.insert(id, EtcdCluster::begin(&flags.initial));
        }
        let cluster = &self.clusters[&id];
        let member = cluster.member_at(&flags.peer_url).ok_or("its own URL is not among the first members")?.id;
        // Only of a member that told the others about itself they know that it had data.
        if cluster.published.contains(&member) {
            return Err("the member has already been bootstrapped".into());
        }
        Ok(MemberRecord { cluster: id, id: member })
    }

    /// What a member becomes that is told of a cluster it finds: it asks the others who belongs to it, and
    /// ends unless these are the members it was told of.
    fn joined_record(&self, flags: &Flags) -> Result<MemberRecord, String> {
        let lists = |cluster: &EtcdCluster| cluster.member_at(&flags.peer_url).map(|member| member.id);
        let mut listing = self.clusters.iter().filter(|(_, cluster)| cluster.formed).filter_map(|(id, cluster)| Some((id, cluster, lists(cluster)?)));
        let (id, cluster, member) = listing.next().ok_or("no cluster lists this member")?;
        let found: BTreeSet<&String> = cluster.members.iter().flat_map(|member| &member.peer_urls).collect();
        if found != flags.initial.keys().collect() {
            return Err("error validating peerURLs: member count is unequal".into());
        }
        Ok(MemberRecord { cluster: *id, id: member })
    }

    /// The cluster that host's member is part of, and the member itself.
    #[must_use]
    pub fn member_of(&self, host: &HostName) -> Option<MemberRecord> {
        let host = self.hosts.get(host)?;
        let directory: RemotePath = flag(&host.pods.get("etcd")?.command, "data-dir")?.parse().ok()?;
        host.etcd.get(&directory).copied()
    }

    /// Members of a cluster that are up, with a vote or without, and their hosts.
    fn running(&self, id: &Digest, now: Duration) -> Vec<(MemberId, HostName)> {
        let runs = |host: &super::host::Host| host.reachable && host.pods.get("etcd").is_some_and(|pod| pod.is_ready(now));
        let Some(cluster) = self.clusters.get(id) else { return Vec::new() };
        let keepers = self.keepers.iter().map(|name| &self.hosts[name]).filter(|host| runs(host));
        let records = keepers.flat_map(|host| host.etcd.values().map(|record| (*record, host.name.clone())));
        let own = records.filter(|(record, _)| record.cluster == *id && cluster.member(record.id).is_some());
        own.map(|(record, name)| (record.id, name)).collect()
    }

    /// Members of a cluster that run and reach each other, with a vote or without, and their hosts: the one
    /// that can lead most votes, and all who let it in and whom it lets in.
    fn together(&self, id: &Digest, now: Duration) -> Vec<(MemberId, HostName)> {
        let (running, Some(cluster)) = (self.running(id, now), self.clusters.get(id)) else { return Vec::new() };
        if self.are_plainly_peers(running.iter().map(|(_, host)| host)) {
            return running;
        }
        let votes = |member: &MemberId| cluster.member(*member).is_some_and(|member| !member.learner);
        let (mut most, mut best) = (0, Vec::new());
        for (_, leader) in running.iter().filter(|(member, _)| votes(member)) {
            let led: Vec<(MemberId, HostName)> = running.iter().filter(|(_, host)| self.are_peers(leader, host)).cloned().collect();
            let count = led.iter().filter(|(member, _)| votes(member)).count();
            if count > most {
                (most, best) = (count, led);
            }
        }
        best
    }

    /// Whether that member of a cluster is up, with a vote or without.
    pub(super) fn is_running(&self, id: &Digest, member: MemberId, now: Duration) -> bool {
        self.together(id, now).iter().any(|(running, _)| *running == member)
    }

    /// Members of a cluster that have a vote, are up and reach each other.
    #[must_use]
    pub fn up(&self, id: &Digest, now: Duration) -> Vec<MemberId> {
        let Some(cluster) = self.clusters.get(id) else { return Vec::new() };
        let votes = |member: &MemberId| cluster.member(*member).is_some_and(|member| !member.learner);
        self.together(id, now).into_iter().map(|(member, _)| member).filter(votes).collect()
    }

    /// What members that are up tell each other, if they have a quorum: that there is a cluster, and
    /// who has started.
    ///
    /// # Errors
    /// There is no quorum.
    pub(super) fn agree(&mut self, id: &Digest, now: Duration) -> Result<(), String> {
        let (up, together) = (self.up(id, now).len(), self.together(id, now));
        let cluster = self.clusters.get_mut(id).ok_or("connection refused")?;
        if up < cluster.quorum() {
            return Err(format!("no leader: {up} of {} members are up", cluster.voters().count()));
        }
        cluster.formed = true;
        for (member, host) in together {
            cluster.published.insert(member);
            if let Some(member) = cluster.members.iter_mut().find(|other| other.id == member) {
                member.name = host.to_string();
            }
        }
        Ok(())
    }

    /// The same, asked of the member on that host: it must be one of those that reach each other.
    ///
    /// # Errors
    /// There is no quorum, or it has no part in it.
    pub(super) fn agree_with(&mut self, host: &HostName, id: &Digest, now: Duration) -> Result<(), String> {
        self.agree(id, now)?;
        if self.together(id, now).iter().any(|(_, other)| other == host) {
            return Ok(());
        }
        Err("no leader: it and the other members do not trust each other".into())
    }

    /// Whether that host's member answers `/health` as healthy.
    ///
    /// # Errors
    /// What it says instead.
    pub fn member_health(&mut self, host: &HostName, now: Duration) -> Result<Digest, String> {
        self.reachable(host)?;
        self.retry(host, now);
        let pod = self.hosts[host].pods.get("etcd").ok_or("connection refused")?;
        pod.answers(now)?;
        let record = self.member_of(host).ok_or("connection refused")?;
        self.agree(&record.cluster, now)?;
        match self.clusters[&record.cluster].member(record.id) {
            Some(member) if member.learner => Err("it only learns".into()),
            Some(_) => self.agree_with(host, &record.cluster, now).map(|()| record.cluster),
            None => Err("the member has been permanently removed from the cluster".into()),
        }
    }

    /// Forgets clusters of which no disk has anything left.
    pub(super) fn forget_lost_clusters(&mut self) {
        let kept: Vec<Digest> = self.keepers.iter().flat_map(|name| self.hosts[name].etcd.values().map(|record| record.cluster)).collect();
        self.clusters.retain(|id, _| kept.contains(id));
    }
}

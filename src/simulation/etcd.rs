//! etcd as far as membership and quorum go: which cluster a member joins, who is up, and what is
//! stored. The rules are etcd's own: a member with data ignores how it is told to begin; one without
//! begins a new cluster whose identity follows from its first members, or joins one that lists it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::names::{Digest, HostName, RemotePath};
use crate::yaml;

use super::World;

/// What a member has on its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// Of which cluster it is a member.
    pub cluster: Digest,
    /// Who it is there.
    pub peer_url: String,
}

/// A cluster of etcd.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EtcdCluster {
    /// Voting members: names by peer URL.
    pub members: BTreeMap<String, String>,
    /// Whether it ever had a quorum.
    pub formed: bool,
    /// Members that ever told the others where their clients reach them.
    pub published: BTreeSet<String>,
    /// What is stored: objects of the API by id.
    pub objects: BTreeMap<String, Value>,
}

impl EtcdCluster {
    /// How many members must be up for anything to be stored.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// How many must stay up while slipway works on it. With one or two members every restart
    /// interrupts etcd, so there all others are enough.
    #[must_use]
    pub fn protected(&self) -> usize {
        self.quorum().min(self.members.len().saturating_sub(1))
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
        let stored = self.hosts[host].etcd.get(&flags.directory).cloned();
        let record = match stored {
            Some(record) => record,
            None => MemberRecord { cluster: self.first_cluster(host, flags)?, peer_url: flags.peer_url.clone() },
        };
        let cluster = self.clusters.get(&record.cluster).ok_or("its cluster is gone")?;
        if !cluster.members.contains_key(&record.peer_url) {
            return Err("the member has been permanently removed from the cluster".into());
        }
        self.keepers.insert(host.clone());
        self.host_mut(host).etcd.insert(flags.directory.clone(), record);
        Ok(())
    }

    /// Which cluster a member without data becomes part of.
    fn first_cluster(&mut self, host: &HostName, flags: &Flags) -> Result<Digest, String> {
        if !flags.new {
            let listed = self.clusters.iter().find(|(_, cluster)| cluster.formed && cluster.members.contains_key(&flags.peer_url));
            return listed.map(|(id, _)| *id).ok_or_else(|| "no cluster lists this member".to_owned());
        }
        let initial: String = flags.initial.iter().map(|(url, name)| format!("{name}={url},")).collect();
        let id = Digest::of(initial);
        let known = self.clusters.contains_key(&id);
        // Only of a member that told the others about itself they know that it had data.
        if self.clusters.get(&id).is_some_and(|cluster| cluster.published.contains(&flags.peer_url)) {
            return Err("the member has already been bootstrapped".into());
        }
        if !known {
            if !self.clusters.is_empty() {
                self.violations.push(format!("a second etcd cluster begins on {host}"));
            }
            let cluster = EtcdCluster { members: flags.initial.clone(), ..EtcdCluster::default() };
            self.clusters.insert(id, cluster);
        }
        Ok(id)
    }

    /// The cluster that host's member is part of, and the member's own URL.
    #[must_use]
    pub fn member_of(&self, host: &HostName) -> Option<&MemberRecord> {
        let host = self.hosts.get(host)?;
        let directory: RemotePath = flag(&host.pods.get("etcd")?.command, "data-dir")?.parse().ok()?;
        host.etcd.get(&directory)
    }

    /// Peer URLs of a cluster's members that are up.
    #[must_use]
    pub fn up(&self, id: &Digest, now: Duration) -> Vec<&str> {
        let runs = |host: &super::host::Host| host.reachable && host.pods.get("etcd").is_some_and(|pod| pod.is_ready(now));
        let Some(cluster) = self.clusters.get(id) else { return Vec::new() };
        let keepers = self.keepers.iter().map(|name| &self.hosts[name]).filter(|host| runs(host));
        let members = keepers.flat_map(|host| host.etcd.values()).filter(|record| record.cluster == *id);
        members.map(|record| record.peer_url.as_str()).filter(|url| cluster.members.contains_key(*url)).collect()
    }

    /// Whether that host's member answers `/health` as healthy.
    ///
    /// # Errors
    /// What it says instead.
    pub fn member_health(&mut self, host: &HostName, now: Duration) -> Result<Digest, String> {
        self.reachable(host)?;
        let pod = self.hosts[host].pods.get("etcd").ok_or("connection refused")?;
        pod.answers(now)?;
        let id = self.member_of(host).ok_or("connection refused")?.cluster;
        let up: Vec<String> = self.up(&id, now).into_iter().map(str::to_owned).collect();
        let cluster = self.clusters.get_mut(&id).ok_or("connection refused")?;
        if up.len() < cluster.quorum() {
            return Err(format!("no leader: {} of {} members are up", up.len(), cluster.members.len()));
        }
        cluster.formed = true;
        cluster.published.extend(up);
        Ok(id)
    }

    /// Forgets clusters of which no disk has anything left.
    pub(super) fn forget_lost_clusters(&mut self) {
        let kept: Vec<Digest> = self.keepers.iter().flat_map(|name| self.hosts[name].etcd.values().map(|record| record.cluster)).collect();
        self.clusters.retain(|id, _| kept.contains(id));
    }

    /// Takes a member out of the membership.
    ///
    /// # Errors
    /// What etcd says: no quorum now, or none afterwards.
    pub fn remove_member(&mut self, peer_url: &str, now: Duration) -> Result<(), String> {
        let Some((&id, cluster)) = self.clusters.iter().find(|(_, cluster)| cluster.members.contains_key(peer_url)) else { return Ok(()) };
        let up = self.up(&id, now);
        let left = up.iter().filter(|url| **url != peer_url).count();
        let quorum_after = (cluster.members.len() - 1) / 2 + 1;
        if up.len() < cluster.quorum() || left < quorum_after {
            return Err("etcdserver: re-configuration failed due to not enough started members".into());
        }
        let cluster = self.clusters.get_mut(&id).expect("it was found");
        cluster.members.remove(peer_url);
        let gone: Vec<HostName> = self
            .keepers
            .iter()
            .map(|name| &self.hosts[name])
            .filter(|host| host.etcd.values().any(|record| record.cluster == id && record.peer_url == peer_url))
            .map(|host| host.name.clone())
            .collect();
        for host in gone {
            self.hosts.get_mut(&host).expect("hosts stay").pods.remove("etcd");
        }
        Ok(())
    }
}

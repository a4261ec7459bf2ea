//! Snapshots from before upgrades on simulated hosts, and the rule about them: a release of etcd or of an
//! API server is replaced only when what etcd held before is kept somewhere.

use std::collections::BTreeSet;

use crate::artifact::snapshot::{Snapshot, Taken};
use crate::names::HostName;

use super::World;
use super::host::{Entry, Kept, release};

impl World {
    /// A host keeps its files, and with `etcd` what its member has, as `script/snapshot.sh` does.
    pub(super) fn keep(&mut self, name: &HostName, snapshot: &Snapshot) {
        let cluster = snapshot.etcd.as_ref().and_then(|_| self.member_of(name)).map(|record| record.cluster);
        let objects = cluster.map(|id| self.clusters[&id].objects.clone());
        #[expect(clippy::cast_possible_truncation, reason = "whole seconds of this century")]
        let now = jiff::Timestamp::from_second(self.clock() as i64).unwrap_or(self.now);
        let host = self.host_mut(name);
        let file = |path: &_| Some((Clone::clone(path), host.files.get(path)?.clone()));
        let files = snapshot.files.iter().filter_map(file).collect();
        let taken = Taken { time: now.strftime("%Y%m%dT%H%M%SZ").to_string(), way: snapshot.way.clone(), etcd: objects.is_some() };
        host.snapshots.insert(taken.name(), Kept { files, objects });
        let all: BTreeSet<Taken> = host.snapshots.keys().filter_map(|name| Taken::read(name, true)).collect();
        let surplus = all.len().saturating_sub(usize::from(snapshot.keep));
        let first = all.iter().find(|taken| taken.way == snapshot.way).map(Taken::name);
        for old in all.iter().take(surplus).map(Taken::name).filter(|name| Some(name) != first.as_ref()) {
            host.snapshots.remove(&old);
        }
    }

    /// A release of an API server is replaced by a newer one only when what etcd held before is kept, unless
    /// somebody else runs that etcd or `without_snapshots` says that nobody wants it.
    pub(super) fn check_kept(&mut self, name: &HostName, manifest: &Entry) {
        if self.without_snapshots || self.keepers.is_empty() {
            return;
        }
        let text = manifest.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok());
        let (old, new) = (self.hosts[name].runs("kube-apiserver"), text.and_then(release));
        if let (Some(old), Some(new)) = (old, new)
            && new > old
            && !self.is_kept(&new.to_string())
        {
            self.violations.push(format!("the API server on {name} goes from {old} to {new}, and nothing of before is kept"));
        }
    }

    /// Whether a host has what etcd held before an upgrade to that version.
    #[must_use]
    pub fn is_kept(&self, to: &str) -> bool {
        let kept = |(name, kept): (&String, &Kept)| kept.objects.is_some() && Taken::read(name, true).is_some_and(|taken| taken.way.to() == to);
        self.hosts.values().flat_map(|host| &host.snapshots).any(kept)
    }
}

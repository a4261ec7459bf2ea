//! Who trusts whom: members of etcd among each other, and API servers and the members they ask, speak over
//! TLS that both sides check.
//!
//! What etcd itself does is modelled (`client/pkg/transport/listener.go`; alike in its v3.4.13, v3.5.0 and
//! v3.8.0-alpha.0): the certificate that a process shows, as server or as client, is read from its file at
//! every handshake; the CAs that it trusts are read once, when it starts. The API server's client of etcd is
//! the same code. So a new certificate takes effect at once, and a new CA with a restart.
//!
//! Connections that are open go on; here every look is a handshake. What is counted is what would be left
//! after any connection broke.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::names::{Digest, HostName, RemotePath};
use crate::paths;
use crate::trust::inspect;

use super::World;
use super::host::{Entry, EntryKind};

/// What was verified by what, by the digests of both: each question is answered once.
pub(super) type Verified = HashMap<(Digest, Digest), bool>;

/// The certificate of a member towards other members, as server and as client.
static PEER: LazyLock<RemotePath> = LazyLock::new(paths::etcd_peer_certificate);
/// The certificate of a member towards its clients.
static SERVER: LazyLock<RemotePath> = LazyLock::new(paths::etcd_server_certificate);
/// The certificate of an API server towards members.
static CLIENT: LazyLock<RemotePath> = LazyLock::new(paths::etcd_client_certificate);
/// The CAs of etcd.
static AUTHORITIES: LazyLock<RemotePath> = LazyLock::new(paths::etcd_ca_certificate);

impl World {
    /// The file of CAs by which a static pod that starts now judges whom it meets over etcd's ports.
    pub(super) fn trusted_at_start(&self, name: &HostName, pod: &str) -> Option<Entry> {
        matches!(pod, "etcd" | "kube-apiserver").then(|| self.hosts[name].files.get(&*AUTHORITIES).cloned()).flatten()
    }

    /// Whether the members on two hosts let each other in.
    pub(super) fn are_peers(&self, one: &HostName, other: &HostName) -> bool {
        one == other || self.accepts(one, &PEER, other, "etcd") && self.accepts(other, &PEER, one, "etcd")
    }

    /// Whether all these members let each other in, for the usual case that all trust the same CAs: then as
    /// many questions as there are members. `false` says nothing.
    pub(super) fn are_plainly_peers<'a>(&self, hosts: impl Iterator<Item = &'a HostName>) -> bool {
        let mut common = None;
        for host in hosts {
            let Some(own) = self.hosts[host].pods.get("etcd").and_then(|pod| digest(pod.trusts.as_ref()?)) else { return false };
            if *common.get_or_insert(own) != own || !self.accepts(host, &PEER, host, "etcd") {
                return false;
            }
        }
        true
    }

    /// Whether the member on a host and the API server of one let each other in.
    pub(super) fn serves(&self, member: &HostName, server: &HostName) -> bool {
        self.accepts(member, &SERVER, server, "kube-apiserver") && self.accepts(server, &CLIENT, member, "etcd")
    }

    /// Whether a pod of a host trusts the certificate that another host has in that file.
    fn accepts(&self, shown: &HostName, leaf: &RemotePath, by: &HostName, pod: &str) -> bool {
        let leaf = self.hosts[shown].files.get(leaf);
        let authorities = self.hosts[by].pods.get(pod).and_then(|pod| pod.trusts.as_ref());
        let (Some(leaf), Some(authorities)) = (leaf, authorities) else { return false };
        verifies(&mut self.verified.borrow_mut(), leaf, authorities)
    }
}

/// Whether one of the CAs in a file signed the certificate in another.
pub(super) fn verifies(known: &mut Verified, leaf: &Entry, authorities: &Entry) -> bool {
    let (Some(leaf_digest), Some(digest)) = (digest(leaf), digest(authorities)) else { return false };
    *known.entry((leaf_digest, digest)).or_insert_with(|| {
        let leaf = inspect::certificate(leaf.bytes().unwrap_or_default());
        let authorities = inspect::certificates(authorities.bytes().unwrap_or_default()).unwrap_or_default();
        leaf.is_ok_and(|leaf| authorities.iter().any(|authority| leaf.is_signed_by(authority)))
    })
}

fn digest(entry: &Entry) -> Option<Digest> {
    match &entry.kind {
        EntryKind::File { digest, .. } => Some(*digest),
        _ => None,
    }
}

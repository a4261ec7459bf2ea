//! What keeps slipway from making or using keys and certificates. All problems of a cluster are
//! reported at once; each names hosts and files, none quotes key material.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::inspect::InspectError;
use super::issue::IssueError;
use super::specification::{Authority, ClusterPair};
use crate::names::{Digest, HostName, RemotePath};

/// Why the cluster's keys and certificates cannot be made or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustProblem {
    /// A host that may have a CA was not seen.
    #[error(
        "host {host} was not probed, so nobody knows whether it has the {pair}; a new cluster needs all its control planes and etcd hosts"
    )]
    NotProbed {
        /// Which host.
        host: HostName,
        /// What it may have.
        pair: ClusterPair,
    },
    /// A CA's file cannot be read.
    #[error("host {host}: {path} cannot be used: {problem}")]
    Unreadable {
        /// Which host.
        host: HostName,
        /// Which file.
        path: RemotePath,
        /// Why.
        problem: InspectError,
    },
    /// Hosts have different ones of what should be one.
    #[error("the hosts have different ones of the {pair}: {}", fingerprints(seen))]
    Different {
        /// Of what.
        pair: ClusterPair,
        /// SHA-256 of each host's.
        seen: BTreeMap<HostName, Digest>,
    },
    /// There is a cluster, but its CA is not on the hosts that should keep it.
    #[error("refusing to make a second {pair}: a cluster is there, but none of its keepers has {}; {}", pair.public_path(), seen_text(seen))]
    Second {
        /// What is missing.
        pair: ClusterPair,
        /// Which of the pair's files were seen on which host.
        seen: BTreeMap<HostName, Vec<RemotePath>>,
    },
    /// A key whose certificate is gone, while another host still has that certificate.
    #[error(
        "host {reader} has the certificate of the {pair} ({path}), but no keeper has it with its key: {}",
        seen_text(seen)
    )]
    Orphaned {
        /// Of what.
        pair: ClusterPair,
        /// A host that trusts it.
        reader: HostName,
        /// The file there.
        path: RemotePath,
        /// Which of the pair's files were seen on which keeper.
        seen: BTreeMap<HostName, Vec<RemotePath>>,
    },
    /// A host trusts a CA that is not this cluster's.
    #[error(
        "host {host} belongs to another cluster: {path} holds a CA that is not this cluster's; `slipway reset --host {host}` clears it"
    )]
    AnotherCluster {
        /// Which host.
        host: HostName,
        /// Which file.
        path: RemotePath,
    },
    /// Something must be signed or copied, and nobody has the key.
    #[error("no host has the key of the {pair} ({}), which is needed for: {}", pair.key_path(), needed_for.join(", "))]
    NoKey {
        /// Of what.
        pair: ClusterPair,
        /// Why it is needed.
        needed_for: Vec<String>,
    },
    /// Something must be signed that somebody else signs.
    #[error("the {pair} is kept by somebody else (`pki.authority`), and must sign: {}; `slipway certs csr` writes the requests, `slipway certs import` brings in what was signed", needed_for.join(", "))]
    SignedElsewhere {
        /// By what.
        pair: ClusterPair,
        /// What.
        needed_for: Vec<String>,
    },
    /// The plan keeps CA keys off the hosts, and a host has one.
    #[error("host {host} has {path}, but by `pki.authority` no host has a CA's key; bring the key where it belongs and take it off the host")]
    KeyOnHost {
        /// Which host.
        host: HostName,
        /// Which file.
        path: RemotePath,
    },
    /// A host trusts another CA than the given one.
    #[error("host {host}: {path} holds another CA than the {pair} of `pki.authority`")]
    NotTheGiven {
        /// Which host.
        host: HostName,
        /// Which file.
        path: RemotePath,
        /// Whose certificate it should be.
        pair: ClusterPair,
    },
    /// A host trusts a CA that the operator's store does not have.
    #[error("host {host}: {path} holds a CA that the key store does not have beside the {pair}: it is being replaced with another copy of the store, so bring that copy here; if somebody added it by hand, take it out of the file first")]
    NotInStore {
        /// Which host.
        host: HostName,
        /// Which file.
        path: RemotePath,
        /// Beside which one.
        pair: ClusterPair,
    },
    /// A given certificate cannot be read.
    #[error("the certificate of the {pair} cannot be used: {problem}")]
    Given {
        /// Of what.
        pair: ClusterPair,
        /// Why.
        problem: InspectError,
    },
    /// The key was asked for and did not come.
    #[error("the key of the {0} was not fetched")]
    NotFetched(ClusterPair),
    /// The key that came belongs to something else.
    #[error("the key of the {pair} ({}) does not belong to its public part", pair.key_path())]
    KeyMismatch {
        /// Of what.
        pair: ClusterPair,
    },
    /// The CA has come to its end; it is not renewed by itself.
    #[error("the {authority} expired at {at}")]
    Expired {
        /// Which CA.
        authority: Authority,
        /// When.
        at: Timestamp,
    },
    /// A CA could not be made ready for signing, or a key could not be drawn.
    #[error("{what}: {problem}")]
    Issue {
        /// What was to be made.
        what: String,
        /// Why not.
        problem: IssueError,
    },
    /// There is no valid certificate to talk to the cluster with.
    #[error("no control plane has a usable {0}")]
    NoCredentials(&'static str),
    /// The plan names external etcd, but its files were not given.
    #[error("the files of the external etcd were not given")]
    NoExternalEtcd,
}

fn fingerprints(seen: &BTreeMap<HostName, Digest>) -> String {
    let list: Vec<String> = seen.iter().map(|(host, digest)| format!("{host} has {}", digest.short())).collect();
    list.join(", ")
}

fn seen_text(seen: &BTreeMap<HostName, Vec<RemotePath>>) -> String {
    let mut text = String::from("seen:");
    for (index, (host, paths)) in seen.iter().enumerate() {
        let names: Vec<&str> = paths.iter().map(RemotePath::as_str).collect();
        let names = if names.is_empty() { "nothing".to_owned() } else { names.join(" and ") };
        let separator = if index == 0 { "" } else { ";" };
        write!(text, "{separator} {names} on {host}").expect("writing to a string");
    }
    text
}

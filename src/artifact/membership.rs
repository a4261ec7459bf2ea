//! A member joins an etcd that lives. In two parts with its first start between them, so that the
//! cluster never waits for a vote that nobody can give: it is announced without a vote (a
//! *learner*), started, and gets its vote when it has all data.

use std::fmt;

use crate::cluster::etcd::MemberId;
use crate::names::HostName;

/// One part of a host's way into etcd's membership. Each may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// The membership has a member for the host, without a vote, and no other one of it.
    Learner {
        /// Which host.
        host: HostName,
        /// The new member's peer URL.
        peer_url: String,
        /// The host's earlier member, whose data is gone. It is removed first: what comes back under
        /// an old identity without its data could vote twice.
        replaces: Option<MemberId>,
        /// All peer URLs of the membership afterwards, sorted. The new member is started with
        /// these, and etcd refuses to start it with others.
        peers: Vec<String>,
    },
    /// The host's member has a vote.
    Voter {
        /// Which host.
        host: HostName,
        /// Its peer URL.
        peer_url: String,
    },
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Learner { host, peer_url, .. } => write!(f, "etcd learner {host} ({peer_url})"),
            Self::Voter { host, .. } => write!(f, "vote of etcd member {host}"),
        }
    }
}

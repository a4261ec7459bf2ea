//! etcd's membership: who belongs to it, who joins and who leaves, always through the members on
//! other hosts: the plan's first, then those that are about to leave themselves.

use std::time::Duration;

use tokio::time::sleep;

use super::LiveCluster;
use crate::artifact::membership::Membership;
use crate::artifact::undone::Departure;
use crate::cluster::etcd::{Etcd, Member};
use crate::cluster::{Cluster as _, ClusterError, departure, joining, maintenance};
use crate::graph::Gate;
use crate::names::HostName;
use crate::transport::Transport;

/// How often a Node whose machine does not answer is looked at.
const SILENCE: Duration = Duration::from_secs(2);

impl<T: Transport + 'static> LiveCluster<T> {
    /// The members as one of them knows them that has a leader.
    pub(super) async fn membership(&self) -> Result<Vec<Member>, ClusterError> {
        Ok(joining::list(&self.etcd_besides(None)?).await?.1)
    }

    /// One part of a host's way into the membership.
    pub(super) async fn join(&self, membership: &Membership) -> Result<(), ClusterError> {
        match membership {
            Membership::Learner { host, peer_url, replaces, peers } => {
                joining::add_learner(&self.etcd_besides(Some(host))?, peer_url, *replaces, peers).await
            }
            Membership::Voter { host, peer_url } => {
                joining::promote(&self.etcd_besides(Some(host))?, peer_url, self.plan.limits.gate_timeout.0).await
            }
        }
    }

    /// A host leaves.
    pub(super) async fn depart(&self, departure: &Departure) -> Result<(), ClusterError> {
        match departure {
            Departure::Drained { host, after, limit, consent, silent } => {
                for node in after {
                    self.wait(&Gate::NodeReady(node.clone()), self.plan.limits.gate_timeout.0).await?;
                }
                let client = self.client().await?;
                let emptied = maintenance::empty(&client, *consent, host, self.plan.kubernetes.version, limit.0);
                if !silent {
                    return emptied.await;
                }
                tokio::select! {
                    emptied = emptied => emptied,
                    () = self.is_silent(host) => Ok(()),
                }
            }
            // Somebody else's etcd: its members are not ours to remove.
            Departure::Member { .. } if self.etcd.is_none() => Ok(()),
            Departure::Member { host, peer_url } => {
                self.hand_over_leadership(host).await;
                departure::remove_member(&self.etcd_besides(Some(host))?, peer_url).await
            }
            Departure::Node { host } => departure::delete_node(&self.client().await?, host).await,
        }
    }

    /// Ends when the kubelet of that Node has not been heard for so long that Kubernetes itself gave it up.
    async fn is_silent(&self, host: &HostName) {
        loop {
            let ready = self.node(host).await.ok().and_then(|node| {
                let conditions = node.pointer("/status/conditions")?.as_array()?;
                conditions.iter().find(|condition| condition["type"] == "Ready").map(|ready| ready["status"].clone())
            });
            if ready.is_some_and(|status| status == "Unknown") {
                return;
            }
            sleep(SILENCE).await;
        }
    }

    /// Clients of all members but the one on that host.
    fn etcd_besides(&self, host: Option<&HostName>) -> Result<Vec<(HostName, Etcd)>, ClusterError> {
        let others = self.etcd_carriers().filter(|other| Some(&other.name) != host && !self.away.contains(&other.name));
        others.filter_map(|other| Some(self.etcd_of(other)?.map(|etcd| (other.name.clone(), etcd)))).collect()
    }
}

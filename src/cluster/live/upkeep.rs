//! Nodes around an upgrade of their kubelets, or a restart.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::LiveCluster;
use crate::artifact::maintenance::Maintenance;
use crate::cluster::{Cluster as _, ClusterError, drain, maintenance};
use crate::graph::Gate;
use crate::transport::Transport;

/// How often a Node that was restarted is looked at.
const POLL: Duration = Duration::from_secs(1);
const STAYS: &str = "the Node stays cordoned; run the same command again, and it goes on here";
/// The same after a restart, which may have been asked for without a drain.
const AWAY: &str = "look at the host (a machine that does not come back, at its console); if its Node was drained it stays cordoned, \
     and the same command, or `slipway apply`, finishes it when the host answers again";

impl<T: Transport + 'static> LiveCluster<T> {
    /// A Node is emptied or given back.
    pub(super) async fn maintain(&self, wanted: &Maintenance) -> Result<(), ClusterError> {
        match wanted {
            Maintenance::Emptied { node, version, limit } => {
                let client = self.client().await?;
                maintenance::empty(&client, maintenance::consent(&self.plan.upgrade), node, *version, limit.0).await?;
                let stayed = drain::containers(&client, node).await?;
                self.stayed.lock().expect("no panic while it is held").insert(node.clone(), stayed);
                Ok(())
            }
            Maintenance::Back { node, boot } => {
                let limit = self.plan.limits.gate_timeout.0;
                let deadline = Instant::now() + limit;
                // With the machine they end, whatever the API still says of them.
                let ended = match boot {
                    Some(_) => self.stayed.lock().expect("no panic while it is held").get(node).cloned().unwrap_or_default(),
                    None => BTreeSet::new(),
                };
                // Another boot id is the word of a kubelet after the restart; without one its own is waited for,
                // before its pods are looked at.
                if boot.is_none() {
                    self.wait(&Gate::NodeReady(node.clone()), limit).await.map_err(|error| ClusterError { hint: Some(AWAY.into()), ..error })?;
                }
                loop {
                    // The API server may be away with the host.
                    let seen = match self.client().await {
                        Ok(client) => maintenance::back(&client, node, boot.as_deref(), &ended).await,
                        Err(error) => Err(error),
                    };
                    let missing = match seen {
                        Ok(missing) if missing.is_empty() => break,
                        Ok(missing) => missing,
                        Err(error) => {
                            self.forget_client();
                            vec![error.message]
                        }
                    };
                    if Instant::now() >= deadline {
                        return Err(ClusterError {
                            detail: Some(missing.join("\n")),
                            hint: Some(AWAY.into()),
                            ..ClusterError::plain(format!("Node {node} does not run as before after {} s", limit.as_secs()))
                        });
                    }
                    sleep(POLL).await;
                }
                let left = deadline.saturating_duration_since(Instant::now());
                self.wait(&Gate::KubeletHealthy(node.clone()), left).await.map_err(|error| ClusterError { hint: Some(AWAY.into()), ..error })
            }
            Maintenance::Returned { node, version, ready } => {
                let limit = self.plan.limits.gate_timeout.0;
                let mut gates = vec![Gate::KubeletHealthy(node.clone()), Gate::KubeletVersion { host: node.clone(), version: *version }];
                if *ready {
                    gates.push(Gate::NodeReady(node.clone()));
                }
                for gate in gates {
                    let stays = |error: ClusterError| ClusterError { hint: Some(STAYS.into()), ..error };
                    self.wait(&gate, limit).await.map_err(stays)?;
                }
                maintenance::give_back(&self.client().await?, node).await
            }
        }
    }
}

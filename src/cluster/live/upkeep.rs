//! Nodes around an upgrade of their kubelets.

use super::LiveCluster;
use crate::artifact::maintenance::Maintenance;
use crate::cluster::{Cluster as _, ClusterError, maintenance};
use crate::graph::Gate;
use crate::transport::Transport;

impl<T: Transport + 'static> LiveCluster<T> {
    /// A Node is emptied or given back.
    pub(super) async fn maintain(&self, wanted: &Maintenance) -> Result<(), ClusterError> {
        match wanted {
            Maintenance::Emptied { node, version, limit } => {
                maintenance::empty(&self.client().await?, &self.plan.upgrade, node, *version, limit.0).await
            }
            Maintenance::Returned { node, version, ready } => {
                let limit = self.plan.limits.gate_timeout.0;
                let mut gates = vec![Gate::KubeletHealthy(node.clone()), Gate::KubeletVersion { host: node.clone(), version: *version }];
                if *ready {
                    gates.push(Gate::NodeReady(node.clone()));
                }
                for gate in gates {
                    let stays = |error: ClusterError| ClusterError {
                        hint: Some("the Node stays cordoned; run the same command again, and it goes on here".into()),
                        ..error
                    };
                    self.wait(&gate, limit).await.map_err(stays)?;
                }
                maintenance::give_back(&self.client().await?, node).await
            }
        }
    }
}

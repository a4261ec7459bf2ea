//! What the API says that an upgrade should know before it begins.

use serde_json::Value;

use super::{LiveCluster, ask};
use crate::cluster::ClusterError;
use crate::transport::Transport;
use crate::upgrade::concerns::{self, Concerns};

impl<T: Transport + 'static> LiveCluster<T> {
    /// Deprecated APIs in use, by what every API server counted, and webhooks that must answer. An API
    /// server that keeps its metrics to itself says nothing.
    pub(super) async fn look_ahead(&self) -> Result<Concerns, ClusterError> {
        let mut found = Concerns::default();
        for host in self.plan.control_planes().filter(|host| !self.away.contains(&host.name)) {
            if let Ok(metrics) = ask(&self.client_of(host)?, "/metrics").await {
                found.deprecated.extend(concerns::deprecated(&metrics));
            }
        }
        let client = self.client().await?;
        for kind in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
            let text = ask(&client, &format!("/apis/admissionregistration.k8s.io/v1/{kind}")).await.map_err(ClusterError::plain)?;
            let list: Value = serde_json::from_str(&text).map_err(|error| ClusterError::plain(format!("cannot read {kind}: {error}")))?;
            found.webhooks.extend(concerns::webhooks(&list));
        }
        Ok(found)
    }
}

//! Whether a Node is ready by the word of the kubelet that runs now. What counts as its word is in
//! `cluster::readiness`; here it is asked for.
//!
//! When a kubelet was started is known from the probe, so a host on which none is started costs no
//! round trip. What the probe saw is forgotten when the engine starts a kubelet anew: then the host is
//! asked once, and only when the API says that the Node is ready.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use tokio::time::{Instant, timeout};

use super::{LiveCluster, QUESTION};
use crate::cluster::readiness::{Renewals, Said, heartbeat, judge};
use crate::facts::Began;
use crate::names::HostName;
use crate::transport::{Transport, parse, probe};

/// How often a host is asked that could not tell, or whose kubelet did not run.
const AGAIN: Duration = Duration::from_secs(3);
/// Where kubelets have their Leases.
const LEASES: &str = "kube-node-lease";

/// What one wait for a Node has seen so far.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// When the condition was written that the first look found.
    first: Option<Option<i64>>,
    renewals: Renewals,
    /// When the host was asked in vain, and what came of it.
    asked: Option<(Instant, Start)>,
}

/// What is known of a kubelet's start.
#[derive(Debug, Clone, Copy)]
enum Start {
    Known(Began),
    /// The host says that no kubelet runs.
    NotRunning,
    /// The host cannot be asked, or cannot tell.
    Unknown,
}

impl<T: Transport + 'static> LiveCluster<T> {
    /// Whether the Node is ready and its kubelet said so since it was started. The error says what was seen.
    pub(super) async fn ready(&self, name: &HostName, listening: &mut Listening) -> Result<(), String> {
        let heartbeat = heartbeat(&self.node(name).await?)?;
        let began = match self.began(name, listening).await {
            Start::Known(began) => Some(began),
            Start::Unknown => None,
            Start::NotRunning => return Err("its kubelet does not run; what the API says of it is of before".to_owned()),
        };
        match judge(heartbeat, began) {
            Said::ByThisKubelet => return Ok(()),
            Said::ByAnEarlierOne | Said::Unclear if listening.first.is_some_and(|first| first != heartbeat) => return Ok(()),
            Said::ByAnEarlierOne => {
                listening.first.get_or_insert(heartbeat);
                return Err("its kubelet has not reported since it was started".to_owned());
            }
            Said::Unclear => _ = listening.first.get_or_insert(heartbeat),
        }
        let client = self.client().await.map_err(|error| error.message)?;
        let lease = Api::<Lease>::namespaced(client, LEASES).get_opt(name.as_str()).await;
        let lease = lease.ok().flatten().and_then(|lease| serde_json::to_value(lease).ok()).unwrap_or_default();
        if listening.renewals.look(&lease) {
            return Ok(());
        }
        Err("it is not clear yet whether its kubelet has reported since it was started".to_owned())
    }

    /// The kubelet of that host is started by the engine: what was known of the one before counts no more.
    pub(super) fn forget_kubelet_of(&self, host: &HostName) {
        self.kubelets.lock().expect("no panic while it is held").remove(host);
    }

    /// When the kubelet of that host was started: as the probe saw it, else as the host says now.
    async fn began(&self, host: &HostName, listening: &mut Listening) -> Start {
        if let Some(began) = self.kubelets.lock().expect("no panic while it is held").get(host) {
            return Start::Known(*began);
        }
        if let Some((_, start)) = listening.asked.filter(|(when, _)| when.elapsed() < AGAIN) {
            return start;
        }
        if self.away.contains(host) {
            return Start::Unknown;
        }
        let start = match timeout(QUESTION, self.transport.diagnose(host, probe::KUBELET_BEGAN)).await {
            Ok(Ok(answer)) => match parse::kubelet_began(&answer) {
                (true, Some(began)) => {
                    self.kubelets.lock().expect("no panic while it is held").insert(host.clone(), began);
                    return Start::Known(began);
                }
                (true, None) => Start::Unknown,
                (false, _) => Start::NotRunning,
            },
            _ => Start::Unknown,
        };
        listening.asked = Some((Instant::now(), start));
        start
    }
}

#[cfg(test)]
mod tests;

//! Waits for conditions. Where something can be put back, a component that keeps ending is not waited for
//! until the time is over: it would end for all of it.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Component, LiveCluster, POLL, QUESTION, hint};
use crate::cluster::ClusterError;
use crate::cluster::crashes::{self, Restarts, TOO_MANY};
use crate::graph::Gate;
use crate::names::HostName;
use crate::transport::Transport;

/// How often it is looked at whether a component ended again.
const LOOK: Duration = Duration::from_secs(3);

/// Looks at the components behind a gate.
struct Watch<'a> {
    host: &'a HostName,
    components: Vec<(&'static str, Restarts)>,
    next: Instant,
}

impl<'a> Watch<'a> {
    fn of(gate: &'a Gate) -> Option<Self> {
        let (host, components): (_, &[&'static str]) = match gate {
            Gate::EtcdHealthy(host) => (host, &["etcd"]),
            Gate::ApiServerReady(host) => (host, &["kube-apiserver"]),
            Gate::ControllersHealthy(host) => (host, &["kube-controller-manager", "kube-scheduler"]),
            _ => return None,
        };
        let components = components.iter().map(|name| (*name, Restarts::default())).collect();
        Some(Self { host, components, next: Instant::now() })
    }
}

impl<T: Transport + 'static> LiveCluster<T> {
    /// Waits until the condition holds, at most for that time; `watched`, until its component ended too
    /// often.
    pub(super) async fn wait_for(&self, gate: &Gate, limit: Duration, watched: bool) -> Result<(), ClusterError> {
        let deadline = Instant::now() + limit;
        let mut watch = Watch::of(gate).filter(|_| watched);
        loop {
            let patient = Instant::now() >= deadline;
            let seen = match timeout(QUESTION * 4, self.holds(gate, patient)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(seen)) => seen,
                Err(_) => "no answer".to_owned(),
            };
            let ended = match &mut watch {
                Some(watch) => self.ended_too_often(watch).await,
                None => None,
            };
            if patient || ended.is_some() {
                let message = match ended {
                    Some(name) => format!("{name} ended {TOO_MANY} times and was started again, and is not waited for any longer: {seen}"),
                    None => format!("waited {} s for {gate}: {seen}", limit.as_secs()),
                };
                let mut error = ClusterError::plain(message);
                error.detail = self.logs(gate).await;
                error.hint = Some(hint(gate));
                return Err(error);
            }
            sleep(POLL).await;
        }
    }

    /// The first component of these that did, if it is time to look.
    async fn ended_too_often(&self, watch: &mut Watch<'_>) -> Option<&'static str> {
        if Instant::now() < watch.next {
            return None;
        }
        watch.next = Instant::now() + LOOK;
        for (name, restarts) in &mut watch.components {
            // They give up on an API server that is not there: that is not their own doing.
            let waits = name.starts_with("kube-") && *name != "kube-apiserver";
            if waits && let Some(host) = self.plan.host(watch.host) && self.health(Component::ApiServer, host).await.is_err() {
                *restarts = Restarts::default();
                continue;
            }
            if let Ok(Ok(lines)) = timeout(QUESTION, self.transport.diagnose(watch.host, &crashes::script(name))).await
                && restarts.hear(&lines) >= TOO_MANY
            {
                return Some(name);
            }
        }
        None
    }
}

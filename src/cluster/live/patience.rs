//! Waits for conditions. Where something can be put back, a component that keeps ending is not waited for
//! until the time is over: it would end for all of it.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::ready::Listening;
use super::{Component, LiveCluster, POLL, QUESTION, hint};
use crate::cluster::ClusterError;
use crate::cluster::crashes::{self, Restarts, TOO_MANY};
use crate::graph::Gate;
use crate::names::{HostName, RemotePath};
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
    /// Those of them whose manifests are `replaced`.
    fn of(gate: &'a Gate, replaced: &[RemotePath]) -> Option<Self> {
        let (host, components): (_, &[&'static str]) = match gate {
            Gate::EtcdHealthy(host) => (host, &["etcd"]),
            Gate::ApiServerReady(host) => (host, &["kube-apiserver"]),
            Gate::ControllersHealthy(host) => (host, &["kube-controller-manager", "kube-scheduler"]),
            _ => return None,
        };
        let is_replaced = |name: &&&'static str| replaced.iter().any(|path| path.file_name().strip_suffix(".yaml") == Some(**name));
        let restarts = |name: &str| if depends(name) { Restarts::default() } else { Restarts::from_the_beginning() };
        let components = components.iter().filter(is_replaced).map(|name| (*name, restarts(name))).collect();
        Some(Self { host, components, next: Instant::now() })
    }
}

/// Whether a component gives up on an API server that is not there, which is not its own doing.
fn depends(component: &str) -> bool {
    matches!(component, "kube-controller-manager" | "kube-scheduler")
}

impl<T: Transport + 'static> LiveCluster<T> {
    /// Waits until the condition holds, at most for that time, and until one of its components whose
    /// manifests are `replaced` ended too often, or until all lines are lost through which it is asked.
    pub(super) async fn wait_for(&self, gate: &Gate, limit: Duration, replaced: &[RemotePath]) -> Result<(), ClusterError> {
        let hosts: Vec<&HostName> = self.asked_through(gate);
        if hosts.is_empty() {
            return self.wait_until(gate, limit, replaced).await;
        }
        tokio::select! {
            biased;
            held = self.wait_until(gate, limit, replaced) => held,
            said = join_all(hosts.iter().map(|host| self.transport.lost(host))) => {
                let names: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
                let message = format!("waiting for {gate}: the connection to host {} was lost", names.join(" and host "));
                let said: Vec<String> = said.into_iter().filter(|said| !said.is_empty()).collect();
                Err(ClusterError {
                    detail: (!said.is_empty()).then(|| said.join("\n")),
                    hint: Some("run the same command again when the host is reached; it continues where this run stopped".to_owned()),
                    permanent: true,
                    ..ClusterError::plain(message)
                })
            }
        }
    }

    /// The hosts through which a condition is asked: one of these lines is enough.
    fn asked_through<'a>(&'a self, gate: &'a Gate) -> Vec<&'a HostName> {
        match gate {
            Gate::KubeletHealthy(host)
            | Gate::EtcdHealthy(host)
            | Gate::ApiServerReady(host)
            | Gate::ControllersHealthy(host)
            | Gate::VipAnswers(host) => vec![host],
            Gate::NodeRegistered(_) | Gate::NodeReady(_) | Gate::KubeletVersion { .. } | Gate::RolledOut { .. } => {
                self.plan.control_planes().map(|host| &host.name).filter(|host| !self.away.contains(*host)).collect()
            }
            // These are about hosts that may be away.
            Gate::QuorumWithout(_) | Gate::ApiServersWithout(_) => Vec::new(),
        }
    }

    async fn wait_until(&self, gate: &Gate, limit: Duration, replaced: &[RemotePath]) -> Result<(), ClusterError> {
        let deadline = Instant::now() + limit;
        let mut watch = Watch::of(gate, replaced);
        let mut listening = Listening::default();
        loop {
            let patient = Instant::now() >= deadline;
            let seen = match timeout(QUESTION * 4, self.holds(gate, patient, &mut listening)).await {
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
            if depends(name) && let Some(host) = self.plan.host(watch.host) && self.health(Component::ApiServer, host).await.is_err() {
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

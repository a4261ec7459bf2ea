//! Questions about the health of components, each asked on its own host, and about what may be
//! disrupted. Nothing here waits longer than one question.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use futures_util::join;
use serde_json::Value;
use tokio::time::timeout;

use super::{LiveCluster, QUESTION, ask};
use crate::cluster::ClusterError;
use crate::cluster::etcd::{Etcd, Member, MemberId, MembershipApi as _};
use crate::cluster::quorum::{self, Verdict, Voter};
use crate::cluster::wire::{self, Tls};
use crate::departed::may_have_member;
use crate::names::HostName;
use crate::plan::{Endpoint, Host};
use crate::transport::Transport;

/// A component of Kubernetes on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The kubelet.
    Kubelet,
    /// The API server.
    ApiServer,
    /// The controller manager.
    ControllerManager,
    /// The scheduler.
    Scheduler,
}

impl<T: Transport + 'static> LiveCluster<T> {
    /// Whether that component on that host says it is healthy. The error says what was seen.
    ///
    /// # Errors
    /// It is not, or does not answer within 10 s.
    pub async fn health(&self, component: Component, host: &Host) -> Result<(), String> {
        let answer = async {
            match component {
                Component::Kubelet => self.loopback(&host.name, 10248, Tls::None, "/healthz").await,
                Component::ApiServer => {
                    let client = self.client_of(host).map_err(|error| error.message)?;
                    ask(&client, "/readyz").await.map(drop)
                }
                Component::ControllerManager => self.loopback(&host.name, 10257, Tls::Unverified, "/healthz").await,
                Component::Scheduler => self.loopback(&host.name, 10259, Tls::Unverified, "/healthz").await,
            }
        };
        // A host that is gone can take longer than its question: connecting has a limit of its own.
        timeout(QUESTION, answer).await.unwrap_or_else(|_| Err(no_answer()))
    }

    /// Whether an API server answers at the virtual address, asked from that host. The error says what was seen.
    ///
    /// # Errors
    /// None does within 10 s.
    pub(super) async fn vip_answers(&self, host: &Host) -> Result<(), String> {
        let Some(Endpoint::Vip(vip)) = &self.plan.endpoint else { return Ok(()) };
        let address = SocketAddr::new(vip.address, vip.port);
        let client = wire::client(&self.transport, &host.name, address, &self.api).map_err(|error| error.message)?;
        timeout(QUESTION, ask(&client, "/readyz")).await.unwrap_or_else(|_| Err(no_answer())).map(drop)
    }

    /// A client of the etcd member on that host; `None` if somebody else runs etcd.
    ///
    /// # Errors
    /// The credentials cannot be read.
    pub fn etcd_of(&self, host: &Host) -> Option<Result<Etcd, ClusterError>> {
        let tls = self.etcd.as_ref()?;
        Some(wire::client(&self.transport, &host.name, loopback_address(2379), tls).map(Etcd::new))
    }

    /// Whether the etcd member on that host is healthy. The error says what was seen.
    ///
    /// # Errors
    /// It is not, or does not answer within 10 s.
    pub async fn etcd_health(&self, host: &Host) -> Result<(), String> {
        match self.etcd_of(host) {
            None => Ok(()),
            Some(Err(error)) => Err(error.message),
            Some(Ok(etcd)) => timeout(QUESTION, etcd.health()).await.unwrap_or_else(|_| Err(no_answer())),
        }
    }

    /// All Nodes by name.
    ///
    /// # Errors
    /// No API server answers.
    pub async fn nodes(&self) -> Result<BTreeMap<String, Value>, String> {
        let client = self.client().await.map_err(|error| error.message)?;
        let text = ask(&client, "/api/v1/nodes").await?;
        let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let nodes = list["items"].as_array().cloned().unwrap_or_default();
        let name = |node: &Value| node.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(nodes.into_iter().map(|node| (name(&node), node)).collect())
    }

    /// Whether etcd keeps its quorum without the member on that host. One that is about to join
    /// counts as a voter already: the others must be enough for the larger membership.
    pub(super) async fn etcd_without(&self, host: &HostName) -> Verdict {
        let questions = self.etcd_carriers().map(|host| async move { (host, self.voter(host).await) });
        let answers: Vec<(&Host, Voter)> = join_all(questions).await;
        let healthy = answers.iter().filter(|(_, voter)| voter.health.is_ok()).map(|(host, _)| *host);
        let voters = match self.members_as_known_by(healthy).await {
            Some(members) => quorum::electorate(host, answers, &members),
            None => answers.into_iter().map(|(_, voter)| voter).collect(),
        };
        quorum::etcd_without(host, &voters)
    }

    /// If the member on that host leads, it hands over to another one: the first that is healthy, in the
    /// order of the plan, which is the order in which members restart, so leadership moves seldom. Handed
    /// over it is gone for milliseconds, and nobody has to notice first that a leader died. A member that
    /// cannot does it when it stops, so nothing depends on this.
    pub(super) async fn hand_over_leadership(&self, host: &HostName) {
        let Some(Ok(leader)) = self.etcd_carriers().find(|other| other.name == *host).and_then(|host| self.etcd_of(host)) else { return };
        let leads = matches!(timeout(QUESTION, leader.status()).await, Ok(Ok(status)) if status.leads());
        if !leads {
            return;
        }
        let Ok(Ok(members)) = timeout(QUESTION, leader.members()).await else { return };
        for other in self.plan.etcd_hosts().filter(|other| other.name != *host && !self.away.contains(&other.name)) {
            let member = members.iter().find(|member| member.name == other.name.as_str() && !member.learner);
            if let Some(member) = member
                && self.etcd_health(other).await.is_ok()
                && leader.hand_over(member.id).await.is_ok()
            {
                return;
            }
        }
    }

    /// Hosts with a member: the plan's, and those that are about to leave.
    pub(super) fn etcd_carriers(&self) -> impl Iterator<Item = &Host> {
        self.plan.etcd_hosts().chain(self.leaving.iter().filter(|host| may_have_member(&self.plan, host)))
    }

    /// The members as the first of these hosts that answers knows them.
    async fn members_as_known_by(&self, hosts: impl Iterator<Item = &Host>) -> Option<Vec<Member>> {
        for host in hosts {
            if let Some(Ok(etcd)) = self.etcd_of(host)
                && let Ok(Ok(members)) = timeout(QUESTION, etcd.members()).await
            {
                return Some(members);
            }
        }
        None
    }

    async fn voter(&self, host: &Host) -> Voter {
        let name = host.name.to_string();
        if self.away.contains(&host.name) {
            return Voter { name, health: Err("the host is not reached".to_owned()), knows_leader: false };
        }
        // Side by side: without a quorum a member takes seconds to say that it is not healthy.
        let (health, knows_leader) = join!(self.etcd_health(host), self.knows_leader(host));
        Voter { name, knows_leader: knows_leader || health.is_ok(), health }
    }

    async fn knows_leader(&self, host: &Host) -> bool {
        let Some(Ok(etcd)) = self.etcd_of(host) else { return false };
        let status = timeout(QUESTION, etcd.status()).await;
        status.is_ok_and(|status| status.is_ok_and(|status| status.leader != MemberId::default()))
    }

    /// Whether another API server is ready while that host's is not.
    pub(super) async fn api_servers_without(&self, host: &HostName) -> Verdict {
        let questions = self.plan.control_planes().map(|host| async move {
            let away = self.away.contains(&host.name);
            let answer = if away { Err("the host is not reached".into()) } else { self.health(Component::ApiServer, host).await };
            (host.name.clone(), answer)
        });
        quorum::api_servers_without(host, &join_all(questions).await.into_iter().collect())
    }

    async fn loopback(&self, host: &HostName, port: u16, tls: Tls, path: &str) -> Result<(), String> {
        let client = wire::client(&self.transport, host, loopback_address(port), &tls).map_err(|error| error.message)?;
        ask(&client, path).await.map(drop)
    }
}

fn loopback_address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port)
}

fn no_answer() -> String {
    format!("no answer within {} s", QUESTION.as_secs())
}

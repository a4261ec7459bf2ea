//! The cluster as the engine sees it, over SSH: objects and Nodes through any API server that
//! answers, health of every component asked on its own host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::Api;
use kube::core::ApiResource;
use kube::discovery::Scope;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::quorum::Verdict;
use super::wire::{self, Tls, describe};
use super::etcd::Member;
use super::{Cluster, ClusterError, maintenance, marks};
use crate::artifact::{Artifact, ObjectPolicy};
use crate::change::{Change, Reason};
use crate::departed::Nodes;
use crate::desired::vip;
use crate::facts::Began;
use crate::graph::Gate;
use crate::inventory::{self, Inventory};
use crate::names::{HostName, RemotePath};
use crate::plan::{Host, Plan};
use crate::transport::Transport;
use crate::upgrade::concerns::Concerns;

mod concerns;
mod health;
mod membership;
mod objects;
mod patience;
mod ready;
mod upkeep;

pub use health::Component;
use ready::Listening;

/// The field manager of everything slipway applies.
pub const FIELD_MANAGER: &str = "slipway";
/// How often a condition is asked.
const POLL: Duration = Duration::from_millis(250);
/// How long one question may take.
pub(super) const QUESTION: Duration = Duration::from_secs(10);

/// The cluster over SSH.
pub struct LiveCluster<T> {
    transport: Arc<T>,
    plan: Arc<Plan>,
    /// The engine's credentials for the API servers.
    api: Tls,
    /// The engine's credentials for etcd; `None` with external etcd.
    etcd: Option<Tls>,
    /// The API server that answered last.
    client: Mutex<Option<kube::Client>>,
    /// Where each kind's objects are, once asked.
    kinds: Mutex<BTreeMap<String, (ApiResource, Scope)>>,
    /// Hosts that are not asked, because they did not answer before.
    away: BTreeSet<HostName>,
    /// Hosts that left the plan and are still in the cluster.
    leaving: Vec<Host>,
    /// The containers that stayed on Nodes which this run emptied.
    stayed: Mutex<BTreeMap<HostName, BTreeSet<String>>>,
    /// When kubelets were started that run and that the engine did not start since it looked.
    kubelets: Mutex<BTreeMap<HostName, Began>>,
}

impl<T: Transport + 'static> LiveCluster<T> {
    /// A cluster reached with these credentials.
    #[must_use]
    pub fn new(transport: Arc<T>, plan: Arc<Plan>, api: Tls, etcd: Option<Tls>) -> Self {
        let (client, kinds, kubelets, stayed) = Default::default();
        Self { transport, plan, api, etcd, client, kinds, away: BTreeSet::new(), leaving: Vec::new(), stayed, kubelets }
    }

    /// The same, but these hosts are not asked: they are known not to answer.
    #[must_use]
    pub fn leaving_out(self, away: impl IntoIterator<Item = HostName>) -> Self {
        Self { away: away.into_iter().collect(), ..self }
    }

    /// The same, with what a look at the hosts told of their kubelets.
    #[must_use]
    pub fn knowing(self, kubelets: impl IntoIterator<Item = (HostName, Began)>) -> Self {
        Self { kubelets: Mutex::new(kubelets.into_iter().collect()), ..self }
    }

    /// A client of that control plane's own API server.
    ///
    /// # Errors
    /// The credentials cannot be read.
    pub fn client_of(&self, host: &Host) -> Result<kube::Client, ClusterError> {
        let address = SocketAddr::new(host.address, self.plan.api_port());
        wire::client(&self.transport, &host.name, address, &self.api)
    }

    /// A client of any API server that is ready: the one that answered last, else the first to answer.
    ///
    /// # Errors
    /// None answers; the error names each with what it said.
    pub async fn client(&self) -> Result<kube::Client, ClusterError> {
        let known = self.client.lock().expect("no panic while it is held").clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let mut reasons = Vec::new();
        for host in self.plan.control_planes() {
            if self.away.contains(&host.name) {
                reasons.push(format!("{}: the host is not reached", host.name));
                continue;
            }
            let client = self.client_of(host)?;
            match ask(&client, "/readyz").await {
                Ok(_) => {
                    *self.client.lock().expect("no panic while it is held") = Some(client.clone());
                    return Ok(client);
                }
                Err(reason) => reasons.push(format!("{}: {reason}", host.name)),
            }
        }
        Err(ClusterError::plain(format!("no API server answers ({})", reasons.join("; "))))
    }

    pub(super) fn forget_client(&self) {
        *self.client.lock().expect("no panic while it is held") = None;
    }

    async fn exists(
        &self,
        client: &kube::Client,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<bool, ClusterError> {
        let mut value = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name } });
        if let Some(namespace) = namespace {
            value["metadata"]["namespace"] = namespace.into();
        }
        let api = self.api_of(client, &value).await?;
        Ok(api.get_opt(name).await.map_err(|error| failed("read", kind, &error))?.is_some())
    }

    /// Asks a gate's condition once. The error says what was seen. `patient`: the time to wait is over.
    /// `listening` is what this wait has seen before.
    async fn holds(&self, gate: &Gate, patient: bool, listening: &mut Listening) -> Result<(), String> {
        let host_of = |name: &HostName| self.plan.host(name).ok_or_else(|| format!("no host {name}"));
        match gate {
            Gate::KubeletHealthy(name) => self.health(Component::Kubelet, host_of(name)?).await,
            Gate::ApiServerReady(name) => self.health(Component::ApiServer, host_of(name)?).await,
            Gate::ControllersHealthy(name) => {
                let host = host_of(name)?;
                let seen = self.health(Component::ControllerManager, host).await;
                seen.map_err(|seen| format!("controller manager: {seen}"))?;
                self.health(Component::Scheduler, host).await.map_err(|seen| format!("scheduler: {seen}"))
            }
            Gate::EtcdHealthy(name) => match self.etcd_carriers().find(|host| host.name == *name) {
                Some(host) => self.etcd_health(host).await,
                None => Err(format!("no host {name}")),
            },
            Gate::QuorumWithout(name) => {
                believed(self.etcd_without(name).await, patient)?;
                self.hand_over_leadership(name).await;
                Ok(())
            }
            Gate::ApiServersWithout(name) => believed(self.api_servers_without(name).await, patient),
            Gate::VipAnswers(name) => self.vip_answers(host_of(name)?).await,
            Gate::NodeRegistered(name) => self.node(name).await.map(drop),
            Gate::NodeReady(name) => self.ready(name, listening).await,
            Gate::KubeletVersion { host, version } => {
                let node = self.node(host).await?;
                match node.pointer("/status/nodeInfo/kubeletVersion").and_then(Value::as_str) {
                    // Builds of others add words of their own after a plus or a dash.
                    Some(found) if found.split(['+', '-']).next() == Some(&version.to_string()) => Ok(()),
                    found => Err(format!("its Node says {}", found.unwrap_or("nothing"))),
                }
            }
            Gate::RolledOut { kind, namespace, name } => self.rolled_out(kind, namespace, name).await,
        }
    }

    async fn node(&self, name: &HostName) -> Result<Value, String> {
        let client = self.client().await.map_err(|error| error.message)?;
        match Api::<Node>::all(client).get_opt(name.as_str()).await {
            Ok(Some(node)) => serde_json::to_value(node).map_err(|error| error.to_string()),
            Ok(None) => Err("its kubelet has not registered it".to_owned()),
            Err(error) => {
                self.forget_client();
                Err(describe(&error))
            }
        }
    }

    async fn rolled_out(&self, kind: &str, namespace: &str, name: &str) -> Result<(), String> {
        let client = self.client().await.map_err(|error| error.message)?;
        let plural = format!("{}s", kind.to_lowercase());
        let text = match ask(&client, &format!("/apis/apps/v1/namespaces/{namespace}/{plural}/{name}")).await {
            Ok(text) => text,
            Err(reason) => {
                self.forget_client();
                return Err(reason);
            }
        };
        let object: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        if number("/status/observedGeneration") < number("/metadata/generation") {
            return Err("its controller has not seen it yet".to_owned());
        }
        let (wanted, updated, available) = if kind == "DaemonSet" {
            (
                number("/status/desiredNumberScheduled"),
                number("/status/updatedNumberScheduled"),
                number("/status/numberAvailable"),
            )
        } else {
            (number("/spec/replicas"), number("/status/updatedReplicas"), number("/status/availableReplicas"))
        };
        if updated >= wanted && available >= wanted {
            return Ok(());
        }
        Err(format!("{available} of {wanted} pods are available, {updated} are up to date"))
    }

    /// Log lines that tell why a gate's component does not come up.
    async fn logs(&self, gate: &Gate) -> Option<String> {
        let (host, pod, component) = match gate {
            Gate::KubeletHealthy(host) | Gate::NodeRegistered(host) | Gate::NodeReady(host) | Gate::KubeletVersion { host, .. } => (host, "", ""),
            Gate::EtcdHealthy(host) => (host, "etcd", "etcd"),
            Gate::ApiServerReady(host) => (host, "kube-apiserver", "kube-apiserver"),
            Gate::ControllersHealthy(host) => (host, "kube-controller-manager", "kube-controller-manager"),
            Gate::VipAnswers(host) => (host, vip::POD, "keepalived"),
            Gate::RolledOut { .. } | Gate::QuorumWithout(_) | Gate::ApiServersWithout(_) => return None,
        };
        // Both names come from this program, not from outside.
        let mut script = String::from("journalctl --no-pager -q -n 8 -o cat -u kubelet 2>/dev/null | cut -c1-300\n");
        if !component.is_empty() {
            script = format!(
                // One that has just been started again has said nothing yet; the one before it has.
                "last=\n\
                 for log in $(ls -t /var/log/pods/kube-system_{pod}-*/{component}/*.log 2>/dev/null); do if [ -s \"$log\" ]; then last=$log; break; fi; done\n\
                 if [ -n \"$last\" ]; then tail -n 8 \"$last\" | cut -c1-300; else {script}fi\n"
            );
        }
        let text = timeout(QUESTION * 4, self.transport.diagnose(host, &script)).await.ok()?.ok()?;
        (!text.trim().is_empty()).then_some(text)
    }
}

impl<T: Transport + 'static> Cluster for LiveCluster<T> {
    async fn changes(&self, artifacts: Vec<Artifact>) -> Result<Vec<Option<Change>>, ClusterError> {
        let client = self.client().await?;
        let formed = self.exists(&client, "v1", "ConfigMap", Some("kube-public"), "cluster-info").await?;
        let questions = artifacts.into_iter().map(|artifact| {
            let client = client.clone();
            async move {
                match artifact {
                    Artifact::Object(object) if object.policy == ObjectPolicy::WithCluster && formed => Ok(None),
                    Artifact::Object(object) => self.object_change(&client, object).await,
                    Artifact::NodeMarks(wanted) => marks::change(&client, wanted).await,
                    _ => Ok(None),
                }
            }
        });
        try_join_all(questions).await
    }

    async fn inventory(&self) -> Result<Option<Inventory>, ClusterError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client().await?, inventory::NAMESPACE);
        let found = api.get_opt(inventory::NAME).await.map_err(|error| failed("read", inventory::NAME, &error))?;
        Ok(found.map(|found| Inventory::read(&found.data.unwrap_or_default())))
    }

    async fn members(&self) -> Result<Vec<Member>, ClusterError> {
        self.membership().await
    }

    async fn closed(&self, gates: &[Gate]) -> BTreeSet<Gate> {
        let questions = gates.iter().map(|gate| async move {
            let open = timeout(QUESTION, self.holds(gate, false, &mut Listening::default())).await.is_ok_and(|held| held.is_ok());
            (!open).then(|| gate.clone())
        });
        join_all(questions).await.into_iter().flatten().collect()
    }

    async fn nodes_seen(&self) -> Result<Nodes, ClusterError> {
        maintenance::look(&self.client().await?, &self.plan).await
    }

    fn parting(self, leaving: Vec<Host>) -> Self {
        Self { leaving, ..self }
    }

    async fn objections(&self, nodes: &BTreeSet<HostName>) -> Result<BTreeMap<HostName, Vec<String>>, ClusterError> {
        if nodes.is_empty() {
            return Ok(BTreeMap::new());
        }
        maintenance::look_at_pods(&self.client().await?, &self.plan.upgrade, nodes).await
    }

    async fn concerns(&self) -> Result<Concerns, ClusterError> {
        self.look_ahead().await
    }

    fn forget_kubelet(&self, host: &HostName) {
        self.forget_kubelet_of(host);
    }

    async fn apply(&self, change: &Change) -> Result<(), ClusterError> {
        if let Artifact::NodeMarks(wanted) = &change.artifact {
            // The kubelet registers its Node, and may need as long for it as anything that comes up.
            self.wait(&Gate::NodeRegistered(wanted.node.clone()), self.plan.limits.gate_timeout.0).await?;
        }
        // An API server that has just come up may still refuse for a moment (RBAC is filled, a
        // webhook or a definition is not served yet). Every change is safe to repeat.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let result = match &change.artifact {
                Artifact::Object(object) if object.policy == ObjectPolicy::Absent => self.delete_object(object).await,
                Artifact::Object(object) => self.apply_object(object).await,
                Artifact::NodeMarks(wanted) => match self.client().await {
                    Ok(client) => marks::apply(&client, wanted).await,
                    Err(error) => Err(error),
                },
                Artifact::Membership(membership) => self.join(membership).await,
                Artifact::Maintenance(maintenance) => self.maintain(maintenance).await,
                Artifact::Departed(departure) => self.depart(departure).await,
                _ => Ok(()),
            };
            match result {
                Err(error) if error.permanent || Instant::now() > deadline => return Err(error),
                Err(_) => {
                    self.forget_client();
                    sleep(POLL).await;
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn wait(&self, gate: &Gate, limit: Duration) -> Result<(), ClusterError> {
        self.wait_for(gate, limit, &[]).await
    }

    async fn wait_or_crash(&self, gate: &Gate, limit: Duration, replaced: &[RemotePath]) -> Result<(), ClusterError> {
        self.wait_for(gate, limit, replaced).await
    }
}

/// Whether a verdict lets a host be disrupted. Only who has waited believes that all is lost.
fn believed(verdict: Verdict, patient: bool) -> Result<(), String> {
    match verdict {
        Verdict::Safe => Ok(()),
        Verdict::NothingToLose(_) if patient => Ok(()),
        Verdict::Unsafe(seen) | Verdict::NothingToLose(seen) => Err(seen),
    }
}

/// What to do when a gate does not open.
fn hint(gate: &Gate) -> String {
    match gate {
        Gate::QuorumWithout(_) | Gate::ApiServersWithout(_) => {
            "nothing was changed on this host; mend the others first: `slipway status` shows them, and \
             `slipway apply --host NAME` puts back what slipway made on one of them"
        }
        Gate::VipAnswers(_) => {
            "do the control planes share one layer 2 network, does it let VRRP (IP protocol 112) through, and is the \
             address free? Then run `slipway apply` again; it continues where this run stopped"
        }
        _ => "run `slipway apply` again when the cause is mended; it continues where this run stopped",
    }
    .to_owned()
}

fn missing(artifact: Artifact) -> Change {
    Change { artifact, reason: Reason::Missing, before: None }
}

/// A GET of a path; the error says what was seen, on one line.
pub(crate) async fn ask(client: &kube::Client, path: &str) -> Result<String, String> {
    let request = http::Request::get(path).body(Vec::new()).expect("paths are plain");
    match timeout(QUESTION, client.request_text(request)).await {
        Ok(answer) => answer.map_err(|error| describe(&error)),
        Err(_) => Err("no answer within 10 s".to_owned()),
    }
}

/// One request; the answer's text.
pub(super) async fn ask_with(client: &kube::Client, request: http::Request<Vec<u8>>) -> Result<String, kube::Error> {
    match timeout(QUESTION, client.request_text(request)).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
    }
}

/// The error of one operation on one object.
pub(super) fn failed(operation: &str, what: &str, error: &kube::Error) -> ClusterError {
    let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
    ClusterError {
        // The API understood and refuses: asking again gets the same answer.
        permanent: matches!(code, 400 | 405 | 413 | 415 | 422),
        ..ClusterError::plain(format!("cannot {operation} {what}: {}", describe(error)))
    }
}

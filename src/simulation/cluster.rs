//! The engine's way to a simulated cluster: objects through any API server that is ready, gates asked
//! of the components themselves. Objects live in etcd and share its fate.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::artifact::undone::Departure;
use crate::artifact::{Artifact, NodeMarks, Object, ObjectPolicy};
use crate::change::{Change, Reason};
use crate::cluster::compare::{APPLIED_ANNOTATION, essence, missing_fields_of_others};
use crate::cluster::quorum::{self, Verdict, Voter};
use crate::cluster::{Cluster, ClusterError, marks};
use crate::graph::Gate;
use crate::names::{Digest, HostName};
use crate::patch::merge::merged;
use crate::plan::{Cni, Plan};
use crate::standing::peer_url;

use super::World;
use super::etcd::EtcdCluster;
use super::faults::{Fault, Moment, Strike};

/// How often a condition is asked. Real ones are asked more often; on a paused clock each question is
/// work.
const POLL: Duration = Duration::from_secs(1);
/// How long one question to the API takes.
const QUESTION: Duration = Duration::from_millis(10);
/// How long a kubelet takes to register its Node once an API server is ready.
const REGISTRATION: Duration = Duration::from_secs(2);

/// A simulated cluster, as the engine reaches it.
#[derive(Debug, Clone)]
pub struct SimulatedCluster {
    world: Arc<Mutex<World>>,
    plan: Arc<Plan>,
    /// The CA the engine trusts, PEM. Empty: any.
    authority: String,
}

impl SimulatedCluster {
    pub(super) fn new(world: Arc<Mutex<World>>, plan: Arc<Plan>, authority: String) -> Self {
        Self { world, plan, authority }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("nobody panics while holding the world")
    }

    async fn pass(&self, time: Duration) {
        sleep(time).await;
        if self.world().killed {
            std::future::pending::<()>().await;
        }
    }

    async fn die(&self) -> ! {
        self.world().kill();
        std::future::pending().await
    }

    /// What is stored behind the first API server that is ready and of the CA that is trusted.
    fn store<'a>(&self, world: &'a mut World) -> Result<&'a mut EtcdCluster, ClusterError> {
        let now = world.elapsed();
        let mut reasons = Vec::new();
        for host in self.plan.control_planes() {
            match world.api_server(&host.name, now) {
                Ok(_) if !self.trusts(world, &host.name) => {
                    reasons.push(format!("{}: certificate signed by unknown authority", host.name));
                }
                Ok(None) => return Ok(&mut world.external),
                Ok(Some(id)) => return Ok(world.clusters.get_mut(&id).expect("a healthy member has a cluster")),
                Err(reason) => reasons.push(format!("{}: {reason}", host.name)),
            }
        }
        Err(ClusterError::plain(format!("no API server answers ({})", reasons.join("; "))))
    }

    fn trusts(&self, world: &World, host: &HostName) -> bool {
        self.authority.is_empty() || world.hosts[host].text("/etc/kubernetes/pki/ca.crt") == Some(self.authority.as_str())
    }

    /// The Node of a host, registered by its kubelet if that runs.
    fn node(&self, world: &mut World, name: &HostName) -> Result<Value, String> {
        let runs = world.hosts.get(name).is_some_and(|host| {
            host.reachable && host.kubelet_runs() && host.text("/etc/kubernetes/kubelet.conf").is_some()
        });
        let store = self.store(world).map_err(|error| error.message)?;
        let id = format!("Node/{name}");
        if let Some(node) = store.objects.get(&id) {
            return Ok(node.clone());
        }
        if !runs {
            return Err("its kubelet has not registered it".into());
        }
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name.as_str() }, "spec": {} });
        store.objects.insert(id, node.clone());
        Ok(node)
    }

    /// Whether a Node is ready: its kubelet runs and there is a network for its pods.
    fn node_ready(&self, world: &mut World, name: &HostName) -> Result<(), String> {
        self.node(world, name)?;
        let host = &world.hosts[name];
        if !host.reachable || !host.kubelet_runs() {
            return Err("Kubelet stopped posting node status.".into());
        }
        let network = match &self.plan.network.cni {
            Cni::Bridge { .. } => host.at("/etc/cni/net.d/10-slipway.conflist").is_some(),
            Cni::Flannel { .. } => self.has(world, "DaemonSet/kube-flannel/kube-flannel-ds")?,
            Cni::Manifest { .. } => true,
            Cni::None => false,
        };
        if network { Ok(()) } else { Err("cni plugin not initialized".into()) }
    }

    fn has(&self, world: &mut World, id: &str) -> Result<bool, String> {
        Ok(self.store(world).map_err(|error| error.message)?.objects.contains_key(id))
    }

    /// Asks a gate's condition once.
    fn holds(&self, gate: &Gate, patient: bool) -> Result<(), String> {
        let world = &mut *self.world();
        let now = world.elapsed();
        let component = |world: &World, host: &HostName, pod: &str| {
            world.reachable(host)?;
            world.hosts[host].pods.get(pod).ok_or("connection refused")?.answers(now)
        };
        match gate {
            Gate::KubeletHealthy(host) => {
                world.reachable(host)?;
                if world.hosts[host].kubelet_runs() { Ok(()) } else { Err("connection refused".into()) }
            }
            Gate::EtcdHealthy(host) => world.member_health(host, now).map(drop),
            Gate::ApiServerReady(host) => world.api_server(host, now).map(drop),
            Gate::ControllersHealthy(host) => {
                component(world, host, "kube-controller-manager")?;
                component(world, host, "kube-scheduler")
            }
            Gate::NodeRegistered(host) => self.node(world, host).map(drop),
            Gate::NodeReady(host) => self.node_ready(world, host),
            Gate::RolledOut { kind, namespace, name } => {
                let there = self.has(world, &format!("{kind}/{namespace}/{name}"))?;
                if there { Ok(()) } else { Err("it is not there".into()) }
            }
            Gate::QuorumWithout(host) => believed(self.etcd_without(world, host), patient),
            Gate::ApiServersWithout(host) => {
                let ready = self.plan.control_planes().map(|host| (host.name.clone(), world.api_server(&host.name, now).map(drop)));
                believed(quorum::api_servers_without(host, &ready.collect()), patient)
            }
        }
    }

    fn etcd_without(&self, world: &mut World, host: &HostName) -> Verdict {
        let now = world.elapsed();
        let mut voters = Vec::new();
        for member in self.plan.etcd_hosts() {
            let votes = |cluster: &EtcdCluster| cluster.members.contains_key(&peer_url(member));
            if !world.clusters.values().any(votes) {
                continue;
            }
            let health = world.member_health(&member.name, now).map(drop);
            voters.push(Voter { name: member.name.to_string(), knows_leader: health.is_ok(), health });
        }
        quorum::etcd_without(host, &voters)
    }

    fn object_change(store: &EtcdCluster, object: Object) -> Option<Change> {
        let Some(found) = store.objects.get(&object.id()) else {
            return Some(Change { artifact: Artifact::Object(object), reason: Reason::Missing, before: None });
        };
        let changed = missing_fields_of_others(&object.value, found);
        if changed.is_empty() {
            return None;
        }
        let applied = found.pointer("/metadata/annotations").and_then(|annotations| annotations.get(APPLIED_ANNOTATION));
        let drift = applied.and_then(Value::as_str) == Some(&Digest::of(object.value.to_string()).to_string());
        let before = (!object.secret).then(|| crate::yaml::write(&essence(found)));
        Some(Change { artifact: Artifact::Object(object), reason: Reason::Fields { changed, drift }, before })
    }

    fn marks_change(store: &EtcdCluster, marks: NodeMarks) -> Option<Change> {
        let reason = match store.objects.get(&format!("Node/{}", marks.node)) {
            None => Reason::Missing,
            Some(node) => {
                let changed = marks::differences(&marks, &read_node(node));
                if changed.is_empty() {
                    return None;
                }
                Reason::Fields { changed, drift: false }
            }
        };
        Some(Change { artifact: Artifact::NodeMarks(marks), reason, before: None })
    }

    /// Makes a change once.
    async fn make(&self, artifact: &Artifact) -> Result<(), ClusterError> {
        self.pass(QUESTION).await;
        match artifact {
            Artifact::Object(object) => {
                let world = &mut *self.world();
                let store = self.store(world)?;
                let mut value = object.value.clone();
                if !value["metadata"]["annotations"].is_object() {
                    value["metadata"]["annotations"] = json!({});
                }
                value["metadata"]["annotations"][APPLIED_ANNOTATION] = Digest::of(object.value.to_string()).to_string().into();
                let found = store.objects.remove(&object.id()).unwrap_or_else(|| json!({}));
                store.objects.insert(object.id(), merged(found, &value));
            }
            Artifact::NodeMarks(marks) => {
                let world = &mut *self.world();
                let store = self.store(world)?;
                let id = format!("Node/{}", marks.node);
                let Some(node) = store.objects.remove(&id) else { return Err(ClusterError::plain(format!("cannot read {id}: not found"))) };
                let mut patch = marks::patch(marks, &read_node(&node));
                if let Some(metadata) = patch["metadata"].as_object_mut() {
                    metadata.remove("resourceVersion");
                }
                store.objects.insert(id, merged(node, &patch));
            }
            Artifact::Departed(Departure::Node { host }) => {
                let world = &mut *self.world();
                self.store(world)?.objects.remove(&format!("Node/{host}"));
            }
            Artifact::Departed(Departure::Member { peer_url, host }) => {
                {
                    let mut world = self.world();
                    world.membership_changes += 1;
                    if world.membership_changes > 1 {
                        world.violations.push(format!("etcd's membership changes on {host} while it changes elsewhere"));
                    }
                }
                self.pass(QUESTION * 20).await;
                let mut world = self.world();
                world.membership_changes = world.membership_changes.saturating_sub(1);
                let now = world.elapsed();
                world.remove_member(peer_url, now).map_err(ClusterError::plain)?;
            }
            Artifact::Membership(membership) => {
                return Err(ClusterError::plain(format!("a rehearsal has no members that join: {membership}")));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Only who has waited believes that all is lost.
fn believed(verdict: Verdict, patient: bool) -> Result<(), String> {
    match verdict {
        Verdict::Safe => Ok(()),
        Verdict::NothingToLose(_) if patient => Ok(()),
        Verdict::Unsafe(seen) | Verdict::NothingToLose(seen) => Err(seen),
    }
}

fn read_node(node: &Value) -> Node {
    serde_json::from_value(node.clone()).expect("what is stored was made here")
}

impl Cluster for SimulatedCluster {
    async fn changes(&self, artifacts: Vec<Artifact>) -> Result<Vec<Option<Change>>, ClusterError> {
        self.pass(QUESTION).await;
        let world = &mut *self.world();
        let store = self.store(world)?;
        let formed = store.objects.contains_key("ConfigMap/kube-public/cluster-info");
        let change = |artifact| match artifact {
            Artifact::Object(object) if object.policy == ObjectPolicy::WithCluster && formed => None,
            Artifact::Object(object) => Self::object_change(store, object),
            Artifact::NodeMarks(marks) => Self::marks_change(store, marks),
            _ => None,
        };
        Ok(artifacts.into_iter().map(change).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), ClusterError> {
        let id = change.artifact.id();
        let strike = self.world().strike(None, &id);
        match strike {
            Some(Strike::Kill(Moment::Before)) => self.die().await,
            Some(Strike::Fail(Moment::Before) | Strike::DiskFull | Strike::Gone) => {
                return Err(ClusterError::plain(format!("cannot apply {id}: no API server answers")));
            }
            _ => {}
        }
        if let Artifact::NodeMarks(marks) = &change.artifact {
            self.wait(&Gate::NodeRegistered(marks.node.clone()), self.plan.limits.gate_timeout.0).await?;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match self.make(&change.artifact).await {
                Ok(()) => break,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => self.pass(POLL).await,
            }
        }
        self.world().made.push((None, id.clone()));
        match strike {
            Some(Strike::Kill(_)) => self.die().await,
            Some(Strike::Fail(_) | Strike::ReplyLost | Strike::Reboot) => {
                Err(ClusterError::plain(format!("cannot apply {id}: the answer was lost")))
            }
            _ => Ok(()),
        }
    }

    async fn wait(&self, gate: &Gate, limit: Duration) -> Result<(), ClusterError> {
        let strike = self.world().strike(None, &gate.to_string());
        if let Some(Strike::Kill(_)) = strike {
            self.die().await;
        }
        let refused = Fault::GateRefused(gate.to_string());
        if matches!(gate, Gate::NodeRegistered(_) | Gate::NodeReady(_)) && self.holds(gate, false).is_err() {
            self.pass(REGISTRATION).await;
        }
        let deadline = Instant::now() + limit;
        loop {
            let patient = Instant::now() >= deadline;
            let seen = match self.holds(gate, patient) {
                _ if self.world().faults.contains(&refused) => "it does not open".to_owned(),
                Ok(()) => return Ok(()),
                Err(seen) => seen,
            };
            if patient {
                return Err(ClusterError::plain(format!("waited {} s for {gate}: {seen}", limit.as_secs())));
            }
            self.pass(POLL).await;
        }
    }
}

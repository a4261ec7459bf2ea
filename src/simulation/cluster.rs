//! The engine's way to a simulated cluster: objects through any API server that is ready, gates asked
//! of the components themselves. Objects live in etcd and share its fate.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::artifact::maintenance::{CORDONED_ANNOTATION, Maintenance};
use crate::artifact::membership::Membership;
use crate::artifact::undone::Departure;
use crate::artifact::{Artifact, NodeMarks, ObjectPolicy};
use crate::change::{Change, Reason};
use crate::departed::{HOST_ANNOTATION, Nodes, OtherNode, may_have_member};
use crate::cluster::quorum::{self, Verdict, Voter};
use crate::cluster::etcd::{Member, MembershipApi as _};
use crate::cluster::{Cluster, ClusterError, departure, joining, maintenance, marks};
use crate::desired::vip;
use crate::graph::Gate;
use crate::inventory::{self, Inventory};
use crate::names::HostName;
use crate::patch::merge::merged;
use crate::plan::{Cni, Host, Plan};
use crate::upgrade::turns::NodeSeen;

use super::{SharedWorld, World, objects};
use super::etcd::EtcdCluster;
use super::membership::SimulatedMember;
use super::faults::{Fault, Moment, Strike};

/// How often a condition is asked. Real ones are asked more often; on a paused clock each question is
/// work.
const POLL: Duration = Duration::from_secs(1);
/// How long one question to the API takes.
const QUESTION: Duration = Duration::from_millis(10);
/// How long a kubelet takes to register its Node once an API server is ready.
const REGISTRATION: Duration = Duration::from_secs(2);
/// How long a Node stays ready whose kubelet is not heard any more: what the controller manager of v1.20 waits;
/// later ones wait longer.
const GRACE: Duration = Duration::from_secs(40);

/// A simulated cluster, as the engine reaches it.
#[derive(Debug, Clone)]
pub struct SimulatedCluster {
    world: SharedWorld,
    plan: Arc<Plan>,
    /// The CAs the engine trusts, PEM. Empty: any.
    authority: String,
    /// Hosts that left the plan and are still in the cluster.
    leaving: Vec<Host>,
}

impl SimulatedCluster {
    pub(super) fn new(world: SharedWorld, plan: Arc<Plan>, authority: String) -> Self {
        Self { world, plan, authority, leaving: Vec::new() }
    }

    /// The same in another world, whatever CAs that has.
    pub(super) fn within(&self, world: SharedWorld) -> Self {
        Self { world, authority: String::new(), ..self.clone() }
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

    fn trusts(&self, world: &mut World, host: &HostName) -> bool {
        self.authority.is_empty() || world.is_trusted(host, &self.authority)
    }

    /// The Node of a host, registered by its kubelet if that runs.
    fn node(&self, world: &mut World, name: &HostName) -> Result<Value, String> {
        let runs = world.kubelet_is_heard(name) && world.hosts[name].text("/etc/kubernetes/kubelet.conf").is_some();
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

    /// Whether the API says that a Node is ready: by the word of its kubelet, which stays for a while when that
    /// is not heard any more.
    fn node_ready(&self, world: &mut World, name: &HostName) -> Result<(), String> {
        self.node(world, name)?;
        let now = world.elapsed();
        if !world.kubelet_is_heard(name) {
            let host = &world.hosts[name];
            let lately = host.reachable && host.ready_heard.is_some_and(|heard| now < heard + GRACE);
            return if lately { Ok(()) } else { Err("Kubelet stopped posting node status.".into()) };
        }
        let host = &world.hosts[name];
        let network = match &self.plan.network.cni {
            Cni::Bridge { .. } => host.at("/etc/cni/net.d/10-slipway.conflist").is_some(),
            Cni::Flannel { .. } => self.has(world, "DaemonSet/kube-flannel/kube-flannel-ds")?,
            Cni::Manifest { .. } => true,
            Cni::None => false,
        };
        world.host_mut(name).ready_heard = network.then_some(now);
        if network { Ok(()) } else { Err("cni plugin not initialized".into()) }
    }

    /// The same by the word of the kubelet that runs now.
    fn node_ready_anew(&self, world: &mut World, name: &HostName) -> Result<(), String> {
        self.node_ready(world, name)?;
        // The host is asked when its kubelet was started.
        if world.unasked.remove(name) {
            *world.round_trips.entry(name.clone()).or_default() += 1;
        }
        if world.kubelet_is_heard(name) { Ok(()) } else { Err("its kubelet has not reported since it was started".into()) }
    }

    fn has(&self, world: &mut World, id: &str) -> Result<bool, String> {
        Ok(self.store(world).map_err(|error| error.message)?.objects.contains_key(id))
    }

    /// Asks a gate's condition once.
    fn holds(&self, gate: &Gate, patient: bool) -> Result<(), String> {
        let world = &mut *self.world.lock();
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
            Gate::NodeReady(host) => self.node_ready_anew(world, host),
            Gate::KubeletVersion { host, version } => {
                self.node_ready(world, host)?;
                let (heard, host) = (world.kubelet_is_heard(host), &world.hosts[host]);
                let says = if heard { &host.kubelet_running } else { &host.version_heard };
                if *says == version.to_string() { Ok(()) } else { Err(format!("its Node says {says}")) }
            }
            Gate::RolledOut { kind, namespace, name } => {
                let there = self.has(world, &format!("{kind}/{namespace}/{name}"))?;
                if there { Ok(()) } else { Err("it is not there".into()) }
            }
            Gate::QuorumWithout(host) => believed(self.etcd_without(world, host), patient),
            Gate::VipAnswers(host) => {
                world.reachable(host)?;
                self.vip_answers(world)
            }
            Gate::ApiServersWithout(host) => {
                let ready = self.plan.control_planes().map(|host| (host.name.clone(), world.api_server(&host.name, now).map(drop)));
                believed(quorum::api_servers_without(host, &ready.collect()), patient)
            }
        }
    }

    /// Whether some host holds the virtual address, and some API server is ready behind it.
    fn vip_answers(&self, world: &mut World) -> Result<(), String> {
        let now = world.elapsed();
        self.store(world).map_err(|error| error.message)?;
        let holds = |host: &Host| world.hosts[&host.name].pods.get(vip::POD).is_some_and(|pod| pod.is_ready(now));
        if self.plan.control_planes().any(|host| world.reachable(&host.name).is_ok() && holds(host)) {
            return Ok(());
        }
        Err("no route to host".into())
    }

    fn etcd_without(&self, world: &mut World, host: &HostName) -> Verdict {
        let now = world.elapsed();
        let (mut answers, mut known_by) = (Vec::new(), None);
        let leaving = self.leaving.iter().filter(|host| may_have_member(&self.plan, host));
        for member in self.plan.etcd_hosts().chain(leaving) {
            let health = world.member_health(&member.name, now);
            known_by = known_by.or(health.as_ref().ok().copied());
            let health = health.map(drop);
            answers.push((member, Voter { name: member.name.to_string(), knows_leader: health.is_ok(), health }));
        }
        let voters = match known_by {
            Some(cluster) => quorum::electorate(host, answers, &world.clusters[&cluster].members),
            None => answers.into_iter().map(|(_, voter)| voter).collect(),
        };
        quorum::etcd_without(host, &voters)
    }

    /// The members of etcd as the engine speaks to them, but for that one.
    fn members_besides(&self, host: Option<&HostName>) -> Vec<(HostName, SimulatedMember)> {
        let leaving = self.leaving.iter().filter(|host| may_have_member(&self.plan, host));
        let others = self.plan.etcd_hosts().chain(leaving).filter(|other| Some(&other.name) != host);
        others.map(|other| (other.name.clone(), SimulatedMember::new(self.world.clone(), other.name.clone()))).collect()
    }

    /// One part of a host's way into the membership; half of it is that its old member is gone.
    async fn join(&self, membership: &Membership, half: bool) -> Result<(), ClusterError> {
        match membership {
            Membership::Learner { host, replaces: Some(old), .. } if half => {
                let voters = self.members_besides(Some(host));
                joining::list(&voters).await?.0.remove(*old).await
            }
            Membership::Learner { host, peer_url, replaces, peers } => {
                joining::add_learner(&self.members_besides(Some(host)), peer_url, *replaces, peers).await
            }
            Membership::Voter { host, peer_url } => {
                joining::promote(&self.members_besides(Some(host)), peer_url, self.plan.limits.gate_timeout.0).await
            }
        }
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

    /// A Node is emptied or given back. Nothing runs on simulated Nodes, so nothing is evicted.
    async fn maintain(&self, wanted: &Maintenance) -> Result<(), ClusterError> {
        let (host, patch) = match wanted {
            Maintenance::Back { node, .. } => {
                self.wait(&Gate::KubeletHealthy(node.clone()), self.plan.limits.gate_timeout.0).await?;
                return self.wait(&Gate::NodeReady(node.clone()), self.plan.limits.gate_timeout.0).await;
            }
            Maintenance::Emptied { node, version, .. } => {
                let marked = json!({ CORDONED_ANNOTATION: version.to_string() });
                (node, json!({ "metadata": { "annotations": marked }, "spec": { "unschedulable": true } }))
            }
            Maintenance::Returned { node, version, ready } => {
                self.wait(&Gate::KubeletVersion { host: node.clone(), version: *version }, self.plan.limits.gate_timeout.0).await?;
                if *ready {
                    self.wait(&Gate::NodeReady(node.clone()), self.plan.limits.gate_timeout.0).await?;
                }
                let unmarked = json!({ CORDONED_ANNOTATION: null });
                (node, json!({ "metadata": { "annotations": unmarked }, "spec": { "unschedulable": null } }))
            }
        };
        let world = &mut *self.world.lock();
        let store = self.store(world)?;
        let id = format!("Node/{host}");
        if let Some(node) = store.objects.remove(&id) {
            store.objects.insert(id, merged(node, &patch));
        }
        Ok(())
    }

    /// Makes a change once, or the first half of one that has halves.
    async fn make(&self, artifact: &Artifact, half: bool) -> Result<(), ClusterError> {
        self.world.pass(QUESTION).await;
        match artifact {
            Artifact::Object(object) => {
                let world = &mut *self.world.lock();
                objects::make(self.store(world)?, object);
            }
            Artifact::NodeMarks(marks) => {
                let world = &mut *self.world.lock();
                let store = self.store(world)?;
                let id = format!("Node/{}", marks.node);
                let Some(node) = store.objects.remove(&id) else { return Err(ClusterError::plain(format!("cannot read {id}: not found"))) };
                let mut patch = marks::patch(marks, &read_node(&node));
                if let Some(metadata) = patch["metadata"].as_object_mut() {
                    metadata.remove("resourceVersion");
                }
                store.objects.insert(id, merged(node, &patch));
            }
            Artifact::Departed(Departure::Drained { host, after, .. }) => {
                for node in after {
                    self.wait(&Gate::NodeReady(node.clone()), self.plan.limits.gate_timeout.0).await?;
                }
                let world = &mut *self.world.lock();
                let store = self.store(world)?;
                let id = format!("Node/{host}");
                if let Some(node) = store.objects.remove(&id) {
                    store.objects.insert(id, merged(node, &json!({ "spec": { "unschedulable": true } })));
                }
            }
            Artifact::Departed(Departure::Node { host }) => {
                let world = &mut *self.world.lock();
                self.store(world)?.objects.remove(&format!("Node/{host}"));
            }
            // Somebody else's etcd: its members are not ours to remove.
            Artifact::Departed(Departure::Member { .. }) if self.plan.etcd.external.is_some() => {}
            Artifact::Departed(Departure::Member { peer_url, host }) => {
                departure::remove_member(&self.members_besides(Some(host)), peer_url).await?;
            }
            Artifact::Maintenance(maintenance) => self.maintain(maintenance).await?,
            Artifact::Membership(membership) => self.join(membership, half).await?,
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
        self.world.pass(QUESTION).await;
        let world = &mut *self.world.lock();
        let store = self.store(world)?;
        let formed = store.objects.contains_key("ConfigMap/kube-public/cluster-info");
        let change = |artifact| match artifact {
            Artifact::Object(object) if object.policy == ObjectPolicy::WithCluster && formed => None,
            Artifact::Object(object) => objects::change(store, object),
            Artifact::NodeMarks(marks) => Self::marks_change(store, marks),
            _ => None,
        };
        Ok(artifacts.into_iter().map(change).collect())
    }

    async fn inventory(&self) -> Result<Option<Inventory>, ClusterError> {
        self.world.pass(QUESTION).await;
        let world = &mut *self.world.lock();
        let found = self.store(world)?.objects.get(&format!("ConfigMap/{}/{}", inventory::NAMESPACE, inventory::NAME));
        let data = found.map(|found| serde_json::from_value(found["data"].clone()).expect("what is stored was made here"));
        Ok(data.map(|data| Inventory::read(&data)))
    }

    async fn members(&self) -> Result<Vec<Member>, ClusterError> {
        Ok(joining::list(&self.members_besides(None)).await?.1)
    }

    async fn closed(&self, gates: &[Gate]) -> BTreeSet<Gate> {
        if !gates.is_empty() {
            self.world.pass(QUESTION).await;
        }
        gates.iter().filter(|gate| self.holds(gate, false).is_err()).cloned().collect()
    }

    fn parting(self, leaving: Vec<Host>) -> Self {
        Self { leaving, ..self }
    }

    async fn nodes_seen(&self) -> Result<Nodes, ClusterError> {
        self.world.pass(QUESTION).await;
        let world = &mut *self.world.lock();
        let stored = self.store(world)?.objects.iter().filter(|(id, _)| id.starts_with("Node/"));
        let stored: Vec<Node> = stored.map(|(_, node)| read_node(node)).collect();
        let mut all = Nodes::default();
        for node in stored {
            let name: HostName = node.metadata.name.as_deref().and_then(|name| name.parse().ok()).expect("Nodes are of hosts");
            let version = world.hosts[&name].kubelet_running.parse().ok();
            let ready = self.node_ready(world, &name).is_ok();
            let seen = NodeSeen { version, ready, ..maintenance::seen(&node) };
            if self.plan.nodes().any(|host| host.name == name) {
                all.of_plan.insert(name, seen);
            } else {
                let mark = node.metadata.annotations.as_ref().and_then(|all| all.get(HOST_ANNOTATION)).cloned();
                all.others.push(OtherNode { name: name.to_string(), mark, seen });
            }
        }
        Ok(all)
    }

    fn forget_kubelet(&self, host: &HostName) {
        self.world.lock().unasked.insert(host.clone());
    }

    async fn apply(&self, change: &Change) -> Result<(), ClusterError> {
        let id = change.artifact.id();
        let strike = self.world.lock().strike(None, &id);
        match strike {
            Some(Strike::Kill(Moment::Before)) => self.world.die().await,
            Some(Strike::Fail(Moment::Before) | Strike::DiskFull | Strike::Gone) => {
                return Err(ClusterError::plain(format!("cannot apply {id}: no API server answers")));
            }
            _ => {}
        }
        if let Artifact::NodeMarks(marks) = &change.artifact {
            self.wait(&Gate::NodeRegistered(marks.node.clone()), self.plan.limits.gate_timeout.0).await?;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        let half = matches!(strike, Some(Strike::Kill(Moment::Within) | Strike::Fail(Moment::Within)));
        loop {
            match self.make(&change.artifact, half).await {
                Ok(()) => break,
                Err(error) if error.permanent || Instant::now() > deadline => return Err(error),
                Err(_) => self.world.pass(POLL).await,
            }
        }
        self.world.lock().made.push((None, id.clone()));
        match strike {
            Some(Strike::Kill(_)) => self.world.die().await,
            Some(Strike::Fail(_) | Strike::ReplyLost | Strike::Reboot) => {
                Err(ClusterError::plain(format!("cannot apply {id}: the answer was lost")))
            }
            _ => Ok(()),
        }
    }

    async fn wait(&self, gate: &Gate, limit: Duration) -> Result<(), ClusterError> {
        let strike = self.world.lock().strike(None, &gate.to_string());
        match strike {
            Some(Strike::Kill(_)) => self.world.die().await,
            Some(Strike::Gone) => {
                let mut world = self.world.lock();
                gate.host().into_iter().for_each(|host| world.cut(host));
            }
            _ => {}
        }
        let refused = Fault::GateRefused(gate.to_string());
        if matches!(gate, Gate::NodeRegistered(_) | Gate::NodeReady(_)) && self.holds(gate, false).is_err() {
            self.world.pass(REGISTRATION).await;
        }
        let deadline = Instant::now() + limit;
        loop {
            let patient = Instant::now() >= deadline;
            let seen = match self.holds(gate, patient) {
                _ if self.world.lock().faults.contains(&refused) => "it does not open".to_owned(),
                Ok(()) => return Ok(()),
                Err(seen) => seen,
            };
            if patient {
                return Err(ClusterError::plain(format!("waited {} s for {gate}: {seen}", limit.as_secs())));
            }
            self.world.pass(POLL).await;
        }
    }
}

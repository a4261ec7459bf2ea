//! A Node's word against the start of its kubelet, over an API and a host in memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::artifact::Secret;
use crate::cluster::wire::Tls;
use crate::cluster::{Cluster as _, ClusterError};
use crate::facts::Facts;
use crate::graph::Gate;
use crate::names::RemotePath;
use crate::transport::{ApplyError, ProbeRequest, Stream, TransportError, Work};

/// 2026-11-21T03:00:00Z, when the first kubelet was started.
const FIRST: i64 = 1_795_230_000;

/// What the API and the host say; of several answers each once, and the last one from then on.
#[derive(Debug, Default)]
struct World {
    /// When the Node's kubelet said last that it is ready.
    heartbeats: Mutex<Vec<i64>>,
    /// When the Lease was renewed.
    renewals: Mutex<Vec<i64>>,
    /// What the host says of its kubelet; nothing: it cannot be asked.
    host: Mutex<Vec<String>>,
    /// How often it was asked.
    asked: AtomicUsize,
}

fn next<T: Clone>(answers: &Mutex<Vec<T>>) -> Option<T> {
    let mut answers = answers.lock().unwrap();
    if answers.len() > 1 { Some(answers.remove(0)) } else { answers.first().cloned() }
}

fn time(second: i64) -> String {
    jiff::Timestamp::from_second(second).unwrap().to_string()
}

impl World {
    fn answer(&self, path: &str) -> Value {
        match path {
            "/readyz" => json!("ok"),
            "/api/v1/nodes/w" => {
                let condition = json!({ "type": "Ready", "status": "True", "lastHeartbeatTime": time(next(&self.heartbeats).unwrap()) });
                json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "w" }, "status": { "conditions": [condition] } })
            }
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w" => {
                let spec = json!({ "renewTime": time(next(&self.renewals).unwrap()) });
                json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "w" }, "spec": spec })
            }
            other => panic!("nobody asks for {other}"),
        }
    }

    async fn serve(self: Arc<Self>, mut stream: DuplexStream) {
        let mut request = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut request).await {
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
            let path = text.split_whitespace().nth(1).unwrap().split('?').next().unwrap();
            let body = self.answer(path).to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

struct Line(Arc<World>);

fn lost(host: &HostName) -> TransportError {
    TransportError::Lost { host: host.clone(), operation: "a test".into() }
}

impl Transport for Line {
    async fn connect(&self, _: &HostName, _: SocketAddr) -> Result<Box<dyn Stream>, TransportError> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(Arc::clone(&self.0).serve(theirs));
        Ok(Box::new(ours))
    }
    async fn diagnose(&self, host: &HostName, script: &str) -> Result<String, TransportError> {
        if script != probe::KUBELET_BEGAN {
            return Err(lost(host));
        }
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        next(&self.0.host).ok_or_else(|| lost(host))
    }
    async fn probe(&self, host: &HostName, _: &ProbeRequest) -> Result<Facts, TransportError> {
        Err(lost(host))
    }
    async fn fetch(&self, host: &HostName, _: &[RemotePath]) -> Result<BTreeMap<RemotePath, Secret>, TransportError> {
        Err(lost(host))
    }
    async fn apply(&self, host: &HostName, _: Work<'_>, _: impl Fn(usize) + Send + Sync) -> Result<(), ApplyError> {
        Err(lost(host).into())
    }
    fn round_trips(&self, _: &HostName) -> usize {
        self.0.asked.load(Ordering::Relaxed)
    }
    async fn close(&self) {}
}

/// A host whose kubelet was started then; its clock is right, and it asks itself 100 s later.
fn started(second: i64) -> String {
    let words = time(second).replace('T', " ").replace('Z', " UTC");
    format!("ActiveState=active\nExecMainStartTimestamp=Sat {words}\nExecMainStartTimestampMonotonic=50000000\nclock={}.5\nuptime=150.50 1.0\n", second + 100)
}

/// Waits for the Node, of whose kubelet the probe saw the first start; `anew`: another was started since.
async fn waits(world: &Arc<World>, anew: bool) -> Result<(), ClusterError> {
    let plan = "version: 1\nkubernetes: {version: v1.34.2}\nhosts:\n  - {name: cp, address: 192.0.2.1, roles: [control-plane]}\n  - {name: w, address: 192.0.2.2, roles: [worker]}\n";
    let plan = Arc::new(crate::yaml::read(plan).unwrap());
    let began = Began { noted: FIRST, reckoned: FIRST };
    let node: HostName = "w".parse().unwrap();
    let cluster = LiveCluster::new(Arc::new(Line(Arc::clone(world))), plan, Tls::None, None).knowing([(node.clone(), began)]);
    if anew {
        cluster.forget_kubelet(&node);
    }
    cluster.wait(&Gate::NodeReady(node), Duration::from_secs(30)).await
}

fn world(heartbeats: &[i64], renewals: &[i64], host: &[String]) -> Arc<World> {
    let (heartbeats, renewals, host) = (heartbeats.to_vec(), renewals.to_vec(), host.to_vec());
    Arc::new(World { heartbeats: Mutex::new(heartbeats), renewals: Mutex::new(renewals), host: Mutex::new(host), asked: AtomicUsize::new(0) })
}

#[tokio::test(start_paused = true)]
async fn where_no_kubelet_is_started_the_host_is_not_asked() {
    let world = world(&[FIRST + 5], &[FIRST], &[]);
    waits(&world, false).await.unwrap();
    assert_eq!(world.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_kubelet_said_before_its_restart_is_not_enough_and_the_host_is_asked_once() {
    let old = FIRST + 5;
    let world = world(&[old], &[FIRST], &[started(FIRST + 60)]);
    let error = waits(&world, true).await.unwrap_err();
    assert_eq!(error.message, "waited 30 s for node w to be ready: its kubelet has not reported since it was started");
    assert_eq!(world.asked.load(Ordering::Relaxed), 1);

    world.heartbeats.lock().unwrap().push(FIRST + 62);
    waits(&world, true).await.unwrap();
    assert_eq!(world.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_does_not_run_is_asked_for_again() {
    let dead = "ActiveState=activating\n".to_owned();
    let world = world(&[FIRST + 5], &[FIRST], std::slice::from_ref(&dead));
    let error = waits(&world, true).await.unwrap_err();
    assert!(error.message.contains("its kubelet does not run"), "{error}");
    let asked = world.asked.load(Ordering::Relaxed);
    assert!((2..=11).contains(&asked), "every few seconds of 30: {asked}");

    *world.heartbeats.lock().unwrap() = vec![FIRST + 62];
    *world.host.lock().unwrap() = vec![dead, started(FIRST + 60)];
    waits(&world, true).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_asked_is_judged_by_what_changes() {
    let heard = world(&[FIRST + 5, FIRST + 5, FIRST + 62], &[FIRST], &[]);
    waits(&heard, true).await.unwrap();
    let renewed = world(&[FIRST + 5], &[FIRST, FIRST, FIRST + 10, FIRST + 20], &[]);
    waits(&renewed, true).await.unwrap();
    let once = world(&[FIRST + 5], &[FIRST, FIRST + 10], &[]);
    let error = waits(&once, true).await.unwrap_err();
    assert!(error.message.ends_with("it is not clear yet whether its kubelet has reported since it was started"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_since_the_start_is_not_believed() {
    // Set back by an hour after the start: the old word seems to come after it.
    let set = started(FIRST + 60).replace(&format!("clock={}.5", FIRST + 160), &format!("clock={}.5", FIRST + 160 - 3600));
    let world = world(&[FIRST + 5], &[FIRST], &[set]);
    assert!(waits(&world, true).await.is_err());
    *world.renewals.lock().unwrap() = vec![FIRST, FIRST + 10, FIRST + 20];
    waits(&world, true).await.unwrap();
}

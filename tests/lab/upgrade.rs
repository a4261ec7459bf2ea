//! A living cluster goes to another release: API servers first, then kubelets with their Nodes drained,
//! without a disruption budget being broken and without a request that fails.
//!
//! The other release is the same source that says it is the next minor version: images, labels and the
//! names of objects change with it, and Nodes are drained.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::client::Client;
use super::cluster::Cluster;
use super::machines::{Machines, VERSION, eventually};
use super::plan_file::{of_release, plan, with_local_proxy, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

/// The release the clusters go to.
const NEXT: &str = "v1.21.14";

/// How many runs of the long story are killed, and until when after their beginning.
const KILLS: u32 = 5;
const LATEST_KILL_MILLISECONDS: u32 = 50_000;

/// The same plan with the next release, all of it from this machine.
fn next(machines: &Machines, plan: &Value) -> Value {
    let mut plan = of_release(machines, plan, NEXT);
    for program in ["kubelet", "kubectl"] {
        plan["binaries"][program]["upload"] = json!(machines.program_of(NEXT, program));
    }
    plan
}

/// Two pods that may run anywhere, of which one must always be available.
pub fn workload(desk: &Desk, cluster: &Cluster) {
    let labels = json!({ "app": "budget" });
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "budget" },
            "spec": { "replicas": 2, "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "tolerations": [{ "key": "node-role.kubernetes.io/master", "operator": "Exists" }],
                    "containers": [{
                        "name": "tool", "image": "lab.local/tool:1", "imagePullPolicy": "IfNotPresent", "args": ["serve", "--port", "8080"],
                        "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 },
                    }],
                },
            } },
        },
        {
            "apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": { "name": "budget" },
            "spec": { "minAvailable": 1, "selector": { "matchLabels": labels } },
        },
    ] });
    let file = desk.path("workload.json");
    std::fs::write(&file, objects.to_string()).expect("objects can be written");
    cluster.kubectl(&["apply", "--filename", &file.display().to_string()]);
    eventually("the workload runs", Duration::from_secs(60), || match available(cluster) {
        Some(2) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
}

/// How many pods of the workload are available; none if nobody answers.
pub fn available(cluster: &Cluster) -> Option<u32> {
    let text = cluster.ask(&["get", "deployment", "budget", "--output", "jsonpath={.status.availableReplicas}"]).ok()?;
    Some(text.trim().parse().unwrap_or(0))
}

/// Runs something and counts meanwhile. Returns the fewest pods that were available.
fn watched<T>(cluster: &Cluster, work: impl FnOnce() -> T) -> (T, Option<u32>) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut fewest = None;
            while !done.load(Ordering::Relaxed) {
                fewest = [fewest, available(cluster)].into_iter().flatten().min();
                thread::sleep(Duration::from_millis(300));
            }
            fewest
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, watcher.join().expect("the watcher does not panic"))
    })
}

/// Kills runs of an upgrade at moments that nobody chose, until one came to its end or enough were killed.
fn kill_runs(machines: &Machines, desk: &Desk, file: &str) {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.subsec_nanos());
    for round in 1..=KILLS {
        // Any moment will do; the text tells which it was.
        let moment = 5_000 + seed.rotate_left(11 * round) % LATEST_KILL_MILLISECONDS;
        let run = desk.start(&["apply", file, "--yes"]);
        thread::sleep(Duration::from_millis(moment.into()));
        let ended = run.kill();
        let last = ended.err.lines().last().unwrap_or("nothing said yet");
        machines.step(&format!("killed after {moment} ms: {last}"));
        assert!(matches!(ended.code, None | Some(0)), "{ended}");
    }
}

/// What Nodes say of their kubelets, and which take no pods.
fn kubelets(cluster: &Cluster) -> Vec<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.nodeInfo.kubeletVersion} {.spec.unschedulable}{\"\\n\"}{end}";
    cluster.kubectl(&["get", "nodes", "--output", path]).lines().map(|line| line.trim().to_owned()).collect()
}

/// The version that an API server says it is.
fn served(cluster: &Cluster) -> String {
    let version: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", "/version"])).expect("JSON");
    version["gitVersion"].as_str().unwrap_or_default().to_owned()
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_control_plane_and_a_worker_go_to_another_release() {
    let mut machines = Machines::boot(&["up-40", "up-41"]);
    machines.make(NEXT);
    let desk = Desk::new();
    let old = with_local_proxy(plan(&machines, &[("up-40", &["control-plane"]), ("up-41", &["worker"])]));
    let file = write(&desk, "old", &old);
    desk.run_for(0, &["apply", &file]);
    let cluster = Cluster::of(&desk, &machines, &file, "up-40");
    workload(&desk, &cluster);

    machines.step("what comes is shown, in order");
    let file = write(&desk, "new", &next(&machines, &old));
    let shown = desk.run_for(0, &["diff", &file]);
    shown.says("drain of Node/up-41").says("return of Node/up-41");

    machines.step("an API server that ends at once is put back soon, and the cluster serves as before");
    let mut broken = next(&machines, &old);
    broken["apiServer"] = json!({ "extraArgs": { "feature-gates": "NoGateOfThatName=true" } });
    let put_back = desk.run_for(6, &["apply", &write(&desk, "broken", &broken), "--yes"]);
    put_back.says("kube-apiserver ended 3 times").says("was put back and is healthy").says("NoGateOfThatName");
    eprintln!("put back after {:.0} s, of 300 s that are waited for what does not end", put_back.took.as_secs_f32());
    assert_eq!(served(&cluster), VERSION);
    assert_eq!(available(&cluster), Some(2));

    machines.step("it is killed while the worker is drained");
    let running = desk.start(&["apply", &file, "--yes"]);
    eventually("a run has drained the worker", Duration::from_secs(180), || {
        let seen = cluster.ask(&["get", "node", "up-41", "--output", "jsonpath={.metadata.annotations}"])?;
        if seen.contains("slipway.dev/cordoned-for") { Ok(()) } else { Err(seen + &running.err()) }
    });
    running.kill();
    assert_eq!(served(&cluster), NEXT, "the API server went first");
    let left = desk.run_for(0, &["diff", &file]);
    left.says("left cordoned by a run that was cut off");

    machines.step("the next run goes on, within the budget");
    let (applied, fewest) = watched(&cluster, || desk.run_for(0, &["apply", &file, "--yes"]));
    eprintln!("{}", applied.out);
    assert!(fewest >= Some(1), "{fewest:?} pods were available");
    assert_eq!(kubelets(&cluster), [format!("up-40 {NEXT}"), format!("up-41 {NEXT}")]);
    nothing_is_left_to_do(&desk, &file, 2);
    // One of the attempt that was put back, one of the run that was killed; the run that went on kept that.
    let kept = machines.shell("up-40", "cd /var/lib/slipway/snapshots && ls -d */etcd.db");
    assert!(kept.lines().count() == 2 && kept.lines().all(|line| line.ends_with(&format!("Z_{VERSION}_to_{NEXT}/etcd.db"))), "{kept}");

    machines.step("there is no way back");
    desk.run_for(4, &["apply", &write(&desk, "back", &old), "--yes"]).says(&format!("set `kubernetes.version` to {NEXT}"));
    assert_ne!(NEXT, VERSION);
}

#[test]
#[ignore = "takes minutes; `cargo xtask torture` runs it"]
fn no_request_fails_while_a_highly_available_cluster_goes_to_another_release() {
    const ALL: [&str; 5] = ["up-40", "up-41", "up-42", "up-43", "up-44"];
    let mut machines = Machines::boot(&ALL);
    machines.make(NEXT);
    let desk = Desk::new();
    let roles = |index: usize| -> &[&str] { if index < 3 { &["control-plane"] } else { &["worker"] } };
    let hosts: Vec<(&str, &[&str])> = ALL.into_iter().enumerate().map(|(index, name)| (name, roles(index))).collect();
    let old = with_local_proxy(plan(&machines, &hosts));
    let file = write(&desk, "old", &old);
    desk.run_for(0, &["apply", &file]);
    let cluster = Cluster::of(&desk, &machines, &file, "up-40");
    workload(&desk, &cluster);
    cluster.kubectl(&["cordon", "up-44"]);

    machines.step("a client reads and writes while everything goes to the next release, in runs that are killed at random");
    let file = write(&desk, "new", &next(&machines, &old));
    let client = Client::start(&machines, &desk, &file, "up-43");
    let (applied, fewest) = watched(&cluster, || {
        kill_runs(&machines, &desk, &file);
        desk.run_for(0, &["apply", &file, "--yes"])
    });
    eprintln!("{}", applied.out);
    let heard = client.stop();
    eprintln!("{heard}");
    assert_eq!(heard.failures, Vec::<String>::new(), "{heard}");
    assert!(heard.acknowledged.len() > 100 && heard.lost(&cluster).is_empty(), "{heard}");
    assert!(fewest >= Some(1), "{fewest:?} pods were available");

    machines.step("all are there, and what the operator cordoned stays so");
    let mut wanted: Vec<String> = ALL.iter().map(|name| format!("{name} {NEXT}")).collect();
    wanted[4].push_str(" true");
    assert_eq!(kubelets(&cluster), wanted);
    for control_plane in &ALL[..3] {
        assert_eq!(served(&cluster.at(&machines, control_plane)), NEXT);
    }
    nothing_is_left_to_do(&desk, &file, 5);
}

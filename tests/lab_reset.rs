//! `slipway reset` on real hosts of the lab: what is there afterwards is what was there before.
//!
//! Run by `cargo xtask test`, which sets SLIPWAY_LAB to the program that has the lab.
//! Uses the lab hosts reset-1, reset-2 and reset-3 and no other; they get fresh disks first.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use serde_json::Value;

/// The hosts are shared by the tests of this file.
static LAB: Mutex<()> = Mutex::new(());

/// Something of every kind that leaves traces: a Service, a host port, volumes on disk and in memory.
const LOAD: &str = r#"
set -e
export KUBECONFIG=/etc/kubernetes/admin.conf HOME=/tmp
kubectl create deployment web --image=lab.local/tool:1 -- lab-tool serve --port 8080
kubectl expose deployment web --port 80 --target-port 8080
kubectl run volumes --image=lab.local/tool:1 --overrides='{"spec":{"containers":[{"name":"volumes","image":"lab.local/tool:1",
  "command":["lab-tool","serve","--port","8081"],"ports":[{"containerPort":8081,"hostPort":8081}],
  "volumeMounts":[{"name":"disk","mountPath":"/disk"},{"name":"memory","mountPath":"/memory"}]}],
  "volumes":[{"name":"disk","emptyDir":{}},{"name":"memory","emptyDir":{"medium":"Memory"}}]}}'
kubectl wait --for=condition=Available deployment/web --timeout=90s
kubectl wait --for=condition=Ready pod/volumes --timeout=90s
"#;

struct Lab {
    xtask: PathBuf,
    directory: tempfile::TempDir,
    plan: PathBuf,
}

impl Lab {
    /// Fresh hosts and a plan for them.
    fn new(hosts: &[&str]) -> Self {
        let xtask = std::env::var_os("SLIPWAY_LAB").map(PathBuf::from);
        let xtask = xtask.expect("these tests are run by `cargo xtask test`, which sets SLIPWAY_LAB");
        let directory = tempfile::tempdir().unwrap();
        let plan = directory.path().join("plan.yaml");
        let lab = Self { xtask, directory, plan };
        lab.lab("up", hosts);
        lab.lab("reset", hosts);
        std::fs::write(&lab.plan, lab.plan_of(hosts)).unwrap();
        lab
    }

    fn lab(&self, command: &str, arguments: &[&str]) -> String {
        let output = Command::new(&self.xtask).args(["lab", command]).args(arguments).output().unwrap();
        assert!(output.status.success(), "lab {command}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn plan_of(&self, hosts: &[&str]) -> String {
        let status: Value = serde_json::from_str(&self.lab("status", &["--json"])).unwrap();
        let entries = status["hosts"].as_array().unwrap();
        let address = |name: &str| {
            let entry = entries.iter().find(|entry| entry["name"] == name).unwrap();
            entry["address"].as_str().unwrap().to_owned()
        };
        let part = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let binaries = part("/kubernetes/v1.20.2/binaries");
        let mut plan = format!(
            "version: 1\nname: reset-test\nkubernetes: {{version: v1.20.2}}\n\
             runtime: {{cgroupDriver: cgroupfs, settings: {{plugins: {{io.containerd.grpc.v1.cri: {{restrict_oom_score_adj: true}}}}}}}}\n\
             kubeProxy: {{configuration: {{conntrack: {{maxPerCore: 0, min: 0}}}}}}\n\
             kubelet: {{configuration: {{failSwapOn: false, imageGCHighThresholdPercent: 100, \
             evictionHard: {{nodefs.available: 1%, imagefs.available: 1%}}}}}}\n\
             preflight: {{ignore: [memory, cpus]}}\n\
             binaries: {{kubelet: {{upload: {binaries}/kubelet}}, kubectl: {{upload: {binaries}/kubectl}}}}\n\
             ssh: {{user: root, identityFile: {}, knownHostsFile: {}}}\n",
            part("/ssh/identity_file"),
            part("/ssh/known_hosts"),
        );
        if hosts.len() > 1 {
            plan.push_str("endpoint: {localProxy: {image: 'lab.local/haproxy:2.6'}}\n");
        }
        plan.push_str("hosts:\n");
        for name in hosts {
            writeln!(plan, "  - {{name: {name}, address: {}, roles: [control-plane, worker]}}", address(name)).unwrap();
        }
        plan
    }

    fn slipway(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().unwrap();
        Command::new(env!("CARGO_BIN_EXE_slipway"))
            .arg(command)
            .arg(&self.plan)
            .args(rest)
            .env("XDG_STATE_HOME", self.directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.slipway(arguments);
        assert!(output.status.success(), "slipway {arguments:?}: {}", text(&output));
        text(&output)
    }

    /// Fails with that exit code; returns what was said.
    fn bad(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.slipway(arguments);
        assert_eq!(output.status.code(), Some(code), "slipway {arguments:?}: {}", text(&output));
        text(&output)
    }

    /// A reset that dies after so many changes: the program, and its step on the host without any
    /// chance to tidy up.
    fn cut_off_reset(&self, host: &str, changes: usize) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_slipway"))
            .arg("reset")
            .arg(&self.plan)
            .args(["--yes", "--output", "json"])
            .env("XDG_STATE_HOME", self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let done = lines.map_while(Result::ok).filter(|line| line.contains("\"change-done\"")).take(changes).count();
        assert_eq!(done, changes, "the reset ended before it could be cut off");
        self.on(host, "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline 2>/dev/null) in 'sh run.sh '*) kill -9 ${p#/proc/} ;; esac; done");
        // It may have ended by itself when its step died.
        let _ = child.kill();
        child.wait().unwrap();
    }

    /// Runs a script on a host.
    fn on(&self, host: &str, script: &str) -> String {
        let mut child = Command::new(&self.xtask)
            .args(["lab", "ssh", host, "--", "sh", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "on {host}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn snapshot(&self, host: &str) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab_reset/snapshot.sh");
        self.on(host, &std::fs::read_to_string(Path::new(script)).unwrap())
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Lines that one has and the other has not, with the section they are in.
fn differences(before: &str, after: &str) -> Vec<String> {
    let lines = |text: &str| -> BTreeSet<String> {
        let mut section = String::new();
        let mut lines = BTreeSet::new();
        for line in text.lines() {
            match line.strip_prefix("== ") {
                Some(name) => section = name.to_owned(),
                None => drop(lines.insert(format!("{section}: {line}"))),
            }
        }
        lines
    };
    let (before, after) = (lines(before), lines(after));
    let gone = before.difference(&after).map(|line| format!("- {line}"));
    gone.chain(after.difference(&before).map(|line| format!("+ {line}"))).collect()
}

fn assert_same(host: &str, before: &str, after: &str) {
    let differences = differences(before, after);
    assert!(differences.is_empty(), "{host} is not as it was before:\n{}", differences.join("\n"));
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_single_node_is_as_it_was_before() {
    let _lab = LAB.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lab = Lab::new(&["reset-1"]);
    let before = lab.snapshot("reset-1");
    // The comparison itself sees what it shall see.
    for section in ["files", "content", "mounts", "links", "routes", "units", "parameters", "images"] {
        assert!(before.contains(&format!("== {section}\n")), "{section}");
    }

    // Nothing to take back yet.
    assert!(lab.good(&["reset"]).contains("nothing to do"));
    lab.good(&["apply", "--yes"]);
    lab.on("reset-1", LOAD);
    let during = differences(&before, &lab.snapshot("reset-1"));
    for trace in ["mounts: ", "links: ", "rules: ", "units: ", "containers: ", "files: /var/lib/kubelet", "parameters: net.ipv4.ip_forward"] {
        assert!(during.iter().any(|line| line.contains(trace)), "the cluster leaves no trace in {trace}");
    }

    // Without a terminal and without a yes: what is lost is named, and nothing is done.
    let said = lab.bad(8, &["reset"]);
    assert!(said.contains("all data of the cluster") && said.contains("Cluster reset-test"), "{said}");
    lab.on("reset-1", "KUBECONFIG=/etc/kubernetes/admin.conf HOME=/tmp kubectl get --raw /readyz");

    lab.good(&["reset", "--yes"]);
    assert_same("reset-1", &before, &lab.snapshot("reset-1"));
    assert!(lab.good(&["reset", "--yes"]).contains("nothing to do"));

    // It can be applied to again at once; cut off in the middle and run again, a reset ends the same.
    lab.good(&["apply", "--yes"]);
    for changes in [1, 2, 4, 20, 12] {
        lab.cut_off_reset("reset-1", changes);
    }
    lab.good(&["reset", "--yes"]);
    assert_same("reset-1", &before, &lab.snapshot("reset-1"));
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_host_leaves_a_living_cluster_and_then_the_cluster_goes() {
    let _lab = LAB.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let hosts = ["reset-1", "reset-2", "reset-3"];
    let lab = Lab::new(&hosts);
    let before: Vec<String> = hosts.iter().map(|host| lab.snapshot(host)).collect();
    lab.good(&["apply", "--yes"]);
    lab.on("reset-2", LOAD);

    lab.good(&["reset", "--host", "reset-3", "--yes"]);
    assert_same("reset-3", &before[2], &lab.snapshot("reset-3"));
    let kubectl = "export KUBECONFIG=/etc/kubernetes/admin.conf HOME=/tmp; kubectl";
    assert_eq!(lab.on("reset-1", &format!("{kubectl} get nodes -o name")), "node/reset-1\nnode/reset-2\n");
    // Its etcd member is out of the membership: the API server counts on two, and they agree.
    lab.on("reset-1", &format!("{kubectl} create configmap still-writable"));

    // Of two members none can be taken while the other is away.
    lab.lab("power-off", &["reset-2"]);
    let said = lab.bad(4, &["reset", "--host", "reset-1", "--yes"]);
    assert!(said.contains("etcd would lose its quorum"), "{said}");
    lab.lab("power-on", &["reset-2"]);

    lab.good(&["reset", "--yes"]);
    for (host, before) in hosts.iter().zip(&before) {
        // A host that was switched off has another boot's units and interfaces; its disk is compared.
        let after = lab.snapshot(host);
        if *host == "reset-2" {
            let found: Vec<String> = differences(before, &after)
                .into_iter()
                .filter(|line| line.contains(" files: ") || line.contains(" content: ") || line.contains(" images: ") || line.contains(" rules: "))
                .collect();
            assert!(found.is_empty(), "{host} is not as it was before:\n{}", found.join("\n"));
        } else {
            assert_same(host, before, &after);
        }
    }
}

#[test]
fn differences_are_told_by_section() {
    let found = differences("== a\nx\ny\n== b\nx\n", "== a\nx\n== b\nx\nz\n");
    assert_eq!(found, ["- a: y", "+ b: z"]);
    assert_eq!(differences("== a\nx\n", "== a\nx\n"), [""; 0]);
}

//! `slipway reset`: what is there afterwards is what was there before, compared line by line: files
//! with content, mode and owner, mounts, interfaces, routes, packet filter rules, units, kernel
//! parameters, images, containers, control groups.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, with_local_proxy, write};
use super::slipway::Desk;

pub const LOOK: &str = include_str!("before_and_after.sh");

/// Something of every kind that leaves traces: a Service, a host port, volumes on disk and in memory.
/// The pod with the volumes runs on the host `$on`, as what a reset may do depends on where it is.
const LOAD: &str = r#"
set -e
export KUBECONFIG=/etc/kubernetes/admin.conf HOME=/tmp
kubectl create deployment web --image=lab.local/tool:1 -- lab-tool serve --port 8080
kubectl expose deployment web --port 80 --target-port 8080
kubectl run volumes --image=lab.local/tool:1 --overrides='{"spec":{"nodeName":"'"$on"'","containers":[{"name":"volumes","image":"lab.local/tool:1",
  "command":["lab-tool","serve","--port","8081"],"ports":[{"containerPort":8081,"hostPort":8081}],
  "volumeMounts":[{"name":"disk","mountPath":"/disk"},{"name":"memory","mountPath":"/memory"}]}],
  "volumes":[{"name":"disk","emptyDir":{}},{"name":"memory","emptyDir":{"medium":"Memory"}}]}}'
kubectl wait --for=condition=Available deployment/web --timeout=120s
kubectl wait --for=condition=Ready pod/volumes --timeout=120s
"#;

fn load(on: &str) -> String {
    format!("on={on}\n{LOAD}")
}

/// Ends the step at work on a host without any chance to tidy up.
const CUT: &str = "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline 2>/dev/null) in 'sh run.sh '*) kill -9 ${p#/proc/} ;; esac; done";

/// Lines that one has and the other has not, with the section they are in.
fn differences(before: &str, after: &str) -> Vec<String> {
    let lines = |text: &str| -> BTreeSet<String> {
        let mut section = "";
        let mut lines = BTreeSet::new();
        for line in text.lines() {
            if line.starts_with("== ") {
                section = line;
            } else {
                lines.insert(format!("{section} {line}"));
            }
        }
        lines
    };
    let (before, after) = (lines(before), lines(after));
    let gone = before.difference(&after).map(|line| format!("- {line}"));
    gone.chain(after.difference(&before).map(|line| format!("+ {line}"))).collect()
}

pub fn is_as_before(machines: &Machines, host: &str, before: &str) {
    let differences = differences(before, &machines.shell(host, LOOK));
    assert!(differences.is_empty(), "{host} is not as it was before:\n{}", differences.join("\n"));
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_single_node_is_as_it_was_before() {
    let machines = Machines::boot(&["reset-30"]);
    let desk = Desk::new();
    let file = write(&desk, "single", &plan(&machines, &[("reset-30", &["control-plane", "worker"])]));
    let before = machines.shell("reset-30", LOOK);

    machines.step("there is nothing to take back yet");
    desk.run_for(0, &["reset", &file]).says("nothing to do");

    machines.step("a cluster with something in it leaves traces everywhere");
    desk.run_for(0, &["apply", &file, "--yes"]);
    machines.shell("reset-30", &load("reset-30"));
    let during = differences(&before, &machines.shell("reset-30", LOOK));
    for trace in ["files /var/lib/kubelet", "mounts ", "links ", "rules ", "units ", "parameters net.ipv4.ip_forward", "containers ", "processes "] {
        let seen = during.iter().any(|line| line.contains(&format!("== {trace}")));
        assert!(seen, "the comparison does not see {trace}");
    }

    machines.step("without a yes it says what is lost and does nothing");
    desk.run_for(8, &["reset", &file]).says("all data of the cluster").says("Cluster e2e");
    machines.shell("reset-30", "KUBECONFIG=/etc/kubernetes/admin.conf HOME=/tmp kubectl get --raw /readyz");

    machines.step("reset");
    let reset = desk.run_for(0, &["reset", &file, "--yes"]);
    eprintln!("{}", reset.out);
    is_as_before(&machines, "reset-30", &before);
    desk.run_for(0, &["reset", &file, "--yes"]).says("nothing to do");

    machines.step("it can be applied to again at once");
    desk.run_for(0, &["apply", &file, "--yes"]);
    // Each run has only what the one before left, and on a busy machine the knife comes late:
    // a run that was through before it came counts as none.
    let mut cuts = 0;
    for changes in [1, 3, 5, 20] {
        machines.step(&format!("a reset is cut off after {changes} changes"));
        let run = desk.start(&["reset", &file, "--yes", "--output", "json"]);
        let through = eventually("the changes are made", Duration::from_secs(120), || {
            let out = run.out();
            match (out.contains("\"run-finished\""), out.matches("\"change-done\"").count() >= changes) {
                (true, _) => Ok(true),
                (false, true) => Ok(false),
                (false, false) => Err(out),
            }
        });
        machines.shell("reset-30", CUT);
        run.kill();
        if through {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 0, "every reset was through before it could be cut off");
    machines.step("the next one finishes");
    desk.run_for(0, &["reset", &file, "--yes"]);
    is_as_before(&machines, "reset-30", &before);
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_host_leaves_a_living_cluster_and_then_the_cluster_goes() {
    let hosts = ["reset-31", "reset-32", "reset-33"];
    let machines = Machines::boot(&hosts);
    let desk = Desk::new();
    let roles: &[&str] = &["control-plane", "worker"];
    let file = write(&desk, "three", &with_local_proxy(plan(&machines, &hosts.map(|host| (host, roles)))));
    let before = hosts.map(|host| machines.shell(host, LOOK));
    machines.step("apply");
    desk.run_for(0, &["apply", &file, "--yes"]);
    machines.shell("reset-32", &load("reset-33"));

    machines.step("a pod that nothing would start again is not evicted unasked");
    let refused = desk.run_for(4, &["reset", &file, "--host", "reset-33", "--yes"]);
    refused.says("pod default/volumes has no controller").says("--evict-unmanaged").says("nothing was changed");

    machines.step("one host leaves");
    let left = desk.run_for(0, &["reset", &file, "--host", "reset-33", "--yes", "--evict-unmanaged", "--delete-emptydir-data"]);
    eprintln!("{}", left.out);
    is_as_before(&machines, "reset-33", &before[2]);
    let cluster = Cluster::of(&desk, &machines, &file, "reset-31");
    cluster.nodes_are_ready(&["reset-31", "reset-32"]);
    // Two members that agree: its own is out of the membership.
    cluster.kubectl(&["create", "configmap", "still-writable"]);
    desk.run(&["status", &file]).says("2 of 2 voting members healthy");

    machines.step("of two members none can be taken while the other is away");
    machines.power_off("reset-32");
    desk.run_for(4, &["reset", &file, "--host", "reset-31", "--yes"]).says("etcd would lose its quorum");

    machines.step("the cluster goes, but for the host that is away");
    let most = desk.run_for(5, &["reset", &file, "--yes"]);
    most.says("reset-32").says("run the reset again when they answer");
    is_as_before(&machines, "reset-31", &before[0]);
    is_as_before(&machines, "reset-33", &before[2]);

    machines.step("and when it is back, it goes too");
    machines.power_on("reset-32");
    desk.run_for(0, &["reset", &file, "--yes"]);
    // Another boot has other mounts of systemd's own and numbers of interfaces.
    let lasting = |line: &String| ["== files ", "== content ", "== images ", "== rules ", "== containers ", "== groups "].iter().any(|section| line.contains(section));
    let found: Vec<String> = differences(&before[1], &machines.shell("reset-32", LOOK)).into_iter().filter(lasting).collect();
    assert!(found.is_empty(), "reset-32 is not as it was before:\n{}", found.join("\n"));
}

#[test]
fn differences_are_told_by_section() {
    let found = differences("== a\nx\ny\n== b\nx\n", "== a\nx\n== b\nx\nz\n");
    assert_eq!(found, ["- == a y", "+ == b z"]);
    assert_eq!(differences("== a\nx\n", "== a\nx\n"), [""; 0]);
}

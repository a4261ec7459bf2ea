//! Kubernetes from packages of an apt repository: installed in the right version and held, whatever
//! their own scripts would do with the kubelet, and upgraded in the host's own turn.

use serde_json::json;

use super::cluster::Cluster;
use super::machines::{Machines, VERSION};
use super::plan_file::{of_release, plan, with_local_proxy, write};
use super::repository::Repository;
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const NEXT: &str = "v1.21.14";
const ALL: [&str; 2] = ["pkg-31", "pkg-32"];

/// The packages of a host with versions, and what dpkg is told to do with them.
fn packages(machines: &Machines, host: &str) -> Vec<String> {
    let text = machines.shell(host, "dpkg-query -W -f '${Package} ${Version} ${db:Status-Want}\\n' kubectl kubelet");
    text.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn kubernetes_comes_from_packages_and_goes_to_another_release() {
    let mut machines = Machines::boot(&ALL);
    machines.make(NEXT);
    let desk = Desk::new();
    let mut repository = Repository::new();
    repository.add(&machines, VERSION, "1.1");
    repository.add(&machines, VERSION, "2.1");
    let mut old = with_local_proxy(plan(&machines, &[(ALL[0], &["control-plane"]), (ALL[1], &["worker"])]));
    old["binaries"] = json!({ "kubelet": "packages", "kubectl": "packages" });
    old["packages"] = repository.plan();

    machines.step("another key is refused before anything is changed");
    let mut wrong = old.clone();
    wrong["packages"]["key"]["fingerprint"] = "0".repeat(40).into();
    desk.run_for(9, &["apply", &write(&desk, "wrong", &wrong)]).says("its fingerprint is");

    machines.step("the newest revision of the version, held");
    let file = write(&desk, "old", &old);
    let applied = desk.run_for(0, &["apply", &file]);
    eprintln!("{}", applied.out);
    let cluster = Cluster::of(&desk, &machines, &file, ALL[0]);
    cluster.nodes_are_ready(&ALL);
    for host in ALL {
        assert_eq!(packages(&machines, host), ["kubectl 1.20.2-2.1 hold", "kubelet 1.20.2-2.1 hold"], "{host}");
        // Its scripts ran, and did not start it: it was started once, by slipway.
        machines.shell(host, "test -e /var/lib/kubelet-was-configured && test ! -e /usr/sbin/policy-rc.d");
        let starts = machines.shell(host, "journalctl -q -o cat -u kubelet | grep -c -e '^Started'");
        assert_eq!(starts.trim(), "1", "{host}");
    }
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("a newer revision and a newer release change nothing by themselves");
    repository.add(&machines, VERSION, "3.1");
    repository.add(&machines, NEXT, "1.1");
    machines.shell(ALL[1], "apt-get -q update -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/slipway-kubernetes.list -o Dir::Etc::sourceparts=- && apt-get -q -y upgrade");
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("a hold that somebody took away is drift");
    machines.shell(ALL[1], "apt-mark unhold kubelet");
    desk.run_for(0, &["diff", &file]).says("package kubelet").says("1.20.2-2.1, not held");
    desk.run_for(0, &["apply", &file, "--yes"]);
    assert_eq!(packages(&machines, ALL[1]), ["kubectl 1.20.2-2.1 hold", "kubelet 1.20.2-2.1 hold"]);
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("the next release, in each host's turn, held again");
    let file = write(&desk, "new", &of_release(&machines, &old, NEXT));
    desk.run_for(0, &["diff", &file]).says("kubelet-upgrade").says("is 1.20.2-2.1");
    let upgraded = desk.run_for(0, &["apply", &file, "--yes"]);
    eprintln!("{}", upgraded.out);
    for host in ALL {
        assert_eq!(packages(&machines, host), ["kubectl 1.21.14-1.1 hold", "kubelet 1.21.14-1.1 hold"], "{host}");
        let told = cluster.kubectl(&["get", "node", host, "--output", "jsonpath={.status.nodeInfo.kubeletVersion}"]);
        assert_eq!(told, NEXT, "{host}");
    }
    cluster.nodes_are_ready(&ALL);
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("a repository that is gone is said, and costs nothing where nothing changes");
    repository.stop();
    let mut gone = of_release(&machines, &old, NEXT);
    gone["packages"]["revision"] = "9.9".into();
    // A step failed: the exit code says so, and the cluster goes on.
    let ended = desk.run(&["apply", &write(&desk, "gone", &gone), "--yes"]);
    assert_ne!(ended.code, Some(0), "{ended}");
    ended.says("cannot read the repository of Kubernetes");
    cluster.nodes_are_ready(&ALL);
}

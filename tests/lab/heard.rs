//! Kubelets that are restarted: the Node counts when the new one was heard, and a machine that restarts is
//! reached again.

use std::time::Duration;

use serde_json::json;

use super::cluster::Cluster;
use super::machines::Machines;
use super::plan_file::{plan, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const KEEPER: &str = "heard-30";
const WORKER: &str = "heard-31";

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_kubelet_that_is_not_heard_is_waited_for_and_a_machine_that_restarts_comes_back() {
    let machines = Machines::boot(&[KEEPER, WORKER]);
    let desk = Desk::new();
    let mut wanted = plan(&machines, &[(KEEPER, &["control-plane"]), (WORKER, &["worker"])]);
    // Shorter than Kubernetes itself needs to miss a kubelet.
    wanted["limits"] = json!({ "gateTimeout": "25s" });
    let impatient = write(&desk, "impatient", &wanted);
    wanted["limits"] = json!({});
    let file = write(&desk, "heard", &wanted);

    machines.step("the cluster is made");
    desk.run_for(0, &["apply", &file, "--yes"]);
    let cluster = Cluster::of(&desk, &machines, &file, KEEPER);
    cluster.nodes_are_ready(&[KEEPER, WORKER]);

    machines.step("a kubelet that is restarted is heard soon");
    let restarted = desk.run_for(0, &["node", "restart", &file, WORKER, "--no-drain"]);
    eprintln!("restart of a kubelet: {:?}", restarted.took);

    machines.step("one that cannot reach the API is not taken for ready by what the one before said");
    let server = machines.address(KEEPER);
    machines.shell(WORKER, &format!("ip route add unreachable {server}"));
    let unheard = desk.run_for(6, &["node", "restart", &impatient, WORKER, "--no-drain"]);
    unheard.says(&format!("waiting for node {WORKER} to be ready"));
    machines.shell(WORKER, &format!("ip route del unreachable {server}"));
    cluster.wait_for_node(WORKER, "True", Duration::from_secs(120));
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("a machine that is restarted is reached again");
    let rebooted = desk.run_for(0, &["node", "restart", &file, WORKER, "--reboot", "--no-drain"]);
    eprintln!("restart of a machine: {:?}", rebooted.took);
    cluster.nodes_are_ready(&[KEEPER, WORKER]);
    nothing_is_left_to_do(&desk, &file, 2);
}

//! A run that dies, and a second one beside it: at any moment of a bootstrap, the same command run
//! again ends where an undisturbed one would have, with the CA that was made first.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, with_local_proxy, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::Desk;

const HOSTS: [&str; 2] = ["cp-38", "worker-38"];
/// Long enough for a bootstrap to reach its later phases.
const LATEST_KILL_MILLISECONDS: u32 = 30_000;

/// The digest of the cluster's CA, where there is one.
fn authority(machines: &Machines) -> Option<String> {
    let text = machines.shell("cp-38", "sha256sum /etc/kubernetes/pki/ca.crt 2>/dev/null || :");
    text.split_whitespace().next().map(str::to_owned)
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_killed_bootstrap_is_finished_by_the_next_run() {
    let machines = Machines::boot(&HOSTS);
    let desk = Desk::new();
    let roles: [(&str, &[&str]); 2] = [("cp-38", &["control-plane"]), ("worker-38", &["worker"])];
    let file = write(&desk, "cut-off", &with_local_proxy(plan(&machines, &roles)));

    machines.step("a second operator is kept out while a run is going on");
    let first = desk.start(&["apply", &file]);
    eventually("the first run has begun", Duration::from_secs(60), || {
        if first.err().contains(" system: ") { Ok(()) } else { Err(first.err()) }
    });
    let second = desk.run_for(4, &["apply", &file]);
    second.says("locked by another run").says("slipway apply of");
    // Looking is free.
    desk.run_for(0, &["diff", &file]);
    let killed = first.kill();
    assert_eq!(killed.code, None, "it was to be killed on its way: {killed}");
    let mut authorities: BTreeSet<String> = authority(&machines).into_iter().collect();

    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.subsec_nanos());
    // `cargo xtask torture` kills more often.
    let rounds = if std::env::var_os("SLIPWAY_TORTURE").is_some() { 12 } else { 3 };
    for round in 1..=rounds {
        // Any moment will do; the text tells which it was.
        let moment = seed.rotate_left(11 * round) % LATEST_KILL_MILLISECONDS;
        let run = desk.start(&["apply", &file, "--yes"]);
        std::thread::sleep(Duration::from_millis(moment.into()));
        let ended = run.kill();
        let last = ended.err.lines().last().unwrap_or("nothing said yet");
        machines.step(&format!("killed after {moment} ms: {last}"));
        assert!(matches!(ended.code, None | Some(0)), "{ended}");
        authorities.extend(authority(&machines));
    }

    machines.step("the next run finishes");
    let last = desk.run_for(0, &["apply", &file, "--yes"]);
    eprintln!("{}", last.out);
    authorities.extend(authority(&machines));
    assert_eq!(authorities.len(), 1, "there is one CA, the first: {authorities:?}");
    Cluster::of(&desk, &machines, &file, "cp-38").nodes_are_ready(&HOSTS);
    nothing_is_left_to_do(&desk, &file, 2);
}

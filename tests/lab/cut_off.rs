//! A run that dies, and a second one beside it: at any moment of a bootstrap, the same command run
//! again ends where an undisturbed one would have, with the CA that was made first.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, with_local_proxy, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::{Desk, Ended, Running};

const HOSTS: [&str; 2] = ["cp-38", "worker-38"];
/// Long enough for a bootstrap to reach its later phases.
const LATEST_KILL_MILLISECONDS: u32 = 30_000;

/// Three control planes, for `cargo xtask torture`.
const THREE: [&str; 3] = ["broken-37", "broken-38", "broken-39"];

/// Makes looking at a host take a while, so that two runs meet even on a machine that is busy.
const SLOW_LOOK: &str =
    "printf '#!/bin/sh\\nsleep 0.4\\nexec /usr/bin/find \"$@\"\\n' >/usr/local/bin/find && chmod 0755 /usr/local/bin/find";

/// The digests of the cluster's CA, where there is one.
fn authorities(machines: &Machines, hosts: &[&str]) -> BTreeSet<String> {
    let text = |host: &&str| machines.shell(host, "sha256sum /etc/kubernetes/pki/ca.crt 2>/dev/null || :");
    hosts.iter().filter_map(|host| text(host).split_whitespace().next().map(str::to_owned)).collect()
}

/// Kills that many runs at moments that nobody chose.
fn kill_runs(machines: &Machines, desk: &Desk, file: &str, hosts: &[&str], rounds: u32) -> BTreeSet<String> {
    let mut seen = authorities(machines, hosts);
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.subsec_nanos());
    for round in 1..=rounds {
        // Any moment will do; the text tells which it was.
        let moment = seed.rotate_left(11 * round) % LATEST_KILL_MILLISECONDS;
        let run = desk.start(&["apply", file, "--yes"]);
        std::thread::sleep(Duration::from_millis(moment.into()));
        let ended = run.kill();
        let last = ended.err.lines().last().unwrap_or("nothing said yet");
        machines.step(&format!("killed after {moment} ms: {last}"));
        assert!(matches!(ended.code, None | Some(0)), "{ended}");
        seen.extend(authorities(machines, hosts));
    }
    seen
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
    // `cargo xtask torture` kills more often.
    let mut seen = kill_runs(&machines, &desk, &file, &HOSTS[..1], if is_torture() { 12 } else { 3 });

    machines.step("the next run finishes");
    let last = desk.run_for(0, &["apply", &file, "--yes"]);
    eprintln!("{}", last.out);
    seen.extend(authorities(&machines, &HOSTS[..1]));
    assert_eq!(seen.len(), 1, "there is one CA, the first: {seen:?}");
    Cluster::of(&desk, &machines, &file, "cp-38").nodes_are_ready(&HOSTS);
    nothing_is_left_to_do(&desk, &file, 2);

    machines.step("of two operators who begin at the same moment one goes on, ten times");
    for host in HOSTS {
        machines.shell(host, SLOW_LOOK);
    }
    for _ in 0..10 {
        let runs = [desk.start(&["apply", &file]), desk.start(&["apply", &file])].map(Running::wait);
        let refused: Vec<&Ended> = runs.iter().filter(|run| run.code == Some(4)).collect();
        let went_on = runs.iter().filter(|run| run.code == Some(0)).count();
        assert_eq!((went_on, refused.len()), (1, 1), "{}\n{}", runs[0], runs[1]);
        refused[0].says("locked by another run: slipway apply of");
    }
    for host in HOSTS {
        machines.shell(host, "rm /usr/local/bin/find");
    }
    nothing_is_left_to_do(&desk, &file, 2);
}

fn is_torture() -> bool {
    std::env::var_os("SLIPWAY_TORTURE").is_some()
}

#[test]
#[ignore = "in the lab, with `cargo xtask torture`"]
fn a_killed_bootstrap_of_three_control_planes_is_finished_by_the_next_run() {
    let machines = Machines::boot(&THREE);
    let desk = Desk::new();
    let roles: &[&str] = &["control-plane", "worker"];
    let file = write(&desk, "three", &with_local_proxy(plan(&machines, &THREE.map(|host| (host, roles)))));
    let mut seen = kill_runs(&machines, &desk, &file, &THREE, 8);
    machines.step("the next run finishes");
    desk.run_for(0, &["apply", &file, "--yes"]);
    seen.extend(authorities(&machines, &THREE));
    assert_eq!(seen.len(), 1, "there is one CA, the first: {seen:?}");
    Cluster::of(&desk, &machines, &file, THREE[0]).nodes_are_ready(&THREE);
    nothing_is_left_to_do(&desk, &file, 3);
}

//! One host to which everything happens while it is made a cluster: a wrong clock, a cut connection,
//! a power cut, full disks. Each fault is told with its host, step and a hint, leaves no part of a
//! file, and is forgotten by the next run.
//!
//! With `SLIPWAY_TORTURE` also a line that goes silent, which takes over a minute to be noticed.

use std::time::Duration;

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, write};
use super::single_node::nothing_is_left_to_do;
use super::slipway::{Desk, Ended, Running};
use super::snapshot::Snapshot;

const HOST: &str = "broken-31";

/// Makes each file that is put in its place take a while, as on a slow disk: then there is a middle
/// of a step to do something in.
const SLOW_DISK: &str = "printf '#!/bin/sh\\nsleep 1\\nexec /usr/bin/sync \"$@\"\\n' >/usr/local/bin/sync && chmod 0755 /usr/local/bin/sync";
const DISK_AS_BEFORE: &str = "rm /usr/local/bin/sync";

/// What the clock would tell a day later. Hosts of the lab have the machine's own clock, so it is
/// the program that a probe learns it from which is a day ahead.
const CLOCK_OF_TOMORROW: &str = r#"cat >/usr/local/bin/find <<'X'
#!/bin/sh
case "$*" in
*' /proc/self '*) /usr/bin/find "$@" | awk '$6 == "/proc/self" { split($4, time, "."); $4 = time[1] + 86400 "." time[2] } { print }' ;;
*) exec /usr/bin/find "$@" ;;
esac
X
chmod 0755 /usr/local/bin/find"#;
const CLOCK_AS_BEFORE: &str = "rm /usr/local/bin/find";

/// Ends the processes behind every SSH connection but this one's, as a crash of them would.
const CUT_CONNECTIONS: &str = "\
own=$$ mine=' '
while [ \"$own\" -gt 1 ]; do
    mine=\"$mine$own \"
    while read -r key value _; do [ \"$key\" != PPid: ] || parent=$value; done </proc/$own/status
    own=$parent
done
for process in /proc/[0-9]*; do
    id=${process#/proc/}
    IFS= read -r name 2>/dev/null <$process/comm || continue
    [ \"$name\" = sshd ] || continue
    case $mine in *\" $id \"*) continue ;; esac
    case $(tr '\\0' ' ' <$process/cmdline) in *listener*|*' -D'*) continue ;; esac
    kill -9 $id && echo $id
done";

/// Nothing comes or goes between this machine and the host, for a while. The host itself ends it.
const GO_SILENT: &str = "\
systemd-run -q --unit=silent sh -c 'iptables -I INPUT -s 10.91.0.1 -j DROP; iptables -I OUTPUT -d 10.91.0.1 -j DROP; sleep 100; \
iptables -D INPUT -s 10.91.0.1 -j DROP; iptables -D OUTPUT -d 10.91.0.1 -j DROP'";

/// Files that a later run must not have to mend: what is there is whole.
const DIGESTS: &str = "find /etc/kubernetes -type f ! -name '.*' -exec sha256sum {} + | sort";

/// Waits until so many changes are made. The next one is going on then.
pub fn wait_for_changes(run: &Running, changes: usize) {
    eventually(&format!("{changes} changes are made"), Duration::from_secs(120), || {
        let out = run.out();
        if out.matches("\"change-done\"").count() >= changes { Ok(()) } else { Err(format!("{out}\n{}", run.err())) }
    });
}

/// A file system of its own at a directory, with what is there and so much room besides.
fn fill(machines: &Machines, directory: &str, room: &str) {
    machines.shell(
        HOST,
        &format!("mkdir -p {directory} && mode=$(stat -c %a {directory}) && mount -t tmpfs -o size={room},mode=$mode tmpfs {directory}"),
    );
}

/// The directory as it would be on the larger file system, with what was written so far.
fn relieve(machines: &Machines, directory: &str) {
    machines.shell(
        HOST,
        &format!("mkdir /root/kept && cp -a {directory}/. /root/kept && umount {directory} && cp -a /root/kept/. {directory} && rm -rf /root/kept"),
    );
}

fn is_lost_in_a_step(ended: &Ended) {
    assert_eq!(ended.code, Some(6), "{ended}");
    ended.says(&format!("the connection to host {HOST} was lost during step ")).says("run the same command again");
    // ServerAliveInterval times ServerAliveCountMax, and time to end.
    assert!(ended.took < Duration::from_secs(200), "{ended}");
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn a_host_with_every_fault_becomes_a_cluster_in_the_end() {
    let torture = std::env::var_os("SLIPWAY_TORTURE").is_some();
    let machines = Machines::boot(&[HOST]);
    let desk = Desk::new();
    let file = write(&desk, "faults", &plan(&machines, &[(HOST, &["control-plane", "worker"])]));

    machines.step("a clock that is wrong by a day is refused");
    machines.shell(HOST, CLOCK_OF_TOMORROW);
    let before = Snapshot::of(&machines, &[HOST]);
    let refused = desk.run_for(4, &["apply", &file]);
    refused.says("error[clock]").says(&format!("host {HOST}: its clock is 86")).says("NTP").says("nothing was changed");
    before.is_unchanged(&machines);
    machines.shell(HOST, CLOCK_AS_BEFORE);

    machines.step("the connection is cut in the middle of a step");
    machines.shell(HOST, SLOW_DISK);
    let run = desk.start(&["apply", &file, "--output", "json"]);
    wait_for_changes(&run, 3);
    let ended = machines.shell(HOST, CUT_CONNECTIONS);
    assert!(!ended.trim().is_empty(), "there was a connection to cut");
    let cut = run.wait();
    is_lost_in_a_step(&cut);

    machines.step("the power goes and comes back in the middle of a step");
    let run = desk.start(&["apply", &file, "--output", "json"]);
    wait_for_changes(&run, 3);
    machines.power_off(HOST);
    machines.power_on(HOST);
    let cut = run.wait();
    is_lost_in_a_step(&cut);
    machines.step(&format!("noticed after {:.0} s in all", cut.took.as_secs_f32()));

    if torture {
        machines.step("the line goes silent in the middle of a step");
        let run = desk.start(&["apply", &file, "--output", "json"]);
        wait_for_changes(&run, 3);
        machines.shell(HOST, GO_SILENT);
        let cut = run.wait();
        is_lost_in_a_step(&cut);
        machines.step(&format!("noticed after {:.0} s in all", cut.took.as_secs_f32()));
        eventually("the line is back", Duration::from_secs(120), || {
            let output = machines.try_shell(HOST, "! systemctl is-active -q silent");
            if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
        });
    }
    machines.shell(HOST, DISK_AS_BEFORE);

    machines.step("no room below /var");
    machines.shell(HOST, "rm -rf /root/kept");
    full_disk_below_var(&machines, &desk, &file);

    machines.step("no room below /etc");
    let whole = full_disk_below_etc(&machines, &desk, &file);

    machines.step("the next run finishes");
    let last = desk.run_for(0, &["apply", &file, "--yes"]);
    eprintln!("{}", last.out);
    let now = machines.shell(HOST, DIGESTS);
    for line in whole.lines() {
        assert!(now.contains(line), "a full disk left a part of a file: {line}\n{now}");
    }
    Cluster::of(&desk, &machines, &file, HOST).nodes_are_ready(&[HOST]);
    nothing_is_left_to_do(&desk, &file, 1);
}

/// The room that large files take on their way to their place is missing.
fn full_disk_below_var(machines: &Machines, desk: &Desk, file: &str) {
    // What earlier runs put there goes along.
    machines.shell(HOST, "mv /var/lib/slipway /var/lib/kept; mkdir -m 0700 /var/lib/slipway");
    fill(machines, "/var/lib/slipway", "8m");
    machines.shell(HOST, "cp -a /var/lib/kept/. /var/lib/slipway && rm -rf /var/lib/kept && rm -f /usr/local/bin/kubelet");
    let ended = desk.run_for(6, &["apply", file]);
    ended.says(&format!("programs on {HOST}")).says("KiB are free in /var/lib/slipway/work").says("free some space on the host");
    machines.shell(HOST, "[ ! -e /usr/local/bin/kubelet ] && [ -z \"$(find /usr/local/bin -name '.slipway*')\" ]");
    relieve(machines, "/var/lib/slipway");
}

/// Room for a few files only. Returns the digests of those that were written.
fn full_disk_below_etc(machines: &Machines, desk: &Desk, file: &str) -> String {
    machines.shell(HOST, "rm -rf /etc/kubernetes && mkdir /etc/kubernetes");
    fill(machines, "/etc/kubernetes", "24k");
    let ended = desk.run_for(6, &["apply", file]);
    ended.says(&format!(" on {HOST}: /etc/kubernetes/")).says("No space left on device").says("free some space on the host");
    let left = machines.shell(HOST, "find /etc/kubernetes -name '.*' ! -name kubernetes");
    assert_eq!(left, "", "parts of files are left");
    let whole = machines.shell(HOST, DIGESTS);
    assert!(!whole.is_empty(), "some files had room");
    relieve(machines, "/etc/kubernetes");
    whole
}

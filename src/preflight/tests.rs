//! A table of bad hosts, one thing wrong with each, and what is found.

use super::*;
use crate::facts::{FoundUnit, InterfaceAddress};

const NOW: f64 = 1_800_000_000.0;

fn plan(version: &str, roles: &str, more: &str) -> Plan {
    let text = format!(
        "version: 1\nkubernetes: {{version: {version}}}\n{more}\nhosts: [{{name: one, address: 192.0.2.1, roles: [{roles}]}}]\n"
    );
    crate::yaml::read(&text).unwrap()
}

/// Makes one thing wrong with a host.
type Spoil = fn(&mut Facts);

/// A host on which nothing is wrong.
fn good() -> Facts {
    let names = wanted_commands().into_iter();
    let system = System {
        root: true,
        systemd: true,
        machine_id: "1".into(),
        clock: NOW,
        commands: names.map(|name| (name.clone(), format!("/usr/bin/{name}"))).collect(),
        addresses: vec![InterfaceAddress { interface: "eth0".into(), address: "192.0.2.1".parse().unwrap(), prefix: 24 }],
        containerd_version: "1.7.0".into(),
        kubelet_version: "v1.34.2".into(),
        cni_directory: Some("/opt/cni/bin".into()),
        free_bytes: [("/var/lib".to_owned(), 50 << 30), ("/etc".to_owned(), 1 << 30)].into(),
        ..System::default()
    };
    Facts { system, ..Facts::default() }
}

fn findings(plan: &Plan, facts: Facts, stage: Stage) -> Vec<String> {
    let facts = [("one".parse().unwrap(), facts)].into();
    let found = check(plan, &facts, stage, NOW);
    assert!(found.iter().all(|finding| CHECK_NAMES.contains(&finding.check) && !finding.hint.is_empty()));
    found.iter().map(|finding| format!("{:?} {}: {}", finding.severity, finding.check, finding.message)).collect()
}

fn usual() -> Plan {
    plan("v1.34.2", "control-plane, worker", "")
}

#[test]
fn every_check_is_named_once_and_listed() {
    let mut names: Vec<&str> = HOST_CHECKS.iter().map(|(name, _)| *name).chain(["clock", "machine-id", "vip"]).collect();
    names.sort_unstable();
    assert_eq!(names, CHECK_NAMES);
}

#[test]
fn a_good_host_has_no_findings() {
    assert_eq!(findings(&usual(), good(), Stage::Fresh), Vec::<String>::new());
}

#[test]
fn bad_hosts_are_told_what_is_wrong() {
    let rows: &[(Spoil, &str)] = &[
        (|facts| facts.system.root = false, "Error not-root: commands do not run as root"),
        (|facts| facts.system.systemd = false, "Error systemd: systemd does not manage this host"),
        (|facts| facts.system.architecture = "riscv64".into(), "Error architecture: architecture riscv64 is not supported"),
        (|facts| facts.system.kernel = "3.2.0-4-amd64".into(), "Error kernel: kernel 3.2.0-4-amd64 is older than 3.10"),
        (|facts| facts.system.cpus = 1, "Error cpus: 1 processor"),
        (|facts| facts.system.memory_bytes = 1 << 30, "Error memory: 1024 MiB of memory"),
        (|facts| _ = facts.system.commands.remove("flock"), "Error commands: missing commands: flock"),
        (|facts| _ = facts.system.commands.remove("iptables"), "Error commands: missing commands: iptables"),
        (|facts| facts.system.containerd_version.clear(), "Error runtime: containerd is not installed"),
        (|facts| facts.system.kubelet_version.clear(), "Error kubelet: the kubelet is not installed"),
        (
            |facts| facts.system.kubelet_version = "v1.35.0".into(),
            "Error kubelet-version: its kubelet v1.35.0 is newer than the cluster's v1.34.2",
        ),
        (
            |facts| facts.system.kubelet_version = "v1.30.9".into(),
            "Error kubelet-version: its kubelet v1.30.9 is too old for v1.34.2",
        ),
        (|facts| facts.system.cni_directory = None, "Error cni-plugins: the CNI plugins are not in /opt/cni/bin"),
        (
            |facts| facts.system.addresses[0].address = "192.0.2.9".parse().unwrap(),
            "Error address: address 192.0.2.1 is not one of its own",
        ),
        (|facts| _ = facts.system.listening.insert(2380, String::new()), "Error ports: port 2380 is in use"),
        (|facts| _ = facts.system.listening.insert(6443, "nginx".into()), "Error ports: port 6443 is in use (nginx)"),
        (
            |facts| _ = facts.system.free_bytes.insert("/var/lib".into(), 500 << 20),
            "Error disk-space: only 500 MiB are free on /var/lib",
        ),
        (|facts| _ = facts.system.free_bytes.insert("/etc".into(), 1 << 20), "Error disk-space: only 1 MiB are free on /etc"),
        (|facts| facts.system.clock = NOW + 121.0, "Error clock: its clock is 121 s away from this machine's"),
        (|facts| facts.system.clock = NOW - 300.0, "Error clock: its clock is 300 s away from this machine's"),
    ];
    for (spoil, expected) in rows {
        let mut facts = good();
        spoil(&mut facts);
        assert_eq!(findings(&usual(), facts, Stage::Fresh), [*expected]);
    }
}

#[test]
fn programs_that_are_brought_need_room_the_first_time() {
    let with_room = |mebibytes: u64, there: bool| {
        let mut facts = good();
        facts.system.free_bytes.insert("/usr/local/bin".into(), mebibytes << 20);
        if there {
            let found = crate::facts::FoundProgram { size: 1, mode: crate::names::Mode(0o755), noted: None };
            facts.state.programs.insert(crate::names::RemotePath::fixed("/usr/local/bin/kubelet"), found);
        }
        facts
    };
    let brings = plan("v1.34.2", "control-plane, worker", "binaries: {kubelet: {upload: kubelet}}");
    let little = ["Error disk-space: only 200 MiB are free on /usr/local/bin"];
    assert_eq!(findings(&brings, with_room(200, false), Stage::Fresh), little);
    assert_eq!(findings(&brings, with_room(200, false), Stage::Living), little, "a host that joins");
    assert_eq!(findings(&brings, with_room(200, true), Stage::Fresh), [""; 0]);
    assert_eq!(findings(&brings, with_room(300, false), Stage::Fresh), [""; 0]);
    assert_eq!(findings(&usual(), with_room(200, false), Stage::Fresh), [""; 0], "nothing is put there");
    assert_eq!(findings(&usual(), with_room(1, false), Stage::Fresh), ["Error disk-space: only 1 MiB are free on /usr/local/bin"]);
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let system = System {
        cpus: 1,
        kernel: "2.6".into(),
        root: false,
        systemd: false,
        cni_directory: None,
        ..System::default()
    };
    let found = findings(&usual(), Facts { system, ..Facts::default() }, Stage::Fresh);
    for check in ["commands", "cni-plugins", "cpus", "kernel", "kubelet", "not-root", "systemd"] {
        assert!(found.iter().any(|finding| finding.starts_with(&format!("Error {check}:"))), "{check} in {found:?}");
    }
}

#[test]
fn limits_hold_only_where_they_apply() {
    let spoiled = |spoil: fn(&mut Facts)| {
        let mut facts = good();
        spoil(&mut facts);
        facts
    };
    let none = Vec::<String>::new();
    // kubeadm's minimum is for control planes.
    let small = || spoiled(|facts| (facts.system.cpus, facts.system.memory_bytes) = (1, 1 << 30));
    assert_eq!(findings(&plan("v1.34.2", "worker", ""), small(), Stage::Fresh), none);
    // Ports of a host that works already are its own.
    let busy = || spoiled(|facts| _ = facts.system.listening.insert(6443, String::new()));
    assert_eq!(findings(&usual(), busy(), Stage::Living), none);
    let mut cut_off = busy();
    cut_off.state.running_containers = 1;
    assert_eq!(findings(&usual(), cut_off, Stage::Fresh), none);
    let mut half = busy();
    half.state.units.insert("kubelet.service".into(), FoundUnit { active: "active".into(), ..FoundUnit::default() });
    assert_eq!(findings(&usual(), half, Stage::Fresh), none);
    // Other pod networks bring their own plugins and need no `ip`.
    let other = plan("v1.34.2", "control-plane", "network: {cni: none}");
    let bare = spoiled(|facts| {
        facts.system.cni_directory = None;
        facts.system.commands.remove("ip");
        facts.system.commands.remove("iptables");
    });
    assert_eq!(findings(&other, bare, Stage::Fresh), none);
    // conntrack was asked for until v1.32.
    let no_conntrack = || {
        let mut facts = spoiled(|facts| _ = facts.system.commands.remove("conntrack"));
        facts.system.kubelet_version = "v1.31.1".into();
        facts
    };
    assert_eq!(findings(&plan("v1.31.1", "worker", ""), no_conntrack(), Stage::Fresh), ["Error commands: missing commands: conntrack"]);
    assert_eq!(findings(&plan("v1.32.0", "worker", ""), no_conntrack(), Stage::Fresh), none);
}

#[test]
fn what_slipway_brings_need_not_be_there() {
    let digest = "{amd64: 0000000000000000000000000000000000000000000000000000000000000000}";
    let brought = plan(
        "v1.34.2",
        "worker",
        &format!(
            "binaries: {{kubelet: {{upload: k}}, cniPlugins: {{upload: c}}, containerd: {{download: {{address: 'https://example.test/c', sha256: {digest}}}}}}}"
        ),
    );
    let mut facts = good();
    facts.system.kubelet_version.clear();
    facts.system.containerd_version.clear();
    facts.system.cni_directory = None;
    facts.system.commands.remove("ctr");
    assert_eq!(findings(&brought, facts.clone(), Stage::Fresh), Vec::<String>::new());
    facts.system.commands.remove("curl");
    assert_eq!(findings(&brought, facts.clone(), Stage::Fresh), Vec::<String>::new());
    facts.system.commands.remove("wget");
    assert_eq!(
        findings(&brought, facts, Stage::Fresh),
        ["Error commands: neither curl nor wget is there, and the plan downloads programs"]
    );
}

#[test]
fn an_unmanaged_runtime_must_answer() {
    let plan = plan("v1.34.2", "worker", "runtime: {managed: false}");
    let mut facts = good();
    facts.system.containerd_version.clear();
    facts.system.commands.remove("ctr");
    assert_eq!(findings(&plan, facts.clone(), Stage::Fresh), Vec::<String>::new());
    facts.system.runtime_answers = false;
    let expected = "Error runtime: no container runtime answers on /run/containerd/containerd.sock";
    assert_eq!(findings(&plan, facts, Stage::Fresh), [expected]);
}

#[test]
fn the_old_cgroups_are_a_warning_where_kubernetes_minds() {
    let old = || {
        let mut facts = good();
        facts.system.cgroup_version = 1;
        facts
    };
    assert_eq!(findings(&usual(), old(), Stage::Fresh), Vec::<String>::new());
    let found = findings(&plan("v1.35.0", "worker", ""), old(), Stage::Fresh);
    assert!(found[0].starts_with("Warning cgroup-v1: "), "{found:?}");
}

#[test]
fn a_finding_can_be_accepted_by_its_name() {
    let mut facts = good();
    facts.system.cpus = 1;
    facts.system.memory_bytes = 1 << 30;
    let accepting = plan("v1.34.2", "control-plane, worker", "preflight: {ignore: [cpus]}");
    let found = findings(&accepting, facts, Stage::Fresh);
    assert_eq!(found, ["Warning cpus: 1 processor", "Error memory: 1024 MiB of memory"]);
}

#[test]
fn clones_are_found_across_hosts() {
    let text = "version: 1\nkubernetes: {version: v1.34.2}\nhosts:\n  - {name: one, address: 192.0.2.1, roles: [control-plane]}\n  - {name: two, address: 192.0.2.2, roles: [worker]}\n";
    let plan: Plan = crate::yaml::read(text).unwrap();
    let second = |id: &str| {
        let mut facts = good();
        facts.system.addresses[0].address = "192.0.2.2".parse().unwrap();
        facts.system.machine_id = id.into();
        facts
    };
    let both = |id: &str| [("one".parse().unwrap(), good()), ("two".parse().unwrap(), second(id))].into();
    let found = check(&plan, &both("1"), Stage::Fresh, NOW);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].to_string().lines().next(),
        Some("error[machine-id]: host two: it has the machine id of host one")
    );
    assert_eq!(check(&plan, &both("2"), Stage::Fresh, NOW), []);
    // No machine id at all is another matter, and not that of two clones.
    assert_eq!(check(&plan, &both(""), Stage::Fresh, NOW), []);
}

//! What is kept before which steps, and what is said where it cannot be.

use super::*;
use crate::artifact::snapshot::Taken;
use crate::artifact::{Content, Secret};
use crate::facts::FoundFile;
use crate::names::{Digest, Mode};

const API: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const ETCD: &str = "/etc/kubernetes/manifests/etcd.yaml";
const FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";

fn plan(more: &str) -> Plan {
    let host = |name: &str, number: u32, role: &str| format!("  - {{name: {name}, address: 192.0.2.{number}, roles: [{role}]}}\n");
    let hosts = [host("a", 1, "control-plane"), host("b", 2, "control-plane"), host("w", 3, "worker")].concat();
    crate::yaml::read(&format!("version: 1\nkubernetes: {{version: v1.34.2}}\nendpoint: {{localProxy: {{}}}}\n{more}hosts:\n{hosts}")).unwrap()
}

fn manifest(image: &str) -> String {
    format!("spec:\n  containers:\n  - image: {image}\n")
}

/// A host with these files and a member of etcd.
fn host(files: &[(&str, &str)]) -> Facts {
    let mut facts = Facts::default();
    for (path, text) in files {
        let kind = FoundKind::File { digest: Some(Digest::of(text)), content: Some(Secret::new(*text)) };
        facts.state.files.insert(RemotePath::fixed(path), FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind });
    }
    facts.state.etcd_data = true;
    facts
}

/// Two control planes and a worker; the control planes run these releases.
fn facts(api: [&str; 2], etcd: [&str; 2]) -> BTreeMap<HostName, Facts> {
    let control_plane = |index: usize| {
        let (api, etcd) = (manifest(&format!("r/kube-apiserver:{}", api[index])), manifest(&format!("r/etcd:{}", etcd[index])));
        host(&[(API, &api), (ETCD, &etcd), (FLAGS, "old")])
    };
    let worker = Facts { state: crate::facts::State { etcd_data: false, ..host(&[(FLAGS, "old")]).state }, ..Facts::default() };
    [("a", control_plane(0)), ("b", control_plane(1)), ("w", worker)].into_iter().map(|(name, facts)| (name.parse().unwrap(), facts)).collect()
}

fn change(path: &str, text: &str) -> Change {
    let artifact = Artifact::File { path: RemotePath::fixed(path), mode: Mode(0o600), content: Content::plain(text) };
    Change { artifact, reason: Reason::Content { found: None, drift: false }, before: None }
}

fn step(phase: Phase, host: &str, changes: Vec<Change>) -> Step {
    Step { changes, ..Step::empty(StepId { phase, target: Target::Host(host.parse().unwrap()) }) }
}

/// The steps of these hosts to v1.34.2 and etcd 3.6.4-0.
fn upgrade(hosts: &[&str]) -> Vec<Step> {
    let of = |host: &&str| {
        let etcd = step(Phase::Etcd, host, vec![change(ETCD, &manifest("r/etcd:3.6.4-0"))]);
        let api = step(Phase::ControlPlane, host, vec![change(API, &manifest("r/kube-apiserver:v1.34.2"))]);
        let secret = Change { artifact: Artifact::File { path: RemotePath::fixed("/etc/x"), mode: Mode(0o600), content: Content::secret(Secret::new("k"), "a key") }, reason: Reason::Missing, before: None };
        let kubelet = step(Phase::KubeletUpgrade, host, vec![change(FLAGS, "new"), change("/var/lib/kubelet/new", "not there"), secret]);
        if *host == "w" { vec![kubelet] } else { vec![etcd, api, kubelet] }
    };
    hosts.iter().flat_map(of).collect()
}

const ALL: Chosen<'static> = Chosen { hosts: &[], phases: &[] };
const OLD: [&str; 2] = ["v1.33.4", "v1.33.4"];
const OLD_ETCD: [&str; 2] = ["3.5.21-0", "3.5.21-0"];

/// What is taken where, and what is found, a line each.
fn told(plan: &Plan, facts: &BTreeMap<HostName, Facts>, steps: &[Step], chosen: Chosen<'_>, closed: &[&str]) -> Vec<String> {
    let Some(due) = due(plan, facts, Stage::Living, steps, chosen) else { return vec!["nothing".into()] };
    let closed = closed.iter().map(|host| Gate::EtcdHealthy(host.parse().unwrap())).collect();
    let (steps, findings) = due.steps(plan, facts, &closed);
    let taken = steps.iter().map(|step| {
        let [Change { artifact: Artifact::Snapshot(snapshot), reason, .. }] = &step.changes[..] else { panic!("{step:?}") };
        let files: Vec<&str> = snapshot.files.iter().map(RemotePath::file_name).collect();
        let etcd = if snapshot.etcd.is_some() { " with etcd" } else { "" };
        assert_eq!(step.before.len(), usize::from(snapshot.etcd.is_some()), "the member must be well then, too");
        format!("{}: {}{etcd}: {} ({reason})", step.id, snapshot.way, files.join(" "))
    });
    taken.chain(findings.iter().map(|finding| format!("{:?} {finding}", finding.severity))).collect()
}

#[test]
fn one_host_keeps_what_etcd_holds_and_each_what_is_replaced() {
    let steps = upgrade(&["a", "b", "w"]);
    assert_eq!(
        told(&plan(""), &facts(OLD, OLD_ETCD), &steps, ALL, &[]),
        [
            "snapshot@a: v1.33.4_to_v1.34.2 with etcd: etcd.yaml kube-apiserver.yaml kubeadm-flags.env (upgrade from v1.33.4)",
            "snapshot@b: v1.33.4_to_v1.34.2: etcd.yaml kube-apiserver.yaml kubeadm-flags.env (upgrade from v1.33.4)",
            "snapshot@w: v1.33.4_to_v1.34.2: kubeadm-flags.env (upgrade from v1.33.4)",
        ]
    );
    assert_eq!(told(&plan("upgrade: {snapshots: 0}\n"), &facts(OLD, OLD_ETCD), &steps, ALL, &[]), ["nothing"]);
    assert_eq!(due(&plan(""), &facts(OLD, OLD_ETCD), Stage::Fresh, &steps, ALL), None, "what is only formed has nothing to lose");
}

#[test]
fn only_another_release_of_etcd_or_an_api_server_asks_for_it() {
    let facts = facts(OLD, OLD_ETCD);
    let api = |image: &str| vec![step(Phase::ControlPlane, "a", vec![change(API, &manifest(image))])];
    assert_eq!(told(&plan(""), &facts, &api("mirror:5000/kube-apiserver:v1.33.4"), ALL, &[]), ["nothing"], "the same release from elsewhere");
    assert!(told(&plan(""), &facts, &api("r/kube-apiserver:v1.33.5"), ALL, &[])[0].contains("v1.33.4_to_v1.33.5 with etcd"));
    let kubelet = vec![step(Phase::KubeletUpgrade, "w", vec![change(FLAGS, "new")])];
    assert_eq!(told(&plan(""), &facts, &kubelet, ALL, &[]), ["nothing"]);
    let etcd = vec![step(Phase::Etcd, "b", vec![change(ETCD, &manifest("r/etcd:3.6.4-0"))])];
    let said = told(&plan(""), &facts, &etcd, ALL, &[]);
    assert_eq!(said, ["snapshot@a: etcd-3.5.21-0_to_etcd-3.6.4-0 with etcd:  (upgrade)", "snapshot@b: etcd-3.5.21-0_to_etcd-3.6.4-0: etcd.yaml (upgrade)"]);
    let added = vec![step(Phase::Etcd, "w", vec![change(ETCD, &manifest("r/etcd:3.6.4-0"))])];
    assert_eq!(told(&plan(""), &facts, &added, ALL, &[]), ["nothing"], "a member that is only made");
}

#[test]
fn an_upgrade_that_has_begun_keeps_what_is_from_before_it() {
    let taken = |etcd| Taken::read("20261121T134500Z_v1.33.4_to_v1.34.2", etcd).unwrap();
    let with = |mut facts: BTreeMap<HostName, Facts>, hosts: &[&str]| {
        for (index, host) in hosts.iter().enumerate() {
            facts.get_mut(&host.parse::<HostName>().unwrap()).unwrap().state.snapshots.insert(taken(index == 0));
        }
        facts
    };
    let half = || facts(["v1.34.2", "v1.33.4"], ["3.6.4-0", "3.5.21-0"]);
    let rest = upgrade(&["b", "w"]);
    assert_eq!(told(&plan(""), &with(half(), &["a", "b", "w"]), &rest, ALL, &[]), Vec::<String>::new(), "all is there");
    let said = told(&plan(""), &with(half(), &["a", "b"]), &rest, ALL, &[]);
    assert_eq!(said, ["snapshot@w: v1.33.4_to_v1.34.2: kubeadm-flags.env (upgrade from v1.33.4)"], "only what is missing");
    assert!(told(&plan(""), &half(), &rest, ALL, &["a"])[0].starts_with("snapshot@b: v1.33.4_to_v1.34.2 with etcd"), "late is better than never");
    // Nothing is done yet: more was stored since the run before.
    let said = told(&plan(""), &with(facts(OLD, OLD_ETCD), &["a", "b", "w"]), &upgrade(&["a", "b", "w"]), ALL, &[]);
    assert!(said.len() == 3 && said[0].contains("with etcd"), "{said:?}");
}

#[test]
fn without_a_healthy_member_or_room_the_upgrade_does_not_begin() {
    let steps = upgrade(&["a", "b"]);
    let said = told(&plan(""), &facts(OLD, OLD_ETCD), &steps, ALL, &["a"]);
    assert!(said[1].starts_with("snapshot@b: v1.33.4_to_v1.34.2 with etcd"), "the member that is well: {said:?}");
    let said = told(&plan(""), &facts(OLD, OLD_ETCD), &steps, ALL, &["a", "b"]);
    assert!(said.last().unwrap().contains("Error error[upgrade-snapshot]: none of the chosen hosts has a healthy member"), "{said:?}");
    let mut small = facts(OLD, OLD_ETCD);
    for (host, free) in [("a", 100 << 20), ("b", 10 << 30)] {
        let state = &mut small.get_mut(&host.parse::<HostName>().unwrap()).unwrap().state;
        (state.etcd_bytes, state.etcd_free_bytes) = (Some(1 << 30), Some(free));
    }
    assert!(told(&plan(""), &small, &steps, ALL, &[])[1].starts_with("snapshot@b: v1.33.4_to_v1.34.2 with etcd"), "where there is room");
    let said = told(&plan(""), &small, &steps, ALL, &["b"]);
    assert!(said.last().unwrap().contains("Error error[upgrade-snapshot]: host a: only 100 MiB are free on etcd's data directory, and a snapshot of etcd needs 1190"), "{said:?}");
    // What has begun is brought to its end.
    let half = facts(["v1.34.2", "v1.33.4"], ["3.6.4-0", "3.5.21-0"]);
    assert!(told(&plan(""), &half, &upgrade(&["b"]), ALL, &["a", "b"]).last().unwrap().starts_with("Warning"));
}

#[test]
fn a_part_of_a_run_keeps_what_it_replaces_on_hosts_that_were_chosen() {
    let (steps, facts) = (upgrade(&["a", "b", "w"]), facts(OLD, OLD_ETCD));
    let b: HostName = "b".parse().unwrap();
    let said = told(&plan(""), &facts, &steps, Chosen { hosts: std::slice::from_ref(&b), phases: &[] }, &[]);
    assert_eq!(said, ["snapshot@b: v1.33.4_to_v1.34.2 with etcd: etcd.yaml kube-apiserver.yaml kubeadm-flags.env (upgrade from v1.33.4)"]);
    let said = told(&plan(""), &facts, &steps, Chosen { hosts: &[], phases: &[Phase::ControlPlane] }, &[]);
    assert_eq!(said[0], "snapshot@a: v1.33.4_to_v1.34.2 with etcd: kube-apiserver.yaml (upgrade from v1.33.4)");
    assert_eq!(told(&plan(""), &facts, &steps, Chosen { hosts: &[], phases: &[Phase::Images] }, &[]), ["nothing"]);
}

#[test]
fn an_etcd_of_somebody_else_is_said_to_have_no_snapshot() {
    let external = plan("etcd: {external: {endpoints: ['https://192.0.2.9:2379'], caFile: a, certificateFile: b, keyFile: c}}\n");
    let steps = vec![step(Phase::ControlPlane, "a", vec![change(API, &manifest("r/kube-apiserver:v1.34.2"))])];
    let said = told(&external, &facts(OLD, OLD_ETCD), &steps, ALL, &[]);
    assert_eq!(said[0], "snapshot@a: v1.33.4_to_v1.34.2: kube-apiserver.yaml (upgrade from v1.33.4)");
    assert!(said[1].starts_with("Warning warning[upgrade-snapshot]: the etcd of this cluster is not slipway's"), "{said:?}");
}

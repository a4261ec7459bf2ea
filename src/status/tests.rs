//! A cluster of three control planes and a worker, and what is said when parts of it are down.

use serde_json::json;

use super::*;
use crate::artifact::Secret;
use crate::cluster::etcd::MemberId;
use crate::facts::{FoundFile, FoundKind, FoundUnit, State, System};
use crate::graph::tests::plan;
use crate::names::{Mode, RemotePath};
use crate::plan::Host;
use crate::status::etcd::MemberRole;
use crate::trust::testing::{Hosts, day, epoch};

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn node(ready: bool) -> Value {
    let condition = if ready {
        json!({ "type": "Ready", "status": "True", "message": "kubelet is posting ready status" })
    } else {
        json!({ "type": "Ready", "status": "False", "message": "container runtime network not ready" })
    };
    json!({
        "spec": {},
        "status": {
            "conditions": [{ "type": "MemoryPressure", "status": "False" }, condition],
            "nodeInfo": { "kubeletVersion": "v1.34.2", "containerRuntimeVersion": "containerd://2.1.4" },
        },
    })
}

fn facts() -> Facts {
    let unit = FoundUnit { active: "active".into(), enabled: "enabled".into(), stamp: None, began: None };
    let units = ["kubelet.service", "containerd.service"].map(|name| (name.to_owned(), unit.clone()));
    let system = System { kubelet_version: "v1.34.2".into(), ..System::default() };
    Facts { system, state: State { units: units.into(), ..State::default() } }
}

fn member(id: u64, host: &Host) -> Member {
    Member { id: MemberId(id), name: host.name.to_string(), peer_urls: vec![crate::standing::peer_url(host)], ..Member::default() }
}

fn member_status(id: u64, leader: u64, index: u64) -> MemberStatus {
    serde_json::from_value(json!({
        "header": { "member_id": id.to_string() }, "version": "3.6.5", "dbSize": "3670016",
        "leader": leader.to_string(), "raftIndex": index.to_string(),
    }))
    .unwrap()
}

/// What everybody answers when all is well.
fn healthy(plan: &Plan) -> Answers {
    let all = |wanted: &dyn Fn(&Host) -> bool| -> BTreeMap<HostName, Answer> {
        plan.hosts.iter().filter(|host| wanted(host)).map(|host| (host.name.clone(), Ok(()))).collect()
    };
    let members: Vec<Member> = plan.etcd_hosts().zip(1..).map(|(host, id)| member(id, host)).collect();
    Answers {
        facts: plan.hosts.iter().map(|host| (host.name.clone(), facts())).collect(),
        kubelets: all(&|_| true),
        api_servers: all(&Host::is_control_plane),
        controller_managers: all(&Host::is_control_plane),
        schedulers: all(&Host::is_control_plane),
        nodes: Some(Ok(plan.nodes().map(|host| (host.name.to_string(), node(true))).collect())),
        members_health: all(&|host| plan.has_etcd(host)),
        members_status: plan.etcd_hosts().zip(1..).map(|(host, id)| (host.name.clone(), Ok(member_status(id, 2, 100 - id)))).collect(),
        members: Some(Ok(members)),
        ..Answers::default()
    }
}

fn folded(answers: &Answers) -> Status {
    fold(&plan(3, 0, 1), Some(Stage::Living), answers, epoch())
}

/// The host stops answering anything.
fn lose(answers: &mut Answers, host: &str) {
    let host = name(host);
    answers.facts.remove(&host);
    answers.absent.insert(host.clone(), format!("cannot connect to host {host} (root@10.0.0.2): timed out"));
    for map in [&mut answers.kubelets, &mut answers.api_servers, &mut answers.controller_managers, &mut answers.schedulers, &mut answers.members_health] {
        map.remove(&host);
    }
    answers.members_status.remove(&host);
}

#[test]
fn a_healthy_cluster() {
    let status = folded(&healthy(&plan(3, 0, 1)));
    assert_eq!(status.verdict, Verdict::Healthy, "{:?}", status.problems);
    insta::assert_snapshot!(status.to_text());
}

#[test]
fn the_json_form() {
    let status = folded(&healthy(&plan(3, 0, 1)));
    let mut value = serde_json::to_value(&status).unwrap();
    value["hosts"].as_array_mut().unwrap().truncate(1);
    value["etcd"]["members"].as_array_mut().unwrap().truncate(1);
    insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn every_part_that_is_down_is_a_row_with_its_reason() {
    let mut answers = healthy(&plan(3, 0, 1));
    lose(&mut answers, "cp-2");
    answers.api_servers.insert(name("cp-3"), Err("[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n".into()));
    answers.members_health.insert(name("cp-3"), Err("unhealthy (no leader, or an alarm)".into()));
    answers.facts.get_mut(&name("w-1")).unwrap().state.units.get_mut("kubelet.service").unwrap().active = "failed".into();
    answers.kubelets.insert(name("w-1"), Err("connection refused".into()));
    answers.facts.get_mut(&name("w-1")).unwrap().system.kubelet_version = "v1.34.3".into();
    let Some(Ok(nodes)) = &mut answers.nodes else { panic!("they are known") };
    nodes.remove("cp-2");
    nodes.insert("w-1".into(), node(false));
    nodes.get_mut("cp-3").unwrap()["spec"]["unschedulable"] = true.into();
    let status = folded(&answers);
    assert_eq!(status.verdict, Verdict::Unreachable);
    insta::assert_snapshot!(status.to_text());
}

#[test]
fn without_an_api_server_and_a_quorum_the_rest_is_still_shown() {
    let plan = plan(3, 0, 1);
    let mut answers = healthy(&plan);
    answers.nodes = Some(Err("no API server answers (cp-1: refused)".into()));
    answers.members = Some(Err("cannot list the members of etcd: no answer within 10 s".into()));
    for host in ["cp-1", "cp-2"] {
        answers.api_servers.insert(name(host), Err("refused".into()));
        answers.members_health.insert(name(host), Err("refused".into()));
        answers.members_status.insert(name(host), Err("refused".into()));
    }
    let status = folded(&answers);
    assert_eq!(status.verdict, Verdict::Unhealthy);
    let text = status.to_text();
    assert!(text.contains("problem: etcd has no quorum: 1 of 3 members are healthy, 2 needed\n"), "{text}");
    assert!(text.contains("problem: the Nodes are unknown: no API server answers (cp-1: refused)\n"), "{text}");
    answers.api_servers.insert(name("cp-3"), Err("[+]ping ok\n[-]etcd failed: reason withheld\n".into()));
    let none = folded(&answers).to_text();
    assert!(none.contains("problem: the Nodes are unknown: no API server is ready\n"), "{none}");
    assert!(text.contains("etcd: 1 of 3 voting members healthy, quorum is 2: no quorum\n"), "{text}");
    assert!(status.hosts.iter().all(|host| host.node.is_none() && !host.units.is_empty()));
}

#[test]
fn learners_strangers_and_members_elsewhere_are_told_apart() {
    let plan = plan(3, 0, 0);
    let mut answers = healthy(&plan);
    let hosts: Vec<&Host> = plan.etcd_hosts().collect();
    let elsewhere = Member { id: MemberId(9), name: "old".into(), peer_urls: vec!["https://10.9.9.9:2380".into()], ..Member::default() };
    let learner = Member { learner: true, name: String::new(), ..member(2, hosts[1]) };
    answers.members = Some(Ok(vec![member(1, hosts[0]), learner, elsewhere]));
    let status = fold(&plan, Some(Stage::Living), &answers, epoch());
    let etcd = status.etcd.unwrap();
    let roles: Vec<MemberRole> = etcd.members.iter().map(|row| row.role).collect();
    assert_eq!(roles, [MemberRole::Voter, MemberRole::Learner, MemberRole::Stranger, MemberRole::Voter]);
    assert_eq!((etcd.voters, etcd.healthy, etcd.quorum), (2, 1, 2));
    let problems: Vec<&str> = status.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        problems,
        [
            "etcd has no quorum: 1 of 2 members are healthy, 2 needed",
            "etcd member without a name has no vote yet",
            "etcd does not know a member of this host",
            "etcd member old (9) is on no host of the plan (https://10.9.9.9:2380)",
        ]
    );
}

#[test]
fn before_there_is_a_cluster_nothing_else_is_wrong() {
    let plan = plan(1, 0, 0);
    let answers = Answers { facts: [(name("cp-1"), Facts::default())].into(), ..Answers::default() };
    let status = fold(&plan, Some(Stage::Fresh), &answers, epoch());
    assert_eq!(status.verdict, Verdict::Unhealthy);
    let problems: Vec<&str> = status.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(problems, ["there is no cluster yet; `slipway apply` makes it"]);
}

/// The first certificates to end on a host: leaf and CA, as `name days`.
fn first(hosts: &Hosts, host: &str, now: Timestamp) -> Vec<String> {
    let found = certificates::found(&hosts.facts[&name(host)].state, hosts.plan.pki.renew_before, now);
    [false, true]
        .into_iter()
        .filter_map(|authority| found.iter().find(|certificate| certificate.authority == authority))
        .map(|certificate| format!("{} {}{}", certificate.name, certificate.days_left.unwrap(), if certificate.due { " due" } else { "" }))
        .collect()
}

#[test]
fn certificates_are_found_wherever_they_are() {
    let mut hosts = Hosts::bootstrapped(crate::trust::testing::plan("external"));
    let found = certificates::found(&hosts.facts[&name("cp-1")].state, hosts.plan.pki.renew_before, day(1));
    let mut names: Vec<&str> = found.iter().map(|certificate| certificate.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "admin.conf",
            "apiserver-etcd-client.crt",
            "apiserver-kubelet-client.crt",
            "apiserver.crt",
            "ca.crt",
            "controller-manager.conf",
            "etcd/ca.crt",
            "etcd/healthcheck-client.crt",
            "etcd/peer.crt",
            "etcd/server.crt",
            "front-proxy-ca.crt",
            "front-proxy-client.crt",
            "kubelet-client-current.pem",
            "scheduler.conf",
            "super-admin.conf",
        ]
    );
    assert_eq!(first(&hosts, "worker-1", day(1)), ["kubelet-client-current.pem 364", "ca.crt 3649"]);
    // 30 days before the end they are due; the kubelet has until a tenth of its certificate's life.
    assert_eq!(first(&hosts, "cp-1", day(334))[0], "admin.conf 31");
    assert_eq!(first(&hosts, "cp-1", day(336))[0], "admin.conf 29 due");
    assert_eq!(first(&hosts, "worker-1", day(334))[0], "kubelet-client-current.pem 31");
    assert_eq!(first(&hosts, "worker-1", day(336))[0], "kubelet-client-current.pem 29 due");
    assert_eq!(first(&hosts, "cp-1", day(370))[0], "admin.conf -5 due");

    hosts.put(&name("worker-1"), &RemotePath::fixed("/etc/kubernetes/pki/ca.crt"), b"damaged");
    let found = certificates::found(&hosts.facts[&name("worker-1")].state, hosts.plan.pki.renew_before, day(1));
    assert_eq!((found[0].name.as_str(), found[0].problem.as_deref()), ("ca.crt", Some("it holds no PEM block `CERTIFICATE`")));
}

#[test]
fn a_link_to_nowhere_is_said() {
    let mut state = State::default();
    let link = FoundFile { mode: Mode(0o777), owner: 0, group: 0, kind: FoundKind::Link("/nowhere".into()) };
    state.files.insert(crate::paths::kubelet_client_current(), link);
    let old = FoundKind::File { digest: None, content: Some(Secret::new("x")) };
    let old = FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind: old };
    state.files.insert(RemotePath::fixed("/var/lib/kubelet/pki/kubelet-client-2020-01-01.pem"), old);
    let found = certificates::found(&state, crate::names::Span::seconds(0), epoch());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].problem.as_deref(), Some("it cannot be read"));
}

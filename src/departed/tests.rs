//! Marks and machines that may not be what they say, one by one.

use std::collections::BTreeMap;

use super::*;
use crate::artifact::Secret;
use crate::facts::{FoundFile, FoundKind, State, System};
use crate::names::{Mode, RemotePath};

pub(super) fn plan() -> Plan {
    crate::yaml::read(
        "version: 1\nname: a\nkubernetes: {version: v1.34.2}\nssh: {user: admin, identityFile: /home/x/key}\nhosts:\n  - {name: cp, address: 192.0.2.1, roles: [control-plane]}\n  - {name: w, address: 192.0.2.2, roles: [worker], ssh: {port: 2222, sudo: true}}\n",
    )
    .unwrap()
}

/// The plan without its worker, and that.
fn left() -> (Plan, Host) {
    let mut plan = plan();
    let host = plan.hosts.pop().unwrap();
    (plan, host)
}

pub(super) fn facts(hostname: &str, files: &[(RemotePath, &str)]) -> Facts {
    let file = |text: &str| FoundFile {
        mode: Mode(0o600),
        owner: 0,
        group: 0,
        kind: FoundKind::File { digest: None, content: Some(Secret::new(text)) },
    };
    let mut found: BTreeMap<RemotePath, FoundFile> = files.iter().map(|(path, text)| (path.clone(), file(text))).collect();
    found.insert(RemotePath::fixed("/var/lib/slipway/formed"), file(""));
    Facts { system: System { hostname: hostname.into(), ..System::default() }, state: State { files: found, ..State::default() } }
}

#[test]
fn a_mark_brings_back_how_the_host_was_reached_and_holds_no_file_of_the_operator() {
    let (plan, w) = left();
    let text = mark(&plan, &w);
    assert_eq!(text, r#"{"address":"192.0.2.2","roles":["worker"],"user":"admin","port":2222,"sudo":true}"#);
    let back = host(&plan, "w", &text).unwrap();
    assert_eq!((back.address, &back.roles, back.ssh.port, back.ssh.sudo), (w.address, &w.roles, Some(2222), Some(true)));
    assert_eq!(back.ssh.user.as_deref(), Some("admin"));
}

#[test]
fn what_no_plan_may_have_is_no_mark() {
    let (plan, w) = left();
    let good = mark(&plan, &w);
    for (from, to) in [
        ("\"admin\"", "\"-oProxyCommand=x\""),
        ("\"admin\"", "\"a b\""),
        ("\"sudo\":true", "\"sudo\":true,\"jumpHosts\":[\"-x\"]"),
        ("\"sudo\":true", "\"sudo\":true,\"sshAddress\":\"a\\nProxyCommand x\""),
        ("\"sudo\":true", "\"sudo\":true,\"hostKey\":\"x\\ny\""),
        ("192.0.2.2", "not-an-address"),
        ("192.0.2.2", "192.0.2.1"),
        ("\"sudo\":true", "\"sshAddress\":\"192.0.2.1\",\"port\":22"),
        ("worker", "root"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(bad != good && host(&plan, "w", &bad).is_err(), "{bad}");
    }
    assert!(host(&plan, "../w", &good).is_err());
}

#[test]
fn only_the_machine_that_says_it_is_this_host_is_found() {
    let (_, w) = left();
    let ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let both = format!("-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n{ca}");
    let own = |text: &str| (paths::ca_certificate(), text.to_owned());
    let flags = |text: &str| (paths::kubelet_flags(), format!("KUBELET_KUBEADM_ARGS=\"{text}\"\n"));
    let judged = |hostname: &str, files: &[(RemotePath, String)]| {
        let files: Vec<(RemotePath, &str)> = files.iter().map(|(path, text)| (path.clone(), text.as_str())).collect();
        match judge(&w, facts(hostname, &files), &[(paths::ca_certificate(), ca)]) {
            Machine::Found(_) => "found".to_owned(),
            Machine::Left(reason) => reason,
        }
    };
    assert_eq!(judged("w", &[own(ca), flags("--v=2")]), "found");
    assert_eq!(judged("machine", &[own(&both), flags("--hostname-override=w --v=2")]), "found", "its name is given, and one CA in common is enough");
    assert_eq!(judged("machine", &[own(ca)]), "found", "a reset that was cut off left no flags");
    assert_eq!(judged("machine", &[own(ca), flags("--v=2")]), "the machine at 192.0.2.2 is Node machine by now");
    assert_eq!(judged("w", &[own("-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n"), flags("")]), "the machine at 192.0.2.2 is of another cluster by now");
}

#[test]
fn a_host_without_a_node_is_known_by_its_member() {
    let etcd = known_as("etcd-1".parse().unwrap(), "192.0.2.9".parse().unwrap(), [Role::Etcd].into(), SshOverrides::default());
    let ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let other = ca.replace("AAAA", "BBBB");
    let manifest = |name: &str| (paths::etcd_manifest(), format!("spec:\n  containers:\n  - command: [etcd, --name={name}]\n"));
    let own = |text: &str| (paths::etcd_ca_certificate(), text.to_owned());
    let judged = |files: &[(RemotePath, String)]| {
        let files: Vec<(RemotePath, &str)> = files.iter().map(|(path, text)| (path.clone(), text.as_str())).collect();
        match judge(&etcd, facts("some-machine", &files), &[(paths::etcd_ca_certificate(), ca)]) {
            Machine::Found(_) => "found".to_owned(),
            Machine::Left(reason) => reason,
        }
    };
    assert_eq!(judged(&[own(ca), manifest("etcd-1")]), "found", "the machine's own name does not matter");
    assert_eq!(judged(&[]), "found", "a reset that was cut off left neither");
    assert_eq!(judged(&[own(ca), manifest("etcd-2")]), "the machine at 192.0.2.9 is member etcd-2 of etcd by now");
    assert_eq!(judged(&[own(&other), manifest("etcd-1")]), "the machine at 192.0.2.9 is of another cluster by now");
}

#[test]
fn only_hosts_without_a_node_are_marked_on_the_list() {
    let mut plan = plan();
    plan.hosts.push(known_as("etcd-1".parse().unwrap(), "192.0.2.9".parse().unwrap(), [Role::Etcd].into(), SshOverrides::default()));
    plan.hosts.push(known_as("both".parse().unwrap(), "192.0.2.10".parse().unwrap(), [Role::Etcd, Role::Worker].into(), SshOverrides::default()));
    let marks: Vec<(String, String)> = marks(&plan).into_iter().map(|(host, mark)| (host.to_string(), mark)).collect();
    assert_eq!(marks, [("etcd-1".to_owned(), r#"{"address":"192.0.2.9","roles":["etcd"],"user":"admin"}"#.to_owned())]);
    let without = self::plan();
    assert_eq!(host(&without, "etcd-1", &marks[0].1).unwrap().ssh.user.as_deref(), Some("admin"));
}

//! One bootstrapped cluster, one thing wrong with it at a time.

use super::*;
use crate::phase::Stage;
use crate::plan::Endpoint;
use crate::trust::testing::{Hosts, day, epoch, name, plan};

fn hosts() -> Hosts {
    Hosts::bootstrapped(plan("external"))
}

/// What a run would make, as `host name: reason`.
fn made(hosts: &Hosts, now: Timestamp) -> Vec<String> {
    let material = hosts.run(Stage::Living, now).unwrap();
    let line = |issued: &crate::trust::refresh::Issued| {
        let host = issued.host.as_ref().map_or("cluster".to_owned(), ToString::to_string);
        let what = if issued.new_key { "" } else { " rewritten" };
        format!("{host} {}{what}: {}", issued.name, issued.reason)
    };
    material.events.iter().map(line).collect()
}

#[test]
fn valid_material_is_kept() {
    assert_eq!(made(&hosts(), epoch()), [""; 0]);
    assert_eq!(made(&hosts(), day(300)), [""; 0]);
}

#[test]
fn what_is_missing_is_made_and_nothing_else() {
    let mut hosts = hosts();
    hosts.remove("cp-2", "/etc/kubernetes/pki/apiserver.crt");
    hosts.remove("cp-1", "/etc/kubernetes/scheduler.conf");
    hosts.remove("worker-1", "/etc/kubernetes/kubelet.conf");
    assert_eq!(
        made(&hosts, day(1)),
        ["cp-1 scheduler.conf: missing", "cp-2 apiserver: missing", "worker-1 kubelet.conf rewritten: missing"]
    );
}

#[test]
fn super_admin_conf_is_made_with_the_cluster_and_never_again() {
    let path = "/etc/kubernetes/super-admin.conf";
    let mut hosts = hosts();
    assert!(made(&hosts, day(340)).iter().any(|line| line.starts_with("cp-1 super-admin.conf: expires")));
    // While it is there, it is kept in order.
    hosts.put(&name("cp-1"), &RemotePath::fixed(path), b"damaged");
    assert_eq!(made(&hosts, day(1)).len(), 1);
    hosts.remove("cp-1", path);
    assert_eq!(made(&hosts, day(1)), [""; 0]);
    assert!(!made(&hosts, day(340)).iter().any(|line| line.contains("super-admin")));
    // A bootstrap that was cut off before it was written goes on and writes it.
    let fresh = hosts.run(Stage::Fresh, day(1)).unwrap();
    assert_eq!(fresh.events.iter().map(|issued| issued.name.as_str()).collect::<Vec<_>>(), ["super-admin.conf"]);
}

#[test]
fn time_makes_certificates_anew() {
    let hosts = hosts();
    // 30 days before the end, to the second.
    let due = day(335) + SignedDuration::from_secs(1);
    assert_eq!(made(&hosts, day(335)), [""; 0]);
    let soon = made(&hosts, due);
    assert_eq!(soon.len(), 21, "ten on each control plane and super-admin.conf: {soon:?}");
    assert!(
        soon.iter().all(|line| line.ends_with("expires at 2027-01-01T00:00:00Z") && !line.contains(" kubelet-client")),
        "{soon:?}"
    );
    let late = made(&hosts, day(366));
    assert!(late.iter().all(|line| line.ends_with("expired at 2027-01-01T00:00:00Z")), "{late:?}");
    assert!(late.contains(&"worker-1 kubelet-client: expired at 2027-01-01T00:00:00Z".to_owned()), "{late:?}");
    let early = hosts.run(Stage::Living, epoch() - SignedDuration::from_hours(1)).unwrap_err();
    assert!(early[0].to_string().contains("`CN=kubernetes` is valid from 2025-12-31T23:55:00Z"), "{}", early[0]);
}

#[test]
fn an_expired_authority_signs_nothing() {
    let problems = hosts().run(Stage::Living, day(3651)).unwrap_err();
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(text[0], "the CA kubernetes expired at 2035-12-30T00:00:00Z");
    assert_eq!(text.len(), 3, "{text:?}");
}

#[test]
fn damage_and_mismatch_are_found() {
    let mut hosts = hosts();
    let pki = |file: &str| RemotePath::fixed(&format!("/etc/kubernetes/pki/{file}"));
    let cp = name("cp-1");
    let other_key = hosts.bytes("cp-1", "/etc/kubernetes/pki/front-proxy-client.key");
    hosts.put(&cp, &pki("apiserver.key"), &other_key);
    hosts.put(&cp, &pki("apiserver-kubelet-client.crt"), b"");
    hosts.put(&cp, &pki("front-proxy-client.key"), b"-----BEGIN");
    let (certificate, key) = (
        hosts.bytes("cp-1", "/etc/kubernetes/pki/etcd/peer.crt"),
        hosts.bytes("cp-1", "/etc/kubernetes/pki/etcd/peer.key"),
    );
    hosts.put(&cp, &pki("etcd/healthcheck-client.crt"), &certificate);
    hosts.put(&cp, &pki("etcd/healthcheck-client.key"), &key);
    hosts.put(&cp, &RemotePath::fixed("/etc/kubernetes/scheduler.conf"), b"kind: [");
    let made = made(&hosts, day(1));
    let starts = [
        "cp-1 apiserver: the key does not belong to the certificate",
        "cp-1 apiserver-kubelet-client: unreadable: it holds no PEM block `CERTIFICATE`",
        "cp-1 front-proxy-client: unreadable: it holds no PEM block `PRIVATE KEY`",
        "cp-1 etcd/healthcheck-client: names `CN=cp-1`",
        "cp-1 scheduler.conf: unreadable: it is not a kubeconfig",
    ];
    assert_eq!(made.len(), starts.len(), "{made:?}");
    for (line, start) in made.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn a_certificate_of_another_authority_is_replaced() {
    let (mut ours, theirs) = (hosts(), hosts());
    for file in ["apiserver.crt", "apiserver.key"] {
        let path = format!("/etc/kubernetes/pki/{file}");
        ours.put(&name("cp-1"), &RemotePath::fixed(&path), &theirs.bytes("cp-1", &path));
    }
    let current = "/var/lib/kubelet/pki/kubelet-client-slipway.pem";
    ours.put(&name("worker-1"), &RemotePath::fixed(current), &theirs.bytes("worker-1", current));
    assert_eq!(
        made(&ours, day(1)),
        [
            "cp-1 apiserver: not signed by this cluster's CA but by `CN=kubernetes`",
            "worker-1 kubelet-client: not signed by this cluster's CA but by `CN=kubernetes`"
        ]
    );
}

#[test]
fn a_new_name_in_the_plan_is_a_reason_and_a_removed_one_is_not() {
    let mut hosts = hosts();
    hosts.plan.pki.extra_sans = vec!["new.example.test".into(), "198.51.100.7".into()];
    let expected =
        ["cp-1", "cp-2"].map(|host| format!("{host} apiserver: does not cover new.example.test, 198.51.100.7"));
    assert_eq!(made(&hosts, day(1)), expected);
    let material = hosts.run(Stage::Living, day(1)).unwrap();
    hosts.write(&material);
    hosts.plan.pki.extra_sans.clear();
    assert_eq!(made(&hosts, day(1)), [""; 0]);
}

#[test]
fn a_new_endpoint_rewrites_kubeconfigs_around_the_same_certificates() {
    let mut hosts = hosts();
    let before = hosts.bytes("cp-1", "/etc/kubernetes/admin.conf");
    hosts.plan.endpoint = Some(Endpoint::External { address: "api.example.test".into(), port: 443 });
    let server = "leads to https://api.example.test:6443";
    let expected = ["cp-1 admin.conf", "cp-1 super-admin.conf", "cp-2 admin.conf", "worker-1 kubelet.conf"];
    assert_eq!(made(&hosts, day(1)), expected.map(|file| format!("{file} rewritten: {server}")));
    let material = hosts.run(Stage::Living, day(1)).unwrap();
    hosts.write(&material);
    let read = |bytes: &[u8]| kubeconfig::read(std::str::from_utf8(bytes).unwrap()).unwrap();
    let after = read(&hosts.bytes("cp-1", "/etc/kubernetes/admin.conf"));
    assert_eq!(after.server, "https://api.example.test:443");
    assert_eq!(after.credentials, read(&before).credentials);
    assert_eq!(made(&hosts, day(1)), [""; 0]);
}

#[test]
fn groups_follow_the_version() {
    let mut hosts = Hosts::new(plan("external"));
    hosts.plan.kubernetes.version = crate::trust::testing::version(20);
    let material = hosts.run(Stage::Fresh, epoch()).unwrap();
    hosts.write(&material);
    hosts.plan.kubernetes.version = crate::trust::testing::version(32);
    let made = made(&hosts, day(1));
    assert!(made.contains(&"cp-1 admin.conf: names `O=system:masters, CN=kubernetes-admin`".to_owned()), "{made:?}");
    // The engine signs its own rights; a cluster that never had the file does not get it.
    assert!(made.iter().all(|line| !line.contains("super-admin")), "{made:?}");
    assert!(made.iter().all(|line| !line.contains("apiserver:")), "{made:?}");
}

#[test]
fn other_algorithms_are_kept() {
    let mut hosts = hosts();
    hosts.plan.pki.algorithm = crate::plan::KeyAlgorithm::EcdsaP384;
    assert_eq!(made(&hosts, day(1)), [""; 0]);
}

#[test]
fn the_kubelet_may_have_renewed_its_certificate() {
    let mut hosts = hosts();
    let worker = name("worker-1");
    let both = hosts.bytes("worker-1", "/var/lib/kubelet/pki/kubelet-client-slipway.pem");
    let dated = RemotePath::fixed("/var/lib/kubelet/pki/kubelet-client-2026-06-01-00-00-00.pem");
    hosts.put(&worker, &dated, &both);
    let current = RemotePath::fixed("/var/lib/kubelet/pki/kubelet-client-current.pem");
    for target in [dated.as_str(), dated.file_name()] {
        hosts.state(&worker).files.get_mut(&current).unwrap().kind = FoundKind::Link(target.to_owned());
        assert_eq!(made(&hosts, day(1)), [""; 0]);
    }
    hosts.state(&worker).files.get_mut(&current).unwrap().kind = FoundKind::Link("/nowhere".into());
    assert_eq!(made(&hosts, day(1)), ["worker-1 kubelet-client: missing"]);
}

#[test]
fn usages_and_links_of_the_table_are_compared() {
    let hosts = hosts();
    let mut leaf = specification::leaves(&hosts.plan, hosts.plan.kubernetes.version).swap_remove(0);
    let survey = crate::trust::authorities::survey(&hosts.plan, &hosts.facts, Stage::Living).unwrap();
    leaf.usages.insert(Usage::Client);
    let state = &hosts.facts[&leaf.host].state;
    let decision = decide(&leaf, state, survey.certificate(leaf.authority), Span::seconds(0), epoch());
    assert_eq!(decision, Decision::Issue(Reason::UsageDiffers { missing: vec![Usage::Client] }));
}

#[test]
fn what_is_asked_for_is_made_anew_and_nothing_else() {
    let hosts = hosts();
    let leaves = specification::leaves(&hosts.plan, hosts.plan.kubernetes.version);
    let wanted = |leaf: &&Leaf| leaf.host == name("cp-2") && ["etcd/peer", "scheduler.conf", "kubelet-client"].contains(&leaf.name);
    let requested = Requested::of(leaves.iter().filter(wanted));
    let material = hosts.run_for(Stage::Living, &requested, day(1)).unwrap();
    let made: Vec<String> = material.events.iter().map(|issued| format!("{}: {}", issued.name, issued.reason)).collect();
    assert_eq!(made, ["etcd/peer: asked for", "scheduler.conf: asked for", "kubelet-client: asked for"]);
    assert!(material.events.iter().all(|issued| issued.new_key && issued.host == Some(name("cp-2"))));
    // What is wrong stays the reason of what is wrong.
    let late = hosts.run_for(Stage::Living, &requested, day(400)).unwrap();
    assert!(late.events.iter().all(|issued| matches!(issued.reason, Reason::Expired { .. })));
}

#[test]
fn what_has_expired_on_the_clusters_hosts_is_in_place_before_anything_restarts() {
    use crate::phase::Phase;
    let hosts = hosts();
    let phases = |now: Timestamp, host: &str| {
        let material = hosts.run(Stage::Living, now).unwrap();
        let of_host = &material.hosts[&name(host)];
        let drawn = of_host.files.iter().filter(|file| file.content.is_drawn()).map(|file| file.phase);
        drawn.chain(of_host.links.iter().map(|link| link.phase)).collect::<BTreeSet<Phase>>()
    };
    assert_eq!(phases(day(1), "cp-1"), BTreeSet::new());
    assert_eq!(phases(day(340), "cp-1"), [Phase::Certificates].into());
    assert_eq!(phases(day(400), "cp-1"), [Phase::Authority].into());
    assert_eq!(phases(day(400), "worker-1"), [Phase::Certificates].into());
}

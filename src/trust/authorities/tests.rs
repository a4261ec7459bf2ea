//! Each way the hosts can disagree about the CA, and what is made of it.

use super::*;
use crate::trust::testing::{Hosts, day, epoch, name, plan};

const CA: &str = "/etc/kubernetes/pki/ca.crt";
const CA_KEY: &str = "/etc/kubernetes/pki/ca.key";

fn hosts() -> Hosts {
    Hosts::bootstrapped(plan("external"))
}

/// All problems of a run, one per line.
fn problems(hosts: &Hosts, stage: Stage) -> String {
    let problems = hosts.requests(stage, day(1)).expect_err("this must be refused");
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn requested(hosts: &Hosts, stage: Stage) -> Vec<String> {
    let requests = hosts.requests(stage, day(1)).unwrap();
    requests.iter().map(|request| format!("{} from {}", request.path, match &request.from { crate::trust::authorities::KeySource::Host(host) => host.as_str(), crate::trust::authorities::KeySource::Store(_) => "the store" })).collect()
}

/// A CA that is not this cluster's.
fn foreign(path: &str) -> Vec<u8> {
    hosts().bytes("cp-1", path)
}

#[test]
fn empty_hosts_get_new_authorities() {
    let hosts = Hosts::new(plan("external"));
    let survey = survey(&hosts.plan, &hosts.facts, Stage::Fresh).unwrap();
    assert_eq!(survey, AuthoritySurvey::fresh(&hosts.plan));
    assert_eq!(survey.pairs.len(), 4);
}

#[test]
fn an_up_to_date_cluster_needs_no_key() {
    for stage in [Stage::Fresh, Stage::Living] {
        assert_eq!(requested(&hosts(), stage), [""; 0]);
    }
}

#[test]
fn a_keeper_that_has_nothing_gets_copies() {
    let mut hosts = hosts();
    hosts.remove("cp-1", CA);
    hosts.remove("cp-1", CA_KEY);
    assert_eq!(requested(&hosts, Stage::Living), ["/etc/kubernetes/pki/ca.key from cp-2"]);
    hosts.remove("cp-2", "/etc/kubernetes/pki/sa.pub");
    assert_eq!(
        requested(&hosts, Stage::Living),
        ["/etc/kubernetes/pki/ca.key from cp-2", "/etc/kubernetes/pki/sa.key from cp-1"]
    );
}

#[test]
fn certificate_and_key_may_be_on_different_hosts() {
    let mut hosts = hosts();
    hosts.remove("cp-1", CA_KEY);
    hosts.remove("cp-2", CA);
    assert_eq!(requested(&hosts, Stage::Living), ["/etc/kubernetes/pki/ca.key from cp-2"]);
}

#[test]
fn an_authority_without_key_is_enough_while_nothing_is_signed() {
    let mut hosts = hosts();
    hosts.remove("cp-1", CA_KEY);
    hosts.remove("cp-2", CA_KEY);
    let refused = problems(&hosts, Stage::Living);
    insta::assert_snapshot!(refused, @"no host has the key of the CA kubernetes (/etc/kubernetes/pki/ca.key), which is needed for: the copy on cp-1, the copy on cp-2");
}

#[test]
fn different_authorities_are_named_with_host_and_fingerprint() {
    let mut hosts = hosts();
    hosts.put(&name("cp-2"), &CA.parse().unwrap(), &foreign(CA));
    let text = problems(&hosts, Stage::Living);
    let ours = inspect::certificate(&hosts.bytes("cp-1", CA)).unwrap().fingerprint().short();
    let theirs = inspect::certificate(&hosts.bytes("cp-2", CA)).unwrap().fingerprint().short();
    assert!(text.contains(&format!("cp-1 has {ours}, cp-2 has {theirs}")), "{text}");
}

#[test]
fn a_damaged_authority_is_reported_with_host_and_file() {
    let mut hosts = hosts();
    hosts.put(&name("cp-2"), &CA.parse().unwrap(), b"");
    assert_eq!(
        problems(&hosts, Stage::Living),
        "host cp-2: /etc/kubernetes/pki/ca.crt cannot be used: it holds no PEM block `CERTIFICATE`\n"
    );
}

#[test]
fn a_living_cluster_gets_no_second_authority() {
    let mut hosts = Hosts::bootstrapped(plan("single"));
    hosts.remove("cp-1", CA);
    hosts.remove("cp-1", "/etc/kubernetes/pki/etcd/ca.crt");
    hosts.remove("cp-1", "/etc/kubernetes/pki/etcd/ca.key");
    insta::assert_snapshot!(problems(&hosts, Stage::Living), @r"
    refusing to make a second CA kubernetes: a cluster is there, but none of its keepers has /etc/kubernetes/pki/ca.crt; seen: /etc/kubernetes/pki/ca.key on cp-1
    refusing to make a second CA etcd-ca: a cluster is there, but none of its keepers has /etc/kubernetes/pki/etcd/ca.crt; seen: nothing on cp-1
    ");
}

#[test]
fn a_host_that_was_not_seen_stops_a_bootstrap_but_not_a_living_cluster() {
    let mut hosts = hosts();
    hosts.facts.remove(&name("cp-2"));
    let text = problems(&hosts, Stage::Fresh);
    assert!(text.starts_with("host cp-2 was not probed"), "{text}");
    assert_eq!(requested(&hosts, Stage::Living), [""; 0]);
    hosts.facts.remove(&name("worker-1"));
    assert_eq!(requested(&hosts, Stage::Living), [""; 0]);
}

#[test]
fn a_key_that_a_cut_off_run_left_is_replaced_unless_somebody_trusts_its_certificate() {
    let path = CA_KEY.parse().unwrap();
    let mut fresh = Hosts::new(plan("external"));
    fresh.put(&name("cp-1"), &path, &foreign(CA_KEY));
    let survey = survey(&fresh.plan, &fresh.facts, Stage::Fresh).unwrap();
    assert_eq!(survey, AuthoritySurvey::fresh(&fresh.plan));
    let material = fresh.run(Stage::Fresh, epoch()).unwrap();
    let keys: Vec<bool> =
        ["cp-1", "cp-2"].map(|host| material.hosts[&name(host)].files.iter().any(|file| file.path == path)).into();
    assert_eq!(keys, [true, true], "the leftover is overwritten");

    fresh.put(&name("worker-1"), &CA.parse().unwrap(), &foreign(CA));
    insta::assert_snapshot!(problems(&fresh, Stage::Fresh), @"host worker-1 has the certificate of the CA kubernetes (/etc/kubernetes/pki/ca.crt), but no keeper has it with its key: seen: /etc/kubernetes/pki/ca.key on cp-1; nothing on cp-2");
}

#[test]
fn a_host_of_another_cluster_is_refused() {
    let worker = name("worker-1");
    for bootstrapped in [false, true] {
        let mut with_ca = if bootstrapped { hosts() } else { Hosts::new(plan("external")) };
        with_ca.put(&worker, &CA.parse().unwrap(), &foreign(CA));
        let text = problems(&with_ca, Stage::Fresh);
        assert!(text.starts_with("host worker-1 belongs to another cluster: /etc/kubernetes/pki/ca.crt"), "{text}");

        let kubelet = "/etc/kubernetes/kubelet.conf";
        let mut with_kubeconfig = if bootstrapped { hosts() } else { Hosts::new(plan("external")) };
        with_kubeconfig.put(&worker, &kubelet.parse().unwrap(), &foreign(kubelet));
        let text = problems(&with_kubeconfig, Stage::Fresh);
        assert!(text.starts_with(&format!("host worker-1 belongs to another cluster: {kubelet}")), "{text}");
    }
}

#[test]
fn a_new_worker_of_a_living_cluster_may_not_come_from_another_one() {
    let mut hosts = hosts();
    hosts.put(&name("worker-1"), &CA.parse().unwrap(), &foreign(CA));
    assert!(problems(&hosts, Stage::Living).contains("belongs to another cluster"));
    hosts.put(&name("worker-1"), &CA.parse().unwrap(), b"damaged");
    assert_eq!(requested(&hosts, Stage::Living), [""; 0], "what cannot be read is written anew");
}

#[test]
fn only_the_authorities_that_sign_are_asked_for_their_keys() {
    let mut hosts = hosts();
    hosts.remove("cp-2", "/etc/kubernetes/pki/etcd/peer.key");
    assert_eq!(requested(&hosts, Stage::Living), ["/etc/kubernetes/pki/etcd/ca.key from cp-1"]);
}

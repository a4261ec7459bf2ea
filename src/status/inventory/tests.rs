//! A bootstrapped cluster in memory, looked at on different days and with different servers.

use super::*;
use crate::phase::Stage;
use crate::trust::testing::{Hosts, day, name, plan};

fn certificate(hosts: &Hosts, host: &str, path: &str) -> Certificate {
    inspect::certificate(&hosts.bytes(host, path)).unwrap()
}

fn entries(hosts: &Hosts, served: &Served, now: Timestamp) -> Vec<Entry> {
    of(Seen { plan: &hosts.plan, facts: &hosts.facts, served, now })
}

fn find<'a>(entries: &'a [Entry], host: &str, wanted: &str) -> &'a Entry {
    let found = entries.iter().find(|entry| entry.host == name(host) && entry.name == wanted);
    found.unwrap_or_else(|| panic!("no {wanted} on {host}"))
}

#[test]
fn everything_is_in_the_list_under_the_name_it_is_renewed_by() {
    let hosts = Hosts::bootstrapped(plan("external"));
    let entries = entries(&hosts, &Served::new(), day(1));
    for leaf in specification::leaves(&hosts.plan, hosts.plan.kubernetes.version) {
        let entry = find(&entries, leaf.host.as_str(), leaf.name);
        assert_eq!((entry.issuer.as_str(), entry.due.as_ref()), (leaf.authority.common_name(), None), "{}", leaf.name);
        assert!(!entry.externally_managed && !entry.authority && entry.seconds_left == Some(364 * 86_400));
    }
    let authorities: Vec<&str> =
        entries.iter().filter(|entry| entry.authority && entry.host == name("cp-1")).map(|entry| entry.name.as_str()).collect();
    assert_eq!(authorities, ["ca", "front-proxy-ca", "etcd/ca"]);
    assert_eq!(find(&entries, "worker-1", "ca").issuer, "itself");
}

#[test]
fn a_component_that_serves_another_certificate_has_not_loaded_it_yet() {
    let hosts = Hosts::bootstrapped(plan("external"));
    let mine = certificate(&hosts, "cp-1", "/etc/kubernetes/pki/apiserver.crt");
    let other = certificate(&hosts, "cp-2", "/etc/kubernetes/pki/apiserver.crt");
    let served: Served = [
        ((name("cp-1"), Port::ApiServer), Ok(mine)),
        ((name("cp-2"), Port::ApiServer), Ok(certificate(&hosts, "cp-1", "/etc/kubernetes/pki/apiserver.crt"))),
        ((name("cp-1"), Port::EtcdPeers), Err("no answer within 10 s".to_owned())),
        ((name("cp-1"), Port::Scheduler), Ok(other)),
    ]
    .into();
    let entries = entries(&hosts, &served, day(1));
    assert!(find(&entries, "cp-1", "apiserver").served.as_ref().unwrap().loaded);
    let stale = find(&entries, "cp-2", "apiserver").served.as_ref().unwrap();
    assert!(!stale.loaded && stale.serial.is_some() && stale.problem.is_none());
    assert_eq!(find(&entries, "cp-1", "etcd/server").served, None);
    let text = to_text(&entries);
    for said in ["not loaded yet: serves ", "not seen: no answer within 10 s", "from memory"] {
        assert!(text.contains(said), "{said} in\n{text}");
    }
}

#[test]
fn what_ends_soon_or_cannot_be_read_is_near_expiry_and_what_nobody_verifies_is_not() {
    let mut hosts = Hosts::bootstrapped(plan("single"));
    let near = |hosts: &Hosts, served: &Served, now| {
        let entries = entries(hosts, served, now);
        near_expiry(&entries, Span::seconds(30 * 86_400), now).map(|entry| entry.name.clone()).collect::<Vec<_>>()
    };
    let old = certificate(&hosts, "cp-1", "/etc/kubernetes/pki/apiserver.crt");
    assert_eq!(near(&hosts, &Served::new(), day(334)), [""; 0]);
    assert_eq!(near(&hosts, &Served::new(), day(336)).len(), 12, "every leaf, and no CA");
    // The kubelet renews its own; slipway's are renewed on the hosts.
    let material = hosts.run(Stage::Living, day(340)).unwrap();
    hosts.write(&material);
    assert_eq!(near(&hosts, &Served::new(), day(341)), ["kubelet-client"]);
    // The old one is still served, from a process that has not read the new one.
    let served: Served = [((name("cp-1"), Port::ApiServer), Ok(old.clone())), ((name("cp-1"), Port::Scheduler), Ok(old))].into();
    assert_eq!(near(&hosts, &served, day(341)), ["apiserver", "kubelet-client"]);
    hosts.remove("cp-1", "/etc/kubernetes/pki/apiserver.crt");
    assert_eq!(near(&hosts, &Served::new(), day(341)), ["apiserver", "kubelet-client"]);
}

#[test]
fn without_its_key_a_ca_is_managed_by_somebody_else() {
    let mut hosts = Hosts::bootstrapped(plan("single"));
    hosts.remove("cp-1", "/etc/kubernetes/pki/ca.key");
    let entries = entries(&hosts, &Served::new(), day(1));
    let external = |wanted| find(&entries, "cp-1", wanted).externally_managed;
    assert!(external("ca") && external("apiserver") && external("admin.conf"));
    assert!(!external("etcd/ca") && !external("etcd/server") && !external("front-proxy-client"));
}

#[test]
fn bundles_are_listed_one_by_one_and_strangers_by_their_path() {
    let mut hosts = Hosts::bootstrapped(plan("single"));
    let ca = RemotePath::fixed("/etc/kubernetes/pki/ca.crt");
    let both = [hosts.bytes("cp-1", ca.as_str()), hosts.bytes("cp-1", "/etc/kubernetes/pki/etcd/ca.crt")].concat();
    hosts.put(&name("cp-1"), &ca, &both);
    let stranger = hosts.bytes("cp-1", "/etc/kubernetes/pki/etcd/server.crt");
    hosts.put(&name("cp-1"), &RemotePath::fixed("/etc/kubernetes/pki/backup/etcd.crt"), &stranger);
    let entries = entries(&hosts, &Served::new(), day(1));
    assert_eq!(find(&entries, "cp-1", "ca#1").subject, "CN=kubernetes");
    assert_eq!(find(&entries, "cp-1", "ca#2").subject, "CN=etcd-ca");
    assert!(find(&entries, "cp-1", "backup/etcd").externally_managed);
}

//! Which routes and rules a node gets, and who gets none.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::names::HostName;
use crate::phase::Stage;

fn plan(network: &str) -> Plan {
    let text = format!(
        "version: 1\nkubernetes: {{version: v1.34.2}}\nendpoint: {{localProxy: {{}}}}\nnetwork: {{{network}}}\nhosts:\n\
         - {{name: a, address: 192.0.2.1, secondAddress: '2001:db8::1', roles: [control-plane]}}\n\
         - {{name: b, address: 192.0.2.2, secondAddress: '2001:db8::2', roles: [worker]}}\n\
         - {{name: e, address: 192.0.2.3, roles: [etcd]}}\n"
    );
    crate::yaml::read(&text).unwrap()
}

const DUAL: &str = "podCidrs: [10.244.0.0/16, 'fd00:1::/48'], serviceCidrs: [10.96.0.0/16, 'fd00:2::/112']";

fn standing(shares: &[(&str, &[&str])]) -> Standing {
    let share = |networks: &[&str]| networks.iter().map(|network| network.parse().unwrap()).collect();
    let pod_cidrs: BTreeMap<HostName, Vec<IpNet>> =
        shares.iter().map(|(host, networks)| (host.parse().unwrap(), share(networks))).collect();
    Standing { stage: Stage::Fresh, pod_cidrs, etcd: BTreeMap::new(), api_servers: Default::default(), joins: BTreeMap::new() }
}

fn files(plan: &Plan, host: &str, standing: &Standing) -> BTreeMap<String, String> {
    let system = System { commands: [("ip".to_owned(), "/sbin/ip".to_owned())].into(), ..System::default() };
    let artifacts = artifacts(plan, plan.host(&host.parse().unwrap()).unwrap(), &system, standing);
    let file = |artifact: &Artifact| match artifact {
        Artifact::File { path, content, .. } => Some((path.to_string(), content.review().to_owned())),
        _ => None,
    };
    artifacts.iter().filter_map(file).collect()
}

fn commands(files: &BTreeMap<String, String>) -> Vec<&str> {
    let unit = &files[&format!("/etc/systemd/system/{ROUTES_UNIT}")];
    unit.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect()
}

#[test]
fn a_node_has_a_route_to_every_other_node_in_each_family() {
    let shares = standing(&[("a", &["10.244.0.0/24", "fd00:1::/64"]), ("b", &["10.244.1.0/24", "fd00:1:0:1::/64"])]);
    let files = files(&plan(DUAL), "a", &shares);
    let commands = commands(&files);
    // A gateway may be out of reach for a while after a boot.
    let tried = |route: &str| format!("/bin/sh -c 'exec timeout 60 sh -c \"until /sbin/ip {route}; do sleep 1; done\"'");
    assert_eq!(
        commands[..2],
        [
            tried("-4 route replace 10.244.1.0/24 via 192.0.2.2"),
            tried("-6 route replace fd00:1:0:1::/64 via 2001:db8::2")
        ]
    );
    // What leaves the pod network gets the node's address, once per family, checked before added.
    assert_eq!(commands.len(), 4);
    assert!(commands[2].starts_with("/bin/sh -c '/usr/sbin/iptables -w -t nat -C POSTROUTING -s 10.244.0.0/24 ! -d 10.244.0.0/16 "));
    assert!(commands[3].contains("/usr/sbin/ip6tables -w -t nat -A POSTROUTING -s fd00:1::/64 ! -d fd00:1::/48 "));
    assert_eq!(files[POD_CIDRS_FILE], "10.244.0.0/24\nfd00:1::/64\n");
}

#[test]
fn the_plugins_are_told_this_nodes_own_share() {
    let shares = standing(&[("a", &["10.244.0.0/24"]), ("b", &["10.244.1.0/24"])]);
    let read = |network: &str| -> Value { serde_json::from_str(&files(&plan(network), "b", &shares)[CNI_FILE]).unwrap() };
    let list = read("cni: {bridge: {}}");
    assert_eq!(list.pointer("/plugins/0/ipam/ranges/0/0/subnet"), Some(&Value::from("10.244.1.0/24")));
    assert_eq!(list.pointer("/plugins/0/ipam/routes/0/dst"), Some(&Value::from("0.0.0.0/0")));
    assert_eq!(list.pointer("/plugins/0/mtu"), None);
    assert_eq!(read("cni: {bridge: {mtu: 1400}}").pointer("/plugins/0/mtu"), Some(&Value::from(1400)));
}

#[test]
fn a_new_node_restarts_the_routes_of_the_others_only() {
    let stamp = |shares: &Standing| {
        let plan = plan("cni: {bridge: {}}");
        artifacts(&plan, &plan.hosts[0], &System::default(), shares).into_iter().find_map(|artifact| match artifact {
            Artifact::Unit { stamp, .. } => Some(stamp),
            _ => None,
        })
    };
    let alone = standing(&[("a", &["10.244.0.0/24"])]);
    let both = standing(&[("a", &["10.244.0.0/24"]), ("b", &["10.244.1.0/24"])]);
    assert_eq!(stamp(&alone), stamp(&alone));
    assert_ne!(stamp(&alone), stamp(&both));
}

#[test]
fn hosts_without_a_node_and_other_networks_get_nothing() {
    let shares = standing(&[("a", &["10.244.0.0/24"]), ("e", &["10.244.9.0/24"])]);
    assert!(files(&plan(""), "e", &shares).is_empty());
    assert!(files(&plan("cni: none"), "a", &shares).is_empty());
    assert!(files(&plan("cni: {flannel: {}}"), "a", &shares).is_empty());
}

//! What is read off hosts in every state a run may leave them in, and what is refused.

use super::*;
use crate::artifact::Secret;
use crate::facts::{FoundFile, FoundKind};
use crate::names::{Digest, Mode};

fn plan(hosts: &[&str], more: &str) -> Plan {
    let mut text = format!("version: 1\nkubernetes: {{version: v1.34.2}}\nendpoint: {{localProxy: {{}}}}\n{more}\nhosts:\n");
    for (index, host) in hosts.iter().enumerate() {
        let (name, role) = host.split_once(':').unwrap_or((host, "worker"));
        text.push_str(&format!("  - {{name: {name}, address: 192.0.2.{}, roles: [{role}]}}\n", index + 1));
    }
    crate::yaml::read(&text).unwrap()
}

const THREE: &[&str] = &["a:control-plane", "b:control-plane", "c:control-plane"];

fn facts(files: &[(&str, &str)]) -> Facts {
    let mut facts = Facts::default();
    for (path, text) in files {
        let kind = FoundKind::File { digest: Some(Digest::of(text)), content: Some(Secret::new(*text)) };
        facts.state.files.insert(RemotePath::fixed(path), FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind });
    }
    facts
}

fn with_data(mut facts: Facts) -> Facts {
    facts.state.etcd_data = true;
    facts
}

fn all(hosts: &[(&str, Facts)]) -> BTreeMap<HostName, Facts> {
    hosts.iter().map(|(name, facts)| (name.parse().unwrap(), facts.clone())).collect()
}

const RECORD: (&str, &str) = ("/var/lib/slipway/records/etc%2Fkubernetes", "path=/etc/kubernetes\n");
const FORMED: (&str, &str) = (FORMED_FILE, "kubernetes\n");

fn etcd_manifest(members: &str, state: &str) -> String {
    format!("{{kind: Pod, spec: {{containers: [{{command: [etcd, '--initial-cluster={members}'{state}]}}]}}}}")
}

const MEMBERS: &str = "a=https://192.0.2.1:2380,b=https://192.0.2.2:2380,c=https://192.0.2.3:2380";

fn networks(standing: &Standing) -> BTreeMap<String, String> {
    let text = |networks: &Vec<IpNet>| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    standing.pod_cidrs.iter().map(|(host, networks)| (host.to_string(), text(networks))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(host, network)| ((*host).to_owned(), (*network).to_owned())).collect()
}

#[test]
fn empty_hosts_form_a_new_cluster_of_all_members() {
    let standing = survey(&plan(THREE, ""), &all(&[("a", facts(&[])), ("b", facts(&[])), ("c", facts(&[]))])).unwrap();
    assert_eq!(standing.stage, Stage::Fresh);
    let expected = InitialCluster { members: MEMBERS.into(), state: Some("new") };
    assert_eq!(standing.etcd.values().collect::<Vec<_>>(), [&expected; 3]);
}

#[test]
fn one_note_anywhere_makes_the_cluster_a_living_one() {
    let found = all(&[("a", facts(&[])), ("b", with_data(facts(&[FORMED])))]);
    let plan = plan(&["a:worker", "b:control-plane"], "");
    assert_eq!(survey(&plan, &found).unwrap().stage, Stage::Living);
    // A bootstrap that was cut off before the note is continued as a bootstrap.
    let cut_off = facts(&[RECORD, (ETCD_MANIFEST, &etcd_manifest("b=https://192.0.2.2:2380", ", --initial-cluster-state=new"))]);
    assert_eq!(survey(&plan, &all(&[("b", with_data(cut_off))])).unwrap().stage, Stage::Fresh);
}

#[test]
fn a_cluster_that_slipway_did_not_make_is_refused_with_its_traces() {
    for trace in [API_SERVER_MANIFEST, ETCD_MANIFEST, "/etc/kubernetes/admin.conf", "/etc/kubernetes/kubelet.conf", "/etc/kubernetes/pki/ca.crt"] {
        let refusals = survey(&plan(THREE, ""), &all(&[("b", facts(&[(trace, "x")]))])).unwrap_err();
        let expected = Refusal::Foreign { host: "b".parse().unwrap(), traces: trace.into() };
        assert_eq!(refusals, [expected], "{trace}");
        // The same file is no trace of somebody else where slipway has worked.
        assert!(survey(&plan(THREE, ""), &all(&[("b", facts(&[(trace, "x"), RECORD]))])).is_ok(), "{trace}");
    }
    let data_alone = survey(&plan(THREE, ""), &all(&[("b", with_data(facts(&[])))])).unwrap_err();
    assert!(data_alone[0].to_string().ends_with("did not make: etcd data"));
    // The bare directory is nobody's work.
    let mut bare = facts(&[("/etc/kubernetes/admin.conf", "x")]);
    let directory = FoundFile { mode: Mode(0o700), owner: 0, group: 0, kind: FoundKind::Directory };
    bare.state.files.insert(RemotePath::fixed("/var/lib/slipway"), directory);
    assert!(survey(&plan(THREE, ""), &all(&[("b", bare)])).is_err());
}

#[test]
fn every_foreign_host_is_named() {
    let stranger = || facts(&[("/etc/kubernetes/kubelet.conf", "x")]);
    let refusals = survey(&plan(THREE, ""), &all(&[("a", stranger()), ("c", stranger())])).unwrap_err();
    assert_eq!(refusals.len(), 2);
}

#[test]
fn a_cut_off_bootstrap_goes_on_only_with_the_same_members() {
    let found = |data: bool| {
        let facts = facts(&[RECORD, (ETCD_MANIFEST, &etcd_manifest("a=https://192.0.2.1:2380", ", --initial-cluster-state=new"))]);
        all(&[("a", if data { with_data(facts) } else { facts })])
    };
    let refusals = survey(&plan(THREE, ""), &found(true)).unwrap_err();
    assert!(matches!(&refusals[..], [Refusal::OtherMembers { wanted, .. }] if wanted == MEMBERS), "{refusals:?}");
    // A member that never started may still be told something else.
    let standing = survey(&plan(THREE, ""), &found(false)).unwrap();
    assert_eq!(standing.etcd[&"a".parse::<HostName>().unwrap()].members, MEMBERS);
}

#[test]
fn members_of_a_living_cluster_keep_how_they_were_started() {
    for (state, expected) in
        [(", --initial-cluster-state=existing", Some("existing")), (", --initial-cluster-state=new", Some("new")), ("", None)]
    {
        let manifest = etcd_manifest("a=https://192.0.2.1:2380", state);
        let found = all(&[("a", with_data(facts(&[FORMED, (ETCD_MANIFEST, &manifest)])))]);
        let standing = survey(&plan(&["a:control-plane"], ""), &found).unwrap();
        let kept = InitialCluster { members: "a=https://192.0.2.1:2380".into(), state: expected };
        assert_eq!(standing.etcd.into_values().collect::<Vec<_>>(), [kept]);
    }
}

#[test]
fn nodes_keep_their_pod_networks_when_hosts_come_and_go() {
    let first = survey_nothing(&plan(&["a:control-plane", "b", "c"], "")).unwrap();
    assert_eq!(networks(&first), pairs(&[("a", "10.244.0.0/24"), ("b", "10.244.1.0/24"), ("c", "10.244.2.0/24")]));

    let noted = |host: &str, network: &str| (host.to_owned(), facts(&[RECORD, (POD_CIDRS_FILE, &format!("{network}\n"))]));
    let found: BTreeMap<HostName, Facts> = [noted("a", "10.244.0.0/24"), noted("c", "10.244.2.0/24")]
        .into_iter()
        .map(|(host, facts)| (host.parse().unwrap(), facts))
        .collect();
    // b went, d and e came, and the file is in another order.
    let second = survey(&plan(&["e", "d", "c", "a:control-plane"], ""), &found).unwrap();
    let expected = pairs(&[("a", "10.244.0.0/24"), ("c", "10.244.2.0/24"), ("e", "10.244.1.0/24"), ("d", "10.244.3.0/24")]);
    assert_eq!(networks(&second), expected);
}

#[test]
fn the_plan_has_the_last_word_about_a_pod_network() {
    let mut plan = plan(&["a:control-plane", "b"], "");
    plan.hosts[1].pod_cidrs = vec!["10.244.7.0/24".parse().unwrap()];
    let found = all(&[("b", facts(&[RECORD, (POD_CIDRS_FILE, "10.244.1.0/24\n")]))]);
    assert_eq!(networks(&survey(&plan, &found).unwrap()), pairs(&[("a", "10.244.0.0/24"), ("b", "10.244.7.0/24")]));
}

#[test]
fn pod_networks_never_overlap() {
    let noted = |network| facts(&[RECORD, (POD_CIDRS_FILE, network)]);
    let twice = all(&[("a", noted("10.244.4.0/24\n")), ("b", noted("10.244.4.0/24\n"))]);
    let refusals = survey(&plan(&["a:control-plane", "b"], ""), &twice).unwrap_err();
    assert!(matches!(refusals[..], [Refusal::PodNetworkTwice { .. }]), "{refusals:?}");
    // The plan's mask became longer since the note was made.
    let longer = plan(&["a:control-plane", "b"], "network: {nodeMaskV4: 25}");
    let standing = survey(&longer, &all(&[("a", noted("10.244.0.0/24\n"))])).unwrap();
    assert_eq!(networks(&standing), pairs(&[("a", "10.244.0.0/24"), ("b", "10.244.1.0/25")]));
}

#[test]
fn a_full_pod_network_is_refused_with_the_host_that_has_no_room() {
    let plan = plan(&["a:control-plane", "b", "c"], "network: {podCidrs: [10.244.0.0/23]}");
    let refusals = survey_nothing(&plan).unwrap_err();
    assert!(matches!(&refusals[..], [Refusal::PodNetworkFull { host, prefix: 24, .. }] if host.as_str() == "c"), "{refusals:?}");
    assert!(refusals.iter().all(|refusal| !refusal.hint().is_empty()));
}

#[test]
fn both_families_are_given_out_and_hosts_without_a_node_get_none() {
    let more = "network: {podCidrs: [10.244.0.0/16, 'fd00:1::/48'], serviceCidrs: [10.96.0.0/16, 'fd00:2::/112']}";
    let standing = survey_nothing(&plan(&["a:control-plane", "b:etcd"], more)).unwrap();
    assert_eq!(networks(&standing), pairs(&[("a", "10.244.0.0/24 fd00:1::/64")]));
    let other_network = survey_nothing(&plan(&["a:control-plane"], "network: {cni: none}")).unwrap();
    assert_eq!(networks(&other_network), pairs(&[]));
}

//! What is taken back, in which order, and what is refused.

use super::*;
use crate::artifact::Secret;
use crate::facts::{FoundFile, FoundKind, System};
use crate::graph::tests::plan;
use crate::names::{Digest, Mode};

fn found(text: &str) -> FoundFile {
    let kind = FoundKind::File { digest: Some(Digest::of(text)), content: Some(Secret::new(text)) };
    FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind }
}

fn state(files: &[(&str, &str)]) -> State {
    let files = files.iter().map(|(path, text)| (RemotePath::fixed(path), found(text)));
    State { files: files.collect(), ..State::default() }
}

fn facts(state: State) -> Facts {
    Facts { system: System::default(), state }
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// Facts by a word: `-` not reached, `empty`, `member` (a control plane with its etcd member),
/// `worker`, `foreign`.
fn hosts(words: &[(&str, &str)]) -> BTreeMap<HostName, Facts> {
    let record = ("/var/lib/slipway/records/unit:kubelet.service", "unit=kubelet.service\nkind=unit\nbefore=absent inactive\n");
    let of = |word: &str| match word {
        "empty" => Some(State::default()),
        "worker" => Some(state(&[record])),
        "member" => Some(State {
            etcd_data: true,
            ..state(&[record, (API_SERVER_MANIFEST, "pod"), (FORMED_FILE, "cluster")])
        }),
        "foreign" => Some(state(&[("/etc/kubernetes/admin.conf", "x")])),
        _ => None,
    };
    words.iter().filter_map(|(name, word)| Some((host(name), facts(of(word)?)))).collect()
}

/// What is taken back on a control plane with that state.
fn of_one(state: &State, origin: &Origin) -> Vec<Change> {
    let plan = plan(1, 0, 0);
    host_changes(&plan, &plan.hosts[0], state, origin)
}

/// The steps with what they wait for, or the refusals.
fn plan_of(words: &[(&str, &str)], chosen: &[&str], flags: &str) -> Vec<String> {
    let control_planes = words.iter().filter(|(name, _)| name.starts_with("cp")).count();
    let plan = plan(control_planes, 0, words.len() - control_planes);
    let facts = hosts(words);
    let chosen: BTreeSet<HostName> = if chosen.is_empty() {
        plan.hosts.iter().map(|host| host.name.clone()).collect()
    } else {
        chosen.iter().map(|name| host(name)).collect()
    };
    let request = Request {
        plan: &plan,
        facts: &facts,
        chosen: &chosen,
        foreign: flags.contains("foreign"),
        force: flags.contains("force"),
        gone: flags.contains("gone"),
        drained: &BTreeSet::new(),
        consent: Consent::default(),
    };
    let graph = match graph(request) {
        Ok(graph) => graph,
        Err(refusals) => return refusals.iter().map(ToString::to_string).collect(),
    };
    let shape = graph.shape();
    let ids: Vec<String> = graph.steps().map(|step| step.id.to_string()).collect();
    ids.iter()
        .enumerate()
        .map(|(index, id)| {
            let before: Vec<&str> = shape.parents[index].iter().map(|&parent| ids[parent].as_str()).collect();
            if before.is_empty() { id.clone() } else { format!("{id} after {}", before.join(", ")) }
        })
        .collect()
}

const CLUSTER: &[(&str, &str)] = &[("cp-1", "member"), ("cp-2", "member"), ("cp-3", "member"), ("w-1", "worker")];

#[test]
fn everything_is_taken_back_in_an_order_that_can_be_cut_off() {
    let state = state(&[
        ("/var/lib/slipway/records/etc%2Fkubernetes", "path=/etc/kubernetes\nkind=directory\nbefore=absent\n"),
        ("/var/lib/slipway/records/etc%2Fkubernetes%2Fpki", "path=/etc/kubernetes/pki\nkind=directory\nbefore=directory 700 0:0\n"),
        ("/var/lib/slipway/records/a", "path=/etc/kubernetes/pki/ca.crt\nkind=file\nbefore=absent\nwritten=1\n"),
        ("/var/lib/slipway/records/b", "path=/etc/containerd/config.toml\nkind=file\nbefore=original\nwritten=1\n"),
        ("/var/lib/slipway/records/c", "path=/etc/systemd/system/slipway-routes.service\nkind=file\nbefore=absent\n"),
        ("/var/lib/slipway/records/unit:c", "unit=containerd.service\nkind=unit\nbefore=enabled active\n"),
        ("/var/lib/slipway/records/unit:k", "unit=kubelet.service\nkind=unit\nbefore=absent inactive\n"),
        ("/var/lib/slipway/records/unit:s", "unit=slipway-routes.service\nkind=unit\nbefore=disabled inactive\n"),
        ("/var/lib/slipway/records/sysctl:x", "sysctl=net.ipv4.ip_forward\nkind=sysctl\nbefore=0\n"),
        ("/var/lib/slipway/records/module:x", "module=overlay\nkind=module\nbefore=absent\n"),
        ("/var/lib/slipway/records/image:x", "image=registry.example/pause:3\nkind=image\nbefore=absent\n"),
        ("/var/lib/slipway/records/swap", "kind=swap\nbefore=active\ndevice=/dev/sda2\n"),
        ("/var/lib/slipway/records/torn", "kind="),
        (
            "/etc/systemd/system/slipway-routes.service",
            "[Service]\nExecStart=/usr/sbin/ip -4 route replace 10.244.1.0/24 via 192.0.2.12\nExecStart=/bin/sh -c 'iptables'\n",
        ),
    ]);
    let changes = of_one(&state, &Origin::Slipway);
    let lines: Vec<String> = changes.iter().map(|change| format!("{}: {}", change.artifact.id(), change.reason)).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    running kubelet.service: no longer wanted
    pods and their containers: no longer wanted
    mounts of pods: no longer wanted
    images (1 brought by slipway): no longer wanted
    running slipway-routes.service: no longer wanted
    route to 10.244.1.0/24 via 192.0.2.12: no longer wanted
    interfaces, packet filter rules and control groups of pods: no longer wanted
    data of Kubernetes below /etc/kubernetes, /var/lib/kubelet and /var/log/pods, and of etcd below /var/lib/etcd: no longer wanted
    /etc/systemd/system/slipway-routes.service: no longer wanted
    /etc/kubernetes/pki/ca.crt: no longer wanted
    /etc/containerd/config.toml: as before slipway
    /etc/kubernetes/pki: as before slipway
    /etc/kubernetes: no longer wanted
    unit containerd.service: as before slipway
    unit kubelet.service: no longer wanted
    unit slipway-routes.service: no longer wanted
    sysctl net.ipv4.ip_forward: as before slipway
    module overlay: no longer wanted
    swap: as before slipway
    kernel parameters and directories of Kubernetes: as before slipway
    /var/lib/slipway: no longer wanted
    ");
}

#[test]
fn an_etcd_that_is_not_the_clusters_keeps_its_data() {
    let mut plan = plan(1, 0, 1);
    let etcd = |plan: &Plan, index: usize, state: &State| {
        host_changes(plan, &plan.hosts[index], state, &Origin::Slipway).into_iter().find_map(|change| match change.artifact {
            Artifact::Undone(Undone::Kubernetes { etcd, .. }) => Some(etcd),
            _ => None,
        })
    };
    assert!(etcd(&plan, 0, &State::default()).unwrap().is_some());
    assert_eq!(etcd(&plan, 1, &State::default()).unwrap(), None);
    plan.etcd.external = Some(
        serde_json::from_value(serde_json::json!({
            "endpoints": ["https://192.0.2.1:2379"], "caFile": "ca", "certificateFile": "crt", "keyFile": "key"
        }))
        .unwrap(),
    );
    assert_eq!(etcd(&plan, 0, &State::default()).unwrap(), None);
    // Unless slipway made the directory, when the plan was another one.
    let state = state(&[("/var/lib/slipway/records/e", "path=/var/lib/etcd\nkind=directory\nbefore=absent\n")]);
    assert!(etcd(&plan, 0, &state).unwrap().is_some());
}

#[test]
fn names_of_changes_are_distinct_within_a_step() {
    let changes = of_one(&hosts(CLUSTER)[&host("cp-1")].state, &Origin::Slipway);
    let names: BTreeSet<String> = changes.iter().map(|change| change.artifact.id()).collect();
    assert_eq!(names.len(), changes.len());
}

#[test]
fn only_well_formed_routes_are_deleted() {
    let line = |rest: &str| route(&format!("ExecStart=/usr/sbin/ip {rest}")).is_some();
    assert!(line("-4 route replace 10.244.1.0/24 via 192.0.2.12"));
    assert!(line("-6 route replace fd00:1::/64 via 2001:db8::2"));
    for other in [
        "-4 route replace default via 192.0.2.1",
        "-4 route replace 10.244.1.0/24 via $(reboot)",
        "-4 route replace 10.244.1.0/24 via 192.0.2.1 dev eth0",
        "route replace 10.244.1.0/24 via 192.0.2.1",
        "-4 route add 10.244.1.0/24 via 192.0.2.1",
    ] {
        assert!(!line(other), "{other}");
    }
    assert!(route("-4 route replace 10.244.1.0/24 via 192.0.2.1").is_none());
}

#[test]
fn the_unit_as_it_is_written_tells_its_routes() {
    use crate::template::{Masquerade, Route, Routes, Template as _};
    let text = str::to_owned;
    let unit = Routes {
        ip: text("/usr/sbin/ip"),
        routes: vec![
            Route { family: "-4", network: text("10.244.1.0/24"), gateway: text("192.0.2.12") },
            Route { family: "-6", network: text("fd00:1::/64"), gateway: text("2001:db8::2") },
        ],
        masquerades: vec![Masquerade {
            iptables: text("/usr/sbin/iptables"),
            source: text("10.244.0.0/24"),
            network: text("10.244.0.0/16"),
        }],
    };
    let undone = |family: &str, network: &str, gateway: &str| Undone::Route { family: text(family), network: text(network), gateway: text(gateway) };
    let found: Vec<Undone> = unit.render().lines().filter_map(route).collect();
    assert_eq!(found, [undone("-4", "10.244.1.0/24", "192.0.2.12"), undone("-6", "fd00:1::/64", "2001:db8::2")]);
}

#[test]
fn a_whole_cluster_is_reset_at_once_and_nobody_is_told() {
    assert_eq!(plan_of(CLUSTER, &[], ""), ["reset@cp-1", "reset@cp-2", "reset@cp-3", "reset@w-1"]);
    // Hosts that do not answer keep nobody from it, and hosts without a trace have nothing to undo.
    let half = [("cp-1", "member"), ("cp-2", "-"), ("cp-3", "-"), ("w-1", "empty")];
    assert_eq!(plan_of(&half, &[], ""), ["reset@cp-1"]);
    assert_eq!(plan_of(&[("cp-1", "empty"), ("w-1", "empty")], &[], ""), [""; 0]);
}

#[test]
fn a_host_leaves_a_cluster_that_lives_on_before_it_is_touched() {
    assert_eq!(plan_of(CLUSTER, &["w-1"], ""), ["leave@w-1", "reset@w-1 after leave@w-1"]);
    assert_eq!(
        plan_of(CLUSTER, &["cp-1", "cp-2"], ""),
        ["leave@cp-1", "leave@cp-2 after leave@cp-1", "reset@cp-1 after leave@cp-1", "reset@cp-2 after leave@cp-2"]
    );
    assert_eq!(plan_of(CLUSTER, &["cp-1"], "force"), ["reset@cp-1"]);
    // A worker whose cluster cannot be seen might still be its Node.
    let dark = [("cp-1", "-"), ("w-1", "worker")];
    assert_eq!(plan_of(&dark, &["w-1"], ""), ["leave@w-1", "reset@w-1 after leave@w-1"]);
    assert_eq!(plan_of(&[("cp-1", "empty"), ("w-1", "worker")], &["w-1"], ""), ["reset@w-1"]);
}

#[test]
fn a_host_that_is_gone_leaves_untouched() {
    let lost = [("cp-1", "member"), ("cp-2", "member"), ("cp-3", "-"), ("w-1", "-")];
    assert_eq!(plan_of(&lost, &["cp-3", "w-1"], "gone"), ["leave@cp-3", "leave@w-1"]);
    assert_eq!(plan_of(&lost, &["cp-3", "w-1"], ""), [""; 0]);
    // One that came back empty is as good as gone; members leave one after another.
    let empty = [("cp-1", "member"), ("cp-2", "member"), ("cp-3", "member"), ("cp-4", "empty"), ("cp-5", "-")];
    let expected = ["leave@cp-4", "leave@cp-5 after leave@cp-4"];
    assert_eq!(plan_of(&empty, &["cp-4", "cp-5"], "gone"), expected);
    // What is left must be enough all the same.
    let dark = [("cp-1", "member"), ("cp-2", "-"), ("cp-3", "-")];
    let refused = "without cp-3 etcd would lose its quorum: 1 of the 2 members that are left can be reached, 2 are needed";
    assert_eq!(plan_of(&dark, &["cp-3"], "gone"), [refused]);
}

#[test]
fn a_member_and_a_node_are_told_by_what_does_not_change() {
    let plan = plan(1, 1, 1);
    let (facts, nobody) = (BTreeMap::new(), BTreeSet::new());
    let drained = [host("w-1")].into();
    let request = Request {
        plan: &plan,
        facts: &facts,
        chosen: &nobody,
        foreign: false,
        force: false,
        gone: false,
        drained: &drained,
        consent: Consent::default(),
    };
    let texts = |name: &str| -> Vec<String> {
        departures(request, plan.host(&host(name)).unwrap()).iter().map(|change| change.artifact.id()).collect()
    };
    assert_eq!(texts("cp-1"), ["Node/cp-1"]);
    assert_eq!(texts("etcd-1"), ["etcd member etcd-1 (https://10.0.0.1:2380)"]);
    assert_eq!(texts("w-1"), ["pods on Node/w-1", "Node/w-1"]);
}

#[test]
fn what_is_left_keeps_its_quorum_and_a_control_plane() {
    let cluster = |words: [&'static str; 3]| [("cp-1", words[0]), ("cp-2", words[1]), ("cp-3", words[2])];
    assert_eq!(
        plan_of(&cluster(["member", "member", "-"]), &["cp-1"], ""),
        ["without cp-1 etcd would lose its quorum: 1 of the 2 members that are left can be reached, 2 are needed"]
    );
    assert_eq!(
        plan_of(&cluster(["member", "-", "-"]), &["cp-1"], "force"),
        [
            "without cp-1 etcd would lose its quorum: 0 of the 2 members that are left can be reached, 2 are needed",
            "without cp-1 the cluster would have no control plane that can be reached"
        ]
    );
    // A host of the plan that is no member yet does not count.
    assert_eq!(plan_of(&cluster(["member", "member", "empty"]), &["cp-1"], "").len(), 2);
}

#[test]
fn what_slipway_did_not_make_is_only_wiped_when_asked_for_by_name() {
    let words = [("cp-1", "foreign"), ("cp-2", "empty")];
    assert_eq!(
        plan_of(&words, &[], ""),
        ["host cp-1 carries a cluster that slipway did not make: /etc/kubernetes/admin.conf"]
    );
    assert_eq!(plan_of(&words, &[], "foreign"), ["reset@cp-1"]);
    let changes = of_one(&State::default(), &Origin::Foreign("x".into()));
    let wiped = |change: &Change| matches!(change.artifact, Artifact::Undone(Undone::Kubernetes { foreign: true, .. }));
    assert!(changes.iter().any(wiped));
}

#[test]
fn those_who_stay_are_asked_and_only_if_they_answered() {
    let plan = plan(3, 0, 0);
    let facts = hosts(&[("cp-1", "member"), ("cp-2", "member")]);
    let chosen = [host("cp-1")].into();
    let drained = BTreeSet::new();
    let request = Request { plan: &plan, facts: &facts, chosen: &chosen, foreign: false, force: false, gone: false, drained: &drained, consent: Consent::default() };
    let names: Vec<String> = request.survivors().hosts.iter().map(|host| host.name.to_string()).collect();
    assert_eq!(names, ["cp-2"]);
}

#[test]
fn nobody_can_ask_apply_for_a_phase_of_reset() {
    use clap::ValueEnum as _;
    assert!(!Phase::value_variants().contains(&Phase::Reset));
    assert!(!Phase::value_variants().contains(&Phase::Leave));
}

//! The whole walk over hosts in memory: what each file holds in each state, that neighbouring
//! states trust each other (asked of `openssl`), and that a run that is cut off after any file is
//! finished by the next.

use std::collections::BTreeMap;

use super::*;
use crate::artifact::Secret;
use crate::names::Mode;
use crate::phase::{Phase, Stage};
use crate::trust::kubeconfig;
use crate::trust::refresh::{HostMaterial, Material, TrustFile};
use crate::trust::testing::{Hosts, day, name, openssl, plan};

const LIVING: Stage = Stage::Living;

fn pairs(hosts: &Hosts) -> Vec<ClusterPair> {
    ClusterPair::of(&hosts.plan).collect()
}

fn positions(hosts: &Hosts) -> BTreeMap<ClusterPair, Option<Position>> {
    let read = |pair| (pair, position(&hosts.plan, &hosts.facts, pair).unwrap());
    pairs(hosts).into_iter().map(read).collect()
}

/// All changes of a material in the order in which an apply makes them: keepers' own files on every
/// host first, then the others host by host, then what is retired.
fn writes(hosts: &Hosts, material: &Material) -> Vec<(HostName, Option<TrustFile>, Option<RemotePath>)> {
    let mut writes = Vec::new();
    for phase in [Phase::Authority, Phase::Certificates] {
        for (host, HostMaterial { files, .. }) in &material.hosts {
            let files = files.iter().filter(|file| file.phase == phase);
            writes.extend(files.map(|file| (host.clone(), Some(file.clone()), None)));
        }
    }
    for host in hosts.plan.hosts.iter().filter(|host| crate::phase::On::Keepers.includes(&hosts.plan, host)) {
        writes.extend(material.wishes.retired.iter().map(|path| (host.name.clone(), None, Some(path.clone()))));
    }
    writes
}

/// Makes the first `count` changes, and the links if that is all of them.
fn carry_out(hosts: &mut Hosts, material: &Material, count: usize) {
    let all = writes(hosts, material);
    for (host, file, retired) in all.iter().take(count) {
        if let Some(file) = file {
            hosts.put(host, &file.path, file.content.bytes());
        }
        if let Some(path) = retired {
            hosts.state(host).files.remove(path);
        }
    }
    if count >= all.len() {
        let links = material.hosts.iter().map(|(host, material)| {
            (host.clone(), HostMaterial { files: Vec::new(), links: material.links.clone() })
        });
        let only_links = Material { hosts: links.collect(), ..material.clone() };
        hosts.write(&only_links);
    }
}

fn go(hosts: &mut Hosts, aims: &Aims) {
    let material = hosts.run_towards(LIVING, aims, day(1)).unwrap();
    carry_out(hosts, &material, usize::MAX);
    let again = hosts.run_towards(LIVING, &Aims::new(), day(1)).unwrap();
    let drawn = |material: &Material| material.events.len();
    assert_eq!(drawn(&again), 0, "the state holds by itself: {:?}", again.events);
}

/// A cluster in that state of the walk of every pair.
fn hosts_at(kind: &str, step: Step) -> Hosts {
    let mut hosts = Hosts::bootstrapped(plan(kind));
    loop {
        let positions = positions(&hosts);
        if positions.values().all(|position| position.as_ref().is_some_and(|position| position.slowest() == step)) {
            return hosts;
        }
        let aims = forward(&positions);
        go(&mut hosts, &aims);
    }
}

fn public(hosts: &Hosts, host: &str, pair: ClusterPair) -> Vec<Digest> {
    let text = String::from_utf8(hosts.bytes(host, pair.public_path().as_str())).unwrap();
    items(pair, &text).unwrap().into_iter().map(|item| item.identity).collect()
}

fn key_of(hosts: &Hosts, host: &str, path: &RemotePath) -> Vec<u8> {
    inspect::public_half(&Secret::new(hosts.bytes(host, path.as_str()))).unwrap()
}

/// The public half of the first certificate or key of a file.
fn signer_of(hosts: &Hosts, host: &str, pair: ClusterPair) -> Vec<u8> {
    let bytes = hosts.bytes(host, pair.public_path().as_str());
    match pair.authority() {
        Some(_) => inspect::certificate(&bytes).unwrap().public_key,
        None => inspect::public_key(&bytes).unwrap(),
    }
}

const KINDS: [&str; 4] = ["single", "external", "dedicated-etcd", "external-etcd"];

#[test]
fn each_state_has_its_files_on_every_host() {
    for kind in KINDS {
        for step in Step::ALL {
            let hosts = hosts_at(kind, step);
            for pair in pairs(&hosts) {
                let next = pair.next().unwrap();
                for host in hosts.plan.hosts.iter().filter(|host| pair.is_on(&hosts.plan, host)) {
                    let at = host.name.as_str();
                    let keeper = pair.keepers(&hosts.plan).next().unwrap().name.as_str();
                    let new = public(&hosts, keeper, next)[0];
                    let found = public(&hosts, at, pair);
                    let expected = match step {
                        Step::TrustOld => vec![found[0]],
                        Step::TrustBoth => vec![found[0], new],
                        Step::SignNew => vec![new, found[found.len() - 1]],
                        Step::TrustNew => vec![new],
                    };
                    assert_eq!(found, expected, "{kind} {step} {pair} on {at}");
                    assert_eq!(found.len(), expected.iter().collect::<BTreeSet<_>>().len(), "{kind} {step}: one twice");
                    if pair.is_kept_by(&hosts.plan, host) {
                        let next_key = key_of(&hosts, at, &next.key_path());
                        assert_eq!(next_key, signer_of(&hosts, at, next), "the new key is beside the new certificate");
                        let key = key_of(&hosts, at, &pair.key_path());
                        assert_eq!(key == next_key, step == Step::TrustNew, "the old key stays until state 3");
                    }
                }
            }
        }
    }
}

#[test]
fn the_components_sign_with_one_certificate_and_its_key() {
    for step in Step::ALL {
        let hosts = hosts_at("external", step);
        let signing = hosts.run(LIVING, day(1)).unwrap().wishes.signing;
        for host in ["cp-1", "cp-2"] {
            let text = String::from_utf8(hosts.bytes(host, signing.certificate.as_str())).unwrap();
            let certificates = inspect::certificates(text.as_bytes()).unwrap();
            // The controller manager takes a file with exactly one.
            assert_eq!(certificates.len(), 1, "{step}");
            assert_eq!(certificates[0].public_key, key_of(&hosts, host, &signing.key), "{step}");
            let accepted = inspect::public_keys(&hosts.bytes(host, "/etc/kubernetes/pki/sa.pub")).unwrap();
            assert_eq!(accepted[0], key_of(&hosts, host, &signing.service_account_key), "{step}");
            assert_eq!(accepted.len(), if matches!(step, Step::TrustOld | Step::TrustNew) { 1 } else { 2 });
        }
    }
}

/// Leaves by host and name: their certificates, and the CA files their readers have.
fn leaves(hosts: &Hosts) -> Vec<(String, Authority, String, bool)> {
    let version = hosts.plan.kubernetes.version;
    let mut found = Vec::new();
    for leaf in crate::trust::specification::leaves(&hosts.plan, version) {
        use crate::trust::specification::Storage;
        let host = leaf.host.as_str();
        let text = |path: &RemotePath| String::from_utf8(hosts.bytes(host, path.as_str())).unwrap();
        let certificate = match &leaf.storage {
            Storage::FilePair { certificate, .. } => text(certificate),
            Storage::Kubeconfig(place) => match kubeconfig::read(&text(&place.path)).unwrap().credentials {
                kubeconfig::Credentials::Embedded { certificate, .. } => String::from_utf8(certificate).unwrap(),
                other => panic!("{other:?}"),
            },
            Storage::KubeletClient { current, .. } => {
                text(&crate::trust::decide::target(&hosts.facts[&leaf.host].state, current))
            }
        };
        let server = leaf.usages.contains(&crate::trust::specification::Usage::Server);
        found.push((format!("{} on {host}", leaf.name), leaf.authority, certificate, server));
    }
    found
}

/// What hosts trust: `ca.crt` files and what kubeconfigs embed.
fn trusted(hosts: &Hosts) -> Vec<(String, Authority, String)> {
    let mut found = Vec::new();
    for host in &hosts.plan.hosts {
        let at = host.name.as_str();
        let text = |path: &RemotePath| hosts.facts[&host.name].state.text(path).map(str::to_owned);
        for authority in Authority::ALL {
            let path = ClusterPair::Authority(authority).public_path();
            found.extend(text(&path).map(|text| (format!("{path} on {at}"), authority, text)));
        }
        for path in crate::trust::specification::kubeconfig_paths() {
            let embedded = text(&path).and_then(|text| kubeconfig::read(&text).unwrap().authority);
            let text = embedded.map(|bytes| String::from_utf8(bytes).unwrap());
            found.extend(text.map(|text| (format!("{path} on {at}"), Authority::Kubernetes, text)));
        }
    }
    found
}

/// Whether `openssl` verifies every leaf of one cluster with every CA file of another one.
fn verifies(leaves: &[(String, Authority, String, bool)], trusted: &[(String, Authority, String)]) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let mut checked = BTreeSet::new();
    for (place, authority, bundle) in trusted {
        for (leaf, by, certificate, server) in leaves.iter().filter(|(_, by, ..)| by == authority) {
            if !checked.insert((bundle, certificate)) {
                continue;
            }
            std::fs::write(directory.path().join("ca"), bundle).unwrap();
            std::fs::write(directory.path().join("leaf"), certificate).unwrap();
            let purpose = if *server { "sslserver" } else { "sslclient" };
            let at = day(1).as_second().to_string();
            let arguments = ["verify", "-x509_strict", "-attime", &at, "-purpose", purpose, "-CAfile", "ca", "leaf"];
            openssl(Some(directory.path()), &arguments, b"").map_err(|seen| format!("{leaf} ({by}) with {place}: {seen}"))?;
        }
    }
    Ok(())
}

/// The property the whole walk stands on. Hosts in the states N and N+1 run side by side, so each
/// leaf of one must verify with each CA file of the other, both ways.
#[test]
fn neighbouring_states_trust_each_other_and_distant_ones_do_not() {
    for kind in ["external", "dedicated-etcd"] {
        // One walk, so that all states are of the same two CAs.
        let mut hosts = hosts_at(kind, Step::TrustOld);
        let mut states = Vec::new();
        for step in Step::ALL {
            while positions(&hosts).values().flatten().any(|position| position.slowest() < step) {
                let aims = forward(&positions(&hosts));
                go(&mut hosts, &aims);
            }
            states.push((leaves(&hosts), trusted(&hosts)));
        }
        for (at, (leaves, _)) in states.iter().enumerate() {
            for (of, (_, trusted)) in states.iter().enumerate() {
                let result = verifies(leaves, trusted);
                if at.abs_diff(of) <= 1 {
                    assert_eq!(result, Ok(()), "{kind}: leaves of state {at}, trust of state {of}");
                } else if at.min(of) == 0 && at.max(of) == 3 {
                    assert!(result.is_err(), "{kind}: states 0 and 3 know nothing of each other");
                }
            }
        }
    }
}

/// Tokens signed in one state are accepted in the neighbouring ones.
#[test]
fn tokens_of_neighbouring_states_are_accepted() {
    let mut hosts = hosts_at("external", Step::TrustOld);
    let mut states = Vec::new();
    for step in Step::ALL {
        while positions(&hosts).values().flatten().any(|position| position.slowest() < step) {
            let aims = forward(&positions(&hosts));
            go(&mut hosts, &aims);
        }
        let signing = hosts.run(LIVING, day(1)).unwrap().wishes.signing;
        let accepted = inspect::public_keys(&hosts.bytes("cp-2", "/etc/kubernetes/pki/sa.pub")).unwrap();
        states.push((key_of(&hosts, "cp-1", &signing.service_account_key), accepted));
    }
    for pair in states.windows(2) {
        assert!(pair[0].1.contains(&pair[1].0) && pair[1].1.contains(&pair[0].0));
    }
    assert!(!states[3].1.contains(&states[0].0));
}

/// Cuts every run of the walk off after a change, and lets the next one go on: after every fourth
/// one on one host, after every 31st on several (a prime: over the runs it falls on different kinds of files).
#[test]
fn a_walk_that_is_cut_off_anywhere_goes_on() {
    for (kind, stride) in [("single", 4), ("dedicated-etcd", 31)] {
        let mut hosts = Hosts::bootstrapped(plan(kind));
        for run in 0..5 {
            let aims = forward(&positions(&hosts));
            assert_eq!(aims.values().any(|aim| aim.retire), run == 4, "prepare, trust both, sign new, trust new, retire");
            let material = hosts.run_towards(LIVING, &aims, day(1)).unwrap();
            for count in (0..writes(&hosts, &material).len()).step_by(stride) {
                let mut cut = hosts.clone();
                carry_out(&mut cut, &material, count);
                // What `apply` makes of it never fails, and the next rotation comes to the same end.
                cut.run(LIVING, day(1)).unwrap_or_else(|problems| panic!("apply after {count} of {run}: {problems:?}"));
                for _ in 0..6 {
                    let positions = positions(&cut);
                    if positions.values().all(Option::is_none) {
                        break;
                    }
                    let material = cut
                        .run_towards(LIVING, &forward(&positions), day(1))
                        .unwrap_or_else(|problems| panic!("after {count} of {run}: {problems:?}"));
                    carry_out(&mut cut, &material, usize::MAX);
                }
                settled(&cut);
            }
            carry_out(&mut hosts, &material, usize::MAX);
        }
        settled(&hosts);
    }
}

/// No trace of a walk: one CA everywhere, its key beside it, everything signed by it.
fn settled(hosts: &Hosts) {
    assert!(positions(hosts).values().all(Option::is_none));
    let material = hosts.run(LIVING, day(1)).unwrap();
    assert_eq!(material.events, Vec::new(), "nothing is left to do");
    for pair in pairs(hosts) {
        for host in pair.keepers(&hosts.plan) {
            let at = host.name.as_str();
            assert_eq!(key_of(hosts, at, &pair.key_path()), signer_of(hosts, at, pair), "{pair} on {at}");
            let state = &hosts.facts[&host.name].state;
            assert!(!is_file(state, &pair.next().unwrap().public_path()) && !is_file(state, &signing_certificate()));
        }
    }
}

#[test]
fn a_whole_walk_ends_with_new_pairs_only() {
    for kind in KINDS {
        let old = Hosts::bootstrapped(plan(kind));
        let before: Vec<Vec<u8>> = pairs(&old).into_iter().map(|pair| signer_of(&old, pair.keepers(&old.plan).next().unwrap().name.as_str(), pair)).collect();
        let mut hosts = old.clone();
        for _ in 0..5 {
            let aims = forward(&positions(&hosts));
            go(&mut hosts, &aims);
        }
        settled(&hosts);
        assert_eq!(verifies(&leaves(&hosts), &trusted(&hosts)), Ok(()), "{kind}");
        let after: Vec<Vec<u8>> = pairs(&hosts).into_iter().map(|pair| signer_of(&hosts, pair.keepers(&hosts.plan).next().unwrap().name.as_str(), pair)).collect();
        assert!(before.iter().all(|key| !after.contains(key)), "{kind}");
    }
}

#[test]
fn it_turns_back_from_each_state_that_has_the_old_key_and_forward_again() {
    for step in [Step::TrustOld, Step::TrustBoth, Step::SignNew] {
        let mut hosts = hosts_at("dedicated-etcd", step);
        let aims = back(&positions(&hosts)).unwrap();
        go(&mut hosts, &aims);
        if step == Step::TrustOld {
            settled(&hosts);
            continue;
        }
        let reached = positions(&hosts).values().flatten().map(Position::furthest).max().unwrap();
        assert_eq!(reached as usize + 1, step as usize);
        for _ in 0..8 {
            if positions(&hosts).values().all(Option::is_none) {
                break;
            }
            let aims = forward(&positions(&hosts));
            go(&mut hosts, &aims);
        }
        settled(&hosts);
    }
    let mut hosts = hosts_at("dedicated-etcd", Step::SignNew);
    for _ in 0..3 {
        let aims = back(&positions(&hosts)).unwrap();
        go(&mut hosts, &aims);
    }
    settled(&hosts);
}

/// Turning back, cut off anywhere: the next run may go on in either direction.
#[test]
fn turning_back_can_be_cut_off_too() {
    let hosts = hosts_at("single", Step::SignNew);
    let material = hosts.run_towards(LIVING, &back(&positions(&hosts)).unwrap(), day(1)).unwrap();
    for count in 0..writes(&hosts, &material).len() {
        for forwards in [true, false] {
            let mut cut = hosts.clone();
            carry_out(&mut cut, &material, count);
            for _ in 0..6 {
                let positions = positions(&cut);
                if positions.values().all(Option::is_none) {
                    break;
                }
                let aims = if forwards { forward(&positions) } else { back(&positions).unwrap() };
                let material = cut.run_towards(LIVING, &aims, day(1)).unwrap();
                carry_out(&mut cut, &material, usize::MAX);
            }
            settled(&cut);
        }
    }
}

/// A cluster whose operator keeps the CA keys, and what a rotation does in the key store.
struct Operated {
    hosts: Hosts,
}

impl Operated {
    fn new() -> Self {
        let mut plan = plan("dedicated-etcd");
        plan.pki.authority = crate::plan::AuthorityKeys::Operator(crate::plan::KeyStore {
            directory: "store".into(),
            recipients: Vec::new(),
            identity_file: None,
            passphrase_file: None,
        });
        let mut operated = Self { hosts: Hosts::new(plan) };
        for authority in Authority::ALL {
            operated.draw(ClusterPair::Authority(authority));
        }
        let material = operated.hosts.run(Stage::Fresh, day(0)).unwrap();
        operated.hosts.write(&material);
        operated
    }

    fn draw(&mut self, pair: ClusterPair) {
        use crate::trust::issue::{Validity, certify_authority, generate_key};
        let key = generate_key(crate::plan::KeyAlgorithm::EcdsaP256).unwrap();
        let validity = Validity { now: day(0), length: crate::names::Span::seconds(3650 * 86_400).0 };
        let text = certify_authority(pair.authority().unwrap(), self.hosts.plan.kubernetes.version, &key, validity).unwrap();
        self.hosts.given.insert(pair, text);
        self.hosts.store.insert(pair, key.private);
    }

    fn positions(&self) -> BTreeMap<ClusterPair, Option<Position>> {
        let Hosts { plan, facts, given, .. } = &self.hosts;
        let of_given = |pair| (pair, position_of_given(plan, facts, pair, given).unwrap());
        Authority::ALL.map(ClusterPair::Authority).map(of_given).into()
    }

    /// One run of the walk; `count` changes of it are made.
    fn go(&mut self, aims: &Aims, count: usize) {
        let begun = self.positions();
        for pair in aims.keys().filter(|pair| begun[pair].is_none()) {
            self.draw(pair.next().unwrap());
        }
        let material = self.hosts.run_towards(LIVING, aims, day(1)).unwrap();
        let all = writes(&self.hosts, &material).len();
        carry_out(&mut self.hosts, &material, count);
        if count < all {
            return;
        }
        let again = self.hosts.run(LIVING, day(1)).unwrap();
        assert_eq!(again.events, Vec::new(), "the state holds by itself");
        for (pair, aim) in aims.iter().filter(|(_, aim)| aim.retire) {
            let next = pair.next().unwrap();
            let (text, key) = (self.hosts.given.remove(&next).unwrap(), self.hosts.store.remove(&next).unwrap());
            if aim.step == Step::TrustNew {
                self.hosts.given.insert(*pair, text);
                self.hosts.store.insert(*pair, key);
            }
        }
    }

    fn has_no_key(&self) {
        for pair in Authority::ALL.map(ClusterPair::Authority) {
            for path in [pair.key_path(), pair.next().unwrap().key_path(), pair.next().unwrap().public_path(), signing_certificate()] {
                for (host, facts) in &self.hosts.facts {
                    assert!(!is_file(&facts.state, &path), "{path} on {host}");
                }
            }
        }
    }
}

#[test]
fn authorities_of_the_operator_walk_without_a_key_on_any_host() {
    let mut operated = Operated::new();
    let before = operated.hosts.given.clone();
    let mut states = Vec::new();
    for _ in 0..5 {
        let aims = forward(&operated.positions());
        operated.go(&aims, usize::MAX);
        operated.has_no_key();
        states.push((leaves(&operated.hosts), trusted(&operated.hosts)));
    }
    assert!(operated.positions().values().all(Option::is_none), "the walk has ended");
    assert!(before.iter().all(|(pair, text)| operated.hosts.given[pair] != *text), "and everything is new");
    for two in states.windows(2) {
        assert_eq!(verifies(&two[0].0, &two[1].1), Ok(()));
        assert_eq!(verifies(&two[1].0, &two[0].1), Ok(()));
    }
    assert!(verifies(&states[0].0, &states[4].1).is_err());
}

#[test]
fn walks_of_the_operators_authorities_turn_back_and_are_cut_off_like_others() {
    for step in 1..=3 {
        let mut operated = Operated::new();
        for _ in 0..step {
            let aims = forward(&operated.positions());
            operated.go(&aims, usize::MAX);
        }
        let material = operated.hosts.run_towards(LIVING, &forward(&operated.positions()), day(1)).unwrap();
        for count in (0..writes(&operated.hosts, &material).len()).step_by(13) {
            for forwards in [true, false] {
                let mut cut = Operated { hosts: operated.hosts.clone() };
                cut.go(&forward(&cut.positions()), count);
                cut.hosts.run(LIVING, day(1)).unwrap_or_else(|problems| panic!("apply after {count} of {step}: {problems:?}"));
                for _ in 0..6 {
                    let positions = cut.positions();
                    if positions.values().all(Option::is_none) {
                        break;
                    }
                    // Once a host trusts the new one only, there is one way.
                    let aims = if forwards { forward(&positions) } else { back(&positions).unwrap_or_else(|_| forward(&positions)) };
                    cut.go(&aims, usize::MAX);
                }
                assert!(cut.positions().values().all(Option::is_none), "after {count} of {step}");
                cut.has_no_key();
                assert_eq!(verifies(&leaves(&cut.hosts), &trusted(&cut.hosts)), Ok(()));
            }
        }
    }
}

/// A colleague's copy of the store, from before the rotation, would turn hosts back without a word.
#[test]
fn a_store_without_the_new_authority_is_refused_in_every_state() {
    let mut operated = Operated::new();
    let stale = operated.hosts.given.clone();
    let mut refused = 0;
    for _ in 0..4 {
        let aims = forward(&operated.positions());
        operated.go(&aims, usize::MAX);
        let mut with_stale = operated.hosts.clone();
        with_stale.given = stale.clone();
        if let Err(problems) = with_stale.run(LIVING, day(1)) {
            let told = |problem: &TrustProblem| matches!(problem, TrustProblem::NotInStore { .. } | TrustProblem::NotTheGiven { .. });
            assert!(problems.iter().all(told), "{problems:?}");
            refused += 1;
        }
    }
    assert_eq!(refused, 3, "from state 1 on");
}

#[test]
fn once_a_host_trusts_the_new_one_only_there_is_no_way_back() {
    let hosts = hosts_at("external", Step::TrustNew);
    assert_eq!(back(&positions(&hosts)).unwrap_err().len(), 4);
    let mut hosts = hosts_at("external", Step::SignNew);
    let new = hosts.bytes("cp-1", "/etc/kubernetes/pki/ca-next.crt");
    hosts.put(&name("cp-2"), &RemotePath::fixed("/etc/kubernetes/pki/ca.crt"), &new);
    assert_eq!(back(&positions(&hosts)).unwrap_err(), [ClusterPair::Authority(Authority::Kubernetes)]);
}

#[test]
fn one_pair_is_replaced_and_the_others_stay() {
    let mut hosts = Hosts::bootstrapped(plan("external"));
    let etcd = ClusterPair::Authority(Authority::Etcd);
    let before = hosts.bytes("cp-1", "/etc/kubernetes/pki/ca.crt");
    let was = hosts.bytes("cp-1", "/etc/kubernetes/pki/etcd/ca.crt");
    for _ in 0..5 {
        let only: BTreeMap<_, _> = positions(&hosts).into_iter().filter(|(pair, _)| *pair == etcd).collect();
        let aims = forward(&only);
        go(&mut hosts, &aims);
    }
    settled(&hosts);
    assert_eq!(hosts.bytes("cp-1", "/etc/kubernetes/pki/ca.crt"), before);
    assert_ne!(hosts.bytes("cp-1", "/etc/kubernetes/pki/etcd/ca.crt"), was);
}

#[test]
fn a_new_pair_without_its_key_was_used_by_nobody_and_is_made_again() {
    let mut hosts = hosts_at("single", Step::TrustOld);
    hosts.remove("cp-1", "/etc/kubernetes/pki/ca-next.key");
    let lost = hosts.bytes("cp-1", "/etc/kubernetes/pki/ca-next.crt");
    assert_eq!(positions(&hosts)[&ClusterPair::Authority(Authority::Kubernetes)], None);
    let aims = forward(&positions(&hosts));
    go(&mut hosts, &aims);
    assert_ne!(hosts.bytes("cp-1", "/etc/kubernetes/pki/ca-next.crt"), lost);
}

#[test]
fn no_key_is_brought_by_a_probe() {
    let unread = crate::trust::specification::keys_without_content();
    for pair in Authority::ALL.map(ClusterPair::Authority).into_iter().chain([ClusterPair::ServiceAccount]) {
        assert!(unread.contains(&pair.key_path()) && unread.contains(&pair.next().unwrap().key_path()));
    }
}

#[test]
fn keys_are_root_only() {
    let hosts = hosts_at("external", Step::SignNew);
    let aims = forward(&positions(&hosts));
    let material = hosts.run_towards(LIVING, &aims, day(1)).unwrap();
    let mut keys = 0;
    for file in material.hosts.values().flat_map(|material| &material.files) {
        if file.path.as_str().ends_with(".key") {
            assert_eq!(file.mode, Mode(0o600), "{}", file.path);
            assert!(file.content.is_secret());
            keys += 1;
        }
    }
    assert!(keys > 0);
}

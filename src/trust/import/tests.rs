//! Certificates as they should be, and each with one thing changed.

use super::*;
use crate::plan::{AuthorityKeys, KeyAlgorithm};
use crate::trust::decide::Requested;
use crate::trust::issue::{self, Signer, Validity};
use crate::trust::problem::TrustProblem;
use crate::trust::specification::{self, Authority, ClusterPair};
use crate::trust::testing::{Hosts, day, epoch, plan};

/// Three CAs that are on no host.
struct Elsewhere {
    authorities: Vec<(Authority, Certificate, Secret)>,
}

impl Elsewhere {
    fn new() -> Self {
        let authorities = Authority::ALL.map(|authority| {
            let key = issue::generate_key(KeyAlgorithm::EcdsaP256).unwrap();
            let validity = Validity { now: epoch(), length: Span::seconds(3650 * 86_400).0 };
            let text = issue::certify_authority(authority, crate::trust::testing::version(36), &key, validity).unwrap();
            (authority, inspect::certificate(text.as_bytes()).unwrap(), key.private)
        });
        Self { authorities: authorities.into() }
    }

    fn authority(&self, authority: Authority) -> (&Certificate, &Secret) {
        let (_, certificate, key) = self.authorities.iter().find(|(other, ..)| *other == authority).unwrap();
        (certificate, key)
    }

    fn sign(&self, by: Authority, leaf: &Leaf, key: &issue::Key, now: Timestamp, days: u64) -> Vec<u8> {
        let (certificate, authority_key) = self.authority(by);
        let signer = Signer::load(certificate, authority_key, now).unwrap();
        signer.sign(leaf, key, Validity { now, length: Span::seconds(days * 86_400).0 }).unwrap().into_bytes()
    }

    /// Hosts whose plan says that the CAs are elsewhere.
    fn hosts(&self, kind: &str) -> Hosts {
        let mut plan = plan(kind);
        plan.pki.authority = AuthorityKeys::External { cluster: "a".into(), front_proxy: "b".into(), etcd: Some("c".into()) };
        let mut hosts = Hosts::new(plan);
        hosts.given = self.authorities.iter().map(|(authority, certificate, _)| (ClusterPair::Authority(*authority), certificate.pem())).collect();
        hosts
    }

    /// Every leaf of the plan, signed and judged.
    fn brought(&self, hosts: &Hosts, now: Timestamp) -> Requested {
        let leaves = specification::leaves(&hosts.plan, hosts.plan.kubernetes.version);
        Requested::brought(leaves.into_iter().map(|leaf| {
            let key = issue::generate_key(KeyAlgorithm::EcdsaP256).unwrap();
            let certificate = self.sign(leaf.authority, &leaf, &key, now, 365);
            let wanted = Wanted { leaf: &leaf, authority: self.authority(leaf.authority).0, renew_before: hosts.plan.pki.renew_before, now };
            let found = judge(wanted, &certificate, &key.private).unwrap();
            (leaf, found)
        }))
    }
}

fn leaf(name: &str) -> Leaf {
    let plan = plan("external");
    specification::leaves(&plan, plan.kubernetes.version).into_iter().find(|leaf| leaf.name == name).unwrap()
}

#[test]
fn only_what_was_asked_for_is_brought_in() {
    let elsewhere = Elsewhere::new();
    let (leaf, key) = (leaf("etcd/peer"), issue::generate_key(KeyAlgorithm::EcdsaP256).unwrap());
    let judged = |by: Authority, changed: &Leaf, days: u64, now: Timestamp, key_of: &Secret| {
        let certificate = elsewhere.sign(by, changed, &key, epoch(), days);
        let wanted = Wanted { leaf: &leaf, authority: elsewhere.authority(Authority::Etcd).0, renew_before: Span::seconds(30 * 86_400), now };
        judge(wanted, &certificate, key_of).map(|found| found.certificate.subject.to_string()).map_err(|error| error.to_string())
    };
    let with = |change: &dyn Fn(&mut Leaf)| {
        let mut changed = leaf.clone();
        change(&mut changed);
        judged(Authority::Etcd, &changed, 365, day(1), &key.private).unwrap_err()
    };
    assert_eq!(judged(Authority::Etcd, &leaf, 365, day(1), &key.private), Ok("CN=cp-1".into()));
    let refused = [
        judged(Authority::Kubernetes, &leaf, 365, day(1), &key.private).unwrap_err(),
        judged(Authority::Etcd, &leaf, 365, day(366), &key.private).unwrap_err(),
        judged(Authority::Etcd, &leaf, 365, day(-1), &key.private).unwrap_err(),
        judged(Authority::Etcd, &leaf, 20, day(1), &key.private).unwrap_err(),
        judged(Authority::Etcd, &leaf, 365, day(1), &issue::generate_key(KeyAlgorithm::EcdsaP256).unwrap().private).unwrap_err(),
        with(&|leaf| leaf.subject.common_name = "cp-2".into()),
        with(&|leaf| _ = leaf.subject.organizations.insert("system:masters".into())),
        with(&|leaf| _ = leaf.usages.remove(&Usage::Client)),
        with(&|leaf| _ = leaf.names.remove(0)),
        with(&|leaf| leaf.names.push(SubjectName::parse("evil.example.test"))),
    ];
    let expected = [
        "not signed by `CN=etcd-ca`", "valid from", "valid from", "pki.renewBefore", "another key",
        "names `CN=cp-2`", "O=system:masters", "it is for [server]", "does not cover cp-1", "covers evil.example.test, which was not",
    ];
    for (refused, expected) in refused.iter().zip(expected) {
        assert!(refused.contains(expected), "{refused} / {expected}");
    }
}

#[test]
fn a_cluster_is_made_and_renewed_with_what_was_signed_elsewhere() {
    let elsewhere = Elsewhere::new();
    let mut hosts = elsewhere.hosts("external");
    let problems = hosts.run(crate::phase::Stage::Fresh, epoch()).unwrap_err();
    assert!(problems.iter().all(|problem| matches!(problem, TrustProblem::SignedElsewhere { .. })) && problems.len() == 3, "{problems:?}");

    let material = hosts.run_for(crate::phase::Stage::Fresh, &elsewhere.brought(&hosts, epoch()), epoch()).unwrap();
    hosts.write(&material);
    for (host, facts) in &hosts.facts {
        for authority in Authority::ALL {
            let key = ClusterPair::Authority(authority).key_path();
            assert!(!facts.state.files.contains_key(&key), "{host} has {key}");
        }
    }
    let again = hosts.run(crate::phase::Stage::Living, day(1)).unwrap();
    assert_eq!(again.events, [], "nothing is to be done and no key is needed");

    // The kubelets cannot help themselves here, so their certificates are due like all others.
    let problems = hosts.run(crate::phase::Stage::Living, day(350)).unwrap_err();
    assert!(problems.iter().any(|problem| problem.to_string().contains("kubelet-client on worker-1")), "{problems:?}");
    let renewed = hosts.run_for(crate::phase::Stage::Living, &elsewhere.brought(&hosts, day(350)), day(350)).unwrap();
    hosts.write(&renewed);
    assert_eq!(hosts.run(crate::phase::Stage::Living, day(351)).unwrap().events, []);
    let certificate = inspect::certificate(&hosts.bytes("cp-1", "/etc/kubernetes/pki/apiserver.crt")).unwrap();
    assert!(certificate.is_signed_by(elsewhere.authority(Authority::Kubernetes).0) && certificate.not_after > day(700));
}

#[test]
fn the_operators_store_signs_and_no_host_gets_a_key() {
    let elsewhere = Elsewhere::new();
    let mut hosts = elsewhere.hosts("external");
    hosts.plan.pki.authority = AuthorityKeys::Operator(crate::plan::KeyStore {
        directory: "store".into(),
        recipients: Vec::new(),
        identity_file: None,
        passphrase_file: None,
    });
    hosts.store = elsewhere.authorities.iter().map(|(authority, _, key)| (ClusterPair::Authority(*authority), key.clone())).collect();
    let material = hosts.run(crate::phase::Stage::Fresh, epoch()).unwrap();
    hosts.write(&material);
    let secrets: Vec<&[u8]> = hosts.store.values().map(Secret::expose).collect();
    for file in material.hosts.values().flat_map(|of_host| &of_host.files) {
        assert!(!secrets.contains(&file.content.bytes()), "{}", file.path);
    }
    assert_eq!(hosts.requests(crate::phase::Stage::Living, day(1)).unwrap(), [], "an up-to-date cluster needs no key");
    assert_eq!(hosts.requests(crate::phase::Stage::Living, day(350)).unwrap().len(), 3);
    hosts.run(crate::phase::Stage::Living, day(350)).unwrap();
}

#[test]
fn hosts_that_disagree_with_what_is_given_are_refused() {
    let elsewhere = Elsewhere::new();
    let mut hosts = elsewhere.hosts("external");
    let material = hosts.run_for(crate::phase::Stage::Fresh, &elsewhere.brought(&hosts, epoch()), epoch()).unwrap();
    hosts.write(&material);
    let mut with_key = hosts.clone();
    let path = ClusterPair::Authority(Authority::Kubernetes).key_path();
    with_key.put(&crate::trust::testing::name("cp-2"), &path, b"a key");
    let problems = with_key.run(crate::phase::Stage::Living, day(1)).unwrap_err();
    assert_eq!(problems, [TrustProblem::KeyOnHost { host: crate::trust::testing::name("cp-2"), path }]);
    hosts.given = Elsewhere::new().hosts("external").given;
    let problems = hosts.run(crate::phase::Stage::Living, day(1)).unwrap_err();
    assert!(problems.len() >= 3 && problems.iter().all(|problem| matches!(problem, TrustProblem::NotTheGiven { .. })), "{problems:?}");
}

//! Every leaf of a cluster before verifiers that share no code with its maker: openssl in its strict
//! mode, GnuTLS, and webpki as rustls uses it. Each leaf must pass for what it is for, and for nothing
//! else. GnuTLS' tool knows no moment but now, so these clusters are made now.

use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};

use super::*;
use crate::phase::Stage;
use crate::trust::decide::{self, Decision};
use crate::trust::specification::Leaf;
use crate::trust::testing::Hosts;

/// A cluster that was made just now.
fn made_now(kind: &str) -> Hosts {
    let mut hosts = Hosts::new(plan(kind));
    let material = hosts.run(Stage::Fresh, Timestamp::now()).unwrap();
    hosts.write(&material);
    hosts
}

/// The leaves of a cluster with their certificates, and the CA file each is verified by.
fn leaves(hosts: &Hosts) -> Vec<(Leaf, Certificate, Vec<u8>)> {
    let survey = crate::trust::authorities::survey(&hosts.plan, &hosts.facts, Stage::Living).unwrap();
    let decisions = decide::decide_all(&hosts.plan, version(36), &hosts.facts, &survey, &decide::Requested::NONE, Timestamp::now());
    let mut found = Vec::new();
    for (leaf, decision) in decisions {
        let Decision::Keep(kept) = decision else { panic!("{} on {}: {decision:?}", leaf.name, leaf.host) };
        let ca = hosts.bytes(hosts.plan.hosts.iter().find(|host| specification::ClusterPair::Authority(leaf.authority).is_kept_by(&hosts.plan, host)).unwrap().name.as_str(), leaf.authority.certificate_path().as_str());
        found.push((leaf, kept.certificate, ca));
    }
    found
}

fn is_good_for(directory: &Path, purpose: &str) -> bool {
    verify(directory, purpose).is_ok()
}

/// `certtool --verify`, for a purpose; `None` if GnuTLS' tool is not installed.
fn gnutls(directory: &Path, purpose: &str) -> Option<Result<(), String>> {
    let mut command = Command::new("certtool");
    command.current_dir(directory).stdin(Stdio::null());
    command.args(["--verify", "--verify-profile", "medium", "--load-ca-certificate", "ca.crt", "--infile", "chain.crt"]);
    command.args(["--verify-purpose", purpose]);
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some(if output.status.success() { Ok(()) } else { Err(text) })
}

fn der(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    pem::parse_many(pem).unwrap().into_iter().map(|block| block.into_contents().into()).collect()
}

fn roots(ca: &[u8]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(der(ca));
    assert!(!roots.is_empty());
    roots
}

fn webpki_server(leaf: &[u8], ca: &[u8], names: &[SubjectName]) -> Result<(), rustls::Error> {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(Timestamp::now().as_second().try_into().unwrap()));
    let leaf = der(leaf).remove(0);
    let parsed = ParsedCertificate::try_from(&leaf)?;
    let algorithms = default_provider().signature_verification_algorithms;
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots(ca), &[], now, algorithms.all)?;
    for name in names {
        verify_server_name(&parsed, &ServerName::try_from(name.to_string()).unwrap())?;
    }
    Ok(())
}

fn webpki_client(leaf: &[u8], ca: &[u8]) -> Result<(), rustls::Error> {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(Timestamp::now().as_second().try_into().unwrap()));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)), Arc::new(default_provider())).build().unwrap();
    verifier.verify_client_cert(&der(leaf).remove(0), &[], now).map(drop)
}

/// All verifiers agree on what the leaf is for.
fn judge(leaf: &Leaf, certificate: &Certificate, ca: &[u8]) {
    let what = format!("{} on {}", leaf.name, leaf.host);
    let directory = tempfile::tempdir().unwrap();
    let text = certificate.pem();
    std::fs::write(directory.path().join("ca.crt"), ca).unwrap();
    std::fs::write(directory.path().join("leaf.crt"), &text).unwrap();
    std::fs::write(directory.path().join("chain.crt"), [text.as_bytes(), ca].concat()).unwrap();
    let (server, client) = (leaf.usages.contains(&Usage::Server), leaf.usages.contains(&Usage::Client));
    assert_eq!(is_good_for(directory.path(), "sslserver"), server, "{what}: openssl, server");
    assert_eq!(is_good_for(directory.path(), "sslclient"), client, "{what}: openssl, client");
    assert_eq!(webpki_server(text.as_bytes(), ca, &leaf.names).is_ok(), server, "{what}: webpki, server");
    assert_eq!(webpki_client(text.as_bytes(), ca).is_ok(), client, "{what}: webpki, client");
    for (purpose, expected) in [("1.3.6.1.5.5.7.3.1", server), ("1.3.6.1.5.5.7.3.2", client)] {
        match gnutls(directory.path(), purpose) {
            Some(answer) => assert_eq!(answer.is_ok(), expected, "{what}: GnuTLS, {purpose}: {answer:?}"),
            None => eprintln!("skipped: GnuTLS does not judge {what}, `certtool` (Debian package gnutls-bin) is missing"),
        }
    }
}

#[test]
fn every_leaf_passes_every_verifier_for_its_purpose_and_no_other() {
    for kind in ["external", "dedicated-etcd"] {
        let hosts = made_now(kind);
        let leaves = leaves(&hosts);
        assert!(leaves.len() > 10);
        for (leaf, certificate, ca) in leaves {
            judge(&leaf, &certificate, &ca);
        }
    }
}

/// A CA below another one, as a company's PKI hands it out: the file holds both, the signer first.
fn intermediate() -> (Vec<u8>, Key) {
    let keys = generate_keys(KeyAlgorithm::EcdsaP256, 2).unwrap();
    let life = Validity { now: Timestamp::now(), length: YEAR * 10 };
    let root = certify_authority(Authority::Kubernetes, version(36), &keys[0], life).unwrap();
    let root_pair = KeyPair::try_from(inspect::private_key_der(&keys[0].private).unwrap().expose()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&root, root_pair).unwrap();
    let subject = Subject { common_name: "issuing CA of the example".into(), organizations: [].into() };
    let mut parameters = parameters(&subject, &[], life).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages.push(KeyUsagePurpose::KeyCertSign);
    parameters.use_authority_key_identifier_extension = true;
    let public = SubjectPublicKeyInfo::from_der(&keys[1].public).unwrap();
    let signed = parameters.signed_by(&public, &issuer).unwrap();
    let text = inspect::pem_block("CERTIFICATE", signed.der()) + &root;
    (text.into_bytes(), keys[1].clone())
}

#[test]
fn an_intermediate_authority_signs_and_its_bundle_is_trusted() {
    let (bundle, key) = intermediate();
    let mut hosts = made_now("single");
    let ca = Authority::Kubernetes.certificate_path();
    hosts.put(&"cp-1".parse().unwrap(), &ca, &bundle);
    hosts.put(&"cp-1".parse().unwrap(), &specification::ClusterPair::Authority(Authority::Kubernetes).key_path(), key.private.expose());
    // What the old CA signed is replaced; the bundle stays as it was handed in.
    let material = hosts.run(Stage::Living, Timestamp::now()).unwrap();
    assert!(material.events.iter().any(|issued| issued.name == "apiserver"));
    hosts.write(&material);
    assert_eq!(hosts.bytes("cp-1", ca.as_str()), bundle);
    assert!(hosts.run(Stage::Living, Timestamp::now()).unwrap().events.is_empty());
    for (leaf, certificate, ca) in leaves(&hosts) {
        judge(&leaf, &certificate, &ca);
    }
}

//! What is made here is checked by openssl, which shares no code with the makers.

use std::path::Path;

use super::*;
use crate::trust::specification;
use crate::trust::specification::Storage;
use crate::trust::testing::{day, epoch, openssl, plan, version};

mod verifiers;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn validity() -> Validity {
    // openssl looks at the real clock.
    Validity { now: Timestamp::now(), length: YEAR }
}

/// The API server's leaf, which has every kind of name.
fn leaf() -> Leaf {
    let mut plan = plan("dedicated-etcd");
    plan.pki.extra_sans.push("*.example.test".to_owned());
    plan.pki.extra_sans.push("2001:db8::1".to_owned());
    let leaf = specification::leaves(&plan, version(36)).swap_remove(0);
    assert!(matches!(leaf.storage, Storage::FilePair { .. }));
    leaf
}

fn verify(directory: &Path, purpose: &str) -> Result<String, String> {
    openssl(Some(directory), &["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.crt", "leaf.crt"], b"")
}

#[test]
fn openssl_accepts_chains_and_keys_of_every_algorithm() {
    // One CA of each kind signs all leaves of that kind: RSA keys take long to draw.
    let rsa_authority = generate_key(KeyAlgorithm::Rsa2048).unwrap();
    for (algorithm, block) in [
        (KeyAlgorithm::Rsa2048, "RSA PRIVATE KEY"),
        (KeyAlgorithm::Rsa3072, "RSA PRIVATE KEY"),
        (KeyAlgorithm::Rsa4096, "RSA PRIVATE KEY"),
        (KeyAlgorithm::EcdsaP256, "EC PRIVATE KEY"),
        (KeyAlgorithm::EcdsaP384, "EC PRIVATE KEY"),
    ] {
        let key = generate_key(algorithm).unwrap();
        let authority = if block.starts_with("RSA") { rsa_authority.clone() } else { generate_key(algorithm).unwrap() };
        let ca = certify_authority(Authority::Kubernetes, version(36), &authority, validity()).unwrap();
        let ca_certificate = inspect::certificate(ca.as_bytes()).unwrap();
        let signer = Signer::load(&ca_certificate, &authority.private, Timestamp::now()).unwrap();
        let mut leaf = leaf();
        let text = signer.sign(&leaf, &key, validity()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.crt"), &ca).unwrap();
        std::fs::write(directory.path().join("leaf.crt"), &text).unwrap();
        verify(directory.path(), "sslserver").unwrap();
        assert!(verify(directory.path(), "sslclient").is_err(), "a server's certificate is no client's");

        leaf.usages = [Usage::Client].into();
        std::fs::write(directory.path().join("leaf.crt"), signer.sign(&leaf, &key, validity()).unwrap()).unwrap();
        verify(directory.path(), "sslclient").unwrap();

        let private = key.private.expose_text().unwrap();
        assert!(private.starts_with(&format!("-----BEGIN {block}-----\n")), "{algorithm:?}");
        openssl(None, &["pkey", "-check", "-noout"], private.as_bytes()).unwrap();
        assert_eq!(openssl(None, &["pkey", "-pubout"], private.as_bytes()).unwrap(), key.public_pem());
        // Go's readers accept exactly these structures: reading and writing again changes nothing.
        let again = openssl(None, &["pkey", "-traditional"], private.as_bytes()).unwrap();
        assert_eq!(again, private, "{algorithm:?}");
    }
}

#[test]
fn what_is_signed_says_what_the_leaf_says() {
    let keys = generate_keys(KeyAlgorithm::EcdsaP256, 2).unwrap();
    let moment = Validity { now: epoch(), length: YEAR };
    let ca =
        inspect::certificate(certify_authority(Authority::Etcd, version(20), &keys[0], moment).unwrap().as_bytes())
            .unwrap();
    assert_eq!(ca.names, [], "v1.20 writes no name into a CA");
    let signer = Signer::load(&ca, &keys[0].private, epoch()).unwrap();
    let leaf = leaf();
    let certificate = inspect::certificate(signer.sign(&leaf, &keys[1], moment).unwrap().as_bytes()).unwrap();
    assert_eq!(certificate.subject, leaf.subject);
    assert_eq!(certificate.names, leaf.names);
    assert_eq!(certificate.usages, leaf.usages);
    assert_eq!(certificate.public_key, keys[1].public);
    assert_eq!(certificate.not_before, epoch() - SignedDuration::from_mins(5));
    assert_eq!(certificate.not_after, day(365));
    assert!(ca.is_authority && !certificate.is_authority);
    assert!(certificate.is_signed_by(&ca) && !ca.is_signed_by(&certificate));
    let renewed = inspect::certificate(signer.sign(&leaf, &keys[1], moment).unwrap().as_bytes()).unwrap();
    assert_ne!(certificate.serial, renewed.serial, "the same key gets a new serial number");
}

#[test]
fn authorities_that_must_not_sign_are_refused() {
    let keys = generate_keys(KeyAlgorithm::EcdsaP256, 2).unwrap();
    let moment = Validity { now: epoch(), length: YEAR };
    let ca =
        inspect::certificate(certify_authority(Authority::Etcd, version(36), &keys[0], moment).unwrap().as_bytes())
            .unwrap();
    let load = |key: &Key, now| Signer::load(&ca, &key.private, now).err();
    assert_eq!(load(&keys[0], epoch()), None);
    assert_eq!(load(&keys[1], epoch()), Some(IssueError::AuthorityMismatch));
    assert!(matches!(load(&keys[0], day(366)), Some(IssueError::AuthorityExpired { .. })));
    assert!(matches!(load(&keys[0], day(-1)), Some(IssueError::AuthorityExpired { .. })));
    let signer = Signer::load(&ca, &keys[0].private, epoch()).unwrap();
    let leaf = inspect::certificate(signer.sign(&leaf(), &keys[1], moment).unwrap().as_bytes()).unwrap();
    let error = Signer::load(&leaf, &keys[1].private, epoch()).err();
    assert_eq!(error, Some(IssueError::NotAnAuthority("CN=kube-apiserver".into())));
}

/// A CA made by openssl, with its key.
fn foreign_authority(subject: &str, extra: &[&str]) -> (Certificate, Secret) {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
        "-nodes",
        "-keyout",
        "ca.key",
        "-days",
        "2",
        "-subj",
        subject,
    ];
    let text = openssl(Some(directory.path()), &[&arguments[..], extra].concat(), b"").unwrap();
    (
        inspect::certificate(text.as_bytes()).unwrap(),
        Secret::new(std::fs::read(directory.path().join("ca.key")).unwrap()),
    )
}

#[test]
fn a_foreign_authority_signs_under_its_own_spelling() {
    for name in ["/O=Exämple/CN=kubernetes", "/DC=com/DC=example/CN=corporate"] {
        let (ca, key) = foreign_authority(name, &["-utf8", "-addext", "keyUsage=critical,keyCertSign"]);
        let signer = Signer::load(&ca, &key, Timestamp::now()).unwrap();
        let leaf_key = generate_key(KeyAlgorithm::EcdsaP256).unwrap();
        let text = signer.sign(&leaf(), &leaf_key, validity()).unwrap();
        assert_eq!(inspect::certificate(text.as_bytes()).unwrap().issuer_raw, ca.subject_raw, "{name}");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.crt"), ca.pem()).unwrap();
        std::fs::write(directory.path().join("leaf.crt"), text).unwrap();
        verify(directory.path(), "sslserver").unwrap();
    }
}

#[test]
fn all_organizations_are_written() {
    let (ca, key) = foreign_authority("/CN=kubernetes", &["-addext", "keyUsage=critical,keyCertSign"]);
    let signer = Signer::load(&ca, &key, Timestamp::now()).unwrap();
    let user_key = generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    let organizations = ["a", "b, c", "Köche"].map(str::to_owned).into();
    let subject = Subject { common_name: "olga".into(), organizations };
    let text = signer.sign_client(&subject, &user_key, validity()).unwrap();
    assert_eq!(inspect::certificate(text.as_bytes()).unwrap().subject, subject);
    let shown = openssl(None, &["x509", "-noout", "-subject", "-nameopt", "RFC2253,utf8,-esc_msb"], text.as_bytes()).unwrap();
    assert_eq!(shown.trim(), "subject=CN=olga,O=b\\, c,O=a,O=Köche");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.crt"), ca.pem()).unwrap();
    std::fs::write(directory.path().join("leaf.crt"), text).unwrap();
    verify(directory.path(), "sslclient").unwrap();
}

#[test]
fn an_authority_whose_name_rcgen_cannot_read_is_refused() {
    let (ca, key) = foreign_authority("/OU=one+CN=joined", &["-multivalue-rdn"]);
    assert!(matches!(Signer::load(&ca, &key, Timestamp::now()).err(), Some(IssueError::AuthorityName(_))));
}

#[test]
fn keys_are_all_different() {
    let keys = generate_keys(KeyAlgorithm::EcdsaP256, 20).unwrap();
    let public: std::collections::BTreeSet<_> = keys.iter().map(|key| &key.public).collect();
    assert_eq!(public.len(), 20);
    assert_eq!(generate_keys(KeyAlgorithm::EcdsaP256, 0).unwrap().len(), 0);
}

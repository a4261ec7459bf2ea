//! Keys as other tools leave them; the other tool is openssl.

use super::*;
use crate::plan::KeyAlgorithm;
use crate::trust::issue;
use crate::trust::testing::openssl;

fn key(arguments: &[&str], input: &[u8]) -> Secret {
    Secret::new(openssl(None, arguments, input).unwrap())
}

#[test]
fn every_spelling_of_a_key_has_the_same_public_half() {
    for (algorithm, options) in
        [("EC", "ec_paramgen_curve:P-256"), ("EC", "ec_paramgen_curve:P-384"), ("RSA", "rsa_keygen_bits:2048")]
    {
        let pkcs8 = key(&["genpkey", "-algorithm", algorithm, "-pkeyopt", options], b"");
        let traditional = key(&["pkey", "-traditional"], pkcs8.expose());
        assert!(pkcs8.expose().starts_with(b"-----BEGIN PRIVATE KEY"));
        assert!(!traditional.expose().starts_with(b"-----BEGIN PRIVATE KEY"));
        let public = openssl(None, &["pkey", "-pubout"], pkcs8.expose()).unwrap();
        let expected = public_key(public.as_bytes());
        assert!(expected.is_ok());
        assert_eq!(public_half(&pkcs8), expected, "{options} PKCS#8");
        assert_eq!(public_half(&traditional), expected, "{options} PKCS#1 or SEC1");
    }
}

#[test]
fn a_parameters_block_before_the_key_is_skipped() {
    let with_parameters = key(&["ecparam", "-name", "prime256v1", "-genkey"], b"");
    assert!(with_parameters.expose().starts_with(b"-----BEGIN EC PARAMETERS"));
    assert!(public_half(&with_parameters).is_ok());
}

#[test]
fn what_is_no_usable_key_is_named_without_quoting_it() {
    let good = issue::generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    let encrypted = key(&["pkey", "-aes128", "-passout", "pass:secret"], good.private.expose());
    let ed25519 = key(&["genpkey", "-algorithm", "ed25519"], b"");
    let cases = [
        (Secret::new(""), InspectError::NoBlock("PRIVATE KEY")),
        (Secret::new(good.public_pem()), InspectError::NoBlock("PRIVATE KEY")),
        (encrypted, InspectError::EncryptedKey),
        (ed25519, InspectError::UnusableKey),
        (Secret::new(pem_block("EC PRIVATE KEY", b"nonsense")), InspectError::UnusableKey),
        (Secret::new("-----BEGIN EC PRIVATE KEY-----\n!!\n-----END EC PRIVATE KEY-----\n"), InspectError::NotPem),
    ];
    for (key, error) in cases {
        assert_eq!(public_half(&key), Err(error));
    }
}

#[test]
fn a_bundle_is_read_whole_and_its_first_certificate_signs() {
    let bundle = ["one", "two"].map(|name| {
        let arguments = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "/dev/null",
            "-subj",
        ];
        openssl(None, &[&arguments[..], &[&format!("/CN={name}")]].concat(), b"").unwrap()
    });
    let text = format!("# a comment\n{}{}", bundle[0], bundle[1]);
    assert_eq!(certificates(text.as_bytes()).unwrap().len(), 2);
    assert_eq!(certificate(text.as_bytes()).unwrap().subject.common_name, "one");
    assert_eq!(certificate(text.as_bytes()).unwrap().pem(), bundle[0]);
}

#[test]
fn what_is_no_certificate_is_named() {
    assert_eq!(certificate(b""), Err(InspectError::NoBlock("CERTIFICATE")));
    assert_eq!(certificate(b"-----BEGIN CERTIFICATE-----\n"), Err(InspectError::NoBlock("CERTIFICATE")));
    let damaged = pem_block("CERTIFICATE", b"nonsense");
    assert!(matches!(certificate(damaged.as_bytes()), Err(InspectError::NotACertificate(_))));
}

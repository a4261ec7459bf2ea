//! Requests made by openssl, good ones and bad ones.

use super::*;
use crate::trust::testing::openssl;

/// A request by openssl for this subject and these extensions.
pub fn request(subject: &str, extensions: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut arguments = vec![
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key", "-subj", subject,
    ];
    for extension in extensions {
        arguments.extend(["-addext", extension]);
    }
    openssl(Some(directory.path()), &arguments, b"").unwrap()
}

fn asked(subject: &str, extensions: &[&str]) -> Result<Request, RequestError> {
    read(request(subject, extensions).as_bytes())
}

#[test]
fn subject_names_and_usages_are_read_whole() {
    let names = "subjectAltName=DNS:etcd.example.test,IP:192.0.2.1,IP:2001:db8::1";
    let found = asked("/O=system:nodes/CN=system:node:cp-1", &[names, "extendedKeyUsage=serverAuth,clientAuth", "keyUsage=critical,digitalSignature,keyEncipherment", "basicConstraints=CA:FALSE"]).unwrap();
    assert_eq!(found.subject.to_string(), "O=system:nodes, CN=system:node:cp-1");
    let names: Vec<String> = found.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["etcd.example.test", "192.0.2.1", "2001:db8::1"]);
    assert_eq!(found.usages, [Usage::Server, Usage::Client].into());
    assert_eq!(asked("/CN=plain", &[]).unwrap().usages, [].into());
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let refused = |subject: &str, extension: &str| asked(subject, &[extension]).unwrap_err();
    assert_eq!(refused("/CN=x", "basicConstraints=CA:TRUE"), RequestError::Authority);
    assert_eq!(refused("/CN=x", "keyUsage=keyCertSign"), RequestError::Authority);
    assert_eq!(refused("/CN=x", "keyUsage=nonRepudiation"), RequestError::Usage);
    assert_eq!(refused("/CN=x", "extendedKeyUsage=codeSigning"), RequestError::Usage);
    assert_eq!(refused("/CN=x", "extendedKeyUsage=1.2.3.4"), RequestError::Usage);
    assert_eq!(refused("/CN=x", "subjectAltName=email:a@example.test"), RequestError::Name);
    assert_eq!(refused("/CN=x", "subjectAltName=URI:https://example.test/"), RequestError::Name);
    assert_eq!(refused("/CN=x", "1.2.3.4=ASN1:UTF8String:x"), RequestError::Extension("1.2.3.4".into()));
    assert_eq!(refused("/CN=x", "nameConstraints=permitted;DNS:example.test"), RequestError::Extension("NameConstraints".into()));
    for subject in ["/CN=x/C=DE", "/CN=a/CN=b", "/O=only"] {
        assert!(matches!(asked(subject, &[]), Err(RequestError::Subject(_))), "{subject}");
    }
}

#[test]
fn a_request_that_is_not_signed_by_its_key_is_refused() {
    let good = request("/CN=x", &[]);
    let mut der = pem::parse(&good).unwrap().into_contents();
    let place = der.windows(1).position(|byte| byte == b"x").unwrap();
    der[place] = b'y';
    let bad = super::super::inspect::pem_block("CERTIFICATE REQUEST", &der);
    assert_eq!(read(bad.as_bytes()), Err(RequestError::Signature));
    assert_eq!(read(b""), Err(RequestError::NoBlock));
    assert_eq!(read(super::super::inspect::pem_block("CERTIFICATE REQUEST", b"nonsense").as_bytes()), Err(RequestError::Damaged));
}

//! One good request, and one thing wrong with it at a time.

use super::*;
use crate::trust::csr::tests::request;
use crate::trust::testing::plan;

const SUBJECT: &str = "/O=system:nodes/CN=system:node:worker-1";
const NAMES: &str = "subjectAltName=DNS:worker-1,IP:192.0.2.21";
const USAGES: [&str; 3] = ["digital signature", "key encipherment", "server auth"];

fn judged(username: &str, groups: &[&str], usages: &[&str], request: &str) -> Result<HostName, Refusal> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (groups, usages) = (texts(groups), texts(usages));
    judge(&plan("external"), &Asked { username, groups: &groups, usages: &usages, request: request.as_bytes() })
}

/// By the worker's own kubelet.
fn asked(subject: &str, extensions: &[&str]) -> Result<HostName, Refusal> {
    judged("system:node:worker-1", &["system:nodes", "system:authenticated"], &USAGES, &request(subject, extensions))
}

#[test]
fn a_kubelet_gets_a_certificate_for_its_own_host() {
    let host = "worker-1".parse().unwrap();
    assert_eq!(asked(SUBJECT, &[NAMES]), Ok(host));
    let without_encipherment = ["digital signature", "server auth"];
    assert!(judged("system:node:worker-1", &["system:nodes"], &without_encipherment, &request(SUBJECT, &[NAMES])).is_ok());
    assert!(asked(SUBJECT, &["subjectAltName=IP:192.0.2.21"]).is_ok());
    assert!(asked(SUBJECT, &[NAMES, "extendedKeyUsage=serverAuth"]).is_ok());
}

#[test]
fn nobody_else_does() {
    let good = request(SUBJECT, &[NAMES]);
    let by = |username: &str, groups: &[&str]| judged(username, groups, &USAGES, &good).unwrap_err().to_string();
    assert_eq!(by("olga", &["system:masters"]), "`olga` is no kubelet");
    assert_eq!(by("system:node:worker-1", &["system:authenticated"]), "`system:node:worker-1` is no kubelet");
    assert_eq!(by("system:node:worker-9", &["system:nodes"]), "the plan has no node `worker-9`");
    assert_eq!(by("system:node:cp-1", &["system:nodes"]), "it names `O=system:nodes, CN=system:node:worker-1`");
}

#[test]
fn nothing_foreign_is_in_it() {
    for (subject, extensions, reason) in [
        (SUBJECT, &["subjectAltName=DNS:worker-1,IP:192.0.2.11"][..], "it asks for 192.0.2.11, which the plan does not give the host"),
        (SUBJECT, &["subjectAltName=DNS:worker-1,IP:192.0.2.21,DNS:kubernetes"], "it asks for kubernetes, which the plan does not give the host"),
        (SUBJECT, &["subjectAltName=DNS:*.example.test,IP:192.0.2.21"], "it asks for *.example.test, which the plan does not give the host"),
        (SUBJECT, &["subjectAltName=DNS:worker-1"], "it does not ask for 192.0.2.21, by which the host is reached"),
        (SUBJECT, &[], "it does not ask for 192.0.2.21, by which the host is reached"),
        ("/O=system:nodes/CN=system:node:cp-1", &[NAMES], "it names `O=system:nodes, CN=system:node:cp-1`"),
        ("/O=system:masters/CN=system:node:worker-1", &[NAMES], "it names `O=system:masters, CN=system:node:worker-1`"),
        ("/O=system:nodes/O=system:masters/CN=system:node:worker-1", &[NAMES], "it names `O=system:masters, O=system:nodes, CN=system:node:worker-1`"),
        ("/CN=system:node:worker-1", &[NAMES], "it names `CN=system:node:worker-1`"),
        (SUBJECT, &[NAMES, "basicConstraints=CA:TRUE"], "the request cannot be used: it asks for a CA certificate"),
        (SUBJECT, &[NAMES, "extendedKeyUsage=clientAuth"], "it asks for the use `client`"),
        (SUBJECT, &["subjectAltName=email:a@example.test"], "the request cannot be used: it asks for a name that is neither a DNS name nor an address"),
    ] {
        assert_eq!(asked(subject, extensions).unwrap_err().to_string(), reason, "{subject} {extensions:?}");
    }
}

#[test]
fn it_serves_and_does_nothing_else() {
    let good = request(SUBJECT, &[NAMES]);
    let with = |usages: &[&str]| judged("system:node:worker-1", &["system:nodes"], usages, &good).map_err(|refusal| refusal.to_string());
    assert_eq!(with(&["digital signature", "client auth"]), Err("it asks for the use `client auth`".into()));
    assert_eq!(with(&["server auth", "cert sign"]), Err("it asks for the use `cert sign`".into()));
    assert_eq!(with(&["digital signature"]), Err("it asks for the use `nothing with server auth`".into()));
    assert_eq!(
        judged("system:node:worker-1", &["system:nodes"], &USAGES, "nothing"),
        Err(Refusal::Request(RequestError::NoBlock))
    );
}

//! A CA in a directory and requests by openssl, signed as the command line would.

use super::*;
use crate::trust::csr::tests::request;
use crate::trust::testing::{Hosts, openssl, plan};

/// A directory with a cluster's CA of that path.
fn authority(path: &str) -> tempfile::TempDir {
    let mut hosts = Hosts::new(plan("single"));
    let material = hosts.run(crate::phase::Stage::Fresh, Timestamp::now()).unwrap();
    hosts.write(&material);
    let directory = tempfile::tempdir().unwrap();
    for suffix in ["crt", "key"] {
        fs::write(directory.path().join(format!("ca.{suffix}")), hosts.bytes("cp-1", &format!("/etc/kubernetes/pki/{path}.{suffix}"))).unwrap();
    }
    directory
}

fn arguments(directory: &Path, requests: &[&str], plan: Option<PathBuf>) -> Arguments {
    let requests = requests.iter().map(|name| directory.join(name)).collect();
    Arguments { ca: directory.to_owned(), plan, life: Span::seconds(86_400), requests }
}

#[test]
fn what_is_asked_for_is_kept_and_verifies() {
    let directory = authority("etcd/ca");
    let names = "subjectAltName=DNS:etcd.example.test,DNS:localhost,IP:192.0.2.1";
    let text = request("/O=one/O=two/O=three/CN=etcd-1", &[names, "extendedKeyUsage=serverAuth,clientAuth"]);
    fs::write(directory.path().join("peer.csr"), &text).unwrap();
    run(&arguments(directory.path(), &["peer.csr"], None)).unwrap();
    let certificate = inspect::certificate(&fs::read(directory.path().join("peer.crt")).unwrap()).unwrap();
    let asked = csr::read(text.as_bytes()).unwrap();
    assert_eq!((certificate.subject, certificate.names, certificate.usages), (asked.subject, asked.names, asked.usages));
    assert_eq!(certificate.public_key, asked.public_key);
    for purpose in ["sslserver", "sslclient"] {
        openssl(Some(directory.path()), &["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.crt", "peer.crt"], b"").unwrap();
    }
    let again = run(&arguments(directory.path(), &["peer.csr"], None)).unwrap_err();
    assert_eq!(again.kind, Kind::LocalFile, "nothing is overwritten");
}

#[test]
fn one_bad_request_and_nothing_is_signed() {
    let directory = authority("ca");
    fs::write(directory.path().join("good.csr"), request("/CN=x", &["extendedKeyUsage=clientAuth"])).unwrap();
    fs::write(directory.path().join("bad.csr"), request("/CN=x", &["basicConstraints=CA:TRUE"])).unwrap();
    fs::write(directory.path().join("mute.csr"), request("/CN=x", &[])).unwrap();
    fs::write(directory.path().join("masters.csr"), request("/O=system:masters/CN=x", &["extendedKeyUsage=clientAuth"])).unwrap();
    for bad in ["bad.csr", "mute.csr", "masters.csr"] {
        assert_eq!(run(&arguments(directory.path(), &["good.csr", bad], None)).unwrap_err().kind, Kind::Refused, "{bad}");
    }
    assert!(!directory.path().join("good.crt").exists());
    fs::write(directory.path().join("ca.key"), authority_key()).unwrap();
    assert_eq!(run(&arguments(directory.path(), &["good.csr"], None)).unwrap_err().kind, Kind::Refused, "another CA's key");
}

fn authority_key() -> Vec<u8> {
    fs::read(authority("ca").path().join("ca.key")).unwrap()
}

#[test]
fn with_a_plan_only_what_it_wants_is_signed() {
    let plan = plan("single");
    let hosts = Hosts::bootstrapped(plan.clone());
    let certificate = |path: &str| inspect::certificate(&hosts.bytes("cp-1", path)).unwrap();
    let (ca, etcd) = (certificate("/etc/kubernetes/pki/ca.crt"), certificate("/etc/kubernetes/pki/etcd/ca.crt"));
    let leaves = specification::leaves(&plan, plan.kubernetes.version);
    let wanted = |name: &str| {
        let leaf = leaves.iter().find(|leaf| leaf.name == name).unwrap();
        Request { subject: leaf.subject.clone(), names: leaf.names.clone(), usages: leaf.usages.clone(), public_key: Vec::new() }
    };
    let judged = |request: &Request, ca: &Certificate| judge(request, ca, Some(&plan));
    assert_eq!(judged(&wanted("apiserver"), &ca), Ok(()));
    assert_eq!(judged(&wanted("super-admin.conf"), &ca), Ok(()), "the plan wants this system:masters");
    assert_eq!(judged(&wanted("etcd/peer"), &etcd), Ok(()));
    assert_eq!(judged(&wanted("apiserver"), &etcd), Err("apiserver is signed by the CA kubernetes, not by the CA etcd-ca".into()));
    let mut more = wanted("apiserver");
    more.names.push(specification::SubjectName::Dns("evil.example.test".into()));
    assert!(judged(&more, &ca).unwrap_err().contains("evil.example.test"));
    let mut other = wanted("apiserver");
    other.subject.common_name = "olga".into();
    assert_eq!(judged(&other, &ca), Err("the plan wants no certificate of `CN=olga`".into()));
    let mut client = wanted("apiserver");
    client.usages = wanted("scheduler.conf").usages;
    assert!(judged(&client, &ca).is_err());
}

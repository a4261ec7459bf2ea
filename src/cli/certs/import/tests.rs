//! From requests to certificates by openssl, a signer that knows nothing of slipway, and back.

use super::*;
use crate::names::RemotePath;
use crate::phase::Stage;
use crate::trust::specification::{Authority, ClusterPair};
use crate::trust::testing::{Hosts, name, openssl, plan};

const AUTHORITIES: [(&str, &str); 3] = [("cluster", "kubernetes"), ("front-proxy", "front-proxy-ca"), ("etcd", "etcd-ca")];

/// A directory with three CAs by openssl and all requests of the plan.
fn asked(plan: &Plan) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = Some(directory.path());
    for (authority, name) in AUTHORITIES {
        let subject = format!("/DC=test/DC=example/CN={name}");
        let (key, certificate) = (format!("{authority}.key"), format!("{authority}.crt"));
        let line = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "400", "-subj", &subject, "-keyout", &key, "-out", &certificate, "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
        openssl(at, &line, b"").unwrap();
    }
    let leaves = specification::leaves(plan, plan.kubernetes.version);
    csr::write(plan, &leaves, &directory.path().join("out")).unwrap();
    directory
}

fn external(kind: &str) -> Plan {
    let mut plan = plan(kind);
    plan.pki.authority = AuthorityKeys::External { cluster: "a".into(), front_proxy: "b".into(), etcd: Some("c".into()) };
    plan
}

fn sign(directory: &Path, authority: &str) {
    let at = directory.join("out/requests").join(authority);
    for entry in fs::read_dir(&at).unwrap() {
        let request = entry.unwrap().path();
        let certificate = request.with_extension("crt");
        let (key, ca) = (directory.join(format!("{authority}.key")), directory.join(format!("{authority}.crt")));
        let text = |path: &Path| path.display().to_string();
        let line = ["x509", "-req", "-days", "200", "-copy_extensions", "copy", "-CA", &text(&ca), "-CAkey", &text(&key), "-CAcreateserial", "-in", &text(&request), "-out", &text(&certificate)];
        openssl(Some(directory), &line, b"").unwrap();
    }
}

fn given(directory: &Path) -> Given {
    let text = |name: &str| fs::read_to_string(directory.join(format!("{name}.crt"))).unwrap();
    [(Authority::Kubernetes, "cluster"), (Authority::FrontProxy, "front-proxy"), (Authority::Etcd, "etcd")]
        .map(|(authority, name)| (ClusterPair::Authority(authority), text(name)))
        .into()
}

#[test]
fn what_openssl_signed_makes_a_cluster() {
    use std::os::unix::fs::MetadataExt as _;
    let plan = external("external");
    let directory = asked(&plan);
    let (at, out) = (directory.path(), directory.path().join("out"));
    for authority in AUTHORITIES {
        sign(at, authority.0);
    }
    for secret in ["keys", "keys/cluster"] {
        assert_eq!(fs::metadata(out.join(secret)).unwrap().mode() & 0o777, 0o700);
    }
    assert_eq!(fs::metadata(out.join("keys/etcd/cp-1.etcd-peer.key")).unwrap().mode() & 0o777, 0o600);
    let given = given(at);
    let brought = read(&plan, &given, &out, Timestamp::now()).unwrap();
    assert_eq!(brought.len(), specification::leaves(&plan, plan.kubernetes.version).len());

    let mut hosts = Hosts::new(plan);
    hosts.given = given;
    let material = hosts.run_for(Stage::Fresh, &Requested::brought(brought), Timestamp::now()).unwrap();
    hosts.write(&material);
    assert_eq!(hosts.run(Stage::Living, Timestamp::now()).unwrap().events, [], "`apply` has nothing more to do");
    let served = hosts.bytes("cp-2", "/etc/kubernetes/pki/apiserver.crt");
    fs::write(at.join("served.crt"), served).unwrap();
    openssl(Some(at), &["verify", "-purpose", "sslserver", "-CAfile", "cluster.crt", "served.crt"], b"").unwrap();
    let kubelet = &hosts.facts[&name("worker-1")].state;
    assert!(kubelet.files.contains_key(&RemotePath::fixed("/var/lib/kubelet/pki/kubelet-client-current.pem")));
}

#[test]
fn one_wrong_certificate_and_nothing_is_brought_in() {
    let plan = external("single");
    let directory = asked(&plan);
    let (at, out) = (directory.path(), directory.path().join("out"));
    assert_eq!(read(&plan, &given(at), &out, Timestamp::now()).unwrap_err().kind, Kind::LocalFile, "nothing is signed yet");
    sign(at, "etcd");
    assert_eq!(read(&plan, &given(at), &out, Timestamp::now()).unwrap().len(), 4, "those of one CA can go first");
    let requests = out.join("requests/etcd");
    fs::copy(requests.join("cp-1.etcd-server.crt"), requests.join("cp-1.etcd-peer.crt")).unwrap();
    let failure = read(&plan, &given(at), &out, Timestamp::now()).unwrap_err();
    assert!(failure.kind == Kind::Refused && failure.to_string().contains("another key"), "{failure}");
}

#[test]
fn keys_are_never_overwritten() {
    let plan = external("single");
    let directory = asked(&plan);
    let leaves = specification::leaves(&plan, plan.kubernetes.version);
    assert_eq!(csr::write(&plan, &leaves, &directory.path().join("out")).unwrap_err().kind, Kind::LocalFile);
}

//! What reviewers are shown, and what the digest depends on.

use std::collections::BTreeSet;

use super::*;
use crate::artifact::{Content, Object, ObjectPolicy, Secret};
use crate::graph::tests::id;
use crate::names::Mode;

fn file(path: &str, content: Content, reason: Reason, before: Option<&str>) -> Change {
    let path = RemotePath::fixed(path);
    Change { artifact: Artifact::File { path, mode: Mode(0o600), content }, reason, before: before.map(str::to_owned) }
}

fn content_differs() -> Reason {
    Reason::Content { found: None, drift: false }
}

/// Changes of every kind; `drawn` stands for what is random in a run.
fn graph(drawn: &str) -> StepGraph {
    let key = Content::secret(Secret::new(drawn.as_bytes().to_vec()), "key of the API server, RSA-2048");
    let description = "kubeconfig to https://192.0.2.1:6443\nnew certificate of CN=system:kube-scheduler\n";
    let kubeconfig = Content::secret(Secret::new(drawn.as_bytes().to_vec()), description);
    let annotated = format!("image: etcd:3.6\nhash: {drawn}\n");
    let manifest = Content::reviewed(annotated, "image: etcd:3.6\nhash: <new>\n");
    let unit = Artifact::Unit {
        name: "kubelet.service".into(),
        inputs: vec![RemotePath::fixed("/var/lib/kubelet/config.yaml")],
        stamp: Digest::of(drawn),
        check: None,
    };
    let changed = vec![RemotePath::fixed("/var/lib/kubelet/config.yaml")];
    let token = serde_json::json!({ "kind": "Secret", "metadata": { "name": format!("bootstrap-token-{drawn}") }, "stringData": { "x": drawn } });
    let ca = format!("-----BEGIN CERTIFICATE-----\n{drawn}\n-----END CERTIFICATE-----\n");
    let info = Object::new(
        serde_json::json!({ "kind": "ConfigMap", "metadata": { "name": "cluster-info" }, "data": { "ca": ca } }),
    );
    let object = |object| Change { artifact: Artifact::Object(object), reason: Reason::Missing, before: None };
    let steps = vec![
        Step {
            changes: vec![
                file("/etc/modules-load.d/a.conf", Content::plain("overlay\n"), Reason::Missing, None),
                Change {
                    artifact: Artifact::Sysctl { key: "net.ipv4.ip_forward".into(), value: "1".into() },
                    reason: Reason::Value { found: "0".into() },
                    before: None,
                },
            ],
            ..Step::empty(id("system@cp-1"))
        },
        Step {
            changes: vec![
                file("/etc/kubernetes/pki/apiserver.key", key, content_differs(), Some("an old secret")),
                file("/etc/kubernetes/scheduler.conf", kubeconfig, Reason::Missing, None),
                file(
                    "/etc/kubernetes/manifests/etcd.yaml",
                    manifest,
                    content_differs(),
                    Some("image: \u{1b}[2Jetcd:3.5\nhash: 1\n"),
                ),
                Change {
                    artifact: Artifact::Absent { path: RemotePath::fixed("/etc/old") },
                    reason: Reason::Unwanted,
                    before: None,
                },
            ],
            ..Step::empty(id("etcd@cp-1"))
        },
        Step {
            changes: vec![Change { artifact: unit, reason: Reason::Inputs { changed }, before: None }],
            ..Step::empty(id("kubelet@cp-1"))
        },
        Step {
            changes: vec![
                object(Object { value: token, secret: true, policy: ObjectPolicy::WithCluster }),
                object(info),
            ],
            ..Step::empty(id("cluster-objects@cluster"))
        },
    ];
    let edges = [(id("system@cp-1"), id("etcd@cp-1")), (id("etcd@cp-1"), id("kubelet@cp-1"))];
    StepGraph::assemble(Stage::Living, BTreeSet::new(), steps, edges).unwrap()
}

#[test]
fn the_text_shows_every_change_with_its_reason_and_no_secret() {
    let text = Difference::of(&graph("abcdef")).to_text(Look::default());
    assert!(!text.contains("an old secret"));
    insta::assert_snapshot!(text);
}

#[test]
fn the_full_text_shows_new_files_and_the_json_form_says_the_same() {
    let difference = Difference::of(&graph("abcdef"));
    let text = difference.to_text(Look { full: true, colour: true });
    assert!(text.contains("\u{1b}[32m+overlay\u{1b}[0m"), "{text}");
    assert!(!text.contains("\u{1b}[2J"), "hosts cannot move the cursor");
    let json = serde_json::to_string(&difference).unwrap();
    assert!(!json.contains("an old secret"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&difference.steps[1]).unwrap());
}

#[test]
fn the_digest_depends_on_what_is_reviewed_and_not_on_what_is_drawn() {
    assert_eq!(digest(&graph("abcdef")), digest(&graph("123456")));
    let selected = graph("abcdef").select(&BTreeSet::new(), &BTreeSet::from([crate::phase::Phase::System])).unwrap();
    assert_ne!(digest(&graph("abcdef")), digest(&selected));
}

#[test]
fn nothing_to_do_is_said() {
    let graph = StepGraph::assemble(Stage::Living, BTreeSet::new(), Vec::new(), []).unwrap();
    insta::assert_snapshot!(Difference::of(&graph).to_text(Look::default()), @r"
    nothing to do
    digest: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    ");
}

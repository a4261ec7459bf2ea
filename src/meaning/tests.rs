//! What means the same and what does not, file by file.

use super::*;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {x: y}}\nspec: {containers: [{name: a, image: i, command: [a, --b=1, --a=2]}], volumes: [{name: n}, {name: m}]}\n";

fn manifest() -> RemotePath {
    RemotePath::fixed("/etc/kubernetes/manifests/kube-apiserver.yaml")
}

#[test]
fn order_and_empty_values_of_a_pod_mean_nothing() {
    let found = "kind: Pod\napiVersion: v1\nmetadata: {annotations: {x: y}, creationTimestamp: null, name: a}\nspec: {volumes: [{name: m}, {name: n}], containers: [{image: i, command: [a, --a=2, --b=1], name: a, resources: {}}]}\nstatus: {}\n";
    assert_eq!(of_file(&manifest(), POD, found), Meaning::Unstamped);
    let wanted = POD.replace("x: y", "x: y, slipway.dev/inputs: abc");
    assert_eq!(of_file(&manifest(), &wanted, found), Meaning::Unstamped);
    let stamped = found.replace("x: y", "x: y, slipway.dev/inputs: abc");
    assert_eq!(of_file(&manifest(), &wanted, &stamped), Meaning::Same);
    assert_eq!(of_file(&manifest(), &wanted, &stamped.replace("abc", "other")), Meaning::Other);
}

#[test]
fn a_value_a_flag_an_image_or_a_programs_own_argument_mean_something() {
    for (old, new) in [("--a=2", "--a=3"), ("image: i", "image: j"), ("[a, --b", "[c, --b"), ("{name: n}", "{name: o}"), (", --a=2", ", --a=2, --a=3")] {
        assert_eq!(of_file(&manifest(), POD, &POD.replace(old, new)), Meaning::Other, "{new}");
    }
    let repeated = POD.replace("--a=2", "--a=2, --a=3");
    assert_eq!(of_file(&manifest(), &repeated, &repeated.replace("--a=2, --a=3", "--a=3, --a=2")), Meaning::Other, "the order of one flag's values");
}

#[test]
fn a_kubelets_zeros_mean_nothing_and_its_false_does() {
    let path = paths::kubelet_configuration();
    let wanted = "kind: KubeletConfiguration\ncgroupDriver: cgroupfs\nrotateCertificates: true\n";
    let found = "kind: KubeletConfiguration\nrotateCertificates: true\nsyncFrequency: 0s\nmemorySwap: {}\nlogging: {flushFrequency: 0, verbosity: 0, options: {json: {infoBufferSize: \"0\"}}}\n";
    assert_eq!(of_file(&path, wanted, found), Meaning::Same);
    for more in ["failSwapOn: false\n", "syncFrequency: 1m\n", "maxPods: 0\n", "cgroupDriver: systemd\n"] {
        let found = found.replace("syncFrequency: 0s\n", "");
        assert_eq!(of_file(&path, wanted, &format!("{found}{more}")), Meaning::Other, "{more}");
    }
}

#[test]
fn flags_are_a_set_and_a_socket_is_an_address() {
    let path = paths::kubelet_flags();
    let wanted = "KUBELET_KUBEADM_ARGS=\"--a=1 --container-runtime-endpoint=unix:///run/c.sock\"\n";
    let found = "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=/run/c.sock  --a=1\"\n";
    assert_eq!(of_file(&path, wanted, found), Meaning::Same);
    for other in ["KUBELET_KUBEADM_ARGS=\"--a=1\"\n", "KUBELET_KUBEADM_ARGS=--a=$B\n", "X=1\n", ""] {
        assert_eq!(of_file(&path, wanted, other), Meaning::Other, "{other}");
    }
}

#[test]
fn bytes_decide_about_every_other_file() {
    let path = RemotePath::fixed("/etc/containerd/config.toml");
    assert_eq!(of_file(&path, POD, POD), Meaning::Other);
}

#[test]
fn an_objects_text_may_write_out_defaults() {
    assert!(contains("a: {b: 1}\n", "c: 0s\na: {b: 1, d: false}\n"));
    assert!(!contains("a: {b: 1}\n", "a: {b: 2}\n"));
    assert!(contains(".:53 {\n    errors\n}\n", ".:53 {\n  errors\n}"));
    assert!(!contains(".:53 {\n    errors\n}\n", ".:53 {\n  log\n}"));
}

#[test]
fn an_endpoint_without_a_port_is_one_with_the_usual_port() {
    let says = |found: &str, wanted: &str| contains(&format!("controlPlaneEndpoint: '{wanted}'\n"), &format!("controlPlaneEndpoint: '{found}'\nother: 1\n"));
    for (found, wanted) in [("api.example.test", "api.example.test:6443"), ("192.0.2.1", "192.0.2.1:6443"), ("fd00::1", "[fd00::1]:6443"), ("[fd00::1]", "[fd00::1]:6443")] {
        assert!(says(found, wanted), "{found}");
        assert!(says(wanted, wanted), "{wanted}");
    }
    assert!(!says("api.example.test:7443", "api.example.test:6443"));
    assert!(!says("api.example.test", "api.example.test:7443"));
}

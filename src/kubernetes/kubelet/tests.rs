//! What hosts and releases change in a kubelet's configuration and flags.

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::example;
use crate::yaml;

fn plan(version: &str, changes: &str) -> Plan {
    let changes: Value = yaml::read(changes).unwrap();
    serde_json::from_value(merge::merged(serde_json::to_value(example(version)).unwrap(), &changes)).unwrap()
}

fn configuration_of(plan: &Plan, host: usize, system: &System) -> Value {
    let release = Release::of(plan.kubernetes.version).unwrap();
    configuration(plan, &plan.hosts[host], system, &release).unwrap()
}

fn flags_of(plan: &Plan, host: usize) -> String {
    let release = Release::of(plan.kubernetes.version).unwrap();
    let system = System { hostname: plan.hosts[host].name.to_string(), ..System::default() };
    flags_environment(plan, &plan.hosts[host], &system, &release)
}

#[test]
fn each_release_gets_the_flags_it_still_has() {
    for (version, expected) in [
        ("v1.20.2", "--container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock"),
        (
            "v1.33.0",
            "--container-runtime-endpoint=unix:///run/containerd/containerd.sock --pod-infra-container-image=registry.k8s.io/pause:3.10",
        ),
        ("v1.34.0", "--pod-infra-container-image=registry.k8s.io/pause:3.10.1"),
        ("v1.35.0", ""),
    ] {
        assert_eq!(flags_of(&example(version), 0), format!("KUBELET_KUBEADM_ARGS=\"{expected}\"\n"));
    }
}

#[test]
fn names_addresses_taints_and_extra_flags_are_per_host() {
    let plan = plan(
        "v1.35.0",
        r#"
network: {podCidrs: [10.0.0.0/16, 'fd00::/48'], serviceCidrs: [10.1.0.0/16, 'fd01::/112']}
kubelet: {extraArgs: {v: 2, max-pods: 50}}
hosts:
- {name: cp-1, address: 192.0.2.11, roles: [control-plane], taints: [{key: a, effect: NoSchedule}]}
- name: w-1
  address: 192.0.2.12
  secondAddress: 2001:db8::2
  roles: [worker]
  taints: [{key: gpu, value: "yes", effect: NoExecute}]
  kubelet: {extraArgs: {max-pods: [], x: 'a"b'}}"#,
    );
    assert_eq!(flags_of(&plan, 0), "KUBELET_KUBEADM_ARGS=\"--max-pods=50 --node-ip=192.0.2.11 --v=2\"\n");
    assert_eq!(
        flags_of(&plan, 1),
        "KUBELET_KUBEADM_ARGS=\"--node-ip=192.0.2.12,2001:db8::2 --register-with-taints=gpu=yes:NoExecute --v=2 --x=a\\\"b\"\n"
    );
    let release = Release::of(plan.kubernetes.version).unwrap();
    let system = System { hostname: "Other".into(), ..System::default() };
    assert!(flags_environment(&plan, &plan.hosts[1], &system, &release).contains("--hostname-override=w-1 "));
}

#[test]
fn the_host_decides_resolver_and_cgroups() {
    let resolved = System { systemd_resolved: true, cgroup_version: 1, ..System::default() };
    let configuration = configuration_of(&example("v1.35.0"), 0, &resolved);
    assert_eq!(configuration["resolvConf"], "/run/systemd/resolve/resolv.conf");
    assert_eq!(configuration["failCgroupV1"], false);
    assert_eq!(configuration_of(&example("v1.34.0"), 0, &resolved).get("failCgroupV1"), None);
    assert_eq!(configuration_of(&example("v1.35.0"), 0, &System::default()).get("resolvConf"), None);
}

#[test]
fn the_socket_is_in_the_configuration_from_1_34_on() {
    let socket = json!("unix:///run/containerd/containerd.sock");
    let release = |version: &str| Release::of(version.parse().unwrap()).unwrap();
    assert_eq!(configuration_of(&example("v1.34.0"), 0, &System::default())["containerRuntimeEndpoint"], socket);
    assert_eq!(configuration_of(&example("v1.33.0"), 0, &System::default()).get("containerRuntimeEndpoint"), None);
    let instance = instance_configuration(&example("v1.34.0"), &release("v1.34.0"));
    assert_eq!(instance, Some(json!({ "containerRuntimeEndpoint": socket })));
    assert_eq!(instance_configuration(&example("v1.33.0"), &release("v1.33.0")), None);
}

#[test]
fn plan_host_and_patches_are_merged_in_that_order() {
    let plan = plan(
        "v1.34.0",
        "
kubernetes: {featureGates: {A: true}}
kubelet: {configuration: {maxPods: 50, resolvConf: /etc/mine, evictionHard: {memory.available: 1Gi, nodefs.available: 5%}}}
patches: [{target: kubelet-configuration, hosts: [cp-1], patch: {podsPerCore: 4}}]
hosts: [{name: cp-1, address: 192.0.2.11, roles: [control-plane], kubelet: {configuration: {maxPods: 60, evictionHard: {nodefs.available: null}}}}]",
    );
    let configuration = configuration_of(&plan, 0, &System { systemd_resolved: true, ..System::default() });
    assert_eq!(configuration["maxPods"], 60);
    assert_eq!(configuration["resolvConf"], "/etc/mine");
    assert_eq!(configuration["evictionHard"], json!({ "memory.available": "1Gi" }));
    assert_eq!(configuration["podsPerCore"], 4);
    assert_eq!(configuration["featureGates"], json!({ "A": true }));
    let release = Release::of(plan.kubernetes.version).unwrap();
    let shared = cluster_configuration(&plan, &release);
    assert_eq!((&shared["maxPods"], shared.get("podsPerCore")), (&json!(50), None));
}

#[test]
fn a_kubelet_without_a_cluster_asks_no_api_server() {
    let plan = plan(
        "v1.34.0",
        "
kubelet: {configuration: {serverTLSBootstrap: true, maxPods: 20}}
hosts:
- {name: cp-1, address: 192.0.2.11, roles: [control-plane]}
- {name: etcd-1, address: 192.0.2.21, roles: [etcd]}",
    );
    let configuration = configuration_of(&plan, 1, &System::default());
    assert_eq!(
        configuration,
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "authentication": { "anonymous": { "enabled": false }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            "cgroupDriver": "systemd",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": 10248,
            "maxPods": 20,
            "staticPodPath": "/etc/kubernetes/manifests",
        })
    );
}

//! What depends on the plan, the host and the release, beyond what the reference output shows.

use serde_json::{Value, json};

use super::{EtcdMember, api_server, controller_manager, etcd, scheduler};
use crate::facts::System;
use crate::kubernetes::{INPUTS_ANNOTATION, PodInputs, example};
use crate::plan::Plan;
use crate::release::Release;
use crate::trust::rotation::SigningFiles;
use crate::yaml;

/// The example's plan with other fields, as a plan file would have them.
fn plan(version: &str, changes: &str) -> Plan {
    let example = serde_json::to_value(example(version)).unwrap();
    let changes: Value = yaml::read(changes).unwrap();
    serde_json::from_value(crate::patch::merge::merged(example, &changes)).unwrap()
}

enum Pod {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
}

fn pod(plan: &Plan, host: usize, which: Pod) -> Value {
    let release = Release::of(plan.kubernetes.version).unwrap();
    let system = System::default();
    let inputs = PodInputs { plan, host: &plan.hosts[host], system: &system, release: &release, inputs_digest: None, signing: &SigningFiles::default() };
    let member = EtcdMember { initial_cluster: "a=b".into(), state: Some("existing") };
    match which {
        Pod::Etcd => etcd(&inputs, &member),
        Pod::ApiServer => api_server(&inputs),
        Pod::ControllerManager => controller_manager(&inputs),
        Pod::Scheduler => scheduler(&inputs),
    }
    .unwrap()
}

fn container(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]
}

/// The values of a flag.
fn flag<'a>(pod: &'a Value, name: &str) -> Vec<&'a str> {
    let prefix = format!("--{name}=");
    let command = container(pod)["command"].as_array().unwrap().iter();
    command.filter_map(|word| word.as_str().unwrap().strip_prefix(&prefix)).collect()
}

#[test]
fn releases_without_reference_output_differ_where_the_tables_say() {
    let scheduler_path = |version| {
        pod(&example(version), 0, Pod::Scheduler)["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"].clone()
    };
    assert_eq!(scheduler_path("v1.31.0"), "/healthz");
    assert_eq!(scheduler_path("v1.33.0"), "/livez");

    let etcd_port = |version| {
        pod(&example(version), 0, Pod::Etcd)["spec"]["containers"][0]["livenessProbe"]["httpGet"]["port"].clone()
    };
    assert_eq!(etcd_port("v1.33.0"), 2381);
    assert_eq!(etcd_port("v1.35.0"), "probe-port");

    let old_spelling =
        |version| !flag(&pod(&example(version), 0, Pod::Etcd), "experimental-initial-corrupt-check").is_empty();
    assert!(old_spelling("v1.31.0") && old_spelling("v1.33.0") && !old_spelling("v1.35.0"));

    let flex = |version| pod(&example(version), 0, Pod::ControllerManager).to_string().contains("flexvolume-dir");
    assert!(flex("v1.35.0") && !flex("v1.36.0"));
}

#[test]
fn an_old_etcd_image_keeps_the_old_spelling_until_1_35() {
    let old = |version| {
        let plan = plan(version, "etcd: {image: 'registry.example.test:5000/etcd:3.5.26-0'}");
        !flag(&pod(&plan, 0, Pod::Etcd), "experimental-initial-corrupt-check").is_empty()
    };
    assert!(old("v1.34.0") && old("v1.35.0") && !old("v1.36.0"));
}

#[test]
fn extra_args_volumes_and_environment_reach_the_pod() {
    let changes = "
        kubernetes: {featureGates: {B: false, A: true}}
        apiServer:
          extraArgs: {profiling: false, service-account-issuer: [https://z, https://a], enable-admission-plugins: []}
          extraVolumes: [{name: audit, hostPath: /var/log/audit, mountPath: /audit, type: DirectoryOrCreate}]
          extraEnv: {Z: '1', A: '2'}";
    let pod_of = |version| pod(&plan(version, changes), 0, Pod::ApiServer);
    let old = pod_of("v1.35.0");
    assert_eq!(flag(&old, "service-account-issuer"), ["https://z", "https://a"]);
    assert_eq!(flag(&old, "enable-admission-plugins"), [""; 0]);
    assert_eq!(flag(&old, "feature-gates"), ["A=true,B=false"]);
    assert_eq!(container(&old)["env"], json!([{"name": "A", "value": "2"}, {"name": "Z", "value": "1"}]));
    assert_eq!(old["spec"]["volumes"][0]["hostPath"], json!({"path": "/var/log/audit", "type": "DirectoryOrCreate"}));
    assert_eq!(container(&old)["volumeMounts"][0], json!({"mountPath": "/audit", "name": "audit"}));
    let command = |pod: &Value| container(pod)["command"].as_array().unwrap().clone();
    assert!(command(&old)[1..].is_sorted_by_key(|word| word.as_str().unwrap().split('=').next().unwrap().to_owned()));
    let new = command(&pod_of("v1.36.0"));
    assert_eq!(
        new[new.len() - 3..],
        ["--profiling=false", "--service-account-issuer=https://z", "--service-account-issuer=https://a"]
    );
}

#[test]
fn an_authorization_file_takes_the_mode_away() {
    let plan = plan("v1.34.0", "apiServer: {extraArgs: {authorization-config: /etc/kubernetes/authz.yaml}}");
    assert_eq!(flag(&pod(&plan, 0, Pod::ApiServer), "authorization-mode"), [""; 0]);
}

#[test]
fn ipv6_hosts_talk_over_the_ipv6_loopback() {
    let plan = plan(
        "v1.34.0",
        "network: {podCidrs: ['fd00:1::/56'], serviceCidrs: ['fd00:2::/112']}
hosts: [{name: cp-1, address: '2001:db8::1', roles: [control-plane]}]",
    );
    let etcd = pod(&plan, 0, Pod::Etcd);
    assert_eq!(flag(&etcd, "listen-client-urls"), ["https://[::1]:2379,https://[2001:db8::1]:2379"]);
    assert_eq!(flag(&etcd, "listen-metrics-urls"), ["http://[::1]:2381"]);
    assert_eq!(container(&etcd)["livenessProbe"]["httpGet"]["host"], "::1");
    let api_server = pod(&plan, 0, Pod::ApiServer);
    assert_eq!(flag(&api_server, "etcd-servers"), ["https://[::1]:2379"]);
    let annotations = &api_server["metadata"]["annotations"];
    assert_eq!(annotations["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"], "[2001:db8::1]:6443");
}

#[test]
fn external_etcd_has_its_endpoints_and_files() {
    let plan = plan(
        "v1.34.0",
        "etcd: {external: {endpoints: ['https://e1:2379', 'https://e2:2379'], caFile: a, certificateFile: b, keyFile: c}}",
    );
    let pod = pod(&plan, 0, Pod::ApiServer);
    assert_eq!(flag(&pod, "etcd-servers"), ["https://e1:2379,https://e2:2379"]);
    assert_eq!(flag(&pod, "etcd-keyfile"), ["/etc/kubernetes/pki/etcd-external/client.key"]);
}

#[test]
fn etcd_hosts_run_the_members_of_all_api_servers() {
    let plan = plan(
        "v1.34.0",
        "hosts:
- {name: cp-1, address: 192.0.2.11, roles: [control-plane]}
- {name: etcd-1, address: 192.0.2.21, roles: [etcd]}
- {name: etcd-2, address: 192.0.2.22, roles: [etcd]}",
    );
    let servers = "https://192.0.2.21:2379,https://192.0.2.22:2379";
    assert_eq!(flag(&pod(&plan, 0, Pod::ApiServer), "etcd-servers"), [servers]);
    let member = pod(&plan, 2, Pod::Etcd);
    assert_eq!(flag(&member, "name"), ["etcd-2"]);
    assert_eq!(flag(&member, "initial-cluster-state"), ["existing"]);
}

#[test]
fn ca_directories_are_mounted_where_they_exist() {
    let ca_directories = ["/etc/pki", "/etc/pki/tls/certs"].map(str::to_owned).into();
    let system = System { ca_directories, ..System::default() };
    let mounted = |version| {
        let plan = example(version);
        let release = Release::of(plan.kubernetes.version).unwrap();
        let inputs =
            PodInputs { plan: &plan, host: &plan.hosts[0], system: &system, release: &release, inputs_digest: None, signing: &SigningFiles::default() };
        let names = api_server(&inputs).unwrap()["spec"]["volumes"].as_array().unwrap().clone();
        names.iter().map(|volume| volume["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(mounted("v1.20.2"), ["ca-certs", "etc-pki", "k8s-certs"]);
    assert_eq!(mounted("v1.31.0"), ["ca-certs", "etc-pki-tls-certs", "k8s-certs"]);
}

#[test]
fn the_bridge_network_hands_out_node_networks_itself() {
    let bridge = plan("v1.34.0", "network: {cni: {bridge: {}}}");
    assert_eq!(flag(&pod(&bridge, 0, Pod::ControllerManager), "allocate-node-cidrs"), ["false"]);
    let other = example("v1.34.0");
    assert_eq!(flag(&pod(&other, 0, Pod::ControllerManager), "allocate-node-cidrs"), ["true"]);
}

#[test]
fn node_masks_are_flags_only_when_they_are_not_the_default() {
    let masks = |changes: &str| {
        let pod = pod(&plan("v1.34.0", changes), 0, Pod::ControllerManager);
        ["", "-ipv4", "-ipv6"].map(|family| flag(&pod, &format!("node-cidr-mask-size{family}")).join(","))
    };
    assert_eq!(masks("{}"), ["", "", ""]);
    assert_eq!(masks("network: {nodeMaskV4: 25}"), ["25", "", ""]);
    let dual =
        "network: {podCidrs: [10.0.0.0/16, 'fd00::/48'], serviceCidrs: [10.1.0.0/16, 'fd01::/112'], nodeMaskV6: 72}";
    assert_eq!(masks(dual), ["", "", "72"]);
}

#[test]
fn v1_20_needs_a_gate_for_dual_stack() {
    let dual = "network: {podCidrs: [10.0.0.0/16, 'fd00::/48'], serviceCidrs: [10.1.0.0/16, 'fd01::/112']}";
    let gates = |version| flag(&pod(&plan(version, dual), 0, Pod::ApiServer), "feature-gates").join(",");
    assert_eq!(gates("v1.20.2"), "IPv6DualStack=true");
    assert_eq!(gates("v1.31.0"), "");
}

#[test]
fn probes_follow_where_a_component_listens() {
    let plan = plan(
        "v1.34.0",
        "etcd: {extraArgs: {listen-metrics-urls: 'http://192.0.2.11:2391'}}
scheduler: {extraArgs: {bind-address: 0.0.0.0}}",
    );
    let etcd = pod(&plan, 0, Pod::Etcd);
    assert_eq!(container(&etcd)["livenessProbe"]["httpGet"]["host"], "192.0.2.11");
    assert_eq!(container(&etcd)["ports"][0]["containerPort"], 2391);
    assert_eq!(container(&pod(&plan, 0, Pod::Scheduler))["livenessProbe"]["httpGet"].get("host"), None);
}

#[test]
fn patches_come_last_and_the_digest_is_an_annotation() {
    let plan = plan(
        "v1.34.0",
        "patches: [{target: kube-scheduler, patch: {spec: {containers: [{name: kube-scheduler, image: mine}]}}}]",
    );
    let release = Release::of(plan.kubernetes.version).unwrap();
    let system = System::default();
    let inputs =
        PodInputs { plan: &plan, host: &plan.hosts[0], system: &system, release: &release, inputs_digest: Some("abc"), signing: &SigningFiles::default() };
    let pod = scheduler(&inputs).unwrap();
    assert_eq!(container(&pod)["image"], "mine");
    assert_eq!(container(&pod)["resources"]["requests"]["cpu"], "100m");
    assert_eq!(pod["metadata"]["annotations"][INPUTS_ANNOTATION], "abc");
    assert_eq!((&pod["kind"], &pod["apiVersion"]), (&json!("Pod"), &json!("v1")));
}

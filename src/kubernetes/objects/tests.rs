//! The objects beyond the reference output: other topologies, releases and settings.

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::coredns::{coredns, corefile};
use crate::kubernetes::flannel::flannel;
use crate::kubernetes::kube_proxy;
use crate::kubernetes::node_marks::node_marks;
use crate::kubernetes::{example, is_dual_stack};
use crate::patch::merge;
use crate::plan::Effect;

fn plan(version: &str, changes: &str) -> Plan {
    let changes: Value = yaml::read(changes).unwrap();
    serde_json::from_value(merge::merged(serde_json::to_value(example(version)).unwrap(), &changes)).unwrap()
}

fn release(plan: &Plan) -> Release {
    Release::of(plan.kubernetes.version).unwrap()
}

fn objects(plan: &Plan) -> Vec<Object> {
    let token = BootstrapToken {
        id: "abcdef".into(),
        secret: Secret::new("0123456789abcdef"),
        expiration: "2026-11-21T00:00:00Z".into(),
    };
    cluster_objects(&ObjectInputs { plan, release: &release(plan), ca_pem: "PEM", token: Some(token) })
}

fn find(objects: &[Object], id: &str) -> Value {
    objects.iter().find(|object| object.id() == id).unwrap_or_else(|| panic!("no {id}")).value.clone()
}

/// The stored ClusterConfiguration.
fn stored(plan: &Plan) -> Value {
    let object = find(&objects(plan), "ConfigMap/kube-system/kubeadm-config");
    yaml::read(object["data"]["ClusterConfiguration"].as_str().unwrap()).unwrap()
}

#[test]
fn the_order_of_objects_is_the_order_of_need() {
    let ids: Vec<_> = objects(&example("v1.36.2")).iter().map(Object::id).collect();
    insta::assert_snapshot!(ids.join("\n"), @r"
    ClusterRoleBinding/kubeadm:cluster-admins
    ClusterRoleBinding/kubeadm:apiserver-kubelet-client
    ConfigMap/kube-system/kubeadm-config
    Role/kube-system/kubeadm:nodes-kubeadm-config
    RoleBinding/kube-system/kubeadm:nodes-kubeadm-config
    ConfigMap/kube-system/kubelet-config
    Role/kube-system/kubeadm:kubelet-config
    RoleBinding/kube-system/kubeadm:kubelet-config
    ClusterRole/kubeadm:get-nodes
    ClusterRoleBinding/kubeadm:get-nodes
    ClusterRoleBinding/kubeadm:kubelet-bootstrap
    ClusterRoleBinding/kubeadm:node-autoapprove-bootstrap
    ClusterRoleBinding/kubeadm:node-autoapprove-certificate-rotation
    Secret/kube-system/bootstrap-token-abcdef
    Role/kube-public/kubeadm:bootstrap-signer-clusterinfo
    RoleBinding/kube-public/kubeadm:bootstrap-signer-clusterinfo
    ConfigMap/kube-public/cluster-info
    ");
}

#[test]
fn the_token_is_secret_and_made_once() {
    let objects = objects(&example("v1.34.0"));
    let token = objects.iter().find(|object| object.secret).unwrap();
    assert_eq!(
        (token.id().as_str(), token.policy),
        ("Secret/kube-system/bootstrap-token-abcdef", ObjectPolicy::WithCluster)
    );
    assert_eq!(token.value["data"]["token-secret"], "MDEyMzQ1Njc4OWFiY2RlZg==");
    assert_eq!(objects.iter().filter(|object| object.policy == ObjectPolicy::Always).count(), objects.len() - 1);
}

#[test]
fn rights_follow_the_release() {
    let has = |version: &str, id: &str| objects(&example(version)).iter().any(|object| object.id() == id);
    for (version, admins, client) in [
        ("v1.20.2", false, false),
        ("v1.31.0", true, false),
        ("v1.33.12", true, true),
        ("v1.35.0", true, false),
        ("v1.35.5", true, true),
    ] {
        assert_eq!(has(version, "ClusterRoleBinding/kubeadm:cluster-admins"), admins, "{version}");
        assert_eq!(has(version, "ClusterRoleBinding/kubeadm:apiserver-kubelet-client"), client, "{version}");
    }
}

#[test]
fn the_stored_configuration_says_what_kubeadm_cannot_derive() {
    let changes = "
kubernetes: {featureGates: {A: true}}
network: {cni: {bridge: {}}}
pki: {algorithm: ECDSA-P384}
endpoint: {external: null, localProxy: {port: 7443}}
coreDns: {enabled: false}
kubeProxy: {enabled: false}
etcd: {image: 'registry.example.test/x/etcd:3.6.9-0', extraSans: [etcd.example.test], extraEnv: {GOGC: '50'}}
scheduler:
  extraArgs: {v: [1, 2], profiling: []}
  extraVolumes: [{name: a, hostPath: /a, mountPath: /b, readOnly: true, type: File}]";
    insta::assert_snapshot!(yaml::write(&stored(&plan("v1.35.0", changes))), @r#"
    apiVersion: kubeadm.k8s.io/v1beta4
    kind: ClusterConfiguration
    kubernetesVersion: v1.35.0
    clusterName: kubernetes
    certificatesDir: /etc/kubernetes/pki
    imageRepository: registry.k8s.io
    networking:
      dnsDomain: cluster.local
      podSubnet: 10.244.0.0/16
      serviceSubnet: 10.96.0.0/12
    apiServer:
      extraArgs:
      - name: feature-gates
        value: A=true
      certSANs:
      - api.example.test
      - "192.0.2.100"
    controllerManager:
      extraArgs:
      - name: allocate-node-cidrs
        value: "false"
      - name: feature-gates
        value: A=true
    scheduler:
      extraArgs:
      - name: feature-gates
        value: A=true
      - name: v
        value: "1"
      - name: v
        value: "2"
      extraVolumes:
      - name: a
        hostPath: /a
        mountPath: /b
        readOnly: true
        pathType: File
    etcd:
      local:
        dataDir: /var/lib/etcd
        extraEnvs:
        - name: GOGC
          value: "50"
        serverCertSANs:
        - etcd.example.test
        peerCertSANs:
        - etcd.example.test
        imageRepository: registry.example.test/x
        imageTag: 3.6.9-0
    dns:
      disabled: true
    controlPlaneEndpoint: 192.0.2.11:7443
    certificateValidityPeriod: 8760h0m0s
    caCertificateValidityPeriod: 87600h0m0s
    proxy:
      disabled: true
    encryptionAlgorithm: ECDSA-P384
    "#);
    assert_eq!(stored(&plan("v1.33.0", changes)).get("encryptionAlgorithm"), None);
    let old = stored(&plan("v1.20.2", changes));
    assert_eq!(old["scheduler"]["extraArgs"], json!({ "feature-gates": "A=true", "v": "2" }));
}

#[test]
fn an_etcd_of_its_own_is_external_to_kubeadm() {
    let hosts = "
hosts:
- {name: cp-1, address: 192.0.2.11, roles: [control-plane]}
- {name: etcd-1, address: 192.0.2.21, roles: [etcd]}";
    let external = &stored(&plan("v1.34.0", hosts))["etcd"]["external"];
    assert_eq!(external["endpoints"], json!(["https://192.0.2.21:2379"]));
    assert_eq!(external["certFile"], "/etc/kubernetes/pki/apiserver-etcd-client.crt");
}

#[test]
fn dual_stack_joins_networks_and_v1_20_needs_a_gate() {
    let dual =
        plan("v1.20.2", "network: {podCidrs: [10.0.0.0/16, 'fd00::/48'], serviceCidrs: [10.1.0.0/16, 'fd01::/112']}");
    assert!(is_dual_stack(&dual));
    let stored = stored(&dual);
    assert_eq!(stored["networking"]["podSubnet"], "10.0.0.0/16,fd00::/48");
    assert_eq!(stored["featureGates"], json!({ "IPv6DualStack": true }));
    let proxy = kube_proxy::configuration(&dual, &release(&dual));
    assert_eq!(proxy["featureGates"], json!({ "IPv6DualStack": true }));
    assert_eq!(proxy["clusterCIDR"], "10.0.0.0/16,fd00::/48");
}

#[test]
fn an_edited_configuration_is_not_signed_as_kubeadms_own() {
    let annotations = |changes: &str, id: &str| {
        let plan = plan("v1.34.0", changes);
        let mut all = objects(&plan);
        all.extend(kube_proxy::kube_proxy(&plan, &release(&plan)).unwrap());
        find(&all, id)["metadata"].get("annotations").is_some()
    };
    assert!(annotations("{}", "ConfigMap/kube-system/kubelet-config"));
    assert!(!annotations("kubelet: {configuration: {maxPods: 9}}", "ConfigMap/kube-system/kubelet-config"));
    assert!(annotations("{}", "ConfigMap/kube-system/kube-proxy"));
    assert!(!annotations("kubeProxy: {mode: nftables}", "ConfigMap/kube-system/kube-proxy"));
}

#[test]
fn kube_proxy_uses_the_hosts_own_way_to_the_api() {
    let plan = plan(
        "v1.34.0",
        "
endpoint: {external: null, localProxy: {port: 7443}}
kubeProxy: {mode: ipvs, configuration: {ipvs: {strictARP: true}}}",
    );
    let objects = kube_proxy::kube_proxy(&plan, &release(&plan)).unwrap();
    let data = find(&objects, "ConfigMap/kube-system/kube-proxy")["data"].clone();
    assert!(data["kubeconfig.conf"].as_str().unwrap().contains("https://127.0.0.1:7443"));
    let configuration: Value = yaml::read(data["config.conf"].as_str().unwrap()).unwrap();
    assert_eq!((&configuration["mode"], &configuration["ipvs"]["strictARP"]), (&json!("ipvs"), &json!(true)));
}

#[test]
fn add_ons_can_be_patched_and_turned_off() {
    let off = plan("v1.34.0", "{coreDns: {enabled: false}, kubeProxy: {enabled: false}}");
    assert_eq!(coredns(&off, &release(&off)).unwrap(), []);
    assert_eq!(kube_proxy::kube_proxy(&off, &release(&off)).unwrap(), []);
    let patched = plan(
        "v1.34.0",
        "
coreDns: {replicas: 3, corefile: '. {}'}
patches: [{target: coredns-deployment, type: json, patch: [{op: replace, path: /spec/template/spec/dnsPolicy, value: None}]}]",
    );
    let deployment = find(&coredns(&patched, &release(&patched)).unwrap(), "Deployment/kube-system/coredns");
    assert_eq!(deployment["spec"]["template"]["spec"]["dnsPolicy"], "None");
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(corefile(&patched, &release(&patched)), ". {}");
}

#[test]
fn the_corefile_is_one_server_block() {
    let plan = plan("v1.32.0", "network: {dnsDomain: example.internal}");
    insta::assert_snapshot!(corefile(&plan, &release(&plan)), @r"
    .:53 {
        errors
        health {
            lameduck 5s
        }
        ready
        kubernetes example.internal in-addr.arpa ip6.arpa {
            pods insecure
            fallthrough in-addr.arpa ip6.arpa
            ttl 30
        }
        prometheus :9153
        forward . /etc/resolv.conf {
            max_concurrent 1000
        }
        cache 30 {
            disable success example.internal
            disable denial example.internal
        }
        loop
        reload
        loadbalance
    }
    ");
}

#[test]
fn marks_follow_roles_and_release() {
    let marks = |version: &str, host: &str| {
        let plan = plan(version, &format!("hosts: [{host}]"));
        node_marks(&plan, &plan.hosts[0], &release(&plan), &["10.244.0.0/24".parse().unwrap()])
    };
    let control_plane = marks("v1.33.0", "{name: a, address: 192.0.2.1, roles: [control-plane]}");
    assert_eq!(control_plane.absent_labels, ["node-role.kubernetes.io/master"]);
    assert_eq!(
        control_plane.annotations["kubeadm.alpha.kubernetes.io/cri-socket"],
        "unix:///run/containerd/containerd.sock"
    );
    assert_eq!(control_plane.taints[0].effect, Effect::NoSchedule);
    let both = marks("v1.34.0", "{name: a, address: 192.0.2.1, roles: [control-plane, worker], labels: {x: z}}");
    assert_eq!((both.taints.len(), both.labels.len()), (0, 3));
    assert_eq!(both.annotations.keys().collect::<Vec<_>>(), ["slipway.dev/host"]);
    let worker =
        marks("v1.34.0", "{name: a, address: 192.0.2.1, roles: [worker], taints: [{key: k, effect: NoExecute}]}");
    assert_eq!((worker.taints.len(), worker.labels.len(), worker.pod_cidrs.len()), (1, 0, 1));
    let untainted = marks("v1.34.0", "{name: a, address: 192.0.2.1, roles: [control-plane], taints: []}");
    assert_eq!(untainted.taints, []);
}

#[test]
fn flannel_knows_the_networks_and_the_plugin_directory() {
    assert_eq!(flannel(&example("v1.34.0")), []);
    let plan = plan(
        "v1.34.0",
        "
runtime: {cniDirectory: /usr/lib/cni}
network: {podCidrs: [10.0.0.0/16, 'fd00::/48'], serviceCidrs: [10.1.0.0/16, 'fd01::/112'], cni: {flannel: {backend: host-gw}}}",
    );
    let objects = flannel(&plan);
    let map = find(&objects, "ConfigMap/kube-flannel/kube-flannel-cfg");
    let network: Value = serde_json::from_str(map["data"]["net-conf.json"].as_str().unwrap()).unwrap();
    assert_eq!(
        network,
        json!({
            "EnableIPv4": true, "Network": "10.0.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00::/48",
            "Backend": { "Type": "host-gw" },
        })
    );
    let daemon = find(&objects, "DaemonSet/kube-flannel/kube-flannel-ds");
    assert_eq!(daemon["spec"]["template"]["spec"]["volumes"][1]["hostPath"]["path"], "/usr/lib/cni");
    // What the API would reject, the types reject too.
    let _: k8s_openapi::api::apps::v1::DaemonSet = serde_json::from_value(daemon).unwrap();
}

#[test]
fn workloads_are_what_the_api_types_read() {
    for version in ["v1.20.2", "v1.36.2"] {
        let plan = example(version);
        let dns = find(&coredns(&plan, &release(&plan)).unwrap(), "Deployment/kube-system/coredns");
        let read: k8s_openapi::api::apps::v1::Deployment = serde_json::from_value(dns.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), dns, "a field the types do not know");
        let proxy = find(&kube_proxy::kube_proxy(&plan, &release(&plan)).unwrap(), "DaemonSet/kube-system/kube-proxy");
        let read: k8s_openapi::api::apps::v1::DaemonSet = serde_json::from_value(proxy.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), proxy, "a field the types do not know");
    }
}

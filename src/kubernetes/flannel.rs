//! flannel as a pod network: a daemon per node that reads the node's pod networks from the API,
//! sets up VXLAN or routes, and writes the CNI configuration.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::rbac::{Subject, cluster_role, cluster_role_binding, config_map, rule, service_account};
use crate::artifact::Object;
use crate::names::Digest;
use crate::paths;
use crate::plan::{Cni, FlannelBackend, Plan};

const NAMESPACE: &str = "kube-flannel";
const NAME: &str = "flannel";
const CONFIGURATION: &str = "kube-flannel-cfg";
/// flannel reads its configuration at its start only, so its pods are replaced when this digest changes.
const CONFIGURATION_ANNOTATION: &str = "slipway.dev/configuration";
/// The directory in the pods where the ConfigMap is; flannel's default for its network file.
const CONFIGURATION_DIRECTORY: &str = "/etc/kube-flannel";

/// flannel's objects; none with another network.
#[must_use]
pub fn flannel(plan: &Plan) -> Vec<Object> {
    let Cni::Flannel { image, plugin_image, backend } = &plan.network.cni else {
        return Vec::new();
    };
    // The daemon changes the host's network, which the baseline pod security level forbids.
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": NAMESPACE, "labels": { "pod-security.kubernetes.io/enforce": "privileged" } },
    });
    let rules = vec![
        rule("", &["pods"], &["get"]),
        rule("", &["nodes"], &["get", "list", "watch"]),
        rule("", &["nodes/status"], &["patch"]),
    ];
    let data = BTreeMap::from([
        ("cni-conf.json".to_owned(), pretty(&plugin_chain())),
        ("net-conf.json".to_owned(), pretty(&network(plan, *backend))),
    ]);
    let values = [
        namespace,
        service_account(NAMESPACE, NAME),
        cluster_role(NAME, rules),
        cluster_role_binding(NAME, NAME, &[Subject::ServiceAccount(NAMESPACE, NAME)]),
        config_map(NAMESPACE, CONFIGURATION, &data),
        daemon_set(plan, image, plugin_image, Digest::of(format!("{data:?}"))),
    ];
    values.map(Object::new).into()
}

/// The CNI configuration of every node: flannel's plugin fills in the node's network and calls
/// `bridge`; `portmap` serves host ports.
fn plugin_chain() -> Value {
    json!({
        "cniVersion": "0.3.1",
        "name": "cbr0",
        "plugins": [
            { "type": "flannel", "delegate": { "hairpinMode": true, "isDefaultGateway": true } },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

/// What flannel itself reads: the pod networks and how packets travel.
fn network(plan: &Plan, backend: FlannelBackend) -> Value {
    let mut network = json!({ "EnableIPv4": false, "Backend": { "Type": backend } });
    for cidr in &plan.network.pod_cidrs {
        match cidr {
            IpNet::V4(cidr) => {
                network["EnableIPv4"] = json!(true);
                network["Network"] = json!(cidr);
            }
            IpNet::V6(cidr) => {
                network["EnableIPv6"] = json!(true);
                network["IPv6Network"] = json!(cidr);
            }
        }
    }
    network
}

fn daemon_set(plan: &Plan, image: &str, plugin_image: &str, configuration: Digest) -> Value {
    let labels = json!({ "app": NAME, "k8s-app": NAME });
    let plugins = plan.runtime.cni_directory.clone().unwrap_or_else(paths::cni_plugin_directory);
    let configuration_mount = json!({ "name": "flannel-cfg", "mountPath": format!("{CONFIGURATION_DIRECTORY}/") });
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let directory = |name: &str, path: &str| json!({ "name": name, "hostPath": { "path": path } });
    let install_plugin = json!({
        "name": "install-cni-plugin",
        "image": plugin_image,
        "command": ["cp", "-f", "/flannel", "/opt/cni/bin/flannel"],
        "volumeMounts": [{ "name": "cni-plugin", "mountPath": "/opt/cni/bin" }],
    });
    let install_configuration = json!({
        "name": "install-cni",
        "image": image,
        "command": [
            "cp",
            "-f",
            format!("{CONFIGURATION_DIRECTORY}/cni-conf.json"),
            "/etc/cni/net.d/10-flannel.conflist",
        ],
        "volumeMounts": [{ "name": "cni", "mountPath": "/etc/cni/net.d" }, configuration_mount],
    });
    let daemon = json!({
        "name": "kube-flannel",
        "image": image,
        "command": ["/opt/bin/flanneld", "--ip-masq", "--kube-subnet-mgr"],
        "env": [field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace")],
        "resources": { "requests": { "cpu": "100m", "memory": "50Mi" } },
        "securityContext": { "privileged": false, "capabilities": { "add": ["NET_ADMIN", "NET_RAW"] } },
        "volumeMounts": [
            // flannel leaves the node's network here for its CNI plugin.
            { "name": "run", "mountPath": "/run/flannel" },
            { "name": "xtables-lock", "mountPath": "/run/xtables.lock" },
            configuration_mount,
        ],
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": "kube-flannel-ds", "namespace": NAMESPACE, "labels": labels },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels, "annotations": { CONFIGURATION_ANNOTATION: configuration.to_string() } },
                "spec": {
                    "priorityClassName": "system-node-critical",
                    "serviceAccountName": NAME,
                    "hostNetwork": true,
                    "nodeSelector": { "kubernetes.io/os": "linux" },
                    // Nodes are tainted until they have a network.
                    "tolerations": [{ "operator": "Exists", "effect": "NoSchedule" }],
                    "initContainers": [install_plugin, install_configuration],
                    "containers": [daemon],
                    "volumes": [
                        directory("run", "/run/flannel"),
                        directory("cni-plugin", plugins.as_str()),
                        directory("cni", paths::cni_configuration_directory().as_str()),
                        { "name": "flannel-cfg", "configMap": { "name": CONFIGURATION } },
                        { "name": "xtables-lock", "hostPath": { "path": "/run/xtables.lock", "type": "FileOrCreate" } },
                    ],
                },
            },
        },
    })
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value is text") + "\n"
}

//! kube-proxy: a DaemonSet on every node, with its configuration and the right to watch Services.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::objects::BOOTSTRAP_GROUP;
use super::rbac::{Subject, cluster_role_binding, config_map, config_map_reader, service_account};
use super::{CONFIGURATION_HASH_ANNOTATION, configuration_hash, feature_gates, joined};
use crate::artifact::Object;
use crate::patch::{self, PatchError, merge};
use crate::plan::{PatchTarget, Plan};
use crate::release::Release;
use crate::yaml;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-proxy";
const DIRECTORY: &str = "/var/lib/kube-proxy";

/// kube-proxy's objects; none if the plan turns it off.
///
/// # Errors
/// A patch of the plan does not fit the DaemonSet.
pub fn kube_proxy(plan: &Plan, release: &Release) -> Result<Vec<Object>, PatchError> {
    if !plan.kube_proxy.enabled {
        return Ok(Vec::new());
    }
    let daemon_set = patch::apply(daemon_set(plan, release), &plan.patches, PatchTarget::KubeProxyDaemonset, None)?;
    let account = [Subject::ServiceAccount(NAMESPACE, NAME)];
    let mut values = vec![
        service_account(NAMESPACE, NAME),
        cluster_role_binding("kubeadm:node-proxier", "system:node-proxier", &account),
    ];
    values.extend(config_map_reader(NAMESPACE, NAME, NAME, &[Subject::Group(BOOTSTRAP_GROUP)]));
    values.extend([configuration_map(plan, release), daemon_set]);
    Ok(values.into_iter().map(Object::new).collect())
}

/// The `KubeProxyConfiguration`: the plan's over the generated one.
#[must_use]
pub fn configuration(plan: &Plan, release: &Release) -> Value {
    let bind_address = if plan.network.service_cidrs[0].addr().is_ipv6() { "::" } else { "0.0.0.0" };
    let mut configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": bind_address,
        "clientConnection": { "kubeconfig": format!("{DIRECTORY}/kubeconfig.conf") },
        "clusterCIDR": joined(&plan.network.pod_cidrs),
    });
    if let Some(mode) = plan.kube_proxy.mode {
        configuration["mode"] = json!(mode);
    }
    let gates = feature_gates(plan, release);
    if !gates.is_empty() {
        configuration["featureGates"] = json!(gates);
    }
    merge::merged(configuration, &Value::Object(plan.kube_proxy.configuration.clone()))
}

fn configuration_map(plan: &Plan, release: &Release) -> Value {
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    // kube-proxy cannot reach the API through a Service, which it would have to make first.
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "default",
            "cluster": { "certificate-authority": format!("{account}/ca.crt"), "server": plan.node_url() },
        }],
        "contexts": [{
            "name": "default",
            "context": { "cluster": "default", "namespace": "default", "user": "default" },
        }],
        "current-context": "default",
        "users": [{ "name": "default", "user": { "tokenFile": format!("{account}/token") } }],
    });
    let data = BTreeMap::from([
        ("config.conf".to_owned(), yaml::write(&configuration(plan, release))),
        ("kubeconfig.conf".to_owned(), yaml::write(&kubeconfig)),
    ]);
    let mut object = config_map(NAMESPACE, NAME, &data);
    object["metadata"]["labels"] = json!({ "app": NAME });
    let settings = &plan.kube_proxy;
    if settings.configuration.is_empty() && settings.mode.is_none() && feature_gates(plan, release).is_empty() {
        object["metadata"]["annotations"] = json!({ CONFIGURATION_HASH_ANNOTATION: configuration_hash(&data) });
    }
    object
}

fn daemon_set(plan: &Plan, release: &Release) -> Value {
    let labels = json!({ "k8s-app": NAME });
    let mut tolerations = vec![json!({ "operator": "Exists" })];
    if release.objects.kube_proxy_critical_toleration {
        tolerations.insert(0, json!({ "key": "CriticalAddonsOnly", "operator": "Exists" }));
    }
    let container = json!({
        "name": NAME,
        "image": release.images(plan).proxy,
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "/usr/local/bin/kube-proxy",
            format!("--config={DIRECTORY}/config.conf"),
            "--hostname-override=$(NODE_NAME)",
        ],
        "env": [{ "name": "NODE_NAME", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
        "securityContext": { "privileged": true },
        "volumeMounts": [
            { "name": NAME, "mountPath": DIRECTORY },
            { "name": "xtables-lock", "mountPath": "/run/xtables.lock" },
            { "name": "lib-modules", "mountPath": "/lib/modules", "readOnly": true },
        ],
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": labels },
        "spec": {
            "selector": { "matchLabels": labels },
            "updateStrategy": { "type": "RollingUpdate" },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "priorityClassName": "system-node-critical",
                    "serviceAccountName": NAME,
                    "hostNetwork": true,
                    "nodeSelector": { "kubernetes.io/os": "linux" },
                    "tolerations": tolerations,
                    "containers": [container],
                    "volumes": [
                        { "name": NAME, "configMap": { "name": NAME } },
                        { "name": "xtables-lock", "hostPath": { "path": "/run/xtables.lock", "type": "FileOrCreate" } },
                        { "name": "lib-modules", "hostPath": { "path": "/lib/modules" } },
                    ],
                },
            },
        },
    })
}

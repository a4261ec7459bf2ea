//! CoreDNS: the cluster's names, a Deployment behind the Service `kube-dns`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::rbac::{Subject, cluster_role, cluster_role_binding, config_map, rule, service_account};
use crate::artifact::Object;
use crate::patch::{self, PatchError};
use crate::plan::{PatchTarget, Plan};
use crate::release::Release;
use crate::template::{Corefile, Template as _};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "coredns";
const ROLE: &str = "system:coredns";

/// CoreDNS' objects; none if the plan turns it off.
///
/// # Errors
/// A patch of the plan does not fit the Deployment.
pub fn coredns(plan: &Plan, release: &Release) -> Result<Vec<Object>, PatchError> {
    if !plan.core_dns.enabled {
        return Ok(Vec::new());
    }
    let deployment = patch::apply(deployment(plan, release), &plan.patches, PatchTarget::CorednsDeployment, None)?;
    let data = BTreeMap::from([("Corefile".to_owned(), corefile(plan, release))]);
    let values = vec![
        service_account(NAMESPACE, NAME),
        cluster_role(ROLE, rules(release)),
        cluster_role_binding(ROLE, ROLE, &[Subject::ServiceAccount(NAMESPACE, NAME)]),
        config_map(NAMESPACE, NAME, &data),
        deployment,
        service(plan, release),
    ];
    Ok(values.into_iter().map(Object::new).collect())
}

/// The plan's Corefile, or the generated one.
#[must_use]
pub fn corefile(plan: &Plan, release: &Release) -> String {
    if let Some(corefile) = &plan.core_dns.corefile {
        return corefile.clone();
    }
    let corefile = Corefile {
        dns_domain: plan.network.dns_domain.clone(),
        cluster_names_uncached: release.core_dns.cluster_names_uncached,
    };
    corefile.render()
}

fn rules(release: &Release) -> Vec<Value> {
    let watched = rule("", &["endpoints", "services", "pods", "namespaces"], &["list", "watch"]);
    let second = if release.core_dns.endpoint_slices {
        rule("discovery.k8s.io", &["endpointslices"], &["list", "watch"])
    } else {
        rule("", &["nodes"], &["get"])
    };
    vec![watched, second]
}

fn deployment(plan: &Plan, release: &Release) -> Value {
    let labels = json!({ "k8s-app": "kube-dns" });
    let mut tolerations = vec![json!({ "key": "CriticalAddonsOnly", "operator": "Exists" })];
    let taints = release.core_dns.tolerated_taints.iter();
    tolerations.extend(taints.map(|key| json!({ "key": key, "effect": "NoSchedule" })));
    let mut spec = json!({
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": NAME,
        "dnsPolicy": "Default",
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "tolerations": tolerations,
        "containers": [container(plan, release)],
        "volumes": [{
            "name": "config-volume",
            "configMap": { "name": NAME, "items": [{ "key": "Corefile", "path": "Corefile" }] },
        }],
    });
    if release.core_dns.anti_affinity {
        spec["affinity"] = json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {
                    "matchExpressions": [{ "key": "k8s-app", "operator": "In", "values": ["kube-dns"] }],
                },
            },
        }]}});
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": labels },
        "spec": {
            "replicas": plan.core_dns.replicas,
            "selector": { "matchLabels": labels },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
            "template": { "metadata": { "labels": labels }, "spec": spec },
        },
    })
}

fn container(plan: &Plan, release: &Release) -> Value {
    let mut ports = vec![
        json!({ "name": "dns", "containerPort": 53, "protocol": "UDP" }),
        json!({ "name": "dns-tcp", "containerPort": 53, "protocol": "TCP" }),
        json!({ "name": "metrics", "containerPort": 9153, "protocol": "TCP" }),
    ];
    let (mut health_port, mut ready_port) = (json!(8080), json!(8181));
    if release.core_dns.named_probe_ports {
        ports.push(json!({ "name": "liveness-probe", "containerPort": health_port, "protocol": "TCP" }));
        ports.push(json!({ "name": "readiness-probe", "containerPort": ready_port, "protocol": "TCP" }));
        (health_port, ready_port) = (json!("liveness-probe"), json!("readiness-probe"));
    }
    json!({
        "name": NAME,
        "image": release.images(plan).coredns,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": ports,
        "resources": { "limits": { "memory": "170Mi" }, "requests": { "cpu": "100m", "memory": "70Mi" } },
        "livenessProbe": {
            "httpGet": { "path": "/health", "port": health_port, "scheme": "HTTP" },
            "initialDelaySeconds": 60,
            "timeoutSeconds": 5,
            "successThreshold": 1,
            "failureThreshold": 5,
        },
        "readinessProbe": { "httpGet": { "path": "/ready", "port": ready_port, "scheme": "HTTP" } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_BIND_SERVICE"], "drop": [release.core_dns.drop_capabilities] },
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": [{ "name": "config-volume", "mountPath": "/etc/coredns", "readOnly": true }],
    })
}

fn service(plan: &Plan, release: &Release) -> Value {
    let port = |name: &str, port: u16, protocol: &str| json!({ "name": name, "port": port, "targetPort": port, "protocol": protocol });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": NAMESPACE,
            "annotations": { "prometheus.io/port": "9153", "prometheus.io/scrape": "true" },
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": release.core_dns.service_label,
            },
        },
        "spec": {
            "clusterIP": plan.dns_service_address(),
            "selector": { "k8s-app": "kube-dns" },
            "ports": [port("dns", 53, "UDP"), port("dns-tcp", 53, "TCP"), port("metrics", 9153, "TCP")],
        },
    })
}

//! What `kubeadm init` leaves in the API besides the add-ons: stored configuration, the rights of
//! bootstrap tokens and nodes, the first token, `cluster-info`. A kubeadm of the same release can
//! join hosts and upgrade with nothing but these.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::rbac::{Subject, cluster_role, cluster_role_binding, config_map, config_map_reader, rule};
use super::{CONFIGURATION_HASH_ANNOTATION, cluster_configuration, configuration_hash, kubelet};
use crate::artifact::{Object, ObjectPolicy, Secret};
use crate::plan::Plan;
use crate::release::Release;
use crate::yaml;

/// The group that holders of a bootstrap token are in.
pub const BOOTSTRAP_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
const NODES_GROUP: &str = "system:nodes";

/// What the cluster's objects are made from.
#[derive(Debug)]
pub struct ObjectInputs<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its Kubernetes release.
    pub release: &'a Release,
    /// The cluster's CA certificates, PEM.
    pub ca_pem: &'a str,
    /// The first bootstrap token, if one is made.
    pub token: Option<BootstrapToken>,
}

/// A bootstrap token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    /// Its public half: 6 lower-case letters and digits.
    pub id: String,
    /// Its secret half: 16 of them.
    pub secret: Secret,
    /// When it ends, as RFC 3339 text.
    pub expiration: String,
}

/// The objects in the order they are applied. `cluster-info` comes last: it tells a later run
/// that the others were there.
#[must_use]
pub fn cluster_objects(inputs: &ObjectInputs<'_>) -> Vec<Object> {
    let facts = &inputs.release.objects;
    let mut values = Vec::new();
    if facts.cluster_admins {
        let name = "kubeadm:cluster-admins";
        values.push(cluster_role_binding(name, "cluster-admin", &[Subject::Group(name)]));
    }
    if facts.kubelet_client_by_name {
        let client = Subject::User("kube-apiserver-kubelet-client");
        values.push(cluster_role_binding("kubeadm:apiserver-kubelet-client", "system:kubelet-api-admin", &[client]));
    }
    values.extend(stored_configuration(inputs));
    values.extend(bootstrap_rights());
    let mut objects: Vec<Object> = values.into_iter().map(Object::new).collect();
    if let Some(token) = &inputs.token {
        objects.push(Object { value: token_secret(token), secret: true, policy: ObjectPolicy::WithCluster });
    }
    let anonymous = [Subject::User("system:anonymous")];
    let readers = config_map_reader("kube-public", "kubeadm:bootstrap-signer-clusterinfo", "cluster-info", &anonymous);
    objects.extend(readers.map(Object::new));
    objects.push(Object::new(cluster_info(inputs)));
    objects
}

fn stored_configuration(inputs: &ObjectInputs<'_>) -> Vec<Value> {
    let ObjectInputs { plan, release, .. } = inputs;
    let subjects = || [Subject::Group(BOOTSTRAP_GROUP), Subject::Group(NODES_GROUP)];
    let mut data = BTreeMap::from([(
        "ClusterConfiguration".to_owned(),
        yaml::write(&cluster_configuration::cluster_configuration(plan, release)),
    )]);
    if let Some(status) = cluster_configuration::cluster_status(plan, release) {
        data.insert("ClusterStatus".to_owned(), yaml::write(&status));
    }
    let mut values = vec![config_map("kube-system", "kubeadm-config", &data)];
    values.extend(config_map_reader("kube-system", "kubeadm:nodes-kubeadm-config", "kubeadm-config", &subjects()));

    let name = &release.objects.kubelet_config_map;
    let configuration = yaml::write(&kubelet::cluster_configuration(plan, release));
    let data = BTreeMap::from([("kubelet".to_owned(), configuration)]);
    let mut kubelet_config = config_map("kube-system", name, &data);
    if kubelet::is_as_generated_by_kubeadm(plan, release) {
        kubelet_config["metadata"]["annotations"] = json!({ CONFIGURATION_HASH_ANNOTATION: configuration_hash(&data) });
    }
    values.push(kubelet_config);
    values.extend(config_map_reader("kube-system", &format!("kubeadm:{name}"), name, &subjects()));
    values
}

/// What tokens and nodes may do: see Nodes, ask for certificates, have them approved.
fn bootstrap_rights() -> Vec<Value> {
    let bootstrappers = || [Subject::Group(BOOTSTRAP_GROUP)];
    let approvals = "system:certificates.k8s.io:certificatesigningrequests";
    vec![
        cluster_role("kubeadm:get-nodes", vec![rule("", &["nodes"], &["get"])]),
        cluster_role_binding("kubeadm:get-nodes", "kubeadm:get-nodes", &bootstrappers()),
        cluster_role_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &bootstrappers()),
        cluster_role_binding(
            "kubeadm:node-autoapprove-bootstrap",
            &format!("{approvals}:nodeclient"),
            &bootstrappers(),
        ),
        cluster_role_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{approvals}:selfnodeclient"),
            &[Subject::Group(NODES_GROUP)],
        ),
    ]
}

/// The Secret that makes the token valid, in the form the API server's token authenticator reads.
#[must_use]
pub fn token_secret(token: &BootstrapToken) -> Value {
    let fields: [(&str, &[u8]); 6] = [
        ("token-id", token.id.as_bytes()),
        ("token-secret", token.secret.expose()),
        ("expiration", token.expiration.as_bytes()),
        ("usage-bootstrap-authentication", b"true"),
        ("usage-bootstrap-signing", b"true"),
        ("auth-extra-groups", BOOTSTRAP_GROUP.as_bytes()),
    ];
    let data: BTreeMap<&str, String> = fields.into_iter().map(|(name, bytes)| (name, STANDARD.encode(bytes))).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("bootstrap-token-{}", token.id), "namespace": "kube-system" },
        "type": "bootstrap.kubernetes.io/token",
        "data": data,
    })
}

/// Where the cluster is and which CA it has, for everybody to read. The controller manager signs
/// it with every token.
fn cluster_info(inputs: &ObjectInputs<'_>) -> Value {
    let mut kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "",
            "cluster": {
                "certificate-authority-data": STANDARD.encode(inputs.ca_pem),
                "server": inputs.plan.public_url(),
            },
        }],
        "contexts": null,
        "current-context": "",
        "users": null,
    });
    if inputs.release.objects.kubeconfig_preferences {
        kubeconfig["preferences"] = json!({});
    }
    let data = BTreeMap::from([("kubeconfig".to_owned(), yaml::write(&kubeconfig))]);
    config_map("kube-public", "cluster-info", &data)
}

#[cfg(test)]
mod tests;

//! Phase `local-proxy`: on hosts without an API server, a haproxy on the loopback that knows all
//! API servers and uses those that are ready. The cluster survives the loss of a control plane
//! without any part outside its hosts.

use serde_json::json;

use crate::artifact::{Artifact, Content};
use crate::names::{Digest, Mode, RemotePath};
use crate::plan::{Endpoint, Plan};
use crate::template::{Haproxy, Server, Template as _};
use crate::yaml;

/// haproxy's configuration on the host.
pub const CONFIGURATION_FILE: &str = "/etc/slipway/api-proxy/haproxy.cfg";
/// The static pod.
pub const MANIFEST_FILE: &str = "/etc/kubernetes/manifests/slipway-api-proxy.yaml";

/// What this phase wants on a host without an API server.
#[must_use]
pub fn artifacts(plan: &Plan) -> Vec<Artifact> {
    let Some(Endpoint::LocalProxy { port, image }) = &plan.endpoint else { return Vec::new() };
    let ipv6 = plan.hosts[0].address.is_ipv6();
    let configuration = Haproxy {
        listen: if ipv6 { "[::1]" } else { "127.0.0.1" }.into(),
        port: *port,
        servers: plan
            .control_planes()
            .map(|host| Server {
                name: host.name.to_string(),
                address: if host.address.is_ipv6() { format!("[{}]", host.address) } else { host.address.to_string() },
            })
            .collect(),
    }
    .render();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "slipway-api-proxy",
            "namespace": "kube-system",
            "labels": { "component": "slipway-api-proxy", "tier": "node" },
            // haproxy reads its file once: a change of it must change the pod.
            "annotations": { "slipway.dev/inputs": Digest::of(&configuration).to_string() },
        },
        "spec": {
            "hostNetwork": true,
            "priorityClassName": "system-node-critical",
            "containers": [{
                "name": "haproxy",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"],
                "resources": { "requests": { "cpu": "25m", "memory": "32Mi" } },
                "livenessProbe": {
                    "tcpSocket": { "host": if ipv6 { "::1" } else { "127.0.0.1" }, "port": port },
                    "initialDelaySeconds": 10, "periodSeconds": 10, "failureThreshold": 6, "timeoutSeconds": 5,
                },
                "volumeMounts": [{ "name": "configuration", "mountPath": "/usr/local/etc/haproxy", "readOnly": true }],
            }],
            "volumes": [{
                "name": "configuration",
                "hostPath": { "path": RemotePath::fixed(CONFIGURATION_FILE).parent().as_str(), "type": "Directory" },
            }],
        },
    });
    vec![
        Artifact::File {
            path: RemotePath::fixed(CONFIGURATION_FILE),
            mode: Mode(0o644),
            content: Content::plain(configuration),
        },
        Artifact::File {
            path: RemotePath::fixed(MANIFEST_FILE),
            mode: Mode(0o600),
            content: Content::plain(yaml::write(&pod)),
        },
    ]
}

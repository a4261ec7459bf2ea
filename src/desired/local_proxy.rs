//! Phase `local-proxy`: on hosts without an API server, a haproxy on the loopback that knows all
//! API servers and uses those that are ready. The cluster survives the loss of a control plane
//! without any part outside its hosts.

use serde_json::json;

use crate::artifact::{Artifact, Content};
use crate::names::{Digest, Mode, RemotePath};
use crate::plan::{Endpoint, Plan};
use crate::template::{Haproxy, Template as _};
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
        api_port: *port,
        servers: super::vip::api_servers(plan),
        own: String::new(),
        health_port: 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(endpoint: &str, addresses: &[&str]) -> Plan {
        let mut text = format!("version: 1\nkubernetes: {{version: v1.34.2}}\nendpoint: {endpoint}\nhosts:\n");
        for (index, address) in addresses.iter().enumerate() {
            text.push_str(&format!("  - {{name: cp-{index}, address: '{address}', roles: [control-plane]}}\n"));
        }
        text.push_str("  - {name: w, address: 192.0.2.99, roles: [worker]}\n");
        yaml::read(&text).unwrap()
    }

    fn texts(plan: &Plan) -> Vec<String> {
        let text = |artifact: &Artifact| match artifact {
            Artifact::File { content, .. } => content.review().to_owned(),
            other => panic!("{other:?}"),
        };
        artifacts(plan).iter().map(text).collect()
    }

    fn annotation(plan: &Plan) -> serde_json::Value {
        let pod: serde_json::Value = yaml::read(&texts(plan)[1]).unwrap();
        pod["metadata"]["annotations"]["slipway.dev/inputs"].clone()
    }

    #[test]
    fn it_knows_every_api_server_and_asks_whether_it_is_ready() {
        let texts = texts(&plan("{localProxy: {port: 7443}}", &["192.0.2.1", "192.0.2.2"]));
        let servers: Vec<&str> = texts[0].lines().map(str::trim).filter(|line| line.starts_with("server ")).collect();
        assert_eq!(servers, ["server cp-0 192.0.2.1:7443", "server cp-1 192.0.2.2:7443"]);
        assert!(texts[0].contains("bind 127.0.0.1:7443") && texts[0].contains("httpchk GET /readyz"));
    }

    #[test]
    fn ipv6_addresses_have_brackets() {
        let texts = texts(&plan("{localProxy: {}}", &["2001:db8::1"]));
        assert!(texts[0].contains("bind [::1]:6443") && texts[0].contains("server cp-0 [2001:db8::1]:6443"));
        assert!(texts[1].contains("host: ::1") || texts[1].contains("host: \"::1\"") || texts[1].contains("host: '::1'"));
    }

    #[test]
    fn a_new_control_plane_makes_a_new_pod() {
        let one = plan("{localProxy: {}}", &["192.0.2.1"]);
        let two = plan("{localProxy: {}}", &["192.0.2.1", "192.0.2.2"]);
        assert_eq!(annotation(&one), annotation(&one));
        assert_ne!(annotation(&one), annotation(&two));
    }

    #[test]
    fn there_is_none_where_the_user_has_a_load_balancer() {
        assert_eq!(artifacts(&plan("{external: {address: api.example.test}}", &["192.0.2.1"])), []);
    }
}

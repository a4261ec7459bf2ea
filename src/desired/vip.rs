//! Phase `vip`: on control planes, one static pod with keepalived, which holds the virtual address on
//! one of them, and haproxy, which gives what comes there to the API servers that are ready. Nothing
//! outside the hosts is needed.
//!
//! keepalived follows haproxy: a host through which no API server can be reached gives the address
//! away at once, one whose own API server stays down does so after a minute. It speaks unicast to the
//! other control planes, since many networks filter multicast. VRRP of version 3 knows no
//! authentication (RFC 5798), so there is no secret to keep.
//!
//! And phase `former-endpoint`: pods of an endpoint that the plan no longer has.

use serde_json::json;

use crate::artifact::{Artifact, Content};
use crate::facts::System;
use crate::names::{Digest, Mode, RemotePath};
use crate::phase::On;
use crate::plan::{Endpoint, Host, Plan, Vip};
use crate::template::{Haproxy, Keepalived, Server, Template as _};
use crate::yaml;

use super::local_proxy;

/// haproxy's configuration on the host.
pub const HAPROXY_FILE: &str = "/etc/slipway/api-vip/haproxy.cfg";
/// keepalived's configuration on the host.
pub const KEEPALIVED_FILE: &str = "/etc/slipway/api-vip/keepalived.conf";
/// The program by which keepalived asks haproxy.
pub const CHECK_FILE: &str = "/etc/slipway/api-vip/check";
/// The static pod.
pub const MANIFEST_FILE: &str = "/etc/kubernetes/manifests/slipway-api-vip.yaml";
/// Its name.
pub const POD: &str = "slipway-api-vip";

const CHECK: &str = include_str!("vip/check.sh");
/// keepalived's priority of the first control plane; each further one has one less.
const HIGHEST_PRIORITY: u8 = 200;
/// The interface where nobody was asked which one it is, as when a plan is rendered without facts.
const ASSUMED_INTERFACE: &str = "eth0";

/// All API servers, for haproxy.
pub(super) fn api_servers(plan: &Plan) -> Vec<Server> {
    let address = |host: &Host| if host.address.is_ipv6() { format!("[{}]", host.address) } else { host.address.to_string() };
    plan.control_planes().map(|host| Server { name: host.name.to_string(), address: address(host) }).collect()
}

/// What phase `vip` wants on a control plane.
#[must_use]
pub fn artifacts(plan: &Plan, host: &Host, system: &System) -> Vec<Artifact> {
    let Some(Endpoint::Vip(vip)) = &plan.endpoint else { return Vec::new() };
    let haproxy = Haproxy {
        listen: if vip.address.is_ipv6() { "[::]" } else { "0.0.0.0" }.into(),
        port: vip.port,
        api_port: plan.api_port(),
        servers: api_servers(plan),
        own: host.name.to_string(),
        health_port: vip.health_port,
    }
    .render();
    let keepalived = keepalived(plan, vip, host, system).render();
    let inputs = Digest::of(format!("{haproxy}{keepalived}{CHECK}"));
    let file = |path, mode, text: String| Artifact::File { path: RemotePath::fixed(path), mode: Mode(mode), content: Content::plain(text) };
    vec![
        file(HAPROXY_FILE, 0o644, haproxy),
        file(KEEPALIVED_FILE, 0o644, keepalived),
        file(CHECK_FILE, 0o755, CHECK.to_owned()),
        file(MANIFEST_FILE, 0o600, yaml::write(&pod(vip, inputs))),
    ]
}

fn keepalived(plan: &Plan, vip: &Vip, host: &Host, system: &System) -> Keepalived {
    let place = plan.control_planes().position(|other| other.name == host.name).unwrap_or_default();
    let own = system.addresses.iter().find(|found| found.address == host.address);
    let interface = vip.interface.clone().or_else(|| own.map(|found| found.interface.clone()));
    Keepalived {
        check: CHECK_FILE.into(),
        health_port: vip.health_port,
        interface: interface.unwrap_or_else(|| ASSUMED_INTERFACE.into()),
        router_id: vip.router_id().get(),
        priority: HIGHEST_PRIORITY.saturating_sub(u8::try_from(place).unwrap_or(u8::MAX)).max(1),
        source: host.address.to_string(),
        peers: plan.control_planes().filter(|other| other.name != host.name).map(|other| other.address.to_string()).collect(),
        address: format!("{}/{}", vip.address, if vip.address.is_ipv6() { 128 } else { 32 }),
    }
}

/// The static pod. Both programs read their files once: a change of them must change the pod.
fn pod(vip: &Vip, inputs: Digest) -> serde_json::Value {
    let directory = RemotePath::fixed(HAPROXY_FILE).parent();
    let container = |name: &str, image: &str, command: &[&str], capabilities: &[&str]| {
        json!({
            "name": name,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": command,
            "resources": { "requests": { "cpu": "25m", "memory": "32Mi" } },
            // Images run as users of their own; ports below 1024 and addresses are for root alone.
            "securityContext": { "runAsUser": 0, "capabilities": { "drop": ["ALL"], "add": capabilities } },
            "volumeMounts": [{ "name": "configuration", "mountPath": directory.as_str(), "readOnly": true }],
        })
    };
    let loopback = if vip.address.is_ipv6() { "::1" } else { "127.0.0.1" };
    let mut haproxy = container("haproxy", &vip.haproxy_image, &["haproxy", "-W", "-db", "-f", HAPROXY_FILE], &["NET_BIND_SERVICE"]);
    haproxy["livenessProbe"] = json!({
        "tcpSocket": { "host": loopback, "port": vip.port },
        "initialDelaySeconds": 10, "periodSeconds": 10, "failureThreshold": 6, "timeoutSeconds": 5,
    });
    let command = ["keepalived", "--vrrp", "--dont-fork", "--log-console", "--use-file", KEEPALIVED_FILE];
    let keepalived = container("keepalived", &vip.keepalived_image, &command, &["NET_ADMIN", "NET_BROADCAST", "NET_RAW"]);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": POD,
            "namespace": "kube-system",
            "labels": { "component": POD, "tier": "control-plane" },
            "annotations": { "slipway.dev/inputs": inputs.to_string() },
        },
        "spec": {
            "hostNetwork": true,
            "priorityClassName": "system-node-critical",
            "containers": [haproxy, keepalived],
            "volumes": [{ "name": "configuration", "hostPath": { "path": directory.as_str(), "type": "Directory" } }],
        },
    })
}

/// What phase `former-endpoint` wants on a host: nothing of an endpoint that is not its.
#[must_use]
pub fn former(plan: &Plan, host: &Host) -> Vec<Artifact> {
    let has_proxy = matches!(plan.endpoint, Some(Endpoint::LocalProxy { .. })) && On::OtherNodes.includes(plan, host);
    let has_vip = matches!(plan.endpoint, Some(Endpoint::Vip(_))) && host.is_control_plane();
    let proxy: &[&str] = if has_proxy { &[] } else { &[local_proxy::MANIFEST_FILE, local_proxy::CONFIGURATION_FILE] };
    let vip: &[&str] = if has_vip { &[] } else { &[MANIFEST_FILE, HAPROXY_FILE, KEEPALIVED_FILE, CHECK_FILE] };
    proxy.iter().chain(vip).map(|path| Artifact::Absent { path: RemotePath::fixed(path) }).collect()
}

#[cfg(test)]
mod tests;

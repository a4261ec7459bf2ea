//! Phase `pod-network`: the built-in bridge network's CNI configuration, and the unit that sets
//! the routes to the other nodes' pods (also after a reboot). Other networks bring their own.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Standing;
use crate::artifact::{Artifact, Content, stamp_of};
use crate::facts::System;
use crate::names::{Mode, RemotePath};
use crate::plan::{Cni, Host, Plan};
use crate::template::{Bridge, BridgeRange, Masquerade, Route, Routes, Template as _};

/// The CNI configuration. The number puts it before what other tools leave.
pub const CNI_FILE: &str = "/etc/cni/net.d/10-slipway.conflist";
/// The note of this node's pod networks, read back by the next run.
pub const POD_CIDRS_FILE: &str = "/var/lib/slipway/pod-cidrs";
/// The unit that sets the routes.
pub const ROUTES_UNIT: &str = "slipway-routes.service";

/// What this phase wants on a host.
#[must_use]
pub fn artifacts(plan: &Plan, host: &Host, system: &System, standing: &Standing) -> Vec<Artifact> {
    let Cni::Bridge { mtu } = &plan.network.cni else { return Vec::new() };
    let Some(own) = standing.pod_cidrs.get(&host.name).filter(|_| host.is_node()) else { return Vec::new() };
    let unit = RemotePath::fixed(&format!("/etc/systemd/system/{ROUTES_UNIT}"));
    let file = |path: &RemotePath, text: String| Artifact::File {
        path: path.clone(),
        mode: Mode(0o644),
        content: Content::plain(text),
    };
    let bridge = Bridge {
        mtu: mtu.unwrap_or(0),
        ranges: own
            .iter()
            .map(|network| BridgeRange {
                subnet: network.to_string(),
                everything: if network.addr().is_ipv4() { "0.0.0.0/0".into() } else { "::/0".into() },
            })
            .collect(),
    };
    let note: String = own.iter().map(|network| format!("{network}\n")).collect();
    let mut artifacts = vec![
        file(&RemotePath::fixed(POD_CIDRS_FILE), note),
        file(&RemotePath::fixed(CNI_FILE), bridge.render()),
        file(&unit, routes(plan, host, system, standing).render()),
    ];
    let inputs = vec![unit];
    let stamp = stamp_of(&inputs, &artifacts);
    artifacts.push(Artifact::Unit { name: ROUTES_UNIT.into(), inputs, stamp, check: None });
    artifacts
}

fn routes(plan: &Plan, host: &Host, system: &System, standing: &Standing) -> Routes {
    let command = |name: &str, usual: &str| system.commands.get(name).cloned().unwrap_or_else(|| usual.to_owned());
    let mut routes = Vec::new();
    for other in plan.nodes().filter(|other| other.name != host.name) {
        for network in standing.pod_cidrs.get(&other.name).into_iter().flatten() {
            if let Some(gateway) = other.addresses().find(|address| same_family(*address, network)) {
                routes.push(Route {
                    family: if gateway.is_ipv4() { "-4" } else { "-6" },
                    network: network.to_string(),
                    gateway: gateway.to_string(),
                });
            }
        }
    }
    let own = standing.pod_cidrs.get(&host.name).into_iter().flatten();
    let masquerades = own
        .filter_map(|source| {
            let network = plan.network.pod_cidrs.iter().find(|network| network.contains(source))?;
            let name = if source.addr().is_ipv4() { "iptables" } else { "ip6tables" };
            Some(Masquerade {
                iptables: command(name, &format!("/usr/sbin/{name}")),
                source: source.to_string(),
                network: network.to_string(),
            })
        })
        .collect();
    Routes { ip: command("ip", "/usr/sbin/ip"), routes, masquerades }
}

fn same_family(address: IpAddr, network: &IpNet) -> bool {
    address.is_ipv4() == network.addr().is_ipv4()
}

#[cfg(test)]
mod tests;

//! How API servers are reached, and the ports that play together on a host.

use super::super::field::{FieldPath, field};
use super::super::problem::Problems;
use super::super::{Endpoint, Plan, Vip};
use super::syntax::{is_host_address, is_image, is_interface};

/// Ports of a control-plane host that are taken whatever the plan says (kubeadm's constants).
const TAKEN: [(u16, &str); 8] = [
    (2379, "etcd's clients"),
    (2380, "etcd's peers"),
    (2381, "etcd's metrics"),
    (10248, "the kubelet's health"),
    (10250, "the kubelet"),
    (10256, "kube-proxy's health"),
    (10257, "the controller manager"),
    (10259, "the scheduler"),
];

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    let path = field("endpoint");
    match &plan.endpoint {
        None if plan.control_planes().count() > 1 => {
            problems
                .error("endpoint-missing", path, "a cluster with several control planes needs an `endpoint`")
                .hint("`endpoint: {localProxy: {}}` needs nothing outside the hosts; `external` names your load balancer");
        }
        None => {}
        Some(Endpoint::External { address, port }) => {
            let path = path.key("external");
            if !is_host_address(address) {
                problems
                    .error("endpoint-address", path.key("address"), format!("`{address}` is neither a DNS name nor an IP address"))
                    .hint("without `https://` and without the port, which is a field of its own");
            } else if address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified()) {
                problems.error("endpoint-address", path.key("address"), format!("`{address}` is another machine on every host"));
            }
            if *port == 0 {
                problems.error("port-zero", path.key("port"), "port 0 cannot be connected to");
            }
        }
        Some(Endpoint::LocalProxy { port, image }) => {
            let path = path.key("localProxy");
            own_port(*port, path.key("port"), problems);
            if !is_image(image) {
                problems.error("image-syntax", path.key("image"), format!("`{image}` is not an image reference"));
            }
        }
        Some(Endpoint::Vip(vip)) => virtual_address(plan, vip, &path.key("vip"), problems),
    }
}

/// A port that slipway's own programs listen on.
fn own_port(port: u16, path: FieldPath, problems: &mut Problems) {
    if port == 0 {
        problems.error("port-zero", path.clone(), "port 0 cannot be connected to");
    }
    if let Some((_, user)) = TAKEN.iter().find(|(taken, _)| *taken == port) {
        problems.error("port-taken", path.clone(), format!("port {port} is used by {user} on the same hosts"));
    }
    if (30000..=32767).contains(&port) {
        problems.warning("port-taken", path, format!("port {port} lies in the default range of node ports"));
    }
}

fn virtual_address(plan: &Plan, vip: &Vip, path: &FieldPath, problems: &mut Problems) {
    let address = vip.address;
    let at = || path.key("address");
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        problems.error("vip-address", at(), format!("`{address}` cannot be an address of the network"));
    }
    for (index, host) in plan.hosts.iter().enumerate() {
        let reached = host.ssh.address.as_ref().and_then(|text| text.parse().ok());
        if host.addresses().chain(reached).any(|own| own == address) {
            problems
                .error("vip-address", at(), format!("`{address}` is the address of host {}", host.name))
                .related(field("hosts").index(index), "the host")
                .hint("the virtual address is one more, which no machine has of its own");
        }
        if host.is_control_plane() && host.address.is_ipv4() != address.is_ipv4() {
            problems
                .error("vip-family", at(), format!("`{address}` is not of the family of {}, which host {} has", host.address, host.name))
                .related(field("hosts").index(index).key("address"), "the host's address");
        }
    }
    let network = &plan.network;
    for (networks, name, kind) in [(&network.pod_cidrs, "podCidrs", "pod"), (&network.service_cidrs, "serviceCidrs", "service")] {
        for (index, network) in networks.iter().enumerate().filter(|(_, network)| network.contains(&address)) {
            problems
                .error("cidr-overlap", at(), format!("`{address}` lies in the {kind} network {network}"))
                .related(field("network").key(name).index(index), format!("the {kind} network"));
        }
    }
    for (name, port) in [("port", vip.port), ("healthPort", vip.health_port)] {
        own_port(port, path.key(name), problems);
        if port == plan.api_port() {
            problems
                .error("port-taken", path.key(name), format!("port {port} is used by the API server on the same hosts"))
                .hint("haproxy needs a port of its own; 8443 is usual");
        }
    }
    if vip.port == vip.health_port {
        problems.error("port-taken", path.key("healthPort"), "`port` and `healthPort` are the same").related(path.key("port"), "the other one");
    }
    if let Some(interface) = vip.interface.as_ref().filter(|interface| !is_interface(interface)) {
        problems.error("interface-syntax", path.key("interface"), format!("`{interface}` is not the name of a network interface"));
    }
    for (name, image) in [("keepalivedImage", &vip.keepalived_image), ("haproxyImage", &vip.haproxy_image)] {
        if !is_image(image) {
            problems.error("image-syntax", path.key(name), format!("`{image}` is not an image reference"));
        }
    }
}

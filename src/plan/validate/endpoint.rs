//! How API servers are reached, and the ports that play together on a host.

use super::super::field::field;
use super::super::problem::Problems;
use super::super::{Endpoint, Plan};
use super::syntax::{is_host_address, is_image};

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
            if *port == 0 {
                problems.error("port-zero", path.key("port"), "port 0 cannot be connected to");
            }
            if let Some((_, user)) = TAKEN.iter().find(|(taken, _)| taken == port) {
                problems.error("port-taken", path.key("port"), format!("port {port} is used by {user} on the same hosts"));
            }
            if (30000..=32767).contains(port) {
                problems.warning("port-taken", path.key("port"), format!("port {port} lies in the default range of node ports"));
            }
            if !is_image(image) {
                problems.error("image-syntax", path.key("image"), format!("`{image}` is not an image reference"));
            }
        }
    }
}

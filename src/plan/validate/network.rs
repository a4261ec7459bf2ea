//! Pod, service and host networks: families, sizes, overlaps (kubeadm's limits).

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::field::{FieldPath, field};
use super::super::problem::Problems;
use super::super::{Cni, Plan};
use super::syntax::{is_dns_name, is_image};

/// Most host bits of a service network (kubeadm).
const MOST_SERVICE_BITS: u8 = 20;
/// Fewest addresses of a service network (kubeadm): the tenth is CoreDNS's.
const FEWEST_SERVICE_ADDRESSES: u128 = 11;
/// Most bits between the pod network's prefix and a node's (kubeadm).
const MOST_NODE_BITS: u8 = 16;
/// The longest prefix of a node's share: fewer addresses hold no pods.
const LONGEST_V4: u8 = 28;
const LONGEST_V6: u8 = 124;

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    let network = &plan.network;
    let (pods, services) = (field("network").key("podCidrs"), field("network").key("serviceCidrs"));
    let sound = list(&network.pod_cidrs, &pods, problems) & list(&network.service_cidrs, &services, problems);
    if sound {
        families(plan, problems);
    }
    for (index, service) in network.service_cidrs.iter().enumerate() {
        service_size(service, services.index(index), problems);
    }
    overlaps(plan, problems);
    for (index, pod) in network.pod_cidrs.iter().enumerate() {
        node_shares(plan, pod, pods.index(index), problems);
    }
    host_shares(plan, problems);
    let domain = field("network").key("dnsDomain");
    if !is_dns_name(&network.dns_domain) {
        problems
            .error("dns-domain", domain, format!("`{}` is not a DNS domain", network.dns_domain))
            .hint("lower-case labels joined by dots, such as `cluster.local`");
    }
    cni(plan, problems);
}

/// One or two networks, without host bits, of different families.
fn list(networks: &[IpNet], path: &FieldPath, problems: &mut Problems) -> bool {
    let mut sound = true;
    if networks.is_empty() || networks.len() > 2 {
        let message = format!("one network, or one of each family, is wanted here, not {}", networks.len());
        problems.error("cidr-count", path.clone(), message);
        sound = false;
    }
    for (index, network) in networks.iter().enumerate().filter(|(_, network)| **network != network.trunc()) {
        problems
            .error("cidr-host-bits", path.index(index), format!("`{network}` has bits set beyond its prefix"))
            .hint(format!("the network is {}", network.trunc()));
    }
    if let [first, second] = networks
        && is_ipv4(first) == is_ipv4(second)
    {
        problems
            .error("cidr-family", path.index(1), "two networks must be of different families (dual stack)")
            .related(path.index(0), "the other one");
        sound = false;
    }
    sound
}

fn is_ipv4(network: &IpNet) -> bool {
    network.addr().is_ipv4()
}

fn families(plan: &Plan, problems: &mut Problems) {
    let (pods, services) = (&plan.network.pod_cidrs, &plan.network.service_cidrs);
    let (pod_path, service_path) = (field("network").key("podCidrs"), field("network").key("serviceCidrs"));
    if pods.len() != services.len() {
        problems
            .error("cidr-family", service_path, "pod and service networks must be of the same families")
            .related(pod_path.clone(), "the pod networks")
            .hint("for dual stack give one IPv4 and one IPv6 network in both lists");
    } else if is_ipv4(&pods[0]) != is_ipv4(&services[0]) {
        problems
            .error("cidr-family", service_path.index(0), "the first service network is of another family than the first pod network")
            .related(pod_path.index(0), "the first pod network");
    }
    if pods.len() == 2 && plan.kubernetes.version.minor < 21 {
        problems
            .error("dual-stack-version", pod_path, format!("Kubernetes {} has no dual stack by default", plan.kubernetes.version))
            .hint("dual stack is on by default from v1.21");
    }
}

fn addresses(network: &IpNet) -> u128 {
    1_u128.checked_shl(u32::from(network.max_prefix_len() - network.prefix_len())).unwrap_or(u128::MAX)
}

fn service_size(network: &IpNet, path: FieldPath, problems: &mut Problems) {
    if addresses(network) < FEWEST_SERVICE_ADDRESSES {
        let message = format!("`{network}` has {} addresses, but the tenth is the cluster's DNS", addresses(network));
        problems.error("service-cidr-size", path, message).hint("a /28 (IPv4) or /124 (IPv6) is the smallest that works");
    } else if network.max_prefix_len() - network.prefix_len() > MOST_SERVICE_BITS {
        let least = network.max_prefix_len() - MOST_SERVICE_BITS;
        let message = format!("`{network}` is too big: Kubernetes takes service networks of at most {MOST_SERVICE_BITS} host bits");
        problems.error("service-cidr-size", path, message).hint(format!("use a /{least} or longer prefix"));
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.trunc()) || b.contains(&a.trunc())
}

fn overlaps(plan: &Plan, problems: &mut Problems) {
    let network = &plan.network;
    let (pods, services) = (field("network").key("podCidrs"), field("network").key("serviceCidrs"));
    for (pod_index, pod) in network.pod_cidrs.iter().enumerate() {
        for (index, service) in network.service_cidrs.iter().enumerate().filter(|(_, service)| overlap(pod, service)) {
            problems
                .error("cidr-overlap", services.index(index), format!("the service network {service} overlaps the pod network {pod}"))
                .related(pods.index(pod_index), "the pod network");
        }
    }
    let all = network.pod_cidrs.iter().enumerate().map(|(index, cidr)| (cidr, pods.index(index), "pod"));
    let all = all.chain(network.service_cidrs.iter().enumerate().map(|(index, cidr)| (cidr, services.index(index), "service")));
    for (cidr, cidr_path, kind) in all {
        for (index, host) in plan.hosts.iter().enumerate() {
            let names = [("address", Some(host.address)), ("secondAddress", host.second_address)];
            for (name, address) in names.into_iter().filter_map(|(name, address)| Some((name, address?))) {
                if cidr.contains(&address) {
                    let message = format!("the address {address} of host {} lies in the {kind} network {cidr}", host.name);
                    problems
                        .error("cidr-overlap", field("hosts").index(index).key(name), message)
                        .related(cidr_path.clone(), format!("the {kind} network"));
                }
            }
        }
    }
}

fn node_shares(plan: &Plan, pod: &IpNet, path: FieldPath, problems: &mut Problems) {
    let (mask, name, longest) = match pod {
        IpNet::V4(_) => (plan.network.node_mask_v4, "nodeMaskV4", LONGEST_V4),
        IpNet::V6(_) => (plan.network.node_mask_v6, "nodeMaskV6", LONGEST_V6),
    };
    let mask_path = field("network").key(name);
    if mask > longest {
        let message = format!("a /{mask} leaves a node too few pod addresses");
        problems.error("node-mask", mask_path, message).hint(format!("at most {longest}"));
    } else if mask < pod.prefix_len() {
        let message = format!("a node's share (/{mask}) is bigger than the whole pod network {pod}");
        problems.error("node-mask", mask_path, message).related(path, "the pod network");
    } else if mask - pod.prefix_len() > MOST_NODE_BITS {
        let message = format!("{pod} cannot be cut into /{mask} shares: the two may be at most {MOST_NODE_BITS} bits apart");
        problems.error("node-mask", mask_path, message).related(path, "the pod network");
    } else {
        let (shares, nodes) = (1_usize << (mask - pod.prefix_len()), plan.nodes().count());
        if shares < nodes {
            let message = format!("{pod} has {shares} shares of /{mask}, but there are {nodes} nodes");
            problems.error("pod-cidr-size", path, message).hint(format!("use a bigger network, or a longer prefix as `network.{name}`"));
        }
    }
}

fn host_shares(plan: &Plan, problems: &mut Problems) {
    let mut seen: Vec<(IpNet, FieldPath)> = Vec::new();
    for (index, host) in plan.hosts.iter().enumerate() {
        let path = field("hosts").index(index).key("podCidrs");
        if !host.pod_cidrs.is_empty() && !matches!(plan.network.cni, Cni::Bridge { .. }) {
            problems.warning("pod-cidr-unused", path.clone(), "only the built-in bridge network uses a host's `podCidrs`");
        }
        if !host.pod_cidrs.is_empty() && host.pod_cidrs.len() != plan.network.pod_cidrs.len() {
            let message = "a host's share must have one network for each of the cluster's pod networks";
            problems.error("pod-cidr-share", path.clone(), message).related(field("network").key("podCidrs"), "the pod networks");
            continue;
        }
        for (at, (share, whole)) in host.pod_cidrs.iter().zip(&plan.network.pod_cidrs).enumerate() {
            let path = path.index(at);
            let mask = if is_ipv4(whole) { plan.network.node_mask_v4 } else { plan.network.node_mask_v6 };
            let whole_path = field("network").key("podCidrs").index(at);
            if *share != share.trunc() {
                problems
                    .error("cidr-host-bits", path.clone(), format!("`{share}` has bits set beyond its prefix"))
                    .hint(format!("the network is {}", share.trunc()));
            } else if !whole.contains(share) {
                let message = format!("{share} is not a part of the pod network {whole}");
                problems.error("pod-cidr-share", path.clone(), message).related(whole_path, "the pod network");
            } else if share.prefix_len() != mask {
                problems.error("pod-cidr-share", path.clone(), format!("{share} is not a /{mask}, the size of every node's share"));
            }
            if let Some((_, first)) = seen.iter().find(|(other, _)| overlap(other, share)) {
                problems.error("pod-cidr-share", path.clone(), format!("{share} overlaps another host's share")).related(first.clone(), "the other share");
            }
            seen.push((*share, path));
        }
    }
}

fn cni(plan: &Plan, problems: &mut Problems) {
    let path = field("network").key("cni");
    match &plan.network.cni {
        Cni::Bridge { mtu: Some(mtu) } if !(576..=65535).contains(mtu) => {
            problems.error("mtu", path.key("bridge").key("mtu"), format!("{mtu} is not between 576 and 65535"));
        }
        Cni::Bridge { mtu: Some(mtu) } if *mtu < 1280 && plan.network.pod_cidrs.iter().any(|cidr| matches!(cidr.addr(), IpAddr::V6(_))) => {
            problems.error("mtu", path.key("bridge").key("mtu"), format!("IPv6 needs an MTU of at least 1280, not {mtu}"));
        }
        Cni::Flannel { image, plugin_image, .. } => {
            for (name, image) in [("image", image), ("pluginImage", plugin_image)] {
                if !is_image(image) {
                    problems.error("image-syntax", path.key("flannel").key(name), format!("`{image}` is not an image reference"));
                }
            }
        }
        _ => {}
    }
}

//! The machines: names, addresses, roles, how they are reached.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use super::super::field::{FieldPath, field};
use super::super::problem::Problems;
use super::super::{Host, Plan, Role};
use super::syntax::{is_host_key, is_jump_host, is_ssh_target, is_user};
use crate::names::Span;

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    if plan.hosts.is_empty() {
        problems.error("no-host", field("hosts"), "the plan names no host");
    } else if plan.control_planes().next().is_none() {
        problems
            .error("no-control-plane", field("hosts"), "no host has the role `control-plane`")
            .hint("give at least one host `roles: [control-plane]`");
    }
    unique(plan, problems);
    for (index, host) in plan.hosts.iter().enumerate() {
        let path = field("hosts").index(index);
        addresses(plan, host, &path, problems);
        roles(plan, host, &path, problems);
        reached(plan, host, &path, problems);
    }
    plan_wide_ssh(plan, problems);
}

fn unique(plan: &Plan, problems: &mut Problems) {
    let (mut names, mut addresses, mut targets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (index, host) in plan.hosts.iter().enumerate() {
        let path = field("hosts").index(index);
        once(&mut names, host.name.to_string(), path.key("name"), "duplicate-name", "name", problems);
        once(&mut addresses, host.address, path.key("address"), "duplicate-address", "address", problems);
        if let Some(second) = host.second_address {
            once(&mut addresses, second, path.key("secondAddress"), "duplicate-address", "address", problems);
        }
        let own = host.address.to_string();
        let target = (host.ssh.address.clone().unwrap_or(own), host.ssh.port.or(plan.ssh.port));
        let place = if host.ssh.address.is_some() { path.key("ssh").key("address") } else { path.key("address") };
        // Equal addresses are reported already; only an explicit SSH target can add to that.
        if host.ssh.address.is_some() || !targets.contains_key(&target) {
            once(&mut targets, target, place, "duplicate-ssh-target", "SSH target", problems);
        }
    }
}

fn once<T: Ord>(
    seen: &mut BTreeMap<T, FieldPath>,
    value: T,
    path: FieldPath,
    code: &'static str,
    noun: &str,
    problems: &mut Problems,
) {
    match seen.entry(value) {
        Entry::Vacant(vacant) => {
            vacant.insert(path);
        }
        Entry::Occupied(first) => {
            let message = format!("two hosts have the same {noun}");
            problems.error(code, path, message).related(first.get().clone(), "first used here");
        }
    }
}

fn addresses(plan: &Plan, host: &Host, path: &FieldPath, problems: &mut Problems) {
    for (name, address) in [("address", Some(host.address)), ("secondAddress", host.second_address)] {
        let Some(address) = address else { continue };
        if let Some(kind) = reserved(address) {
            let message = format!("{address} is {kind} and cannot be the address of a host");
            problems.error("reserved-address", path.key(name), message).hint("the address that the other hosts reach it at");
        }
    }
    let dual = matches!(plan.network.pod_cidrs[..], [first, second] if first.addr().is_ipv4() != second.addr().is_ipv4());
    match host.second_address {
        Some(second) if second.is_ipv4() == host.address.is_ipv4() => {
            let message = "the second address must be of the other family than the first";
            problems.error("address-family", path.key("secondAddress"), message).related(path.key("address"), "the first address");
        }
        None if dual && host.is_node() => {
            let message = format!("host {} has one address, but the cluster is dual stack", host.name);
            problems.error("second-address-missing", path.clone(), message).hint("give its address of the other family as `secondAddress`");
        }
        _ => {}
    }
    let family = plan.network.pod_cidrs.first().map(|network| network.addr().is_ipv4());
    if family.is_some_and(|ipv4| ipv4 != host.address.is_ipv4()) && host.is_node() {
        let message = "the address is not of the family of the first pod network";
        problems
            .error("address-family", path.key("address"), message)
            .related(field("network").key("podCidrs").index(0), "the first pod network")
            .hint("nodes are reached at an address of the cluster's first family");
    }
}

/// What kind of address it is, if no host can have it.
fn reserved(address: IpAddr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        match address {
            IpAddr::V4(address) if address.is_broadcast() => Some("the broadcast address"),
            IpAddr::V4(address) if address.is_link_local() => Some("a link-local address"),
            IpAddr::V6(address) if address.is_unicast_link_local() => Some("a link-local address"),
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6 notation"),
            _ => None,
        }
    }
}

fn roles(plan: &Plan, host: &Host, path: &FieldPath, problems: &mut Problems) {
    if host.roles.is_empty() {
        problems.error("no-role", path.key("roles"), format!("host {} has no role", host.name));
    }
    if plan.etcd.external.is_some() && host.roles.contains(&Role::Etcd) {
        let message = format!("host {} has the role `etcd`, but etcd is external", host.name);
        problems
            .error("etcd-role-with-external", path.key("roles"), message)
            .related(field("etcd").key("external"), "etcd is external")
            .hint("remove the role, or `etcd.external`");
    }
    if !host.is_node() {
        let unused = [
            ("labels", !host.labels.is_empty()),
            ("taints", host.taints.as_ref().is_some_and(|taints| !taints.is_empty())),
            ("podCidrs", !host.pod_cidrs.is_empty()),
        ];
        for (name, _) in unused.into_iter().filter(|(_, set)| *set) {
            let message = format!("host {} registers no Node, so its {name} have no effect", host.name);
            problems.warning("no-node", path.key(name), message);
        }
    }
}

fn reached(plan: &Plan, host: &Host, path: &FieldPath, problems: &mut Problems) {
    let path = path.key("ssh");
    let ssh = &host.ssh;
    if let Some(address) = ssh.address.as_ref().filter(|address| !is_ssh_target(address)) {
        problems.error("ssh-address-syntax", path.key("address"), format!("`{address}` is neither a name nor an address"));
    }
    user_and_port(ssh.user.as_deref(), ssh.port, &path, problems);
    jumps(ssh.jump_hosts.as_deref().unwrap_or_default(), &path, problems);
    if let Some(key) = &ssh.host_key
        && !is_host_key(key)
    {
        problems
            .error("host-key-syntax", path.key("hostKey"), "this is not a public host key")
            .hint("as in known-hosts files, without the host: `ssh-ed25519 AAAA…`; `ssh-keyscan` prints it");
    }
    let sudo = ssh.sudo.or(plan.ssh.sudo);
    if sudo == Some(false) && ssh.user.as_deref().or(plan.ssh.user.as_deref()).is_some_and(|user| user != "root") {
        let place = if ssh.sudo.is_some() { path.key("sudo") } else { field("ssh").key("sudo") };
        problems.warning("not-root", place, format!("host {} is worked on without sudo as a user who is not root", host.name));
    }
}

fn plan_wide_ssh(plan: &Plan, problems: &mut Problems) {
    let path = field("ssh");
    user_and_port(plan.ssh.user.as_deref(), plan.ssh.port, &path, problems);
    jumps(&plan.ssh.jump_hosts, &path, problems);
    if plan.ssh.connect_timeout.0.is_zero() {
        problems.error("zero-duration", path.key("connectTimeout"), "this must be longer than zero");
    }
    // Within a run a connection may go unused for a while too.
    if plan.ssh.persist.is_some_and(|persist| !persist.0.is_zero() && persist < Span::seconds(60)) {
        problems
            .error("short-persist", path.key("persist"), "a connection would end while a run still needs it")
            .hint("at least `1m`, or `0s` to close connections when a run ends");
    }
}

fn user_and_port(user: Option<&str>, port: Option<u16>, path: &FieldPath, problems: &mut Problems) {
    if let Some(user) = user.filter(|user| !is_user(user)) {
        problems.error("ssh-user-syntax", path.key("user"), format!("`{user}` is not a login name"));
    }
    if port == Some(0) {
        problems.error("port-zero", path.key("port"), "port 0 cannot be connected to");
    }
}

fn jumps(jump_hosts: &[String], path: &FieldPath, problems: &mut Problems) {
    for (index, jump) in jump_hosts.iter().enumerate().filter(|(_, jump)| !is_jump_host(jump)) {
        problems
            .error("jump-host-syntax", path.key("jumpHosts").index(index), format!("`{jump}` is not a jump host"))
            .hint("write it as `[user@]host[:port]`");
    }
}

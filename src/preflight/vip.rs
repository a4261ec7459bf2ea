//! The check `vip`: what hosts say that speaks against the plan's virtual address. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Finding, Severity};
use crate::desired::vip::{HAPROXY_FILE, KEEPALIVED_FILE, MANIFEST_FILE};
use crate::facts::Facts;
use crate::names::{HostName, RemotePath};
use crate::phase::Stage;
use crate::plan::{Endpoint, Plan, Vip};

const NAME: &str = "vip";

/// Looks for all of it.
pub(super) fn check(plan: &Plan, facts: &BTreeMap<HostName, Facts>, stage: Stage) -> Vec<Finding> {
    let Some(Endpoint::Vip(vip)) = &plan.endpoint else { return Vec::new() };
    let mut findings = holders(vip, facts);
    findings.extend(interfaces(plan, vip, facts));
    if stage == Stage::Living {
        findings.extend(moved(vip, facts));
    }
    findings
}

fn finding(host: Option<&HostName>, severity: Severity, message: String, hint: &str) -> Finding {
    Finding { host: host.cloned(), check: NAME, severity, message, hint: hint.to_owned() }
}

/// Hosts that have the address although keepalived did not give it to them, or more than one at a time.
fn holders(vip: &Vip, facts: &BTreeMap<HostName, Facts>) -> Vec<Finding> {
    let holds = |facts: &Facts| facts.system.addresses.iter().any(|found| found.address == vip.address);
    let is_ours = |facts: &Facts| facts.state.files.contains_key(&RemotePath::fixed(MANIFEST_FILE));
    let holding: Vec<(&HostName, &Facts)> = facts.iter().filter(|(_, facts)| holds(facts)).collect();
    let (ours, foreign): (Vec<_>, Vec<_>) = holding.into_iter().partition(|(_, facts)| is_ours(facts));
    let mut findings: Vec<Finding> = foreign
        .into_iter()
        .map(|(host, _)| {
            let message = format!("it has the address {}, and slipway did not give it to it", vip.address);
            finding(Some(host), Severity::Error, message, "take the address away from it: two holders would take turns in losing connections")
        })
        .collect();
    if let [_, _, ..] = ours[..] {
        let names: Vec<&str> = ours.iter().map(|(host, _)| host.as_str()).collect();
        let message = format!("{} all hold the address {}: they do not hear each other", names.join(", "), vip.address);
        findings.push(finding(None, Severity::Warning, message, "let VRRP (IP protocol 112) through between the control planes"));
    }
    findings
}

/// Whether the address belongs where it is put.
fn interfaces(plan: &Plan, vip: &Vip, facts: &BTreeMap<HostName, Facts>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for host in plan.control_planes() {
        let Some(addresses) = facts.get(&host.name).map(|facts| &facts.system.addresses).filter(|all| !all.is_empty()) else { continue };
        let of = |wanted: &str| addresses.iter().filter(|found| found.interface == wanted).collect::<Vec<_>>();
        let found = match &vip.interface {
            Some(interface) => of(interface),
            None => addresses.iter().filter(|found| found.address == host.address).collect(),
        };
        if found.is_empty() {
            if let Some(interface) = &vip.interface {
                let message = format!("it has no interface {interface} with an address");
                findings.push(finding(Some(&host.name), Severity::Error, message, "correct `endpoint.vip.interface`, or leave it out"));
            }
            continue;
        }
        let contains = |address: IpAddr, prefix: u8| ipnet::IpNet::new(address, prefix).is_ok_and(|network| network.contains(&vip.address));
        if !found.iter().any(|found| contains(found.address, found.prefix)) {
            let message = format!("{} lies in no network of its interface {}", vip.address, found[0].interface);
            findings.push(finding(Some(&host.name), Severity::Warning, message, "clients in that network reach the address only by a route of their own"));
        }
    }
    findings
}

/// Another address or port in a cluster that lives: hosts would use the old one until their turn comes.
fn moved(vip: &Vip, facts: &BTreeMap<HostName, Facts>) -> Option<Finding> {
    let text = |facts: &Facts, path| facts.state.text(&RemotePath::fixed(path)).map(str::to_owned);
    let old = facts.values().find_map(|facts| {
        let (keepalived, haproxy) = (text(facts, KEEPALIVED_FILE)?, text(facts, HAPROXY_FILE)?);
        let address = keepalived.lines().map(str::trim).skip_while(|line| !line.starts_with("virtual_ipaddress")).nth(1)?.split('/').next()?.parse().ok()?;
        let port = haproxy.lines().find_map(|line| line.trim().strip_prefix("bind ")?.rsplit_once(':')?.1.parse().ok())?;
        Some((address, port))
    });
    let (address, port): (IpAddr, u16) = old?;
    let message = format!("the virtual address is {address} with port {port} now, and would be gone before every host knows of {} with port {}", vip.address, vip.port);
    let hint = "apply the plan with `endpoint: {localProxy: {}}` first, and then with the new address";
    ((address, port) != (vip.address, vip.port)).then(|| finding(None, Severity::Error, message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{Artifact, Secret};
    use crate::desired::vip;
    use crate::facts::{FoundFile, FoundKind, InterfaceAddress, System};
    use crate::names::Mode;

    fn plan(endpoint: &str) -> Plan {
        let text = format!(
            "version: 1\nkubernetes: {{version: v1.34.2}}\nendpoint: {{vip: {endpoint}}}\nhosts:\n  - {{name: a, address: 192.0.2.1, roles: [control-plane]}}\n  - {{name: b, address: 192.0.2.2, roles: [control-plane]}}\n  - {{name: w, address: 192.0.2.9, roles: [worker]}}\n"
        );
        crate::yaml::read(&text).unwrap()
    }

    /// A host with these addresses on eth0; `applied` is the plan whose files it has.
    fn facts(addresses: &[&str], applied: Option<&Plan>) -> Facts {
        let address = |text: &&str| InterfaceAddress { interface: "eth0".into(), address: text.parse().unwrap(), prefix: 24 };
        let system = System { addresses: addresses.iter().map(address).collect(), ..System::default() };
        let mut facts = Facts { system, ..Facts::default() };
        for artifact in applied.map(|plan| vip::artifacts(plan, &plan.hosts[0], &facts.system)).unwrap_or_default() {
            let Artifact::File { path, content, .. } = artifact else { panic!("only files") };
            let kind = FoundKind::File { digest: Some(content.digest()), content: Some(Secret::new(content.bytes())) };
            facts.state.files.insert(path, FoundFile { mode: Mode(0o644), owner: 0, group: 0, kind });
        }
        facts
    }

    fn found(plan: &Plan, hosts: &[(&str, Facts)]) -> Vec<String> {
        let facts = hosts.iter().map(|(name, facts)| (name.parse().unwrap(), facts.clone())).collect();
        check(plan, &facts, Stage::Living).iter().map(ToString::to_string).map(|text| text.lines().next().unwrap().to_owned()).collect()
    }

    #[test]
    fn one_holder_is_as_it_should_be_and_two_do_not_hear_each_other() {
        let plan = plan("{address: 192.0.2.100}");
        let holder = facts(&["192.0.2.1", "192.0.2.100"], Some(&plan));
        let other = facts(&["192.0.2.2"], Some(&plan));
        assert_eq!(found(&plan, &[("a", holder.clone()), ("b", other)]), [""; 0]);
        let second = facts(&["192.0.2.2", "192.0.2.100"], Some(&plan));
        assert_eq!(found(&plan, &[("a", holder), ("b", second)]), ["warning[vip]: a, b all hold the address 192.0.2.100: they do not hear each other"]);
    }

    #[test]
    fn an_address_that_somebody_has_is_refused() {
        let plan = plan("{address: 192.0.2.100}");
        let taken = facts(&["192.0.2.9", "192.0.2.100"], None);
        assert_eq!(found(&plan, &[("w", taken)]), ["error[vip]: host w: it has the address 192.0.2.100, and slipway did not give it to it"]);
    }

    #[test]
    fn the_interface_is_there_and_the_address_belongs_to_it() {
        let host = || facts(&["192.0.2.1"], None);
        assert_eq!(found(&plan("{address: 192.0.2.100, interface: eth9}"), &[("a", host())]), ["error[vip]: host a: it has no interface eth9 with an address"]);
        assert_eq!(found(&plan("{address: 198.51.100.1}"), &[("a", host())]), ["warning[vip]: host a: 198.51.100.1 lies in no network of its interface eth0"]);
        assert_eq!(found(&plan("{address: 192.0.2.100, interface: eth0}"), &[("a", host())]), [""; 0]);
    }

    #[test]
    fn another_address_goes_by_way_of_another_endpoint() {
        let old = plan("{address: 192.0.2.100}");
        let host = facts(&["192.0.2.1"], Some(&old));
        for new in ["{address: 192.0.2.101}", "{address: 192.0.2.100, port: 9443}"] {
            let seen = found(&plan(new), &[("a", host.clone())]);
            assert!(seen.len() == 1 && seen[0].starts_with("error[vip]: the virtual address is 192.0.2.100 with port 8443 now"), "{seen:?}");
        }
        assert_eq!(found(&plan("{address: 192.0.2.100, healthPort: 9444, virtualRouterId: 3}"), &[("a", host)]), [""; 0]);
    }
}

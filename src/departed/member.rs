//! Members of etcd on no host of the plan that no mark tells of. Pure: where such a member's machine is, and
//! whether that says itself that slipway made the member. Anybody may have added one (`kubeadm join` does), so
//! it is not slipway's unless shown.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Authorities, Machine, certificates, judge, known_as};
use crate::cluster::etcd::Member;
use crate::facts::{Facts, State};
use crate::names::HostName;
use crate::paths;
use crate::plan::{Host, Plan, Role, SshOverrides};
use crate::standing::member_of;
use crate::teardown::{Origin, origin};
use crate::transport::records;
use crate::yaml;

/// The hosts of such members, as far as etcd's list says where they are: reached at the address of the peer
/// URL, with the plan's `ssh`. Members are named as their hosts; one that never started has no name yet, and
/// one whose name or address the plan has for another host is not looked for.
#[must_use]
pub fn unmarked(plan: &Plan, members: &[Member], known: &[&Host], nodes: &BTreeSet<String>) -> Vec<Host> {
    let is_known = |member: &&Member| {
        let all = plan.etcd_hosts().chain(known.iter().copied());
        all.filter_map(|host| member_of(host, members)).any(|other| other.id == member.id)
    };
    let of = |member: &Member| {
        let name: HostName = member.name.parse().ok()?;
        let address = address(member.peer_urls.first()?)?;
        let taken = plan.host(&name).is_some() || plan.hosts.iter().any(|host| host.addresses().any(|other| other == address));
        // A Node of that name is another matter, whoever made it.
        let taken = taken || nodes.contains(&member.name) || known.iter().any(|host| host.name == name);
        (!taken).then(|| known_as(name, address, [Role::Etcd].into(), SshOverrides::default()))
    };
    members.iter().filter(|member| !is_known(member)).filter_map(of).collect()
}

/// The host of such a member, if its machine says so: slipway wrote the manifest of a member of that name
/// there, and etcd's CA is this cluster's.
#[must_use]
pub fn vouched(host: Host, facts: &Facts, authorities: &Authorities<'_>) -> Option<Host> {
    let state = &facts.state;
    let wrote = origin(facts) == Origin::Slipway && !records::written(&paths::etcd_manifest(), state).is_empty();
    let (_, own) = authorities.iter().find(|(path, _)| *path == paths::etcd_ca_certificate())?;
    let trusts = state.text(&paths::etcd_ca_certificate()).is_some_and(|found| !certificates(found).is_disjoint(&certificates(own)));
    let named = name(state).is_some_and(|name| name == host.name.as_str());
    if !(wrote && trusts && named) {
        return None;
    }
    let mut host = host;
    if state.files.contains_key(&paths::api_server_manifest()) {
        host.roles.insert(Role::ControlPlane);
    }
    matches!(judge(&host, facts.clone(), authorities), Machine::Found(_)).then_some(host)
}

/// What the member on a host is called, by its manifest.
pub(super) fn name(state: &State) -> Option<String> {
    let pod: serde_json::Value = yaml::read(state.text(&paths::etcd_manifest())?).ok()?;
    let command = pod.pointer("/spec/containers/0/command")?.as_array()?;
    command.iter().filter_map(|argument| argument.as_str()?.strip_prefix("--name=")).next_back().map(str::to_owned)
}

/// The address of a peer URL. slipway writes no names there.
fn address(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let (address, _port) = rest.trim_end_matches('/').rsplit_once(':')?;
    address.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::etcd::MemberId;
    use crate::departed::tests::{facts, plan};

    fn member(id: u64, name: &str, url: &str) -> Member {
        Member { id: MemberId(id), name: name.into(), peer_urls: vec![url.into()], ..Member::default() }
    }

    #[test]
    fn only_members_with_a_name_and_an_address_of_their_own_are_looked_for() {
        let list = [
            member(1, "cp", "https://192.0.2.1:2380"),
            member(2, "old", "https://192.0.2.9:2380"),
            member(3, "six", "https://[2001:db8::9]:2380"),
            member(4, "", "https://192.0.2.10:2380"),
            member(5, "named", "https://etcd.example.test:2380"),
            member(6, "w", "https://192.0.2.11:2380"),
            member(7, "moved", "https://192.0.2.2:2380"),
            member(8, "joined", "https://192.0.2.12:2380"),
            member(9, "Not_A_Host", "https://192.0.2.13:2380"),
        ];
        let found = |known: &[&Host]| -> Vec<String> {
            let hosts = unmarked(&plan(), &list, known, &["joined".to_owned()].into());
            hosts.iter().map(|host| format!("{} {}", host.name, host.address)).collect()
        };
        assert_eq!(found(&[]), ["old 192.0.2.9", "six 2001:db8::9"]);
        let old = known_as("old".parse().unwrap(), "192.0.2.9".parse().unwrap(), [Role::Etcd].into(), SshOverrides::default());
        assert_eq!(found(&[&old]), ["six 2001:db8::9"]);
    }

    #[test]
    fn a_machine_vouches_only_with_slipways_own_record_and_the_clusters_ca() {
        let ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let other = ca.replace("AAAA", "BBBB");
        let manifest = |name: &str| format!("spec:\n  containers:\n  - command: [etcd, --name={name}]\n");
        let record = || crate::names::RemotePath::fixed(records::RECORDS).join(&records::name(&paths::etcd_manifest())).unwrap();
        let written = format!("path=/etc/kubernetes/manifests/etcd.yaml\nkind=file\nbefore=absent\nwritten={}\n", crate::names::Digest::of("x"));
        let judged = |ca_found: &str, name: &str, recorded: bool, api_server: bool| {
            let mut files = vec![(paths::etcd_ca_certificate(), ca_found.to_owned()), (paths::etcd_manifest(), manifest(name))];
            if recorded {
                files.push((record(), written.clone()));
            }
            if api_server {
                files.push((paths::api_server_manifest(), String::new()));
            }
            let files: Vec<_> = files.iter().map(|(path, text)| (path.clone(), text.as_str())).collect();
            let host = known_as("old".parse().unwrap(), "192.0.2.9".parse().unwrap(), [Role::Etcd].into(), SshOverrides::default());
            vouched(host, &facts("some-machine", &files), &[(paths::etcd_ca_certificate(), ca)]).map(|host| host.roles)
        };
        assert_eq!(judged(ca, "old", true, false), Some([Role::Etcd].into()));
        assert_eq!(judged(ca, "old", true, true), Some([Role::ControlPlane, Role::Etcd].into()), "its Node was deleted by hand");
        assert_eq!(judged(&other, "old", true, false), None);
        assert_eq!(judged(ca, "new", true, false), None);
        assert_eq!(judged(ca, "old", false, false), None, "somebody else wrote the manifest");
    }
}

//! Credentials that are on the hosts already: for commands that only ask, where nothing may be
//! signed and a missing file must not end everything. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::inspect;
use super::kubeconfig::{self, Credentials};
use super::refresh::ClientCredentials;
use crate::artifact::Secret;
use crate::facts::{Facts, State};
use crate::names::HostName;
use crate::paths;
use crate::plan::Plan;

/// An administrator's credentials from a control plane: the first whose time has come and is not
/// over, else any.
#[must_use]
pub fn administrator(plan: &Plan, facts: &BTreeMap<HostName, Facts>, now: Timestamp) -> Option<ClientCredentials> {
    let states = plan.control_planes().filter_map(|host| facts.get(&host.name)).map(|facts| &facts.state);
    let found: Vec<ClientCredentials> = states
        .flat_map(|state| [paths::admin_kubeconfig(), paths::super_admin_kubeconfig()].map(|path| (state, path)))
        .filter_map(|(state, path)| of_kubeconfig(state.text(&path)?))
        .collect();
    best(found, now)
}

/// A client's credentials for slipway's own etcd: a member's health check, or an API server's.
#[must_use]
pub fn etcd_client(plan: &Plan, facts: &BTreeMap<HostName, Facts>, now: Timestamp) -> Option<ClientCredentials> {
    let pairs = [
        (paths::etcd_health_check_certificate(), paths::etcd_health_check_key()),
        (paths::etcd_client_certificate(), paths::etcd_client_key()),
    ];
    let states = || plan.hosts.iter().filter_map(|host| facts.get(&host.name)).map(|facts| &facts.state);
    let of = |state: &State, certificate, key| {
        Some(ClientCredentials {
            ca_pem: state.text(&paths::etcd_ca_certificate())?.to_owned(),
            certificate_pem: state.text(certificate)?.to_owned(),
            key: Secret::new(state.content(key)?),
        })
    };
    let found = pairs.iter().flat_map(|(certificate, key)| states().filter_map(move |state| of(state, certificate, key)));
    best(found.collect(), now)
}

fn of_kubeconfig(text: &str) -> Option<ClientCredentials> {
    let found = kubeconfig::read(text).ok()?;
    let Credentials::Embedded { certificate, key } = found.credentials else { return None };
    Some(ClientCredentials {
        ca_pem: String::from_utf8(found.authority?).ok()?,
        certificate_pem: String::from_utf8(certificate).ok()?,
        key,
    })
}

fn best(mut found: Vec<ClientCredentials>, now: Timestamp) -> Option<ClientCredentials> {
    let is_valid = |credentials: &ClientCredentials| {
        inspect::certificate(credentials.certificate_pem.as_bytes())
            .is_ok_and(|certificate| (certificate.not_before..=certificate.not_after).contains(&now))
    };
    let index = found.iter().position(is_valid).unwrap_or(0);
    (!found.is_empty()).then(|| found.swap_remove(index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::RemotePath;
    use crate::trust::testing::{Hosts, day, name, plan};

    fn subject(credentials: &ClientCredentials) -> String {
        inspect::certificate(credentials.certificate_pem.as_bytes()).unwrap().subject.to_string()
    }

    #[test]
    fn credentials_are_found_on_any_host_that_has_them() {
        let mut hosts = Hosts::bootstrapped(plan("external"));
        hosts.remove("cp-1", "/etc/kubernetes/admin.conf");
        hosts.remove("cp-1", "/etc/kubernetes/super-admin.conf");
        hosts.put(&name("cp-1"), &RemotePath::fixed("/etc/kubernetes/pki/etcd/healthcheck-client.crt"), b"damaged");
        let administrator = administrator(&hosts.plan, &hosts.facts, day(1)).unwrap();
        assert_eq!(subject(&administrator), "O=kubeadm:cluster-admins, CN=kubernetes-admin");
        assert_eq!(administrator.ca_pem.as_bytes(), hosts.bytes("cp-2", "/etc/kubernetes/pki/ca.crt"));
        let client = etcd_client(&hosts.plan, &hosts.facts, day(1)).unwrap();
        assert_eq!(subject(&client), "CN=kube-etcd-healthcheck-client");
        assert_eq!(inspect::public_half(&client.key).unwrap(), inspect::certificate(client.certificate_pem.as_bytes()).unwrap().public_key);
    }

    #[test]
    fn a_valid_certificate_goes_before_an_expired_one() {
        let old = Hosts::bootstrapped(plan("external"));
        let mut hosts = Hosts::bootstrapped(plan("external"));
        let renewed = hosts.run(crate::phase::Stage::Living, day(360)).unwrap();
        hosts.write(&renewed);
        let path = RemotePath::fixed("/etc/kubernetes/admin.conf");
        for path in [&path, &RemotePath::fixed("/etc/kubernetes/super-admin.conf")] {
            hosts.put(&name("cp-1"), path, &old.bytes("cp-1", path.as_str()));
        }
        let certificate = |day_of| {
            let found = administrator(&hosts.plan, &hosts.facts, day(day_of)).unwrap();
            inspect::certificate(found.certificate_pem.as_bytes()).unwrap()
        };
        assert!(certificate(400).not_after > day(400));
        assert!(certificate(10).not_after < day(400));
        assert!(certificate(4000).not_after < day(4000), "an expired one is better than none");
    }

    #[test]
    fn empty_hosts_have_none() {
        let hosts = Hosts::new(plan("external"));
        assert!(administrator(&hosts.plan, &hosts.facts, day(1)).is_none());
        assert!(etcd_client(&hosts.plan, &hosts.facts, day(1)).is_none());
    }
}

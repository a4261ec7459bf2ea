//! Every certificate of a cluster in one list: what each host has, what is wrong with it, and what the
//! component that reads it really serves. Pure; what was seen is handed in.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::certificates;
use crate::cluster::served::{Port, Served};
use crate::facts::{Facts, FoundKind, State};
use crate::names::{HostName, RemotePath, Span};
use crate::paths;
use crate::plan::Plan;
use crate::trust::decide::{self, Decision, target};
use crate::trust::inspect::{self, Certificate};
use crate::trust::specification::{self, Authority, ClusterPair, Leaf, Storage};

mod text;

pub use text::to_text;

/// A certificate, where it is, and what is served of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its name, as `certs renew` takes it.
    pub name: String,
    /// The host it is on.
    pub host: HostName,
    /// The file that holds it; null if it is only in the memory of its component.
    pub path: Option<RemotePath>,
    /// Whether it is a CA's.
    pub authority: bool,
    /// Whom it names.
    pub subject: String,
    /// The names and addresses it is good for.
    pub names: Vec<String>,
    /// Who signed it: one of the cluster's CAs by its name, `itself`, or the issuer's own name.
    pub issuer: String,
    /// Its key: `RSA-2048`, `ECDSA-P256`, …
    pub algorithm: String,
    /// Its serial number in hexadecimal digits.
    pub serial: String,
    /// The first moment of its life.
    pub not_before: Option<Timestamp>,
    /// The last.
    pub not_after: Option<Timestamp>,
    /// Seconds left, negative when it is over.
    pub seconds_left: Option<i64>,
    /// Whether slipway cannot renew it: no host has its CA's key, or it is somebody else's.
    pub externally_managed: bool,
    /// Whether anybody verifies it: a certificate that a component signed for itself nobody does.
    pub verified: bool,
    /// Why the next `apply` or `certs renew` makes it anew, or null.
    pub due: Option<String>,
    /// What its component serves; null if it is not one that is served.
    pub served: Option<Presented>,
}

/// What a component serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Presented {
    /// Whether it is the one of the file (or of memory).
    pub loaded: bool,
    /// The serial number of what is served.
    pub serial: Option<String>,
    /// The end of its life.
    pub not_after: Option<Timestamp>,
    /// Why nothing was seen.
    pub problem: Option<String>,
}

/// What the inventory is made of.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What the probes saw.
    pub facts: &'a BTreeMap<HostName, Facts>,
    /// What ports presented.
    pub served: &'a Served,
    /// The time.
    pub now: Timestamp,
}

/// All certificates, host by host in the order of the plan, CAs after leaves.
#[must_use]
pub fn of(seen: Seen<'_>) -> Vec<Entry> {
    let authorities: BTreeMap<Authority, Known> =
        Authority::ALL.into_iter().filter_map(|authority| Some((authority, known(seen, authority)?))).collect();
    let leaves = specification::leaves(seen.plan, seen.plan.kubernetes.version);
    let mut entries = Vec::new();
    for host in &seen.plan.hosts {
        let Some(Facts { state, .. }) = seen.facts.get(&host.name) else { continue };
        let of_host = OfHost { seen, authorities: &authorities, host: &host.name, state };
        let mine: Vec<&Leaf> = leaves.iter().filter(|leaf| leaf.host == host.name).collect();
        entries.extend(mine.iter().filter_map(|leaf| of_host.leaf(leaf)));
        entries.extend(of_host.kubelet_server());
        entries.extend(of_host.in_memory("controller-manager-server", Port::ControllerManager));
        entries.extend(of_host.in_memory("scheduler-server", Port::Scheduler));
        entries.extend(of_host.authorities());
        entries.extend(of_host.others(&mine));
    }
    entries
}

/// Entries that end, or whose component serves something that ends, within that time. What cannot be
/// read or is missing counts; what nobody verifies does not.
pub fn near_expiry(entries: &[Entry], within: Span, now: Timestamp) -> impl Iterator<Item = &Entry> {
    let within = SignedDuration::try_from(within.0).unwrap_or(SignedDuration::MAX);
    let ends = move |at: Option<Timestamp>| at.is_none_or(|at| at.duration_since(now) < within);
    entries.iter().filter(move |entry| {
        let served = entry.served.as_ref().filter(|served| served.problem.is_none());
        entry.verified && (ends(entry.not_after) || served.is_some_and(|served| ends(served.not_after)))
    })
}

/// A CA of the cluster.
struct Known {
    certificates: Vec<Certificate>,
    has_key: bool,
}

fn known(seen: Seen<'_>, authority: Authority) -> Option<Known> {
    let pair = ClusterPair::Authority(authority);
    let keepers = || pair.keepers(seen.plan).filter_map(|host| seen.facts.get(&host.name));
    let certificates =
        keepers().find_map(|facts| inspect::certificates(facts.state.content(&pair.public_path())?).ok())?;
    let has_key = seen.plan.pki.authority.store().is_some() || keepers().any(|facts| facts.state.files.contains_key(&pair.key_path()));
    Some(Known { certificates, has_key })
}

struct OfHost<'a> {
    seen: Seen<'a>,
    authorities: &'a BTreeMap<Authority, Known>,
    host: &'a HostName,
    state: &'a State,
}

impl OfHost<'_> {
    fn leaf(&self, leaf: &Leaf) -> Option<Entry> {
        let known = self.authorities.get(&leaf.authority);
        let path = match &leaf.storage {
            Storage::FilePair { certificate, .. } => certificate,
            Storage::Kubeconfig(place) => &place.path,
            Storage::KubeletClient { current, .. } => current,
        };
        if leaf.once && !self.state.files.contains_key(path) {
            return None;
        }
        let signer = known.and_then(|known| known.certificates.first());
        let decision = decide::decide(leaf, self.state, signer, self.seen.plan.pki.renew_before, self.seen.now);
        let certificate = certificates::read(self.state, path).and_then(Result::ok);
        let mut entry = self.entry(leaf.name, Some(path), certificate.as_ref());
        entry.due = match decision {
            Decision::Keep(_) => None,
            Decision::Rewrite(_, reason) | Decision::Bring(_, reason) | Decision::Issue(reason) => Some(reason.to_string()),
        };
        entry.externally_managed = !known.is_some_and(|known| known.has_key);
        let port = match leaf.name {
            "apiserver" => Some(Port::ApiServer),
            "etcd/server" => Some(Port::EtcdClients),
            "etcd/peer" => Some(Port::EtcdPeers),
            _ => None,
        };
        entry.served = port.and_then(|port| self.presented(port, certificate.as_ref()));
        Some(entry)
    }

    /// The kubelet's serving certificate is its own affair: signed by itself, or asked of the cluster.
    fn kubelet_server(&self) -> Option<Entry> {
        let signed = paths::kubelet_server_current();
        let path = if self.state.files.contains_key(&signed) { signed } else { paths::kubelet_self_signed() };
        let answer = self.seen.served.get(&(self.host.clone(), Port::Kubelet));
        if answer.is_none() && !self.state.files.contains_key(&path) {
            return None;
        }
        let certificate = self.state.content(&target(self.state, &path)).and_then(|bytes| inspect::certificate(bytes).ok());
        let mut entry = self.entry("kubelet-server", Some(&path), certificate.as_ref());
        entry.verified &= path != paths::kubelet_self_signed();
        entry.externally_managed = true;
        entry.served = self.presented(Port::Kubelet, certificate.as_ref());
        Some(entry)
    }

    /// What a component signed for itself at its start.
    fn in_memory(&self, name: &str, port: Port) -> Option<Entry> {
        let answer = self.seen.served.get(&(self.host.clone(), port))?;
        let mut entry = self.entry(name, None, answer.as_ref().ok());
        entry.externally_managed = true;
        entry.verified = false;
        entry.served = self.presented(port, answer.as_ref().ok());
        Some(entry)
    }

    /// CA certificates, each of a bundle.
    fn authorities(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for authority in Authority::ALL {
            let path = authority.certificate_path();
            let Some(bytes) = self.state.content(&path) else { continue };
            let name = short(&path);
            let has_key = self.authorities.get(&authority).is_some_and(|known| known.has_key);
            match inspect::certificates(bytes) {
                Ok(all) => {
                    let several = all.len() > 1;
                    for (index, certificate) in all.iter().enumerate() {
                        let name = if several { format!("{name}#{}", index + 1) } else { name.clone() };
                        let entry = self.entry(&name, Some(&path), Some(certificate));
                        entries.push(Entry { externally_managed: !has_key, verified: true, authority: true, ..entry });
                    }
                }
                Err(error) => {
                    let entry = self.entry(&name, Some(&path), None);
                    entries.push(Entry { authority: true, due: Some(format!("unreadable: {error}")), ..entry });
                }
            }
        }
        entries
    }

    /// Certificates in the PKI directory that are not of the table: somebody else's.
    fn others(&self, leaves: &[&Leaf]) -> Vec<Entry> {
        let known = |path: &RemotePath| {
            Authority::ALL.iter().any(|authority| authority.certificate_path() == *path)
                || leaves.iter().any(|leaf| matches!(&leaf.storage, Storage::FilePair { certificate, .. } if certificate == path))
        };
        let files = self.state.files.iter().filter(|(path, file)| {
            path.is_within(&paths::pki_directory()) && path.as_str().ends_with(".crt") && !matches!(file.kind, FoundKind::Directory)
        });
        files
            .filter(|(path, _)| !known(path))
            .map(|(path, _)| {
                let certificate = certificates::read(self.state, path).and_then(Result::ok);
                let entry = self.entry(&short(path), Some(path), certificate.as_ref());
                Entry { externally_managed: true, ..entry }
            })
            .collect()
    }

    fn presented(&self, port: Port, expected: Option<&Certificate>) -> Option<Presented> {
        let answer = self.seen.served.get(&(self.host.clone(), port))?;
        Some(match answer {
            Ok(served) => Presented {
                loaded: expected == Some(served),
                serial: Some(served.serial.clone()),
                not_after: Some(served.not_after),
                problem: None,
            },
            Err(problem) => Presented { loaded: false, serial: None, not_after: None, problem: Some(problem.clone()) },
        })
    }

    fn entry(&self, name: &str, path: Option<&RemotePath>, certificate: Option<&Certificate>) -> Entry {
        let not_after = certificate.map(|certificate| certificate.not_after);
        Entry {
            name: name.to_owned(),
            host: self.host.clone(),
            path: path.cloned(),
            authority: certificate.is_some_and(|certificate| certificate.is_authority),
            subject: certificate.map(|certificate| certificate.subject.to_string()).unwrap_or_default(),
            names: certificate.map_or_else(Vec::new, |certificate| certificate.names.iter().map(ToString::to_string).collect()),
            issuer: certificate.map(|certificate| self.issuer(certificate)).unwrap_or_default(),
            algorithm: certificate.map(|certificate| certificate.algorithm.clone()).unwrap_or_default(),
            serial: certificate.map(|certificate| certificate.serial.clone()).unwrap_or_default(),
            not_before: certificate.map(|certificate| certificate.not_before),
            not_after,
            seconds_left: not_after.map(|at| at.duration_since(self.seen.now).as_secs()),
            externally_managed: false,
            verified: true,
            due: None,
            served: None,
        }
    }

    fn issuer(&self, certificate: &Certificate) -> String {
        if certificate.is_signed_by(certificate) {
            return "itself".to_owned();
        }
        let signer = self.authorities.iter().find(|(_, known)| known.certificates.iter().any(|ca| certificate.is_signed_by(ca)));
        signer.map_or_else(|| certificate.issuer.clone(), |(authority, _)| authority.common_name().to_owned())
    }
}

/// A path below the PKI directory without its suffix.
fn short(path: &RemotePath) -> String {
    let name = path.as_str().strip_prefix("/etc/kubernetes/pki/").unwrap_or(path.file_name());
    name.trim_end_matches(".crt").to_owned()
}

#[cfg(test)]
mod tests;

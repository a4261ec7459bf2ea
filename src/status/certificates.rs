//! Every certificate that a probe found on a host, with the time it has left.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::facts::{FoundKind, State};
use crate::names::{RemotePath, Span};
use crate::paths;
use crate::trust::decide::target;
use crate::trust::inspect::{self, Certificate};
use crate::trust::kubeconfig::{self, Credentials};
use crate::trust::specification::kubeconfig_paths;

/// A certificate on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The file that holds it.
    pub path: RemotePath,
    /// A short name: the path below the PKI directory, or the file's name.
    pub name: String,
    /// Whom it names; empty if it cannot be read.
    pub subject: String,
    /// Whether it signs others.
    pub authority: bool,
    /// The end of its life; null if it cannot be read.
    pub not_after: Option<Timestamp>,
    /// Whole days left, negative when it is over; null if it cannot be read.
    pub days_left: Option<i64>,
    /// Whether it should have been renewed by now.
    pub due: bool,
    /// Why it cannot be used, or null.
    pub problem: Option<String>,
}

/// All certificates of a host, the one that ends first at the front.
#[must_use]
pub fn found(state: &State, renew_before: Span, now: Timestamp) -> Vec<CertificateStatus> {
    let mut found: Vec<CertificateStatus> = places(state)
        .into_iter()
        .filter_map(|path| {
            let read = read(state, &path)?;
            Some(status(path, read, renew_before, now))
        })
        .collect();
    found.sort_by(|a, b| (a.not_after, &a.path).cmp(&(b.not_after, &b.path)));
    found
}

/// Files that hold certificates. Of the kubelet's own directory only what is in use: the files it
/// leaves behind when it renews its certificate do not count, nor does its self-signed serving
/// certificate, which nobody verifies.
fn places(state: &State) -> BTreeSet<RemotePath> {
    let in_pki = |path: &RemotePath| path.is_within(&paths::pki_directory()) && path.as_str().ends_with(".crt");
    let kubeconfigs = kubeconfig_paths();
    let server = RemotePath::fixed("/var/lib/kubelet/pki/kubelet-server-current.pem");
    let kubelets = [paths::kubelet_client_current(), server];
    state
        .files
        .iter()
        .filter(|(path, file)| {
            !matches!(file.kind, FoundKind::Directory) && (in_pki(path) || kubeconfigs.contains(path) || kubelets.contains(path))
        })
        .map(|(path, _)| path.clone())
        .collect()
}

/// The certificate at a path; `None` if it is a kubeconfig that refers to another file.
pub(super) fn read(state: &State, path: &RemotePath) -> Option<Result<Certificate, String>> {
    let Some(content) = state.content(&target(state, path)) else {
        return Some(Err("it cannot be read".into()));
    };
    if !kubeconfig_paths().contains(path) {
        return Some(inspect::certificate(content).map_err(|error| error.to_string()));
    }
    let text = String::from_utf8_lossy(content);
    match kubeconfig::read(&text) {
        Err(error) => Some(Err(error.to_string())),
        Ok(found) => match found.credentials {
            Credentials::Embedded { certificate, .. } => {
                Some(inspect::certificate(&certificate).map_err(|error| error.to_string()))
            }
            _ => None,
        },
    }
}

fn status(path: RemotePath, read: Result<Certificate, String>, renew_before: Span, now: Timestamp) -> CertificateStatus {
    let name = path.as_str().strip_prefix("/etc/kubernetes/pki/").unwrap_or(path.file_name()).to_owned();
    let certificate = match read {
        Ok(certificate) => certificate,
        Err(problem) => {
            let (subject, problem) = (String::new(), Some(problem));
            return CertificateStatus { path, name, subject, authority: false, not_after: None, days_left: None, due: true, problem };
        }
    };
    let left = certificate.not_after.duration_since(now);
    let mut threshold = SignedDuration::try_from(renew_before.0).unwrap_or(SignedDuration::MAX);
    if path == paths::kubelet_client_current() {
        // The kubelet renews its certificate when 70 to 90 % of its life are over (client-go,
        // certificate manager); with less left than that, renewing fails.
        threshold = threshold.min(certificate.not_after.duration_since(certificate.not_before) / 10);
    }
    let problem = if left < SignedDuration::ZERO {
        Some(format!("expired at {}", certificate.not_after))
    } else if now < certificate.not_before {
        Some(format!("not valid before {}", certificate.not_before))
    } else {
        None
    };
    CertificateStatus {
        path,
        name,
        subject: certificate.subject.to_string(),
        authority: certificate.is_authority,
        not_after: Some(certificate.not_after),
        days_left: Some(left.as_secs().div_euclid(24 * 3600)),
        due: left < threshold,
        problem,
    }
}

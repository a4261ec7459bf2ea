//! Validities and additional names of certificates, and who keeps the CAs' keys.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::field::{FieldPath, field};
use super::super::problem::Problems;
use super::super::{AuthorityKeys, KeyStore, Pki, Plan};
use super::syntax::is_subject_name;

/// Dates beyond this are of no use and not every reader of certificates takes them.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(super) fn check(plan: &Plan, problems: &mut Problems) {
    let (path, pki, usual) = (field("pki"), &plan.pki, Pki::default());
    for (name, span, default) in [("validity", pki.validity, usual.validity), ("caValidity", pki.ca_validity, usual.ca_validity)] {
        if span.0.is_zero() {
            problems.error("pki-validity", path.key(name), "a certificate must be valid for longer than zero");
        } else if span.0 > LONGEST {
            problems.error("pki-validity", path.key(name), format!("{span} is longer than a hundred years"));
        } else if span > default {
            problems.warning("pki-validity", path.key(name), format!("{span} is longer than the usual {default}"));
        }
    }
    if pki.validity > pki.ca_validity {
        let message = format!("leaf certificates would be valid for {}, longer than their CA ({})", pki.validity, pki.ca_validity);
        problems.error("pki-validity", path.key("validity"), message).related(path.key("caValidity"), "the CA's validity");
    }
    if pki.renew_before >= pki.validity {
        let message = format!("certificates valid for {} would be renewed {} before their end, so with every run", pki.validity, pki.renew_before);
        problems.error("pki-renewal", path.key("renewBefore"), message).related(path.key("validity"), "the validity");
    }
    subject_names(&pki.extra_sans, &path.key("extraSans"), problems);
    authority(plan, problems);
}

fn authority(plan: &Plan, problems: &mut Problems) {
    let path = field("pki").key("authority");
    match &plan.pki.authority {
        AuthorityKeys::Hosts => {}
        AuthorityKeys::Operator(store) => {
            key_store(store, &path.key("operator"), problems);
            problems
                .warning("pki-authority", path.key("operator"), "no host has a CA's key, so the cluster signs nothing by itself: requests of kubelets wait for `slipway certs approve`, and `kubeadm join` does not work")
                .hint("keep the directory and what opens it safe: without them nothing can be signed for this cluster any more");
        }
        AuthorityKeys::External { etcd, .. } => {
            problems
                .warning("pki-authority", path.key("external"), "slipway can sign nothing for this cluster: kubelets cannot renew their client certificates by themselves, and `kubeadm join` does not work")
                .hint("renew in time with `slipway certs csr` and `slipway certs import`; `slipway certs list --warn-within 30d` tells when");
            match (etcd, &plan.etcd.external) {
                (None, None) => {
                    problems.error("pki-authority", path.key("external"), "the CA of etcd is missing (`etcd`)");
                }
                (Some(_), Some(_)) => {
                    problems.error("pki-authority", path.key("external").key("etcd"), "the etcd of this plan is somebody else's and has its own CA").hint("its CA is `etcd.external.caFile`");
                }
                _ => {}
            }
        }
    }
}

fn key_store(store: &KeyStore, path: &FieldPath, problems: &mut Problems) {
    for (index, recipient) in store.recipients.iter().enumerate() {
        if !crate::key_store::is_recipient(recipient) {
            problems.error("pki-key-store", path.key("recipients").index(index), format!("`{recipient}` is no age recipient")).hint("`age-keygen` prints one: age1…");
        }
    }
    if store.recipients.is_empty() && store.identity_file.is_some() {
        problems.error("pki-key-store", path.key("identityFile"), "an identity opens nothing without `recipients`");
    }
    if !store.recipients.is_empty() && store.passphrase_file.is_some() {
        problems.error("pki-key-store", path.key("passphraseFile"), "keys for `recipients` are not opened by a passphrase");
    }
}

/// Checks additional names of certificates.
pub(super) fn subject_names(names: &[String], path: &FieldPath, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        if !is_subject_name(name) {
            problems
                .error("san-syntax", path.index(index), format!("`{name}` cannot stand in a certificate"))
                .hint("an IP address, a lower-case DNS name, or a wildcard such as `*.example.test`");
        } else if !seen.insert(name) {
            problems.warning("san-repeated", path.index(index), format!("`{name}` is in the list already"));
        }
    }
}

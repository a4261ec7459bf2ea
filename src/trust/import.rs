//! May a certificate that somebody else signed take its place in the cluster? It must be what the plan
//! wants, to the last name and use: more than was asked for is refused like less. Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::decide::FoundLeaf;
use super::inspect::{self, Certificate, InspectError};
use super::specification::{Leaf, SubjectName, Usage};
use crate::artifact::Secret;
use crate::names::Span;

/// Why a certificate is not brought in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("the certificate cannot be used: {0}")]
    Certificate(InspectError),
    /// The key cannot be read.
    #[error("its key cannot be used: {0}")]
    Key(InspectError),
    /// It was signed for another key.
    #[error("it was signed for another key than the one beside the request")]
    KeyMismatch,
    /// Another CA signed it, or an intermediate one that the CA file does not begin with.
    #[error("it is not signed by `{wanted}` but by `{found}`; an intermediate CA that signs comes first in the file of the CA")]
    Issuer {
        /// The CA of the plan.
        wanted: String,
        /// Who says to have signed it.
        found: String,
    },
    /// It could sign others.
    #[error("it is the certificate of a CA")]
    Authority,
    /// It names somebody else.
    #[error("it names `{found}`, and `{wanted}` was asked for")]
    Subject {
        /// As the plan wants it.
        wanted: String,
        /// As it is.
        found: String,
    },
    /// It is not good for what was asked, or for more.
    #[error("it is for [{found}], and [{wanted}] was asked for")]
    Usages {
        /// As the plan wants it.
        wanted: String,
        /// As it is.
        found: String,
    },
    /// It covers other names.
    #[error("it {}", names_text(missing, surplus))]
    Names {
        /// Names that were asked for and are not in it.
        missing: Vec<SubjectName>,
        /// Names that are in it and were not asked for.
        surplus: Vec<SubjectName>,
    },
    /// Its time is over or has not come.
    #[error("it is valid from {from} to {until} only")]
    NotValid {
        /// First moment.
        from: Timestamp,
        /// Last moment.
        until: Timestamp,
    },
    /// It would have to be renewed at once.
    #[error("it is valid until {until} only, which is within `pki.renewBefore` ({renew_before})")]
    TooShort {
        /// Last moment.
        until: Timestamp,
        /// The plan's.
        renew_before: Span,
    },
}

/// What the certificate is held against.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// What the plan wants.
    pub leaf: &'a Leaf,
    /// The CA that shall have signed it.
    pub authority: &'a Certificate,
    /// `pki.renewBefore`.
    pub renew_before: Span,
    /// The time.
    pub now: Timestamp,
}

/// The certificate with its key, if it is what is wanted.
///
/// # Errors
/// The first reason found against it.
pub fn judge(wanted: Wanted<'_>, certificate_pem: &[u8], key: &Secret) -> Result<FoundLeaf, ImportError> {
    let Wanted { leaf, authority, renew_before, now } = wanted;
    let certificate = inspect::certificate(certificate_pem).map_err(ImportError::Certificate)?;
    if inspect::public_half(key).map_err(ImportError::Key)? != certificate.public_key {
        return Err(ImportError::KeyMismatch);
    }
    if !certificate.is_signed_by(authority) {
        return Err(ImportError::Issuer { wanted: authority.subject.to_string(), found: certificate.issuer });
    }
    if certificate.is_authority {
        return Err(ImportError::Authority);
    }
    if certificate.subject != leaf.subject {
        return Err(ImportError::Subject { wanted: leaf.subject.to_string(), found: certificate.subject.to_string() });
    }
    if certificate.usages != leaf.usages || !certificate.may_sign {
        return Err(ImportError::Usages { wanted: usages_text(&leaf.usages), found: usages_text(&certificate.usages) });
    }
    let (mine, found): (BTreeSet<&SubjectName>, BTreeSet<&SubjectName>) = (leaf.names.iter().collect(), certificate.names.iter().collect());
    if mine != found {
        let less = |one: &BTreeSet<&SubjectName>, other: &BTreeSet<&SubjectName>| one.difference(other).map(|name| (*name).clone()).collect();
        return Err(ImportError::Names { missing: less(&mine, &found), surplus: less(&found, &mine) });
    }
    if now < certificate.not_before || now > certificate.not_after {
        return Err(ImportError::NotValid { from: certificate.not_before, until: certificate.not_after });
    }
    if certificate.not_after.duration_since(now) < SignedDuration::try_from(renew_before.0).unwrap_or(SignedDuration::MAX) {
        return Err(ImportError::TooShort { until: certificate.not_after, renew_before });
    }
    Ok(FoundLeaf { certificate, certificate_pem: certificate_pem.to_vec(), key: key.clone() })
}

fn usages_text(usages: &BTreeSet<Usage>) -> String {
    usages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn names_text(missing: &[SubjectName], surplus: &[SubjectName]) -> String {
    let list = |names: &[SubjectName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("does not cover {}", list(missing)));
    }
    if !surplus.is_empty() {
        parts.push(format!("covers {}, which was not asked for", list(surplus)));
    }
    parts.join(" and ")
}

#[cfg(test)]
mod tests;

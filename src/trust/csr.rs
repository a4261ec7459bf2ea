//! Reads certificate signing requests (PKCS#10, RFC 2986) whole or not at all: what a certificate of
//! slipway cannot say is refused, never dropped in silence. The signature shows that who asks has
//! the key. Pure.

use std::collections::BTreeSet;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use super::inspect::subject_name;
use super::specification::{Subject, SubjectName, Usage};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whom the certificate shall name.
    pub subject: Subject,
    /// For which names and addresses.
    pub names: Vec<SubjectName>,
    /// What for; empty if it does not say.
    pub usages: BTreeSet<Usage>,
    /// The key: `SubjectPublicKeyInfo` in DER.
    pub public_key: Vec<u8>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no request in the text.
    #[error("it holds no PEM block `CERTIFICATE REQUEST`")]
    NoBlock,
    /// The block is not a request.
    #[error("it is not a certificate signing request")]
    Damaged,
    /// The signature is not made with the key of the request.
    #[error("it is not signed with its own key")]
    Signature,
    /// The subject has attributes besides name and organizations, or not exactly one name.
    #[error("its subject is more or less than one common name and organizations: `{0}`")]
    Subject(String),
    /// It asks for a CA certificate.
    #[error("it asks for a CA certificate")]
    Authority,
    /// It asks for a name that is neither a DNS name nor an address.
    #[error("it asks for a name that is neither a DNS name nor an address")]
    Name,
    /// It asks for a use other than being a server or a client.
    #[error("it asks for more than being a TLS server or client")]
    Usage,
    /// It asks for something slipway does not write.
    #[error("it asks for the extension {0}")]
    Extension(String),
}

/// Reads the first request of a PEM text.
///
/// # Errors
/// There is none, it is not signed by its key, or it asks for what cannot be kept.
pub fn read(text: &[u8]) -> Result<Request, RequestError> {
    let blocks = pem::parse_many(text).map_err(|_| RequestError::NoBlock)?;
    let wanted = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
    let block = blocks.iter().find(|block| wanted.contains(&block.tag())).ok_or(RequestError::NoBlock)?;
    let (rest, parsed) = X509CertificationRequest::from_der(block.contents()).map_err(|_| RequestError::Damaged)?;
    if !rest.is_empty() {
        return Err(RequestError::Damaged);
    }
    parsed.verify_signature().map_err(|_| RequestError::Signature)?;
    let content = &parsed.certification_request_info;
    let mut request = Request {
        subject: subject(&content.subject)?,
        names: Vec::new(),
        usages: BTreeSet::new(),
        public_key: content.subject_pki.raw.to_vec(),
    };
    for extension in parsed.requested_extensions().into_iter().flatten() {
        extend(&mut request, extension)?;
    }
    Ok(request)
}

fn subject(name: &X509Name<'_>) -> Result<Subject, RequestError> {
    let strange = || RequestError::Subject(name.to_string());
    let mut common_names = Vec::new();
    let mut organizations = BTreeSet::new();
    for attribute in name.iter_attributes() {
        let text = attribute.as_str().map_err(|_| strange())?.to_owned();
        if *attribute.attr_type() == OID_X509_COMMON_NAME {
            common_names.push(text);
        } else if *attribute.attr_type() == OID_X509_ORGANIZATION_NAME {
            organizations.insert(text);
        } else {
            return Err(strange());
        }
    }
    match common_names.pop() {
        Some(common_name) if common_names.is_empty() && !common_name.is_empty() => Ok(Subject { common_name, organizations }),
        _ => Err(strange()),
    }
}

fn extend(request: &mut Request, extension: &ParsedExtension<'_>) -> Result<(), RequestError> {
    match extension {
        ParsedExtension::SubjectAlternativeName(names) => {
            for name in &names.general_names {
                request.names.push(subject_name(name).ok_or(RequestError::Name)?);
            }
        }
        ParsedExtension::BasicConstraints(constraints) if constraints.ca => return Err(RequestError::Authority),
        ParsedExtension::BasicConstraints(_) => {}
        ParsedExtension::KeyUsage(usage) => {
            if usage.key_cert_sign() || usage.crl_sign() {
                return Err(RequestError::Authority);
            }
            // Bits as in RFC 5280, 4.2.1.3: 0 is digital signature, 2 is key encipherment.
            if usage.flags & !0b101 != 0 {
                return Err(RequestError::Usage);
            }
        }
        ParsedExtension::ExtendedKeyUsage(usage) => {
            let others = usage.any || usage.code_signing || usage.email_protection || usage.time_stamping || usage.ocsp_signing;
            if others || !usage.other.is_empty() {
                return Err(RequestError::Usage);
            }
            let wanted = [(usage.server_auth, Usage::Server), (usage.client_auth, Usage::Client)];
            request.usages.extend(wanted.iter().filter(|(has, _)| *has).map(|(_, usage)| *usage));
        }
        // It says which key it is, which the signer says anyway.
        ParsedExtension::SubjectKeyIdentifier(_) => {}
        ParsedExtension::UnsupportedExtension { oid } => return Err(RequestError::Extension(oid.to_id_string())),
        other => return Err(RequestError::Extension(format!("{other:?}").chars().take_while(|c| c.is_alphanumeric()).collect())),
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;

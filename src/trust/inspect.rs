//! Reads keys and certificates as any tool may have left them on a host. Pure: bytes in, meaning
//! out. Errors say what is wrong and never quote key material.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    KeyPair as _, RsaKeyPair,
};
use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::specification::{Subject, SubjectName, Usage};
use crate::artifact::Secret;
use crate::names::Digest;

/// Why bytes are not the key or certificate they should be; reads after "… cannot be used: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// The file has no block of the wanted kind.
    #[error("it holds no PEM block `{0}`")]
    NoBlock(&'static str),
    /// The file is not PEM at all.
    #[error("it is not PEM")]
    NotPem,
    /// The block is not a certificate.
    #[error("it is not an X.509 certificate ({0})")]
    NotACertificate(&'static str),
    /// The key has a passphrase.
    #[error("the private key is encrypted")]
    EncryptedKey,
    /// The key is of a kind slipway does not sign with, or damaged.
    #[error("the private key is damaged, or neither RSA nor ECDSA")]
    UnusableKey,
}

/// What a certificate says.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it names.
    pub subject: Subject,
    /// The subject as it is encoded: what issuers are compared by.
    pub subject_raw: Vec<u8>,
    /// The issuer, for people.
    pub issuer: String,
    /// The issuer as it is encoded.
    pub issuer_raw: Vec<u8>,
    /// For which names, in the order of the certificate.
    pub names: Vec<SubjectName>,
    /// What for; empty if it does not say.
    pub usages: BTreeSet<Usage>,
    /// Whether it may make digital signatures (absent key usage allows everything).
    pub may_sign: bool,
    /// Whether it may sign certificates: basic constraints say CA and key usage does not forbid it.
    pub is_authority: bool,
    /// First second of its life.
    pub not_before: Timestamp,
    /// Last second of its life.
    pub not_after: Timestamp,
    /// Its public key: `SubjectPublicKeyInfo` in DER.
    pub public_key: Vec<u8>,
    /// `RSA-2048`, `ECDSA-P256`, …
    pub algorithm: String,
    /// Serial number in hexadecimal digits.
    pub serial: String,
    der: Vec<u8>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, {})", self.subject, self.fingerprint().short())
    }
}

impl Certificate {
    /// SHA-256 over the certificate's DER, as every tool prints it.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The certificate as one PEM block.
    #[must_use]
    pub fn pem(&self) -> String {
        pem_block("CERTIFICATE", &self.der)
    }

    /// Whether that authority signed it: its name is the issuer and its key verifies the signature.
    #[must_use]
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok((_, leaf)), Ok((_, signer))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&authority.der))
        else {
            return false;
        };
        self.issuer_raw == authority.subject_raw && leaf.verify_signature(Some(signer.public_key())).is_ok()
    }
}

/// The first certificate of a PEM file. In a CA file with several, Kubernetes signs with the first.
///
/// # Errors
/// There is none, or it is not one.
pub fn certificate(bytes: &[u8]) -> Result<Certificate, InspectError> {
    let mut all = certificates(bytes)?;
    Ok(all.swap_remove(0))
}

/// All certificates of a PEM file, at least one.
///
/// # Errors
/// There is none, or one is damaged.
pub fn certificates(bytes: &[u8]) -> Result<Vec<Certificate>, InspectError> {
    let blocks = pem::parse_many(bytes).map_err(|_| InspectError::NotPem)?;
    let all: Vec<Certificate> = blocks
        .iter()
        .filter(|block| block.tag() == "CERTIFICATE")
        .map(|block| parse_certificate(block.contents()))
        .collect::<Result<_, _>>()?;
    if all.is_empty() { Err(InspectError::NoBlock("CERTIFICATE")) } else { Ok(all) }
}

fn parse_certificate(der: &[u8]) -> Result<Certificate, InspectError> {
    let wrong = InspectError::NotACertificate;
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| wrong("not DER of one"))?;
    if !rest.is_empty() {
        return Err(wrong("bytes follow it"));
    }
    let key_usage = parsed.key_usage().map_err(|_| wrong("bad key usage"))?;
    let basic_constraints = parsed.basic_constraints().map_err(|_| wrong("bad basic constraints"))?;
    let extended = parsed.extended_key_usage().map_err(|_| wrong("bad extended key usage"))?;
    let alternative = parsed.subject_alternative_name().map_err(|_| wrong("bad subject alternative names"))?;
    let time = |seconds| Timestamp::from_second(seconds).map_err(|_| wrong("bad validity"));

    let mut usages = BTreeSet::new();
    if let Some(extended) = extended {
        let wanted = [(extended.value.server_auth, Usage::Server), (extended.value.client_auth, Usage::Client)];
        usages.extend(wanted.iter().filter(|(has, _)| *has || extended.value.any).map(|(_, usage)| *usage));
    }
    let names = alternative
        .map_or_else(Vec::new, |extension| extension.value.general_names.iter().filter_map(subject_name).collect());
    Ok(Certificate {
        subject: subject(&parsed),
        subject_raw: parsed.subject().as_raw().to_vec(),
        issuer: parsed.issuer().to_string(),
        issuer_raw: parsed.issuer().as_raw().to_vec(),
        names,
        usages,
        may_sign: key_usage.as_ref().is_none_or(|usage| usage.value.digital_signature()),
        is_authority: basic_constraints.is_some_and(|constraints| constraints.value.ca)
            && key_usage.as_ref().is_none_or(|usage| usage.value.key_cert_sign()),
        not_before: time(parsed.validity().not_before.timestamp())?,
        not_after: time(parsed.validity().not_after.timestamp())?,
        public_key: parsed.public_key().raw.to_vec(),
        algorithm: algorithm(&parsed),
        serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        der: der.to_vec(),
    })
}

fn subject(parsed: &X509Certificate<'_>) -> Subject {
    let text = |value: Result<&str, _>| value.unwrap_or_default().to_owned();
    Subject {
        common_name: parsed.subject().iter_common_name().last().map(|name| text(name.as_str())).unwrap_or_default(),
        organizations: parsed.subject().iter_organization().map(|name| text(name.as_str())).collect(),
    }
}

pub(super) fn subject_name(name: &GeneralName<'_>) -> Option<SubjectName> {
    match name {
        GeneralName::DNSName(name) => Some(SubjectName::Dns((*name).to_owned())),
        GeneralName::IPAddress(bytes) => {
            let address = match bytes.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?),
                _ => IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?),
            };
            Some(SubjectName::Address(address))
        }
        _ => None,
    }
}

fn algorithm(parsed: &X509Certificate<'_>) -> String {
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA-{}", key.key_size()),
        Ok(PublicKey::EC(point)) => format!("ECDSA-P{}", if point.key_size() > 512 { 521 } else { point.key_size() }),
        _ => "unknown".to_owned(),
    }
}

/// The DER of the first private key of a PEM file, whatever its kind. An `EC PARAMETERS` block
/// before it, as `openssl ecparam -genkey` writes it, is skipped.
///
/// # Errors
/// There is none, or it is encrypted.
pub fn private_key_der(key: &Secret) -> Result<Secret, InspectError> {
    let blocks = pem::parse_many(key.expose()).map_err(|_| InspectError::NotPem)?;
    let block = blocks
        .into_iter()
        .find(|block| block.tag().ends_with("PRIVATE KEY"))
        .ok_or(InspectError::NoBlock("PRIVATE KEY"))?;
    let encrypted = block.tag().starts_with("ENCRYPTED") || block.headers().get("DEK-Info").is_some();
    if encrypted { Err(InspectError::EncryptedKey) } else { Ok(Secret::new(block.into_contents())) }
}

/// The public half of a private key (PKCS#1, SEC1 or PKCS#8), as `SubjectPublicKeyInfo` in DER.
///
/// # Errors
/// There is no usable key in the file.
pub fn public_half(key: &Secret) -> Result<Vec<u8>, InspectError> {
    let der = private_key_der(key)?;
    let der = der.expose();
    if let Ok(pair) = RsaKeyPair::from_der(der).or_else(|_| RsaKeyPair::from_pkcs8(der)) {
        let public: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
        return public.map(|der| der.as_ref().to_vec()).map_err(|_| InspectError::UnusableKey);
    }
    let curves = [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];
    let pair = curves
        .into_iter()
        .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, der).ok())
        .ok_or(InspectError::UnusableKey)?;
    let public: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
    public.map(|der| der.as_ref().to_vec()).map_err(|_| InspectError::UnusableKey)
}

/// The public key of a `PUBLIC KEY` file (sa.pub), as `SubjectPublicKeyInfo` in DER.
///
/// # Errors
/// The file holds none.
pub fn public_key(bytes: &[u8]) -> Result<Vec<u8>, InspectError> {
    let blocks = pem::parse_many(bytes).map_err(|_| InspectError::NotPem)?;
    let block = blocks.into_iter().find(|block| block.tag() == "PUBLIC KEY");
    block.map(pem::Pem::into_contents).ok_or(InspectError::NoBlock("PUBLIC KEY"))
}

/// All public keys of a file with several, at least one: while the service-account key is replaced,
/// tokens of both are accepted.
///
/// # Errors
/// The file holds none.
pub fn public_keys(bytes: &[u8]) -> Result<Vec<Vec<u8>>, InspectError> {
    let blocks = pem::parse_many(bytes).map_err(|_| InspectError::NotPem)?;
    let keys: Vec<Vec<u8>> =
        blocks.into_iter().filter(|block| block.tag() == "PUBLIC KEY").map(pem::Pem::into_contents).collect();
    if keys.is_empty() { Err(InspectError::NoBlock("PUBLIC KEY")) } else { Ok(keys) }
}

/// One PEM block as Go and OpenSSL write it: lines of 64 characters ending in a line feed.
#[must_use]
pub fn pem_block(tag: &str, der: &[u8]) -> String {
    let line_feeds = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), line_feeds)
}

#[cfg(test)]
mod tests;

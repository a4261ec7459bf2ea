//! Draws keys and signs certificates: the only place of this program where key material comes
//! into being. Files are written as kubeadm writes them (PKCS#1 and SEC1 keys, PrintableString
//! names, critical flags), because Go's readers are stricter than OpenSSL's.
//!
//! rcgen's defaults are wrong for us in many places (validity from 1975 to 4096, serials made from
//! the key, no authority key identifier), so every field of a certificate is set here.

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, EcPrivateKeyRfc5915Der, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
    RsaKeyPair,
};
use jiff::{SignedDuration, Timestamp};
use rcgen::string::PrintableString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo,
};

use super::csr::Request;
use super::inspect::{self, Certificate, InspectError};
use super::naming;
use super::specification::{Authority, Leaf, Subject, SubjectName, Usage};
use crate::artifact::Secret;
use crate::names::KubernetesVersion;
use crate::parallel;
use crate::plan::KeyAlgorithm;

/// Certificates start this long ago, so that hosts with a clock that is a little late accept them
/// (kubeadm does the same since v1.28).
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);

/// Why a key or certificate could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The library made no key.
    #[error("no {0:?} key could be generated")]
    Generate(KeyAlgorithm),
    /// The CA's key file cannot be used.
    #[error("the CA's key cannot be used: {0}")]
    AuthorityKey(InspectError),
    /// The CA's key is that of another certificate.
    #[error("the CA's key does not belong to its certificate")]
    AuthorityMismatch,
    /// What was made does not have the CA's name as its issuer.
    #[error("the CA's subject `{0}` cannot be written as an issuer")]
    AuthorityName(String),
    /// What was made does not name whom it shall name.
    #[error("slipway cannot write the subject `{0}`")]
    Subject(String),
    /// The CA's certificate does not allow signing.
    #[error("the certificate of `{0}` is not one of a CA that may sign certificates")]
    NotAnAuthority(String),
    /// The CA is not valid now.
    #[error("the certificate of `{name}` is valid from {not_before} to {not_after} only")]
    AuthorityExpired {
        /// The CA's subject.
        name: String,
        /// First moment.
        not_before: Timestamp,
        /// Last moment.
        not_after: Timestamp,
    },
    /// A value cannot be written into a certificate.
    #[error("the certificate cannot be encoded: {0}")]
    Encode(String),
}

/// A new key.
#[derive(Debug, Clone)]
pub struct Key {
    /// The private key's file.
    pub private: Secret,
    /// `SubjectPublicKeyInfo` in DER.
    pub public: Vec<u8>,
}

impl Key {
    /// The public key's file.
    #[must_use]
    pub fn public_pem(&self) -> String {
        inspect::pem_block("PUBLIC KEY", &self.public)
    }
}

/// How long a new certificate lives.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// The moment of signing.
    pub now: Timestamp,
    /// The time after it.
    pub length: Duration,
}

/// Draws that many keys, on all processors at once. An RSA key takes a noticeable part of a second.
///
/// # Errors
/// The library made none.
pub fn generate_keys(algorithm: KeyAlgorithm, count: usize) -> Result<Vec<Key>, IssueError> {
    parallel::map(&vec![algorithm; count], |algorithm| generate_key(*algorithm)).into_iter().collect()
}

/// Draws one key.
///
/// # Errors
/// The library made none.
pub fn generate_key(algorithm: KeyAlgorithm) -> Result<Key, IssueError> {
    let key = match algorithm {
        KeyAlgorithm::Rsa2048 => generate_rsa(KeySize::Rsa2048),
        KeyAlgorithm::Rsa3072 => generate_rsa(KeySize::Rsa3072),
        KeyAlgorithm::Rsa4096 => generate_rsa(KeySize::Rsa4096),
        KeyAlgorithm::EcdsaP256 => generate_ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyAlgorithm::EcdsaP384 => generate_ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
    };
    key.ok_or(IssueError::Generate(algorithm))
}

fn generate_rsa(size: KeySize) -> Option<Key> {
    let pair = RsaKeyPair::generate(size).ok()?;
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
    let private = inspect::pem_block("RSA PRIVATE KEY", pkcs1_of_pkcs8(pkcs8.as_ref())?);
    Some(Key { private: Secret::new(private), public: public.as_ref().to_vec() })
}

fn generate_ecdsa(curve: &'static EcdsaSigningAlgorithm) -> Option<Key> {
    let pair = EcdsaKeyPair::generate(curve).ok()?;
    let sec1: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().ok()?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
    let private = inspect::pem_block("EC PRIVATE KEY", sec1.as_ref());
    Some(Key { private: Secret::new(private), public: public.as_ref().to_vec() })
}

/// The PKCS#1 key inside a PKCS#8 one (RFC 5208): a sequence of version, algorithm and an octet
/// string that holds it.
fn pkcs1_of_pkcs8(der: &[u8]) -> Option<&[u8]> {
    const INTEGER: u8 = 0x02;
    const OCTET_STRING: u8 = 0x04;
    const SEQUENCE: u8 = 0x30;
    let (content, _) = der_element(der, SEQUENCE)?;
    let (_, after_version) = der_element(content, INTEGER)?;
    let (_, after_algorithm) = der_element(after_version, SEQUENCE)?;
    Some(der_element(after_algorithm, OCTET_STRING)?.0)
}

/// Splits off one DER element of that tag: its content and what follows it.
fn der_element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let length =
            digits.iter().try_fold(0_usize, |sum, digit| sum.checked_mul(256)?.checked_add(usize::from(*digit)))?;
        (length, rest)
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// A CA that is ready to sign.
pub struct Signer {
    certificate: Certificate,
    issuer: Issuer<'static, Drafting>,
}

/// A key that leaves what rcgen writes unsigned: its names are not final, and an RSA signature takes a
/// noticeable part of a millisecond.
struct Drafting(KeyPair);

impl PublicKeyData for Drafting {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Drafting {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

impl Signer {
    /// A CA from its certificate and its key file.
    ///
    /// # Errors
    /// They do not belong together, or the CA cannot sign now.
    pub fn load(certificate: &Certificate, key: &Secret, now: Timestamp) -> Result<Self, IssueError> {
        if inspect::public_half(key).map_err(IssueError::AuthorityKey)? != certificate.public_key {
            return Err(IssueError::AuthorityMismatch);
        }
        if !certificate.is_authority {
            return Err(IssueError::NotAnAuthority(certificate.subject.to_string()));
        }
        if now < certificate.not_before || now > certificate.not_after {
            return Err(IssueError::AuthorityExpired {
                name: certificate.subject.to_string(),
                not_before: certificate.not_before,
                not_after: certificate.not_after,
            });
        }
        let der = inspect::private_key_der(key).map_err(IssueError::AuthorityKey)?;
        let pair = KeyPair::try_from(der.expose()).map_err(|_| IssueError::AuthorityKey(InspectError::UnusableKey))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate.pem(), Drafting(pair))
            .map_err(|_| IssueError::AuthorityName(certificate.subject.to_string()))?;
        Ok(Self { certificate: certificate.clone(), issuer })
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs a leaf for that key and returns its file.
    ///
    /// # Errors
    /// A value of it cannot be encoded, or the CA's name cannot be written.
    pub fn sign(&self, leaf: &Leaf, key: &Key, validity: Validity) -> Result<String, IssueError> {
        let usages: Vec<Usage> = leaf.usages.iter().copied().collect();
        self.sign_subject(&leaf.subject, &usages, &leaf.names, &key.public, validity)
    }

    /// Signs a client certificate that is on no host.
    ///
    /// # Errors
    /// As for `sign`.
    pub fn sign_client(&self, subject: &Subject, key: &Key, validity: Validity) -> Result<String, IssueError> {
        self.sign_subject(subject, &[Usage::Client], &[], &key.public, validity)
    }

    /// Signs what somebody asks for, who keeps the key. Whether it may be signed was judged before.
    ///
    /// # Errors
    /// As for `sign`.
    pub fn sign_request(&self, request: &Request, validity: Validity) -> Result<String, IssueError> {
        let usages: Vec<Usage> = request.usages.iter().copied().collect();
        self.sign_subject(&request.subject, &usages, &request.names, &request.public_key, validity)
    }

    fn sign_subject(
        &self,
        subject: &Subject,
        usages: &[Usage],
        names: &[SubjectName],
        public_key: &[u8],
        validity: Validity,
    ) -> Result<String, IssueError> {
        let mut parameters = parameters(subject, names, validity)?;
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.extended_key_usages = usages.iter().copied().map(purpose).collect();
        parameters.use_authority_key_identifier_extension = true;
        let public = SubjectPublicKeyInfo::from_der(public_key).map_err(encode)?;
        let signed = parameters.signed_by(&public, &self.issuer).map_err(encode)?;
        // rcgen keeps only the last of repeated attributes (`DC=com, DC=example`), silently.
        let sign = |content: &[u8]| self.issuer.key().0.sign(content).map_err(|_| der::ErrorKind::Failed.into());
        let named = naming::named_certificate(signed.der(), subject, &self.certificate.subject_raw, sign).map_err(encode)?;
        let text = inspect::pem_block("CERTIFICATE", &named);
        let certificate =
            inspect::certificate(text.as_bytes()).map_err(|error| IssueError::Encode(error.to_string()))?;
        if certificate.subject != *subject {
            return Err(IssueError::Subject(subject.to_string()));
        }
        if certificate.is_signed_by(&self.certificate) {
            Ok(text)
        } else {
            Err(IssueError::AuthorityName(self.certificate.subject.to_string()))
        }
    }
}

/// The file of a request for that leaf, signed by its key.
///
/// # Errors
/// A value of it cannot be encoded.
pub fn request(leaf: &Leaf, key: &Key) -> Result<String, IssueError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    parameters.extended_key_usages = leaf.usages.iter().copied().map(purpose).collect();
    parameters.subject_alt_names = leaf.names.iter().map(alternative_name).collect::<Result<_, _>>()?;
    let der = inspect::private_key_der(&key.private).map_err(|error| IssueError::Encode(error.to_string()))?;
    let pair = KeyPair::try_from(der.expose()).map_err(encode)?;
    let unnamed = parameters.serialize_request(&pair).map_err(encode)?;
    let sign = |content: &[u8]| pair.sign(content).map_err(|_| der::ErrorKind::Failed.into());
    let named = naming::named_request(unnamed.der(), &leaf.subject, sign).map_err(encode)?;
    Ok(inspect::pem_block("CERTIFICATE REQUEST", &named))
}

/// The file of a new CA's self-signed certificate.
///
/// # Errors
/// The key cannot sign.
pub fn certify_authority(
    authority: Authority,
    version: KubernetesVersion,
    key: &Key,
    validity: Validity,
) -> Result<String, IssueError> {
    let name = authority.common_name().to_owned();
    // kubeadm v1.20 leaves the name out; every other supported version writes it.
    let names = if version.minor > 20 { vec![SubjectName::Dns(name.clone())] } else { Vec::new() };
    let subject = Subject { common_name: name, organizations: [].into() };
    let mut parameters = parameters(&subject, &names, validity)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let der = inspect::private_key_der(&key.private).map_err(IssueError::AuthorityKey)?;
    let pair = KeyPair::try_from(der.expose()).map_err(encode)?;
    let certificate = parameters.self_signed(&pair).map_err(encode)?;
    Ok(inspect::pem_block("CERTIFICATE", certificate.der()))
}

/// What CAs and leaves have in common.
fn parameters(subject: &Subject, names: &[SubjectName], validity: Validity) -> Result<CertificateParams, IssueError> {
    let mut distinguished_name = DistinguishedName::new();
    for organization in &subject.organizations {
        distinguished_name.push(DnType::OrganizationName, printable(organization));
    }
    distinguished_name.push(DnType::CommonName, printable(&subject.common_name));

    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = distinguished_name;
    parameters.serial_number = Some(serial_number()?);
    parameters.not_before = date_time(validity.now - BACKDATED)?;
    let length = SignedDuration::try_from(validity.length).map_err(encode)?;
    parameters.not_after = date_time(validity.now.checked_add(length).map_err(encode)?)?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    parameters.subject_alt_names = names.iter().map(alternative_name).collect::<Result<_, _>>()?;
    Ok(parameters)
}

/// Go writes PrintableString wherever the text allows it.
fn printable(text: &str) -> DnValue {
    PrintableString::try_from(text).map_or_else(|_| DnValue::Utf8String(text.to_owned()), DnValue::PrintableString)
}

/// 126 random bits: positive, not zero, and no longer than RFC 5280 allows (20 octets).
fn serial_number() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(encode)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn date_time(timestamp: Timestamp) -> Result<time::OffsetDateTime, IssueError> {
    time::OffsetDateTime::from_unix_timestamp(timestamp.as_second()).map_err(encode)
}

fn alternative_name(name: &SubjectName) -> Result<SanType, IssueError> {
    Ok(match name {
        SubjectName::Dns(name) => SanType::DnsName(name.as_str().try_into().map_err(encode)?),
        SubjectName::Address(address) => SanType::IpAddress(*address),
    })
}

fn purpose(usage: Usage) -> ExtendedKeyUsagePurpose {
    match usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }
}

fn encode(error: impl std::fmt::Display) -> IssueError {
    IssueError::Encode(error.to_string())
}

#[cfg(test)]
mod tests;

//! Puts names into certificates and requests that were made without them, and has them signed anew.
//! rcgen keeps one attribute of each kind in a name, but Kubernetes reads one group from every `O`,
//! and the names of other people's CAs repeat attributes (`DC=com, DC=example`). Pure but for the
//! signature, which the caller makes.
//!
//! Only the outermost structure is taken apart (RFC 5280, 4.1; RFC 2986, 4); everything else goes
//! over byte for byte.

use der::asn1::{Any, BitString, ObjectIdentifier, PrintableString, SetOfVec, Utf8StringRef};
use der::{Decode, Encode, Tag};

use super::specification::Subject;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// Where names are in the signed part of a certificate.
const ISSUER_OF_CERTIFICATE: usize = 3;
const SUBJECT_OF_CERTIFICATE: usize = 5;
/// Where the name is in the signed part of a request.
const SUBJECT_OF_REQUEST: usize = 1;

/// The certificate with this subject and this issuer (a name in DER).
///
/// # Errors
/// They are no certificate and no name, or `sign` failed.
pub fn named_certificate(
    certificate: &[u8],
    subject: &Subject,
    issuer: &[u8],
    sign: impl FnOnce(&[u8]) -> der::Result<Vec<u8>>,
) -> der::Result<Vec<u8>> {
    let names = [(ISSUER_OF_CERTIFICATE, Any::from_der(issuer)?), (SUBJECT_OF_CERTIFICATE, name(subject)?)];
    signed_anew(certificate, names, sign)
}

/// The request with this subject.
///
/// # Errors
/// It is no request, or `sign` failed.
pub fn named_request(
    request: &[u8],
    subject: &Subject,
    sign: impl FnOnce(&[u8]) -> der::Result<Vec<u8>>,
) -> der::Result<Vec<u8>> {
    signed_anew(request, [(SUBJECT_OF_REQUEST, name(subject)?)], sign)
}

/// What is signed, the algorithm and the signature.
fn parts(document: &[u8]) -> der::Result<[Any; 3]> {
    Vec::<Any>::from_der(document)?.try_into().map_err(|_| Tag::Sequence.value_error().into())
}

fn signed_anew(
    document: &[u8],
    names: impl IntoIterator<Item = (usize, Any)>,
    sign: impl FnOnce(&[u8]) -> der::Result<Vec<u8>>,
) -> der::Result<Vec<u8>> {
    let [content, algorithm, _] = parts(document)?;
    let mut fields = Vec::<Any>::from_der(&content.to_der()?)?;
    for (at, name) in names {
        *fields.get_mut(at).ok_or(Tag::Sequence.value_error())? = name;
    }
    let content = fields.to_der()?;
    let signature = Any::encode_from(&BitString::from_bytes(&sign(&content)?)?)?;
    vec![Any::from_der(&content)?, algorithm, signature].to_der()
}

/// A name as Go writes it: organizations first, PrintableString wherever the text allows it.
fn name(subject: &Subject) -> der::Result<Any> {
    let organizations = subject.organizations.iter().map(|text| (ORGANIZATION, text));
    let attributes = organizations.chain([(COMMON_NAME, &subject.common_name)]);
    let relative: Vec<SetOfVec<Any>> = attributes
        .map(|(kind, text)| {
            let value = match PrintableString::new(text) {
                Ok(text) => Any::encode_from(&text)?,
                Err(_) => Any::encode_from(&Utf8StringRef::new(text)?)?,
            };
            SetOfVec::from_iter([Any::encode_from(&vec![Any::encode_from(&kind)?, value])?])
        })
        .collect::<der::Result<_>>()?;
    Any::encode_from(&relative)
}

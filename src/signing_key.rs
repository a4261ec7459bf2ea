//! Reads a key that signs packages: whose it is says its fingerprint, which is the digest of the
//! primary key (RFC 9580, section 5.5.4, for keys of version 4). Pure.
//!
//! Only the fingerprint is judged. Subkeys and names in the file are bound to the primary key by
//! signatures, which apt and rpm check.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
/// The packet of a primary public key.
const PUBLIC_KEY: u8 = 6;

/// Why a text is not the key that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// It is no key in text form.
    #[error("it is not a public key as text: {0}")]
    Malformed(&'static str),
    /// A file with a second key would make that one trusted, too.
    #[error("it holds {0} keys, and exactly one is wanted")]
    Count(usize),
    /// It is somebody else's.
    #[error("its fingerprint is {found}, and the plan says {wanted}")]
    Other {
        /// The key's.
        found: String,
        /// The plan's.
        wanted: String,
    },
}

/// Checks that a text holds the key with this fingerprint (40 digits, upper case) and no other.
///
/// # Errors
/// It does not.
pub fn check(text: &str, wanted: &str) -> Result<(), SigningKeyError> {
    let found = fingerprints(text)?;
    match &found[..] {
        [one] if one == wanted => Ok(()),
        [one] => Err(SigningKeyError::Other { found: one.clone(), wanted: wanted.to_owned() }),
        more => Err(SigningKeyError::Count(more.len())),
    }
}

/// The fingerprints of all primary keys in a text.
fn fingerprints(text: &str) -> Result<Vec<String>, SigningKeyError> {
    let mut fingerprints = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (armored, after) = after.split_once(END).ok_or(SigningKeyError::Malformed("its end is missing"))?;
        let bytes = unarmored(armored)?;
        for (tag, body) in packets(&bytes)? {
            if tag == PUBLIC_KEY {
                fingerprints.push(fingerprint(body)?);
            }
        }
        rest = after;
    }
    if fingerprints.is_empty() { Err(SigningKeyError::Malformed("there is none in it")) } else { Ok(fingerprints) }
}

/// What lies between headers, which end with an empty line, and the checksum, which begins with `=`.
fn unarmored(armored: &str) -> Result<Vec<u8>, SigningKeyError> {
    // The first line is what follows the opening on its own line.
    let lines = armored.lines().skip(1).map(str::trim).skip_while(|line| !line.is_empty());
    let encoded: String = lines.take_while(|line| !line.starts_with('=')).collect();
    BASE64_STANDARD.decode(encoded).map_err(|_| SigningKeyError::Malformed("it is not base64"))
}

/// Packets with their tags (RFC 9580, section 4.2).
fn packets(bytes: &[u8]) -> Result<Vec<(u8, &[u8])>, SigningKeyError> {
    const CUT: SigningKeyError = SigningKeyError::Malformed("it is cut off");
    let mut packets = Vec::new();
    let mut rest = bytes;
    while let Some((&header, after)) = rest.split_first() {
        let (tag, octets, offset) = match (header & 0xc0, header & 0x03, after.first()) {
            (0x80, 0, _) => (header >> 2 & 0x0f, 1, 0),
            (0x80, 1, _) => (header >> 2 & 0x0f, 2, 0),
            (0x80, 2, _) => (header >> 2 & 0x0f, 4, 0),
            (0xc0, _, Some(0..=191)) => (header & 0x3f, 1, 0),
            (0xc0, _, Some(192..=223)) => (header & 0x3f, 2, 0),
            (0xc0, _, Some(255)) => (header & 0x3f, 4, 1),
            _ => return Err(SigningKeyError::Malformed("a packet has no definite length")),
        };
        let digits = after.get(offset..offset + octets).ok_or(CUT)?;
        let mut length = digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
        if header & 0xc0 == 0xc0 && octets == 2 {
            length = length - (192 << 8) + 192;
        }
        let start = offset + octets;
        let body = start.checked_add(length).and_then(|end| after.get(start..end)).ok_or(CUT)?;
        packets.push((tag, body));
        rest = &after[start + length..];
    }
    Ok(packets)
}

fn fingerprint(body: &[u8]) -> Result<String, SigningKeyError> {
    let length = u16::try_from(body.len()).ok().filter(|_| body.first() == Some(&4));
    let length = length.ok_or(SigningKeyError::Malformed("it is not a key of version 4"))?;
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(&[0x99]);
    context.update(&length.to_be_bytes());
    context.update(body);
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02X}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armored(bytes: &[u8]) -> String {
        format!("{BEGIN}\nVersion: GnuPG v2.0\n\n{}\n=abcd\n{END}\n", BASE64_STANDARD.encode(bytes))
    }

    /// A primary key packet of version 4 with this content, in the old format with two octets of length.
    fn key(content: &[u8]) -> Vec<u8> {
        let body = [&[4_u8], content].concat();
        [&[0x99][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat()
    }

    #[test]
    fn one_key_with_the_right_fingerprint_is_trusted() {
        let text = armored(&key(b"abc"));
        let found = fingerprints(&text).unwrap();
        assert_eq!(found[0].len(), 40);
        assert_eq!(check(&text, &found[0]), Ok(()));
        let other = check(&text, &"0".repeat(40));
        assert_eq!(other, Err(SigningKeyError::Other { found: found[0].clone(), wanted: "0".repeat(40) }));
        // The same in the new format of packets, and with a user id after it.
        let new = armored(&[&[0xc6, 4][..], b"\x04abc", &[0xcd, 2, b'm', b'e']].concat());
        assert_eq!(fingerprints(&new).unwrap(), found);
    }

    #[test]
    fn a_second_key_is_never_smuggled_in() {
        let (one, two) = (key(b"abc"), key(b"def"));
        let wanted = fingerprints(&armored(&one)).unwrap().remove(0);
        assert_eq!(check(&armored(&[one.clone(), two.clone()].concat()), &wanted), Err(SigningKeyError::Count(2)));
        assert_eq!(check(&format!("{}{}", armored(&one), armored(&two)), &wanted), Err(SigningKeyError::Count(2)));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let cut = armored(&key(b"abc")[..5]);
        for text in ["", "key", BEGIN, &cut, &armored(b""), &armored(&[0x9b, 1]), &armored(&[0x99, 0, 2, 3, 3])] {
            assert!(matches!(check(text, ""), Err(SigningKeyError::Malformed(_))), "{text}");
        }
    }

    /// What GnuPG says of a key that it makes.
    #[test]
    fn gnupg_agrees() {
        let home = tempfile::tempdir().unwrap();
        let gpg = |arguments: &[&str]| std::process::Command::new("gpg").arg("--homedir").arg(home.path()).arg("--batch").args(arguments).output();
        let made = gpg(&["--passphrase", "", "--quick-generate-key", "nobody@example.test", "ed25519", "sign", "never"]);
        let Ok(made) = made else {
            eprintln!("skipped: gpg is not installed");
            return;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let listed = String::from_utf8(gpg(&["--with-colons", "--list-keys"]).unwrap().stdout).unwrap();
        let told = listed.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':');
        let text = String::from_utf8(gpg(&["--armor", "--export"]).unwrap().stdout).unwrap();
        assert_eq!(check(&text, told), Ok(()));
        // Its agent ends by itself when its home is gone.
    }
}

//! Checked names: values that are wrong are refused where they enter, so the rest of the
//! program never asks again. Their text is shared by all copies: ten thousand hosts have the same
//! paths, and each path and host name is in many places.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not the name it should be; reads after "… is not a valid host name: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub String);

/// Implements the traits every checked text newtype has; the check itself is `FromStr`.
macro_rules! text_newtype {
    ($name:ident, $pattern:literal) => {
        impl $name {
            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

/// The name of a host and of its Node: an RFC 1123 subdomain, at most 253 characters, lower case
/// (Kubernetes: node names are DNS subdomain names).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);
text_newtype!(HostName, "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$");

impl FromStr for HostName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > 253 {
            return Err(NameError("a host name has at most 253 characters".into()));
        }
        if text.is_empty() || !text.split('.').all(is_dns_label) {
            return Err(NameError(format!(
                "`{text}` is not a host name: lower-case letters, digits, `-` and `.`, each part starting and ending with a letter or digit"
            )));
        }
        Ok(Self(text.into()))
    }
}

/// The name of a cluster: an RFC 1123 label. It names the cluster in kubeconfigs and in the
/// controller-manager's `--cluster-name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(Arc<str>);
text_newtype!(ClusterName, "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$");

impl FromStr for ClusterName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if !is_dns_label(text) {
            return Err(NameError(format!(
                "`{text}` is not a cluster name: 1 to 63 lower-case letters, digits and `-`, starting and ending with a letter or digit"
            )));
        }
        Ok(Self(text.into()))
    }
}

/// An RFC 1123 label: 1 to 63 lower-case letters, digits or hyphens, no hyphen at either end.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// An absolute, normalised path on a host. It has no `..`, no control character and no `//`,
/// so it can stand in a script (quoted) and in a tar stream without a surprise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemotePath(Arc<str>);
text_newtype!(RemotePath, "^/.*$");

impl Borrow<str> for RemotePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl RemotePath {
    /// For paths written in the source. Panics on a malformed one, which a test would find.
    #[must_use]
    pub fn fixed(text: &str) -> Self {
        text.parse().expect("paths in the source are well formed")
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// `name` makes the path malformed (for example, it holds `..`).
    pub fn join(&self, name: &str) -> Result<Self, NameError> {
        format!("{}/{name}", self.0.trim_end_matches('/')).parse()
    }

    /// The directory that holds this path; `/` for a top-level name.
    #[must_use]
    pub fn parent(&self) -> Self {
        let parent = self.0.rsplit_once('/').map_or("", |(parent, _)| parent);
        Self(if parent.is_empty() { "/" } else { parent }.into())
    }

    /// The last component.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// Whether this path is `directory` or lies below it.
    #[must_use]
    pub fn is_within(&self, directory: &Self) -> bool {
        self == directory || self.0.strip_prefix(&*directory.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for RemotePath {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let problem = if !text.starts_with('/') {
            "it must start with `/`"
        } else if text.chars().any(char::is_control) {
            "it holds a control character"
        } else if text.len() > 4095 {
            "it is longer than 4095 bytes"
        } else if text != "/" && text[1..].split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            "it holds an empty part, `.` or `..`"
        } else {
            return Ok(Self(text.into()));
        };
        Err(NameError(format!("`{}` is not a path on a host: {problem}", text.escape_debug())))
    }
}

/// A Kubernetes release such as `v1.34.2`. Pre-releases are refused: their component
/// images and flags follow no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KubernetesVersion {
    /// Always 1 so far.
    pub major: u32,
    /// 34 in `v1.34.2`.
    pub minor: u32,
    /// 2 in `v1.34.2`.
    pub patch: u32,
}

impl KubernetesVersion {
    /// A version from its numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The minor release alone, as package repositories name it: `1.34`.
    #[must_use]
    pub fn minor_release(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for KubernetesVersion {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<Option<u32>> = text
            .strip_prefix('v')
            .unwrap_or(text)
            .split('.')
            .map(|part| part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit())))
            .collect();
        match parts[..] {
            [Some(major), Some(minor), Some(patch)] => Ok(Self { major, minor, patch }),
            _ => Err(NameError(format!(
                "`{text}` is not a Kubernetes version: it must name a release in full, like v1.34.2"
            ))),
        }
    }
}

impl Serialize for KubernetesVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for KubernetesVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
impl JsonSchema for KubernetesVersion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KubernetesVersion".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^v?[0-9]+\\.[0-9]+\\.[0-9]+$" })
    }
}

/// The permission bits of a file, printed as octal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(pub u32);

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A SHA-256 digest, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self::of_all([bytes])
    }

    /// The digest of pieces as if they were one.
    #[must_use]
    pub fn of_all<Piece: AsRef<[u8]>>(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        pieces.into_iter().for_each(|piece| context.update(piece.as_ref()));
        Self(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The first twelve digits, enough to tell things apart on a screen.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)]));
        f.write_str(&digits.collect::<String>())
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Digest {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError(format!("`{text}` is not a SHA-256 digest: 64 hexadecimal digits"));
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
    }
}

/// A length of time in the plan file: `90s`, `10m`, `8760h`, `1h30m`. Days and years are
/// refused because they have no fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub std::time::Duration);

impl Span {
    /// A span of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }
}

impl fmt::Display for Span {
    /// Go's notation, which Kubernetes reads: `8760h0m0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
            (0, 0, seconds) => write!(f, "{seconds}s"),
            (0, minutes, seconds) => write!(f, "{minutes}m{seconds}s"),
            (hours, minutes, seconds) => write!(f, "{hours}h{minutes}m{seconds}s"),
        }
    }
}
impl FromStr for Span {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let span: jiff::SignedDuration = text
            .parse()
            .map_err(|_| NameError(format!("`{text}` is not a length of time: write it like 90s, 10m, 8760h or 1h30m")))?;
        span.try_into()
            .map(Self)
            .map_err(|_| NameError(format!("`{text}` is negative")))
    }
}
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^([0-9]+(h|m|s|ms))+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_accept_what_kubernetes_accepts_and_nothing_else() {
        for good in ["a", "cp-1", "node.example.test", "1"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a..b", "a b", "a\n", "$(x)", &"a".repeat(254)] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_are_absolute_and_normalised() {
        for bad in ["etc", "/a/../b", "/a//b", "/a/", "/a/./b", "/a\nb", ""] {
            assert!(bad.parse::<RemotePath>().is_err(), "{bad:?}");
        }
        let path = RemotePath::fixed("/etc/kubernetes/pki/ca.crt");
        assert_eq!(path.parent(), RemotePath::fixed("/etc/kubernetes/pki"));
        assert_eq!(path.file_name(), "ca.crt");
        assert!(path.is_within(&RemotePath::fixed("/etc/kubernetes")));
        assert!(!path.is_within(&RemotePath::fixed("/etc/kube")));
    }

    #[test]
    fn versions_and_spans_round_trip() {
        assert_eq!("1.34.2".parse::<KubernetesVersion>().unwrap().to_string(), "v1.34.2");
        assert!("v1.34".parse::<KubernetesVersion>().is_err());
        assert!("v1.34.0-rc.1".parse::<KubernetesVersion>().is_err());
        assert_eq!("8760h".parse::<Span>().unwrap().to_string(), "8760h0m0s");
        assert!("365d".parse::<Span>().is_err());
        assert_eq!(Digest::of("").to_string().parse::<Digest>().unwrap(), Digest::of(""));
    }
}

//! Another Kubernetes version in the text of a plan file, and nothing else: comments, layout and
//! everything around the one scalar stay byte for byte. Pure.

use super::field::field;
use crate::names::KubernetesVersion;
use crate::yaml::{self, Node, NodeKind};

/// Why the version cannot be written into a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// The text is no plan.
    #[error("the plan file cannot be read: {0}")]
    Unreadable(String),
    /// The version is not one scalar at its own place.
    #[error("`kubernetes.version` is not written as plain text on one line, so nothing but it can be replaced")]
    NotPlain,
}

/// The text with that version.
///
/// # Errors
/// The text is not YAML, or its version is an alias, is wrapped, or has no place of its own.
pub fn with_version(text: &str, version: KubernetesVersion) -> Result<String, RewriteError> {
    let unreadable = |error: yaml::PlacedError| RewriteError::Unreadable(error.message);
    let root = yaml::read_strictly(text).map_err(unreadable)?;
    let place = field("kubernetes").key("version").place(&root);
    let written = text.get(place.start..place.end).ok_or(RewriteError::NotPlain)?;
    let bare = written.trim_matches(['"', '\'']);
    if bare.parse::<KubernetesVersion>().is_err() {
        return Err(RewriteError::NotPlain);
    }
    let prefix = if bare.starts_with('v') { "v" } else { "" };
    let new = written.replace(bare, &format!("{prefix}{}.{}.{}", version.major, version.minor, version.patch));
    let rewritten = format!("{}{new}{}", &text[..place.start], &text[place.end..]);
    // An anchor that others repeat would change them too.
    let after = yaml::read_strictly(&rewritten).map_err(unreadable)?;
    if differences(&root, &after) == 1 { Ok(rewritten) } else { Err(RewriteError::NotPlain) }
}

/// How many scalars differ between two documents of the same shape.
fn differences(one: &Node, other: &Node) -> usize {
    match (&one.kind, &other.kind) {
        (NodeKind::Mapping(one), NodeKind::Mapping(other)) if one.len() == other.len() => {
            one.iter().zip(other).map(|((name, _, one), (other_name, _, other))| usize::from(name != other_name) + differences(one, other)).sum()
        }
        (NodeKind::List(one), NodeKind::List(other)) if one.len() == other.len() => {
            one.iter().zip(other).map(|(one, other)| differences(one, other)).sum()
        }
        (one, other) => usize::from(one != other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> Result<String, RewriteError> {
        with_version(text, "v1.34.2".parse().unwrap())
    }

    #[test]
    fn nothing_but_the_version_changes() {
        for (before, after) in [
            ("kubernetes:\n  # reviewed by olga\n  version: v1.33.4   # the second of May\n\nname:  x\n", "kubernetes:\n  # reviewed by olga\n  version: v1.34.2   # the second of May\n\nname:  x\n"),
            ("kubernetes: {version: \"1.33.4\", featureGates: {A: true}}\r\n", "kubernetes: {version: \"1.34.2\", featureGates: {A: true}}\r\n"),
            ("{\"name\": \"grüße\", \"kubernetes\": {\"version\": \"v1.33.4\"}}", "{\"name\": \"grüße\", \"kubernetes\": {\"version\": \"v1.34.2\"}}"),
            ("note: 'v1.33.4'\nkubernetes:\n    version: 'v1.33.4'", "note: 'v1.33.4'\nkubernetes:\n    version: 'v1.34.2'"),
        ] {
            assert_eq!(rewritten(before).as_deref(), Ok(after));
        }
        let same = "kubernetes: {version: v1.34.2}\n";
        assert_eq!(rewritten(same), Err(RewriteError::NotPlain), "the caller asks only for another version");
    }

    #[test]
    fn what_is_not_one_plain_scalar_is_refused() {
        for text in [
            "name: &v v1.33.4\nkubernetes: {version: *v}\n",
            "kubernetes: {version: &v v1.33.4}\nname: *v\n",
            "kubernetes:\n  version: >-\n    v1.33.4\n",
            "kubernetes: {}\n",
            "name: x\n",
        ] {
            assert!(rewritten(text).is_err(), "{text}: {:?}", rewritten(text));
        }
        assert!(matches!(rewritten("a: [\n"), Err(RewriteError::Unreadable(_))));
    }
}

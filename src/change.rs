//! A change: an artifact that is not as wanted, with the reason. What `diff` shows and `apply` does.

use std::fmt;

use serde::Serialize;

use crate::artifact::Artifact;
use crate::names::{Digest, KubernetesVersion, Mode, RemotePath};

/// An artifact that is not as wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What is wanted.
    pub artifact: Artifact,
    /// Why something is to be done.
    pub reason: Reason,
    /// What is there now, where it is text that may be shown (for a text diff).
    pub before: Option<String>,
}

/// Why something is to be done.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Reason {
    /// It is not there.
    Missing,
    /// It is there and shall not be.
    Unwanted,
    /// It holds something else.
    Content {
        /// Digest of what is there, if it could be read.
        found: Option<Digest>,
        /// Someone else than slipway changed it since slipway wrote it.
        drift: bool,
    },
    /// Its permission bits differ.
    Mode {
        /// What they are.
        #[serde(serialize_with = "as_text")]
        found: Mode,
    },
    /// It belongs to somebody other than root.
    Owner {
        /// The user id it has.
        found: u32,
    },
    /// Something of another kind is at its path (a directory, a link).
    Kind,
    /// A live value differs.
    Value {
        /// What it is.
        found: String,
    },
    /// A unit is not enabled.
    Disabled,
    /// A unit does not run.
    Stopped {
        /// What systemd says instead.
        found: String,
    },
    /// A unit's inputs changed since its last start by slipway, or it was never started by it.
    Inputs {
        /// The inputs that change in this run; empty if an earlier run was cut off before the restart.
        #[serde(serialize_with = "as_texts")]
        changed: Vec<RemotePath>,
    },
    /// It was otherwise before slipway, and shall be so again.
    Before,
    /// It is taken away for a while: the API server, while its etcd member restarts.
    Paused,
    /// It comes back after that.
    Resumed,
    /// It waits for its turn in an upgrade; the version that it has now.
    Upgrade {
        /// Which one; none where nobody could tell.
        #[serde(serialize_with = "as_optional_text")]
        from: Option<KubernetesVersion>,
    },
    /// Settings change that a Node with pods cannot take; which ones.
    Configuration {
        /// Fields and flags, as the program calls them.
        settings: Vec<String>,
    },
    /// A run that was cut off left it cordoned.
    LeftCordoned,
    /// What should replace it did not come up.
    PutBack,
    /// The API did not answer, so nothing is known; it is applied when it does.
    Unseen,
    /// The API's object differs in these fields.
    Fields {
        /// Dotted paths.
        changed: Vec<String>,
        /// Someone else than slipway changed it since slipway wrote it.
        drift: bool,
    },
}

fn as_text<S: serde::Serializer, T: fmt::Display>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
fn as_optional_text<S: serde::Serializer, T: fmt::Display>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&value.as_ref().map(ToString::to_string).unwrap_or_default())
}
fn as_texts<S: serde::Serializer, T: fmt::Display>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Unwanted => f.write_str("no longer wanted"),
            Self::Content { drift: false, .. } => f.write_str("content differs"),
            Self::Content { drift: true, .. } => f.write_str("drift: changed by someone else since slipway wrote it"),
            Self::Mode { found } => write!(f, "mode is {found}"),
            Self::Owner { found } => write!(f, "owned by user {found}"),
            Self::Kind => f.write_str("something else is at its path"),
            Self::Value { found } => write!(f, "is {found}"),
            Self::Disabled => f.write_str("not enabled"),
            Self::Stopped { found } => write!(f, "is {found}"),
            Self::Inputs { changed } if changed.is_empty() => f.write_str("not restarted since its inputs changed"),
            Self::Inputs { changed } => {
                let names: Vec<&str> = changed.iter().map(RemotePath::file_name).collect();
                write!(f, "restart: {} changed", names.join(", "))
            }
            Self::Before => f.write_str("as before slipway"),
            Self::Paused => f.write_str("stops while its etcd member restarts"),
            Self::Resumed => f.write_str("starts again after its etcd member"),
            Self::Upgrade { from: Some(from) } => write!(f, "upgrade from {from}"),
            Self::Upgrade { from: None } => f.write_str("upgrade"),
            Self::Configuration { settings } => write!(f, "for {}", settings.join(", ")),
            Self::LeftCordoned => f.write_str("left cordoned by a run that was cut off"),
            Self::PutBack => f.write_str("put back: what replaced it does not come up"),
            Self::Unseen => f.write_str("not seen: the API does not answer now"),
            Self::Fields { changed, drift } => {
                if *drift {
                    f.write_str("drift: ")?;
                }
                write!(f, "{} differ", changed.join(", "))
            }
        }
    }
}

//! Phase `formed`: a note on the hosts that carry the cluster, written when the API answered and the
//! cluster's first objects are there. It is what makes a cluster *living*: before it, members
//! may start together and a cut-off bootstrap is continued; after it, hosts change one at a time.

use crate::artifact::{Artifact, Content};
use crate::names::{Mode, RemotePath};
use crate::plan::Plan;

/// The note.
pub const FORMED_FILE: &str = "/var/lib/slipway/formed";

/// What this phase wants on a host that carries the cluster: the note, and none of the files that a
/// finished rotation leaves (`retired`), which nothing reads any more when this phase begins.
#[must_use]
pub fn artifacts(plan: &Plan, retired: &[RemotePath]) -> Vec<Artifact> {
    let note = Artifact::File {
        path: RemotePath::fixed(FORMED_FILE),
        mode: Mode(0o600),
        content: Content::plain(format!("{}\n", plan.name)),
    };
    std::iter::once(note).chain(retired.iter().map(|path| Artifact::Absent { path: path.clone() })).collect()
}

//! The line to a step's host while the step does something elsewhere. A gate asks the API and other hosts, a
//! drain waits for pods: neither would notice that the host's own line is gone, and with it the host's lock,
//! without which others may work there. So the step ends then, and says so.
//!
//! The line is not made anew. The lock would have to be taken again and the host looked at again, because
//! somebody may have changed it meanwhile; that is what the next run does.

use std::future::Future;

use super::Execution;
use super::step::failure;
use crate::artifact::Artifact;
use crate::change::Change;
use crate::cluster::Cluster;
use crate::graph::Step;
use crate::phase::Target;
use crate::report::StepFailure;
use crate::transport::Transport;

/// The work's answer, or a failure as soon as the line to the step's host is lost. `place` says what was going on.
pub(super) async fn attached<T: Transport, C: Cluster, A>(
    step: &Step,
    execution: &Execution<'_, T, C>,
    place: impl FnOnce() -> String,
    work: impl Future<Output = Result<A, Box<StepFailure>>>,
) -> Result<A, Box<StepFailure>> {
    let Target::Host(host) = &step.id.target else { return work.await };
    tokio::select! {
        biased;
        said = execution.transport.lost(host) => Err(Box::new(StepFailure {
            change: Some(place()),
            stderr: said,
            hint: Some(
                "nothing more is done on this host in this run; run the same command again when the host is reached, and it goes on here".into(),
            ),
            ..failure(step, format!("the connection to host {host} was lost, and the host's lock with it"))
        })),
        answer = work => answer,
    }
}

/// Whether the line to a host ends because of this change.
pub(super) fn is_reboot(change: &Change) -> bool {
    matches!(change.artifact, Artifact::Restarted { machine: true, .. })
}

//! One step: what must hold before, its changes in their order (neighbours on the host in one
//! command, those in the cluster one by one), then its gates all at once. Every wait has an end.

use std::any::Any;
use std::future::Future;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::timeout;

use super::{Execution, Progress, fallback, line};
use crate::artifact::Artifact;
use crate::change::Change;
use crate::cluster::{Cluster, ClusterError};
use crate::desired::kubelet::UNIT;
use crate::desired::packages::KUBELET;
use crate::graph::{Gate, Step};
use crate::names::{HostName, RemotePath};
use crate::phase::{Phase, StepId, Target};
use crate::plan::Limits;
use crate::report::StepFailure;
use crate::transport::{ApplyError, Transport, TransportError, Work};

/// How much later than the host itself the engine gives up on a step or gate. The host's own
/// limit tells more, so it comes first.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// How long a step waits for what must hold before it: long enough for an election in etcd or an
/// API server that has just been restarted, too short to look like work.
const BEFORE: Duration = Duration::from_secs(30);

/// A wait before a step is told about only after this time; nearly all end sooner.
const SILENT: Duration = Duration::from_secs(1);

/// The place of a failure before the first change.
const UNCHANGED: &str = "nothing was changed";

/// The exit status `timeout` (coreutils) ends with when the time ran out.
const TIMED_OUT: i32 = 124;

/// Carries out one step. Returns how many changes were made.
pub(super) async fn carry_out<T, C>(
    step: &Step,
    execution: &Execution<'_, T, C>,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<usize, Box<StepFailure>>
where
    T: Transport,
    C: Cluster,
{
    if !step.changes.is_empty() && !step.before.is_empty() {
        precede(step, execution, &progress).await?;
    }
    // In their order, neighbours on the host as one command: a member is announced before its manifest
    // is written, and gets its vote after that.
    let indices: Vec<usize> = (0..step.changes.len()).collect();
    let alike = |one: &usize, other: &usize| is_in_cluster(&step.changes[*one]) == is_in_cluster(&step.changes[*other]);
    for group in indices.chunk_by(alike) {
        if is_in_cluster(&step.changes[group[0]]) {
            change_cluster(step, group, execution, &progress).await?;
            continue;
        }
        let Target::Host(host) = &step.id.target else {
            return Err(Box::new(failure(
                step,
                "a step of the cluster has changes of a host; this is a bug in slipway",
            )));
        };
        change_host(step, host, group, execution, &progress).await?;
    }
    if !step.gates.is_empty() {
        progress(waiting(&step.gates));
        let replaced = replaced(step);
        let all = try_join_all(step.gates.iter().map(|gate| wait(step, gate, execution, &replaced)));
        let opened = line::attached(step, execution, || awaited(&step.gates), all).await;
        if let Err(failure) = opened {
            return Err(fallback::put_back(step, execution, failure).await);
        }
    }
    Ok(step.changes.len())
}

/// What is waited for, as the place of a failure.
fn awaited(gates: &[Gate]) -> String {
    let names: Vec<String> = gates.iter().map(ToString::to_string).collect();
    format!("waiting for {}", names.join(", "))
}

/// The manifests that can be put back.
fn replaced(step: &Step) -> Vec<RemotePath> {
    let path = |change: &Change| match &change.artifact {
        Artifact::File { path, .. } => Some(path.clone()),
        _ => None,
    };
    step.fallback.iter().filter_map(path).collect()
}

fn waiting(gates: &[Gate]) -> Progress {
    Progress::Waiting { gates: gates.iter().map(ToString::to_string).collect() }
}

/// Waits for what must hold before anything is changed.
async fn precede<T: Transport, C: Cluster>(
    step: &Step,
    execution: &Execution<'_, T, C>,
    progress: &(impl Fn(Progress) + Send + Sync),
) -> Result<(), Box<StepFailure>> {
    let limit = execution.limits.gate_timeout.0.min(BEFORE);
    let all = try_join_all(step.before.iter().map(|gate| async move {
        let held = ended(limit.saturating_add(GRACE), execution.cluster.wait(gate, limit)).await;
        held.map_err(|error| cluster_failure(step, UNCHANGED.to_owned(), error))
    }));
    let all = line::attached(step, execution, || UNCHANGED.to_owned(), all);
    let mut all = std::pin::pin!(all);
    if let Ok(held) = timeout(SILENT, &mut all).await {
        return held.map(drop);
    }
    progress(waiting(&step.before));
    all.await.map(drop)
}

/// Whether the kubelet that runs afterwards is not the one from before. A package may restart its own units.
fn starts_kubelet(change: &Change) -> bool {
    match &change.artifact {
        Artifact::Unit { name, .. } | Artifact::Halted { unit: name, .. } => name == UNIT,
        Artifact::Restarted { units, machine } => *machine || units.iter().any(|name| name == UNIT),
        Artifact::Package { name, .. } => name == KUBELET,
        _ => false,
    }
}

fn is_in_cluster(change: &Change) -> bool {
    change.artifact.is_of_cluster()
}

async fn change_cluster<T: Transport, C: Cluster>(
    step: &Step,
    indices: &[usize],
    execution: &Execution<'_, T, C>,
    progress: &(impl Fn(Progress) + Send + Sync),
) -> Result<(), Box<StepFailure>> {
    for &index in indices {
        let change = &step.changes[index];
        let applied = async {
            let applied = ended(patience(change, execution.limits), execution.cluster.apply(change)).await;
            applied.map_err(|error| cluster_failure(step, change.artifact.id(), error))
        };
        line::attached(step, execution, || change.artifact.id(), applied).await?;
        progress(Progress::Done { index });
    }
    Ok(())
}

/// How long a change of the cluster may take. A Node that is emptied has a limit of its own, and one that
/// returns waits as long as a gate; both tell more than this one, so they come first.
fn patience(change: &Change, limits: &Limits) -> Duration {
    match &change.artifact {
        Artifact::Maintenance(maintenance) => {
            limits.step_timeout.0.saturating_add(maintenance.patience()).saturating_add(limits.gate_timeout.0 * 2)
        }
        Artifact::Departed(departure) => {
            limits.step_timeout.0.saturating_add(departure.patience()).saturating_add(limits.gate_timeout.0 * 2)
        }
        _ => limits.step_timeout.0,
    }
}

async fn change_host<T, C>(
    step: &Step,
    host: &HostName,
    indices: &[usize],
    execution: &Execution<'_, T, C>,
    progress: &(impl Fn(Progress) + Send + Sync),
) -> Result<(), Box<StepFailure>>
where
    T: Transport,
    C: Cluster,
{
    let mine: Vec<Change>;
    let changes = if indices.len() == step.changes.len() {
        &step.changes
    } else {
        mine = indices.iter().map(|&index| step.changes[index].clone()).collect();
        &mine
    };
    let work = Work { step: &step.id, changes, timeout: execution.limits.step_timeout.0 };
    let done = |index: usize| {
        if let Some(&index) = indices.get(index) {
            progress(Progress::Done { index });
        }
    };
    let limit = work.timeout.saturating_add(GRACE);
    // Before, for it may be restarted although no answer comes; after, for a gate of another step may have
    // asked meanwhile.
    let restarts = changes.iter().any(starts_kubelet);
    if restarts {
        execution.cluster.forget_kubelet(host);
    }
    let applied = timeout(limit, execution.transport.apply(host, work, done)).await;
    if restarts {
        execution.cluster.forget_kubelet(host);
    }
    if changes.iter().any(line::is_reboot) {
        execution.transport.restarted(host).await;
    }
    match applied {
        Ok(result) => result.map_err(|error| host_failure(step, indices, error)),
        Err(_) => Err(Box::new(StepFailure {
            status: Some(TIMED_OUT),
            hint: hint(TIMED_OUT, ""),
            ..failure(step, "the host did not answer in time")
        })),
    }
}

pub(super) async fn wait<T, C: Cluster>(
    step: &Step,
    gate: &Gate,
    execution: &Execution<'_, T, C>,
    replaced: &[RemotePath],
) -> Result<(), Box<StepFailure>> {
    let limit = execution.limits.gate_timeout.0;
    let most = limit.saturating_add(GRACE);
    let waited = if replaced.is_empty() {
        ended(most, execution.cluster.wait(gate, limit)).await
    } else {
        ended(most, execution.cluster.wait_or_crash(gate, limit, replaced)).await
    };
    waited.map_err(|error| cluster_failure(step, format!("waiting for {gate}"), error))
}

/// The future's answer, or an error if it takes longer than that.
async fn ended(limit: Duration, work: impl Future<Output = Result<(), ClusterError>>) -> Result<(), ClusterError> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("no answer in {} s", limit.as_secs_f32());
        Err(ClusterError::plain(message))
    })
}

pub(super) fn failure(step: &Step, message: impl Into<String>) -> StepFailure {
    let (step, message) = (step.id.clone(), message.into());
    let hint = unbegun(&step);
    StepFailure { step, change: None, message, status: None, stderr: String::new(), hint }
}

/// What to do about a step before which nothing was changed.
fn unbegun(step: &StepId) -> Option<String> {
    let text = "nothing else was begun; mend this and run the same command again, or go without snapshots (`upgrade: {snapshots: 0}` in the plan file)";
    (step.phase == Phase::Snapshot).then(|| text.to_owned())
}

fn host_failure(step: &Step, indices: &[usize], error: ApplyError) -> Box<StepFailure> {
    let message = error.to_string();
    Box::new(match error {
        ApplyError::Script { change, status, stderr } => {
            let change =
                change.and_then(|index| step.changes.get(*indices.get(index)?)).map(|change| change.artifact.id());
            let hint = hint(status, &stderr).or_else(|| unbegun(&step.id));
            StepFailure { change, status: Some(status), stderr, hint, ..failure(step, message) }
        }
        ApplyError::Transport(error) => {
            let hint = match error {
                TransportError::Connect { hint, .. } => hint,
                TransportError::Lost { .. } => {
                    Some("the step may be half done; run the same command again when the host is back".into())
                }
                TransportError::Locked { .. } => Some("wait for the other run to end".into()),
                TransportError::Root { .. } | TransportError::Command { .. } => None,
            };
            StepFailure { hint: hint.or_else(|| unbegun(&step.id)), ..failure(step, message) }
        }
    })
}

fn cluster_failure(step: &Step, change: String, error: ClusterError) -> Box<StepFailure> {
    let stderr = error.detail.unwrap_or_default();
    Box::new(StepFailure { change: Some(change), stderr, hint: error.hint, ..failure(step, error.message) })
}

/// What usually helps. Statuses are those of POSIX `sh` and of coreutils' `timeout`.
fn hint(status: i32, stderr: &str) -> Option<String> {
    // The second is what tar says.
    let text = if ["No space left on device", "Wrote only "].iter().any(|said| stderr.contains(said)) {
        "free some space on the host, then run the same command again"
    } else if stderr.contains("Read-only file system") {
        "the host's file system is read-only; look at its kernel log"
    } else if status == TIMED_OUT {
        "raise `limits.stepTimeout` if the host is only slow; run the same command again"
    } else if status == 127 {
        "a command is missing on the host; `slipway diff` runs the preflight checks"
    } else {
        return None;
    };
    Some(text.into())
}

/// A bug in a step is a failed step, not the end of the run.
pub(super) fn panicked(step: &Step, panic: &(dyn Any + Send)) -> StepFailure {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let hint = Some("this is a bug in slipway; please report it with the journal of this run".into());
    StepFailure { hint, ..failure(step, format!("panicked: {}", text.unwrap_or("without a message"))) }
}

/// Why a step of one etcd host may not begin while another is being changed.
pub(super) fn quorum_failure(step: &StepId, holder: &HostName) -> StepFailure {
    StepFailure {
        step: step.clone(),
        change: None,
        message: format!("refused: etcd on {holder} is being changed, and a second member must not be down"),
        status: None,
        stderr: String::new(),
        hint: Some("the order of steps does not finish one etcd host before the next; this is a bug in slipway".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_by_whatever_met_it() {
        let free_some = Some("free some space on the host, then run the same command again".to_owned());
        assert_eq!(hint(74, "tar: payload-0: Wrote only 4608 of 10240 bytes\ntar: Exiting with failure status"), free_some);
        assert_eq!(hint(1, "install: error writing '/etc/x': No space left on device"), free_some);
        assert_eq!(hint(1, "slipway: something else"), None);
    }

    #[test]
    fn a_cluster_that_does_not_answer_ends_in_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let waited = runtime.block_on(async { ended(Duration::from_millis(10), std::future::pending()).await });
        assert_eq!(waited.unwrap_err().message, "no answer in 0.01 s");
    }
}

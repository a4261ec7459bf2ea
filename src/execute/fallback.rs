//! A component that does not come up is put back as it was. The step has failed all the same, with
//! what the failed one logged; but the cluster serves as before.

use futures_util::future::try_join_all;
use tokio::time::timeout;

use super::Execution;
use super::step::{GRACE, wait};
use crate::cluster::Cluster;
use crate::graph::Step;
use crate::phase::Target;
use crate::report::StepFailure;
use crate::transport::{Transport, Work};

/// Puts back what the step replaced, and waits for what it waited for. Returns the failure, which then
/// tells how that went.
pub(super) async fn put_back<T, C>(step: &Step, execution: &Execution<'_, T, C>, failure: Box<StepFailure>) -> Box<StepFailure>
where
    T: Transport,
    C: Cluster,
{
    let Target::Host(host) = &step.id.target else { return failure };
    if step.fallback.is_empty() {
        return failure;
    }
    let work = Work { step: &step.id, changes: &step.fallback, timeout: execution.limits.step_timeout.0 };
    let limit = work.timeout.saturating_add(GRACE);
    let (outcome, hint) = match timeout(limit, execution.transport.apply(host, work, |_| {})).await {
        Ok(Ok(())) => match try_join_all(step.gates.iter().map(|gate| wait(step, gate, execution, &[]))).await {
            Ok(_) => (
                "what was there before was put back and is healthy".to_owned(),
                "mend the cause that the log tells, or put the plan back; nothing else was changed after this",
            ),
            Err(again) => (
                format!("what was there before was put back, and does not come up either: {}", again.message),
                "the cause is not in what was changed; `slipway status` tells more",
            ),
        },
        Ok(Err(error)) => (format!("what was there before could not be put back: {error}"), "run the same command again"),
        Err(_) => ("what was there before could not be put back in time".to_owned(), "run the same command again"),
    };
    Box::new(StepFailure { message: format!("{}; {outcome}", failure.message), hint: Some(hint.to_owned()), ..*failure })
}

//! Carries a graph out: starts what is ready, gathers what became of it, tells everyone. One task
//! owns the run's state; steps answer by their return value. Failed steps are part of the answer,
//! not an error.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::graph::{Step, StepGraph};
use crate::phase::StepId;
use crate::plan::Limits;
use crate::report::difference;
use crate::report::{Event, Outcome, Report, StepFailure};
use crate::transport::Transport;

pub mod control;
pub mod frontier;
mod fallback;
mod line;
mod step;

use control::{Control, Stop};
use frontier::Frontier;

/// What a run works with.
pub struct Execution<'a, T, C> {
    /// How hosts are reached.
    pub transport: &'a T,
    /// How the cluster is reached.
    pub cluster: &'a C,
    /// How much at once, and how long.
    pub limits: &'a Limits,
    /// How the operator stops the run.
    pub control: &'a Control,
}

/// What a running step tells.
enum Progress {
    Done { index: usize },
    Waiting { gates: Vec<String> },
}

/// Carries the graph out. `on_event` hears everything in order. Returns when nothing runs any
/// more: everything is done, what is left is blocked, or the operator stopped the run.
pub async fn execute<T, C>(
    graph: &StepGraph,
    execution: &Execution<'_, T, C>,
    on_event: impl FnMut(&Event),
) -> Report
where
    T: Transport,
    C: Cluster,
{
    let started = Instant::now();
    let mut run = Run { graph, frontier: Frontier::new(graph, execution.limits), report: Report::default(), on_event };
    run.announce();
    let (sender, mut receiver) = mpsc::unbounded_channel::<(StepId, Progress)>();
    let mut stopped = execution.control.watch();
    let mut stop = Stop::No;
    let mut running = FuturesUnordered::new();
    loop {
        // A run that was stopped before it began starts nothing either.
        if stop == Stop::No && *stopped.borrow_and_update() != Stop::No {
            stop = *stopped.borrow();
            run.tell(Event::Stopping { abort: stop == Stop::Abort });
        }
        while stop == Stop::No
            && let Some(id) = run.frontier.start()
        {
            let step = graph.step(&id).expect("the frontier holds steps of this graph");
            run.tell(Event::StepStarted { step: id.clone(), changes: step.changes.len() });
            let sender = sender.clone();
            running.push(async move {
                let begun = Instant::now();
                let progress = |progress| {
                    // Nobody listens once the run is over.
                    let _ = sender.send((step.id.clone(), progress));
                };
                let work = AssertUnwindSafe(step::carry_out(step, execution, progress)).catch_unwind();
                let result = work.await.unwrap_or_else(|panic| Err(Box::new(step::panicked(step, &*panic))));
                (id, result, begun.elapsed())
            });
        }
        if stop == Stop::Abort {
            break;
        }
        if running.is_empty() {
            if stop != Stop::No || !run.refuse() {
                break;
            }
            continue;
        }
        tokio::select! {
            biased;
            Some((id, progress)) = receiver.recv() => run.progress(id, &progress),
            Ok(()) = stopped.changed() => {
                stop = *stopped.borrow_and_update();
                run.tell(Event::Stopping { abort: stop == Stop::Abort });
            }
            Some((id, result, elapsed)) = running.next() => {
                while let Ok((id, progress)) = receiver.try_recv() {
                    run.progress(id, &progress);
                }
                run.finished(&id, result, elapsed);
            }
        }
    }
    // Dropping what runs ends its commands: connections are closed by the transport.
    drop(running);
    for id in run.frontier.unfinished() {
        run.tell(Event::StepFinished { step: id, outcome: Outcome::Cancelled, elapsed: Duration::ZERO });
    }
    let round_trips =
        graph.hosts().into_iter().map(|host| (host.clone(), execution.transport.round_trips(&host))).collect();
    let longest_path = run.report.measured_path(graph);
    run.tell(Event::RunFinished { elapsed: started.elapsed(), round_trips, longest_path });
    run.report
}

/// The state of a run.
struct Run<'a, E> {
    graph: &'a StepGraph,
    frontier: Frontier,
    report: Report,
    on_event: E,
}

impl<E: FnMut(&Event)> Run<'_, E> {
    fn tell(&mut self, event: Event) {
        self.report.record(&event);
        (self.on_event)(&event);
    }

    fn announce(&mut self) {
        let relevant = self.graph.relevant();
        let ids = |wanted: &dyn Fn(&Step, bool) -> bool| -> Vec<StepId> {
            let steps = self.graph.steps().zip(&relevant).filter(|&(step, &relevant)| wanted(step, relevant));
            steps.map(|(step, _)| step.id.clone()).collect()
        };
        let event = Event::RunStarted {
            stage: self.graph.stage(),
            digest: difference::digest(self.graph),
            steps: relevant.iter().filter(|&&relevant| relevant).count(),
            changes: self.graph.changes(),
            up_to_date: ids(&|step, relevant| !relevant && self.graph.is_selected(&step.id)),
            not_selected: ids(&|step, _| !self.graph.is_selected(&step.id)),
        };
        self.tell(event);
    }

    fn progress(&mut self, id: StepId, progress: &Progress) {
        let Some(step) = self.graph.step(&id) else { return };
        let event = match progress {
            Progress::Done { index } => {
                let Some(change) = step.changes.get(*index) else { return };
                Event::ChangeDone { step: id, done: index + 1, of: step.changes.len(), artifact: change.artifact.id() }
            }
            Progress::Waiting { gates } => Event::Waiting { step: id, gates: gates.clone() },
        };
        self.tell(event);
    }

    fn finished(&mut self, id: &StepId, result: Result<usize, Box<StepFailure>>, elapsed: Duration) {
        let blocked = self.frontier.finish(id, result.is_ok());
        let outcome = match result {
            Ok(changes) => Outcome::Changed { changes },
            Err(failure) => Outcome::Failed(failure),
        };
        self.tell(Event::StepFinished { step: id.clone(), outcome, elapsed });
        self.block(blocked, id);
    }

    fn block(&mut self, steps: Vec<StepId>, by: &StepId) {
        for step in steps {
            self.tell(Event::StepFinished {
                step,
                outcome: Outcome::Blocked { by: by.clone() },
                elapsed: Duration::ZERO,
            });
        }
    }

    /// Gives up a step that is ready but may not begin because of the quorum. Whether there was one.
    fn refuse(&mut self) -> bool {
        let Some(refusal) = self.frontier.refuse() else { return false };
        if let Some(by) = &refusal.failed {
            self.block(vec![refusal.step], by);
            self.block(refusal.blocked, by);
        } else {
            let outcome = Outcome::Failed(Box::new(step::quorum_failure(&refusal.step, &refusal.holder)));
            self.tell(Event::StepFinished { step: refusal.step.clone(), outcome, elapsed: Duration::ZERO });
            self.block(refusal.blocked, &refusal.step);
        }
        true
    }
}

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;

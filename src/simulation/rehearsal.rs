//! A rehearsal of a bootstrap: what `slipway simulate` tells. With a step at which the engine dies: what
//! is there then, and that a second run ends as if nothing had happened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::failure::{Failure, Kind};
use crate::graph::{Step, StepGraph};
use crate::phase::{On, Phase, RULES, StepId, Target};
use crate::plan::Plan;
use crate::report::visible::visible;
use crate::report::{Event, Outcome, Report};
use crate::standing::API_SERVER_MANIFEST;

use super::{Fault, Moment, Point, Simulation};

/// What a rehearsal showed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rehearsal {
    /// The cluster.
    pub cluster: String,
    /// How many hosts.
    pub hosts: usize,
    /// What everything that varies follows from.
    pub seed: u64,
    /// Steps with something to do.
    pub steps: usize,
    /// Changes they make.
    pub changes: usize,
    /// When each phase began and ended, in the order they began.
    pub phases: Vec<PhaseTimes>,
    /// Simulated seconds of the whole run.
    pub seconds: f64,
    /// Below which no order of the steps could end, with these limits.
    pub bound_seconds: f64,
    /// The steps that decided how long it took.
    pub longest_path: Vec<String>,
    /// Most commands sent to one host.
    pub most_round_trips: usize,
    /// What became of it when the engine was killed.
    pub killed: Option<Killed>,
    /// Rules of etcd and CAs that were broken; always empty, or it is a bug.
    pub broken: Vec<String>,
}

/// When a phase was worked on.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTimes {
    /// Which.
    pub phase: Phase,
    /// On how many targets.
    pub steps: usize,
    /// When its first step began, in seconds.
    pub from: f64,
    /// When its last step ended, in seconds.
    pub to: f64,
}

/// What a run that died left, and how the next one ended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Killed {
    /// The step.
    pub step: String,
    /// The change or gate in the middle of which the engine died.
    pub at: String,
    /// Steps that were done by then.
    pub done: Vec<String>,
    /// Steps that were cut off.
    pub cut_off: Vec<String>,
    /// etcd members that ran then.
    pub members_up: usize,
    /// Hosts with the API server's manifest then.
    pub api_servers: usize,
    /// Whether the note was there that the cluster was formed.
    pub formed: bool,
    /// Changes that the second run made.
    pub changes_left: usize,
    /// Simulated seconds of the second run.
    pub seconds: f64,
    /// Whether everything was then as after the uninterrupted run.
    pub same_end: bool,
}

/// Whether a bootstrap of the plan has that step.
#[must_use]
pub fn has_step(plan: &Plan, step: &StepId) -> bool {
    let rule = RULES.iter().find(|rule| rule.phase == step.phase);
    rule.is_some_and(|rule| match &step.target {
        Target::Cluster => rule.on == On::Cluster,
        Target::Host(host) => plan.host(host).is_some_and(|host| rule.on.includes(plan, host)),
    })
}

/// Rehearses a bootstrap, on tokio's paused clock.
///
/// # Errors
/// The plan cannot be carried out even on simulated hosts.
pub async fn rehearse(plan: &Arc<Plan>, seed: u64, now: Timestamp, kill: Option<&StepId>) -> Result<Rehearsal, Failure> {
    let calm = Simulation::new(plan, seed, now);
    calm.world().forgetful = true;
    let planned = calm.plan(plan).await?;
    // The graph is the same for the run that is killed: it begins on the same hosts.
    let start = kill.map(|_| calm.fork());
    let mut clock = Clock::default();
    let report = calm.carry_out(&planned.graph, &planned.cluster, &plan.limits, |event| clock.hear(event)).await;
    let report = good(report)?;
    let mut broken = calm.world().violations.clone();
    let killed = match (kill, start) {
        (Some(step), Some(start)) => {
            let killed = kill_and_repeat(plan, &planned.graph, step, &start, &calm).await?;
            broken.extend(start.world().violations.iter().cloned());
            Some(killed)
        }
        _ => None,
    };
    Ok(Rehearsal {
        cluster: plan.name.to_string(),
        hosts: plan.hosts.len(),
        seed,
        steps: clock.steps,
        changes: planned.graph.changes(),
        phases: clock.phases(),
        seconds: seconds(report.elapsed),
        bound_seconds: seconds(bound(plan, &report)),
        longest_path: report.longest_path.iter().map(ToString::to_string).collect(),
        most_round_trips: report.round_trips.values().copied().max().unwrap_or_default(),
        killed,
        broken,
    })
}

fn good(report: Option<Report>) -> Result<Report, Failure> {
    let report = report.ok_or_else(|| Failure::new(Kind::Bug, "the rehearsal was cut off"))?;
    let failures: Vec<String> = report.failures().map(ToString::to_string).collect();
    if report.succeeded() { Ok(report) } else { Err(Failure::new(Kind::Bug, format!("the rehearsal failed: {}", failures.join("\n")))) }
}

/// No order ends sooner than the longest path, nor than the work of all hosts by as many at once as may be.
fn bound(plan: &Plan, report: &Report) -> Duration {
    let path: Duration = report.longest_path.iter().filter_map(|step| report.steps.get(step)).map(|step| step.elapsed).sum();
    let on_hosts = report.steps.iter().filter(|(id, _)| id.target != Target::Cluster).map(|(_, step)| step.elapsed);
    let hosts: Duration = on_hosts.sum();
    path.max(hosts / u32::try_from(plan.limits.parallel_hosts.max(1)).unwrap_or(u32::MAX))
}

async fn kill_and_repeat(
    plan: &Arc<Plan>,
    graph: &StepGraph,
    step: &StepId,
    start: &Simulation,
    calm: &Simulation,
) -> Result<Killed, Failure> {
    let at = middle(graph.step(step)).ok_or_else(|| {
        Failure::new(Kind::Plan, format!("step {step} has nothing to do in a bootstrap of this plan, so nothing can die in it"))
    })?;
    start.world().faults.push(Fault::Kill(Point { step: step.clone(), artifact: at.clone() }, Moment::Within));
    let cluster = start.cluster(Arc::clone(plan));
    let mut report = Report::default();
    let mut begun = Vec::new();
    let on_event = |event: &Event| {
        report.record(event);
        if let Event::StepStarted { step, .. } = event {
            begun.push(step.clone());
        }
    };
    start.carry_out(graph, &cluster, &plan.limits, on_event).await;
    let done = |id: &StepId| report.steps.get(id).is_some_and(|record| matches!(record.outcome, Outcome::Changed { .. }));
    let (finished, cut_off): (Vec<StepId>, Vec<StepId>) = begun.into_iter().partition(done);
    let (members_up, api_servers, formed) = {
        let world = start.world();
        let now = world.elapsed();
        let up = world.clusters.keys().map(|id| world.up(id, now).len()).sum();
        let with = |path| world.hosts.values().filter(|host| host.at(path).is_some()).count();
        (up, with(API_SERVER_MANIFEST), with(crate::desired::formed::FORMED_FILE) > 0)
    };
    let second = start.plan(plan).await?;
    let repeated = good(start.carry_out(&second.graph, &second.cluster, &plan.limits, |_| {}).await)?;
    let same_end = start.world().fingerprint() == calm.world().fingerprint();
    let texts = |ids: &[StepId]| ids.iter().map(ToString::to_string).collect();
    Ok(Killed {
        step: step.to_string(),
        at,
        done: texts(&finished),
        cut_off: texts(&cut_off),
        members_up,
        api_servers,
        formed,
        changes_left: second.graph.changes(),
        seconds: seconds(repeated.elapsed),
        same_end,
    })
}

/// The change in the middle of a step, or the first thing it waits for.
fn middle(step: Option<&Step>) -> Option<String> {
    let step = step?;
    let change = step.changes.get(step.changes.len() / 2).map(|change| change.artifact.id());
    change.or_else(|| step.gates.first().map(ToString::to_string))
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// Hears when steps begin and end.
#[derive(Default)]
struct Clock {
    began: Option<tokio::time::Instant>,
    steps: usize,
    times: BTreeMap<Phase, (usize, Duration, Duration)>,
}

impl Clock {
    fn hear(&mut self, event: &Event) {
        let now = tokio::time::Instant::now();
        let elapsed = now - *self.began.get_or_insert(now);
        match event {
            Event::StepStarted { step, .. } => {
                self.steps += 1;
                let times = self.times.entry(step.phase).or_insert((0, elapsed, elapsed));
                times.0 += 1;
            }
            Event::StepFinished { step, .. } => {
                if let Some(times) = self.times.get_mut(&step.phase) {
                    times.2 = elapsed;
                }
            }
            _ => {}
        }
    }

    fn phases(&self) -> Vec<PhaseTimes> {
        let times = |(phase, (steps, from, to)): (&Phase, &(usize, Duration, Duration))| PhaseTimes {
            phase: *phase,
            steps: *steps,
            from: seconds(*from),
            to: seconds(*to),
        };
        let mut phases: Vec<PhaseTimes> = self.times.iter().map(times).collect();
        phases.sort_by(|one, other| one.from.total_cmp(&other.from).then(one.phase.cmp(&other.phase)));
        phases
    }
}

impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rehearsal of cluster {} on {} simulated hosts (seed {})", visible(&self.cluster), self.hosts, self.seed)?;
        writeln!(f, "{} steps with {} changes, at most {} round trips to one host\n", self.steps, self.changes, self.most_round_trips)?;
        writeln!(f, "  {:<16} {:>6} {:>9} {:>9}", "phase", "steps", "from", "to")?;
        for phase in &self.phases {
            writeln!(f, "  {:<16} {:>6} {:>7.1} s {:>7.1} s", phase.phase.to_string(), phase.steps, phase.from, phase.to)?;
        }
        writeln!(f, "\nabout {:.0} s by usual durations; with these limits no order takes less than {:.0} s", self.seconds, self.bound_seconds)?;
        writeln!(f, "longest path: {}", self.longest_path.join(" → "))?;
        if let Some(killed) = &self.killed {
            killed.fmt(f)?;
        }
        for broken in &self.broken {
            writeln!(f, "BROKEN RULE: {broken}")?;
        }
        Ok(())
    }
}

/// As many names as fit a line, and how many more there are.
fn some(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        [first @ .., _] if first.len() >= 8 => format!("{} and {} more", names[..8].join(", "), names.len() - 8),
        all => all.join(", "),
    }
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nif the engine dies in {}, in the middle of {}:", self.step, visible(&self.at))?;
        writeln!(f, "  done:        {} steps", self.done.len())?;
        writeln!(f, "  cut off:     {}", some(&self.cut_off))?;
        let formed = if self.formed { "formed" } else { "not formed yet: the next run goes on with the bootstrap" };
        writeln!(f, "  the cluster: {formed}; {} etcd members up, {} API servers set up", self.members_up, self.api_servers)?;
        writeln!(f, "  run again:   {} changes in about {:.0} s", self.changes_left, self.seconds)?;
        let end = if self.same_end { "as if nothing had happened" } else { "NOT as after an uninterrupted run" };
        writeln!(f, "  and then:    everything is {end}")
    }
}

//! A run on a screen: on a terminal one line per active host and one bar for the whole run,
//! elsewhere one plain line per thing that happened. It only listens; it can slow down nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::summary::{counted, seconds};
use super::visible::visible;
use super::{Event, Outcome};
use crate::phase::{Phase, StepId, Target};

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Lines that move. Only on a terminal.
    Live {
        /// With colours.
        colour: bool,
    },
    /// Lines that stay.
    Lines,
}

impl Show {
    /// What suits standard error, where progress goes. `no_colour` is whether the environment
    /// says NO_COLOR (see no-color.org), `dumb` whether it says TERM=dumb.
    #[must_use]
    pub fn suited(no_colour: bool, dumb: bool) -> Self {
        if std::io::stderr().is_terminal() && !dumb { Self::Live { colour: !no_colour } } else { Self::Lines }
    }
}

/// Shows events as they come.
pub struct Screen<W> {
    output: W,
    live: Option<Live>,
    /// Changes of the steps that run, for the line that says how it went.
    finished: usize,
    steps: usize,
}

/// The moving part.
struct Live {
    bars: MultiProgress,
    overall: ProgressBar,
    active: BTreeMap<Target, Active>,
    style: ProgressStyle,
}

/// The line of a host. Steps on the cluster share one, so it may show several.
struct Active {
    bar: ProgressBar,
    steps: BTreeSet<Phase>,
}

impl<W: Write> Screen<W> {
    /// A screen. Plain lines and failures go to `output` (standard error in the program).
    #[must_use]
    pub fn new(show: Show, output: W) -> Self {
        let live = match show {
            Show::Live { colour } => Some(Live::new(colour)),
            Show::Lines => None,
        };
        Self { output, live, finished: 0, steps: 0 }
    }

    /// Shows one event. `clock` is the local time as it shall be printed, such as `12:04:05`.
    pub fn show(&mut self, clock: &str, event: &Event) {
        match event {
            Event::RunStarted { steps, .. } => self.steps = *steps,
            Event::StepFinished { .. } => self.finished += 1,
            _ => {}
        }
        if let Some(live) = &mut self.live {
            live.show(event, self.finished, self.steps);
        }
        // With moving lines only what must not scroll away unseen stays on the screen.
        let stays = match event {
            Event::StepFinished { outcome, .. } => matches!(outcome, Outcome::Failed(_)),
            Event::Stopping { .. } => true,
            _ => false,
        };
        if let Some(line) = line(event).filter(|_| self.live.is_none() || stays) {
            let output = &mut self.output;
            // A broken pipe must not end the run.
            let mut write = || drop(writeln!(output, "{clock} {line}"));
            match &self.live {
                // `MultiProgress::println` says nothing where standard error is no terminal.
                Some(live) => live.bars.suspend(write),
                None => write(),
            }
        }
    }
}

/// An event as one plain line; `None` for those that are not worth one.
#[must_use]
pub fn line(event: &Event) -> Option<String> {
    let place = |step: &StepId| format!("{} {}", step.target, step.phase);
    Some(match event {
        Event::RunStarted { steps: 0, .. } => "nothing to do".into(),
        Event::RunStarted { steps, changes, .. } => format!("{} with {} to do", counted(*steps, "step"), counted(*changes, "change")),
        Event::StepStarted { .. } | Event::ChangeDone { .. } => return None,
        Event::Waiting { step, gates } if gates.len() > 3 => format!("{}: waiting for {} conditions", place(step), gates.len()),
        Event::Waiting { step, gates } => format!("{}: waiting for {}", place(step), visible(&gates.join(", "))),
        Event::StepFinished { step, outcome, elapsed } => {
            let how = match outcome {
                Outcome::UpToDate => "up to date".into(),
                Outcome::Changed { changes: 0 } => format!("as wanted after {}", seconds(*elapsed)),
                Outcome::Changed { changes } => format!("{} done in {}", counted(*changes, "change"), seconds(*elapsed)),
                Outcome::Failed(failure) => format!("failed after {}: {}", seconds(*elapsed), visible(&failure.message)),
                Outcome::Blocked { by } => format!("blocked by {by}"),
                Outcome::Cancelled => "cancelled".into(),
                Outcome::NotSelected => return None,
            };
            format!("{}: {how}", place(step))
        }
        Event::Stopping { abort: false } => "stopping: running steps may end; interrupt again to cut them off".into(),
        Event::Stopping { abort: true } => "stopping: running steps are cut off".into(),
        Event::RunFinished { .. } => return None,
    })
}

impl Live {
    fn new(colour: bool) -> Self {
        // indicatif writes to standard error and stays silent where it is no terminal.
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let (spinner, bar) = if colour {
            ("{spinner:.cyan} {prefix:.bold} {msg} {elapsed:.dim}", "{bar:30.cyan} {pos}/{len} steps {elapsed:.dim}")
        } else {
            ("{spinner} {prefix} {msg} {elapsed}", "{bar:30} {pos}/{len} steps {elapsed}")
        };
        let template = |text| ProgressStyle::with_template(text).expect("templates in the source are well formed");
        let overall = bars.add(ProgressBar::new(0).with_style(template(bar)));
        Self { bars, overall, active: BTreeMap::new(), style: template(spinner) }
    }

    fn show(&mut self, event: &Event, finished: usize, steps: usize) {
        match event {
            Event::RunStarted { .. } => {
                self.overall.set_length(steps as u64);
                self.overall.enable_steady_tick(Duration::from_millis(200));
            }
            Event::StepStarted { step, changes } => {
                let active = self.active.entry(step.target.clone()).or_insert_with(|| {
                    let bar = ProgressBar::new_spinner().with_style(self.style.clone()).with_prefix(step.target.to_string());
                    let bar = self.bars.insert_before(&self.overall, bar);
                    bar.enable_steady_tick(Duration::from_millis(200));
                    Active { bar, steps: BTreeSet::new() }
                });
                active.steps.insert(step.phase);
                active.bar.set_message(format!("{}: {}", step.phase, counted(*changes, "change")));
            }
            Event::ChangeDone { step, done, of, artifact } => {
                self.message(step, format!("{}: change {done}/{of} {}", step.phase, visible(artifact)));
            }
            Event::Waiting { step, gates } => {
                let first = gates.first().map_or("", String::as_str);
                let more = if gates.len() > 1 { format!(" and {} more", gates.len() - 1) } else { String::new() };
                self.message(step, format!("{}: waiting for {}{more}", step.phase, visible(first)));
            }
            Event::StepFinished { step, .. } => {
                self.overall.set_position(finished as u64);
                if let Some(active) = self.active.get_mut(&step.target) {
                    active.steps.remove(&step.phase);
                    if active.steps.is_empty() {
                        active.bar.finish_and_clear();
                        self.bars.remove(&active.bar);
                        self.active.remove(&step.target);
                    }
                }
            }
            Event::Stopping { .. } => {}
            Event::RunFinished { .. } => {
                self.active.values().for_each(|active| active.bar.finish_and_clear());
                self.active.clear();
                self.overall.finish_and_clear();
            }
        }
    }

    fn message(&self, step: &StepId, message: String) {
        if let Some(active) = self.active.get(&step.target) {
            active.bar.set_message(message);
        }
    }
}

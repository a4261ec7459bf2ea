//! Carries a graph out for the command line: events to the screen (or as JSON) and to the journal,
//! Ctrl-C to the engine, what became of it to the exit code. The same for every command that changes.

use jiff::{Timestamp, Zoned};

use super::{Output, sessions};
use crate::cluster::Cluster;
use crate::execute::control::{Control, Stop};
use crate::execute::{Execution, execute};
use crate::failure::{Failure, Kind};
use crate::graph::StepGraph;
use crate::names::Digest;
use crate::plan::Plan;
use crate::report::journal::{self, Journal};
use crate::report::terminal::{Screen, Show};
use crate::report::{Event, Report};
use crate::transport::Transport;

/// What is carried out, and who is told.
pub(super) struct Running<'a, T, C> {
    /// Such as `apply`.
    pub command: &'static str,
    /// The plan.
    pub plan: &'a Plan,
    /// The digest of the plan file.
    pub plan_digest: Digest,
    /// The steps.
    pub graph: &'a StepGraph,
    /// How hosts are reached.
    pub transport: &'a T,
    /// How the cluster is reached.
    pub cluster: &'a C,
    /// How events are written.
    pub output: Output,
}

impl<T: Transport, C: Cluster> Running<'_, T, C> {
    /// Carries the graph out.
    pub async fn carry_out(&self) -> Report {
        let environment = |name: &str| std::env::var_os(name);
        let no_colour = environment("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = environment("TERM").is_some_and(|value| value == "dumb");
        let mut screen = Screen::new(Show::suited(no_colour, dumb), std::io::stderr());
        let mut journal = if self.graph.changes() > 0 { self.open_journal() } else { None };
        let on_event = |event: &Event| {
            match self.output {
                Output::Json => println!("{}", journal::json_line(Timestamp::now(), event)),
                Output::Text => screen.show(&Zoned::now().strftime("%H:%M:%S").to_string(), event),
            }
            if let Some(open) = &mut journal
                && let Err(error) = open.record(Timestamp::now(), event)
            {
                eprintln!("warning: {error}");
                journal = None;
            }
        };
        let limits = &self.plan.limits;
        let control = Control::default();
        let execution = Execution { transport: self.transport, cluster: self.cluster, limits, control: &control };
        let run = execute(self.graph, &execution, on_event);
        tokio::pin!(run);
        loop {
            tokio::select! {
                report = &mut run => return report,
                signal = tokio::signal::ctrl_c() => {
                    if signal.is_ok() && control.interrupt() == Stop::Drain && self.output == Output::Text {
                        eprintln!("stopping: nothing new is started; press Ctrl-C again to disconnect at once");
                    }
                }
            }
        }
    }

    fn open_journal(&self) -> Option<Journal> {
        let directory = journal::directory(&self.plan.name, |name| std::env::var_os(name).map(Into::into))?;
        let start = journal::Start {
            version: env!("CARGO_PKG_VERSION").into(),
            command: self.command.into(),
            plan: self.plan_digest,
            operator: sessions::operator(),
        };
        match Journal::begin(&directory, Timestamp::now(), &start) {
            Ok(journal) => Some(journal),
            Err(error) => {
                eprintln!("warning: {error}");
                None
            }
        }
    }
}

/// What the report means for the exit code; it has been shown already.
pub(super) fn verdict(report: &Report) -> Result<(), Failure> {
    if report.succeeded() {
        return Ok(());
    }
    let interrupted = report.failures().count() == 0;
    Err(Failure::shown(if interrupted { Kind::Interrupted } else { Kind::Steps }))
}

//! `slipway apply`: the same planning as `diff`, then the graph is carried out.

use std::io::IsTerminal as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::running::{self, Running};
use super::{Output, PlanFile, Selection, check, diff, sessions};
use crate::failure::{Failure, Kind};
use crate::names::Digest;
use crate::phase::Stage;
use crate::planning::{self, LocalSource, Options, Planned};
use crate::report::difference::Difference;
use crate::report::Report;
use crate::transport::ssh::SshTransport;
use crate::transport::Transport as _;
use crate::trust::decide::Requested;
use crate::trust::rotation::Aims;

/// What can be asked of `apply`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    consent: Consent,
    /// How events and results are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, arguments.output)?;
    let transport = sessions::open(&loaded.plan)?;
    let result = work(arguments, loaded, &transport).await;
    transport.close().await;
    result
}

async fn work(arguments: &Arguments, loaded: crate::plan::load::Loaded, transport: &Arc<SshTransport>) -> Result<(), Failure> {
    let now = Timestamp::now();
    let plan_digest = Digest::of(&loaded.text);
    let lock = Some(format!("slipway apply of {}, since {now}", sessions::operator()));
    let Selection { hosts, phases } = &arguments.selection;
    let options = Options { hosts, phases, renew: &Requested::NONE, lock, now, local: LocalSource::Read, rotation: Aims::new() };
    let planned = planning::plan(Arc::new(loaded.plan), transport.as_ref(), planning::live(transport), options).await?;
    if arguments.output == Output::Text {
        eprint!("{}", planned.warnings());
    }
    let difference = Difference::of(&planned.graph);
    confirm(&arguments.consent, &planned, &difference)?;
    let running = Running {
        command: "apply",
        plan: &planned.plan,
        plan_digest,
        graph: &planned.graph,
        transport: transport.as_ref(),
        cluster: &planned.cluster,
        output: arguments.output,
    };
    let report = running.carry_out().await;
    finish(arguments, &planned, &report)
}

/// What the user says ahead, for every command whose whole change set is known before it begins.
#[derive(Debug, clap::Args)]
pub(super) struct Consent {
    /// Go on only if the change set has this digest (as it was shown)
    #[arg(long, value_name = "DIGEST")]
    pub expect: Option<Digest>,
    /// Do not ask before a living cluster is changed
    #[arg(long, short)]
    pub yes: bool,
}

/// A living cluster is only changed after a yes: on the terminal, or given ahead by `--yes` or `--expect`.
pub(super) fn confirm<C>(consent: &Consent, planned: &Planned<C>, difference: &Difference) -> Result<(), Failure> {
    if let Some(expected) = consent.expect.filter(|expected| *expected != difference.digest) {
        return Err(Failure::new(
            Kind::NotConfirmed,
            format!("the change set is not the reviewed one: its digest is {}, expected was {expected}", difference.digest),
        )
        .hint("nothing was changed; review it again"));
    }
    if difference.is_empty() || planned.stage == Stage::Fresh || consent.yes || consent.expect.is_some() {
        return Ok(());
    }
    eprint!("{}", difference.to_text(diff::look(false)));
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::new(Kind::NotConfirmed, "a living cluster would be changed, and there is no terminal to ask on")
            .hint("review the change set above and pass `--yes`, or `--expect` with its digest"));
    }
    let leaving: Vec<&str> = difference.leaving.iter().map(|leave| leave.host.as_str()).collect();
    let question = match &leaving[..] {
        [] => format!("Change cluster {}?", planned.plan.name),
        hosts => format!("Change cluster {}, and take {} out of it for good?", planned.plan.name, hosts.join(", ")),
    };
    match dialoguer::Confirm::new().with_prompt(question).default(false).interact() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Kind::NotConfirmed, "not confirmed; nothing was changed")),
        Err(error) => Err(Failure::new(Kind::NotConfirmed, format!("cannot ask: {error}")).hint("pass `--yes`")),
    }
}

fn finish<C>(arguments: &Arguments, planned: &Planned<C>, report: &Report) -> Result<(), Failure> {
    if arguments.output == Output::Text {
        if report.succeeded() && report.changes() == 0 {
            let trips: Vec<String> = report.round_trips.values().map(ToString::to_string).collect();
            println!("nothing to do: cluster {} is as the plan says ({} hosts, {} round trips)", planned.plan.name, report.round_trips.len(), trips.join("+"));
        } else {
            print!("{}", report.to_text());
        }
    }
    running::verdict(report)
}

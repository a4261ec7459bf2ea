//! `slipway diff`: everything `apply` would do, and nothing done.

use std::io::IsTerminal as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Output, PlanFile, Selection, check, sessions};
use crate::report::visible;
use crate::failure::{Failure, Kind};
use crate::planning::{self, LocalSource, Options};
use crate::report::difference::{Difference, Look};
use crate::transport::Transport as _;
use crate::trust::decide::Requested;
use crate::trust::rotation::Aims;

/// What can be asked of `diff`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    #[command(flatten)]
    selection: Selection,
    /// Exit with 7 if there are differences
    #[arg(long)]
    exit_code: bool,
    /// Show the whole text of new files too
    #[arg(long)]
    full: bool,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, arguments.output)?;
    let transport = sessions::open(&loaded.plan)?;
    let Selection { hosts, phases } = &arguments.selection;
    let options = Options { hosts, phases, renew: &Requested::NONE, lock: None, now: Timestamp::now(), local: LocalSource::Read, rotation: Aims::new() };
    let planned = planning::plan(Arc::new(loaded.plan), transport.as_ref(), planning::live(&transport), options).await;
    transport.close().await;
    let planned = planned?;
    eprint!("{}", planned.warnings());
    let difference = Difference::of(&planned.graph);
    match arguments.output {
        Output::Json => println!("{}", visible::json(&difference, true)),
        Output::Text => print!("{}", difference.to_text(look(arguments.full))),
    }
    if arguments.exit_code && !difference.is_empty() {
        return Err(Failure::shown(Kind::Differences));
    }
    Ok(())
}

/// Colours on a terminal, unless the environment says NO_COLOR.
pub(super) fn look(full: bool) -> Look {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Look { full, colour }
}

//! `slipway certs list`: every certificate of every host in one table, and what is served of them.
//! Reads only.

use std::sync::Arc;

use jiff::Timestamp;

use super::super::{Output, PlanFile, check, sessions};
use super::{look, span};
use crate::failure::{Failure, Kind};
use crate::names::Span;
use crate::status::inventory::{self, Seen, near_expiry};
use crate::transport::Transport as _;

const EXIT_CODES: &str = "\
Exit codes:
  0    all certificates were seen, and none ends within the time of --warn-within
  3    the plan file is wrong
  5    a host cannot be reached, whatever else was seen
  11   every host was reached, and a certificate ends within the time of --warn-within

JSON fields (--output json), one object per certificate:
  name, host, path, authority, subject, names, issuer, algorithm, serial, notBefore, notAfter,
  secondsLeft, externallyManaged, verified, due,
  served: loaded, serial, notAfter, problem";

/// What can be asked of `certs list`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// Exit with 11 if a certificate ends within this time (`30d`, `12h`)
    #[arg(long, value_name = "TIME", value_parser = span)]
    warn_within: Option<Span>,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = Arc::new(check::load_plan(&arguments.file, arguments.output)?.plan);
    let transport = sessions::open(&plan)?;
    let now = Timestamp::now();
    let (survey, served) = look(&plan, &transport, now).await;
    transport.close().await;
    let entries = inventory::of(Seen { plan: &plan, facts: &survey.facts, served: &served, now });
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&entries).expect("an inventory is plain data")),
        Output::Text => print!("{}", inventory::to_text(&entries)),
    }
    if !survey.absent.is_empty() {
        let reasons: Vec<String> = survey.absent.values().map(ToString::to_string).collect();
        return Err(Failure::new(Kind::Unreachable, reasons.join("\nerror: ")));
    }
    let Some(within) = arguments.warn_within else { return Ok(()) };
    let near: Vec<String> = near_expiry(&entries, within, now).map(|entry| format!("{} on {}", entry.name, entry.host)).collect();
    if near.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::NearExpiry, format!("{} certificates end within {within}: {}", near.len(), near.join(", ")))
        .hint("`slipway certs renew` renews what slipway manages and `pki.renewBefore` calls due, or what it is given by name"))
}

//! `slipway certs`: the cluster's certificates. What the commands share is here.

use std::sync::Arc;

use jiff::Timestamp;

use super::survey::{self, Survey};
use crate::cluster::served::{self, Served};
use crate::failure::Failure;
use crate::names::Span;
use crate::plan::{Host, Plan};
use crate::transport::Transport;

mod approve;
mod create_ca;
mod csr;
mod import;
mod list;
mod renew;
mod sign;
mod rotate_ca;

/// What can be asked of `certs`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show every certificate of the cluster, and what each component really serves
    List(list::Arguments),
    /// Make certificates anew, host by host, and see that the new ones are served
    Renew(renew::Arguments),
    /// Make the CAs of a plan whose operator keeps their keys, into an encrypted store
    CreateCa(create_ca::Arguments),
    /// Write requests for certificates that somebody else's CA signs
    Csr(csr::Arguments),
    /// Bring in what was signed for these requests: a new cluster, or a renewal
    Import(import::Arguments),
    /// Sign requests with a CA in a local directory, keeping what they ask for
    Sign(sign::Arguments),
    /// Approve the serving certificates of kubelets whose requests are what the plan says
    Approve(approve::Arguments),
    /// Replace CAs and the service-account key, state by state, while the cluster serves
    RotateCa(rotate_ca::Arguments),
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::RotateCa(arguments) => rotate_ca::run(arguments).await,
        Command::List(arguments) => list::run(arguments).await,
        Command::Renew(arguments) => renew::run(arguments).await,
        Command::CreateCa(arguments) => create_ca::run(arguments),
        Command::Csr(arguments) => csr::run(arguments),
        Command::Import(arguments) => import::run(arguments).await,
        Command::Sign(arguments) => sign::run(arguments),
        Command::Approve(arguments) => approve::run(arguments).await,
    }
}

/// Looks at all hosts, and at what the components of those that answered present.
async fn look<T: Transport + 'static>(plan: &Arc<Plan>, transport: &Arc<T>, now: Timestamp) -> (Survey<T>, Served) {
    let survey = survey::look(plan, transport, |_| true, now).await;
    let seen: Vec<&Host> = plan.hosts.iter().filter(|host| survey.facts.contains_key(&host.name)).collect();
    let served = served::by(transport.as_ref(), plan, seen).await;
    (survey, served)
}

/// A length of time, also in days.
pub(super) fn span(text: &str) -> Result<Span, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()).and_then(|days| days.checked_mul(24 * 3600));
    match days {
        Some(seconds) => Ok(Span::seconds(seconds)),
        None => text.parse().map_err(|error: crate::names::NameError| error.to_string()),
    }
}

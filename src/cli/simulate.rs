//! `slipway simulate`: rehearses a bootstrap on hosts in memory with the engine of `apply`: the order,
//! how long it may take, and what is left when the engine dies in the middle of a step.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Output, PlanFile, check};
use crate::failure::{Failure, Kind};
use crate::names::HostName;
use crate::phase::StepId;
use crate::plan::{Cni, Plan};
use crate::simulation::rehearsal::{self, Rehearsal};
use crate::simulation::with_workers;

/// With the built-in bridge network every host has a route to every other, which nobody wants of more.
const MOST_BRIDGED: usize = 1000;
/// As many addresses are set aside for simulated hosts.
const MOST_ADDED: u32 = 100_000;

/// What can be asked of `simulate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// What varies, such as how long each change takes, follows from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The engine dies in the middle of this step, and is run again: `etcd@cp-1` as steps are printed, or `cp-1@etcd`
    #[arg(long, value_name = "STEP")]
    kill: Option<String>,
    /// Add that many workers to the plan
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=i64::from(MOST_ADDED)))]
    hosts: u32,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, arguments.output)?;
    let mut plan = with_workers(&loaded.plan, arguments.hosts);
    // A rehearsal reads nothing of this machine, so its CAs are made up and kept by its hosts.
    plan.pki.authority = crate::plan::AuthorityKeys::Hosts;
    // Drawing ten thousand RSA keys takes minutes of this machine and tells nothing about the plan.
    plan.pki.algorithm = crate::plan::KeyAlgorithm::EcdsaP256;
    let plan = Arc::new(plan);
    if matches!(plan.network.cni, Cni::Bridge { .. }) && plan.hosts.len() > MOST_BRIDGED {
        return Err(Failure::new(Kind::Plan, format!("{} hosts are too many for the built-in bridge network", plan.hosts.len()))
            .hint("choose `network: { cni: { flannel: {} } }`: with `bridge` each host needs a route to every other"));
    }
    let step = arguments.kill.as_deref().map(|text| step(&plan, text)).transpose()?;
    // Simulated time stands still while anything is computed, and is not that of this machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| Failure::from_error(Kind::Bug, &error))?;
    let rehearsal = runtime.block_on(rehearsal::rehearse(&plan, arguments.seed, Timestamp::now(), step.as_ref()))?;
    match arguments.output {
        Output::Text => print!("{rehearsal}"),
        Output::Json => println!("{}", serde_json::to_string(&rehearsal).map_err(|error| Failure::from_error(Kind::Bug, &error))?),
    }
    verdict(&rehearsal)
}

fn verdict(rehearsal: &Rehearsal) -> Result<(), Failure> {
    if let Some(broken) = rehearsal.broken.first() {
        return Err(Failure::new(Kind::Bug, format!("the rehearsal broke a rule: {broken}")));
    }
    if rehearsal.killed.as_ref().is_some_and(|killed| !killed.same_end) {
        return Err(Failure::new(Kind::Bug, "the second run did not end as the uninterrupted one"));
    }
    Ok(())
}

/// A step by its name, in either order. The printed order comes first, in case a host is called like a phase.
fn step(plan: &Plan, text: &str) -> Result<StepId, Failure> {
    let unknown = || {
        Failure::new(Kind::Plan, format!("the plan has no step `{text}`"))
            .hint("steps are named PHASE@HOST; `slipway graph PLAN` prints all of them")
    };
    let (left, right) = text.split_once('@').ok_or_else(unknown)?;
    let read = |phase: &str, target: &str| {
        let phase = <crate::phase::Phase as clap::ValueEnum>::from_str(phase, false).ok()?;
        let target = match target {
            "cluster" => crate::phase::Target::Cluster,
            name => crate::phase::Target::Host(name.parse::<HostName>().ok()?),
        };
        rehearsal::has_step(plan, &StepId { phase, target: target.clone() }).then_some(StepId { phase, target })
    };
    read(left, right).or_else(|| read(right, left)).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_in_either_order() {
        let text = "version: 1\nname: a\nkubernetes: {version: v1.34.2}\nhosts: [{name: etcd, address: 192.0.2.1, roles: [control-plane, worker]}, {name: w, address: 192.0.2.2, roles: [worker]}]\n";
        let plan: Plan = crate::yaml::read(text).unwrap();
        let name = |text| step(&plan, text).map(|step| step.to_string()).map_err(|failure| failure.to_string());
        assert_eq!(name("kubelet@w").unwrap(), "kubelet@w");
        assert_eq!(name("w@kubelet").unwrap(), "kubelet@w");
        assert_eq!(name("etcd@kubelet").unwrap(), "kubelet@etcd");
        assert_eq!(name("etcd@etcd").unwrap(), "etcd@etcd");
        assert_eq!(name("ready@cluster").unwrap(), "ready@cluster");
        for wrong in ["etcd@w", "kubelet", "nothing@w", "kubelet@x", "reset@w"] {
            assert!(name(wrong).unwrap_err().contains("has no step"), "{wrong}");
        }
    }
}

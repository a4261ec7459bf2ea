//! `slipway certs rotate-ca`: brings pairs from state to state (`trust::rotation`), each with an
//! ordinary plan and run, and between two states asks the cluster whether it has followed. All that
//! decides where the walk stands is read off the hosts, so it can be stopped anywhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Arc;

use clap::ValueEnum;
use jiff::Timestamp;

use super::super::running::{self, Running};
use super::super::{Output, PlanFile, check, diff, sessions};
use crate::artifact::Artifact;
use crate::cluster::live::LiveCluster;
use crate::failure::{Failure, Kind};
use crate::graph::StepGraph;
use crate::local_files;
use crate::names::{Digest, RemotePath};
use crate::phase::Stage;
use crate::plan::{AuthorityKeys, Plan};
use crate::planning::{self, Access, Options, Planned};
use crate::report::difference::Difference;
use crate::standing;
use crate::transport::Transport as _;
use crate::transport::ssh::SshTransport;
use crate::trust::decide::Requested;
use crate::trust::rotation::{self, Aim, Aims, Position, Step};
use crate::trust::specification::{Authority, ClusterPair};

mod settle;
mod stored;

/// A state is planned again until nothing is left, at most so often: a kubelet may renew its
/// certificate in between.
const ROUNDS: usize = 4;

/// What can be asked of `certs rotate-ca`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// Which one is replaced (may be repeated)
    #[arg(long = "ca", value_enum, default_value = "all")]
    which: Vec<Which>,
    /// Stop when this state is reached
    #[arg(long, value_enum, conflicts_with_all = ["back", "status"])]
    until: Option<Step>,
    /// Go back by one state
    #[arg(long, conflicts_with = "status")]
    back: bool,
    /// Only show where each one stands
    #[arg(long)]
    status: bool,
    /// Do not ask before each state
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// The cluster's CA: API servers, kubelets, everyone who speaks to an API server
    Cluster,
    /// etcd's CA
    Etcd,
    /// The CA of API servers as clients of aggregated API servers
    FrontProxy,
    /// The key that signs service-account tokens
    ServiceAccount,
    /// All of them
    All,
}

impl Which {
    fn includes(self, pair: ClusterPair) -> bool {
        match self {
            Self::Cluster => pair == ClusterPair::Authority(Authority::Kubernetes),
            Self::Etcd => pair == ClusterPair::Authority(Authority::Etcd),
            Self::FrontProxy => pair == ClusterPair::Authority(Authority::FrontProxy),
            Self::ServiceAccount => pair == ClusterPair::ServiceAccount,
            Self::All => true,
        }
    }
}

type Positions = BTreeMap<ClusterPair, Option<Position>>;

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, Output::Text)?;
    let authorities = arguments.which.iter().any(|which| !matches!(which, Which::ServiceAccount));
    if authorities && !arguments.status && matches!(loaded.plan.pki.authority, AuthorityKeys::External { .. }) {
        return Err(Failure::new(Kind::Refused, "the CAs of this plan are kept by somebody else (`pki.authority`), and slipway cannot make new ones for them")
            .hint("`--ca service-account` rotates the service-account key"));
    }
    let transport = sessions::open(&loaded.plan)?;
    let rotation = Rotation {
        arguments,
        plan_digest: Digest::of(&loaded.text),
        plan: Arc::new(loaded.plan),
        transport: Arc::clone(&transport),
        lock: (!arguments.status)
            .then(|| format!("slipway certs rotate-ca of {}, since {}", sessions::operator(), Timestamp::now())),
    };
    let result = rotation.work().await;
    transport.close().await;
    result
}

struct Rotation<'a> {
    arguments: &'a Arguments,
    plan: Arc<Plan>,
    plan_digest: Digest,
    transport: Arc<SshTransport>,
    lock: Option<String>,
}

/// A plan of a run, and how the engine speaks to the cluster in it.
struct Prepared {
    planned: Planned<LiveCluster<SshTransport>>,
    access: settle::Credentials,
}

impl Rotation<'_> {
    async fn work(&self) -> Result<(), Failure> {
        let mut positions = self.positions().await?;
        if self.arguments.status {
            print!("{}", status(&positions));
            return Ok(());
        }
        if self.arguments.back {
            let aims = rotation::back(&positions).map_err(|late| too_late(&late))?;
            if aims.is_empty() {
                println!("nothing to turn back: no CA of cluster {} is being replaced", self.plan.name);
                return Ok(());
            }
            self.before_trusting_old(&positions, &aims).await?;
            self.bring(&aims).await?;
            stored::retire(&self.plan, &aims)?;
            print!("{}", status(&self.positions().await?));
            return Ok(());
        }
        loop {
            let walking = || positions.values().flatten();
            let slowest = walking().map(Position::slowest).min();
            let furthest = walking().map(Position::furthest).max();
            // A state that hosts are on their way to is reached first; one that is reached settles.
            if let (Some(slowest), Some(furthest)) = (slowest, furthest)
                && slowest == furthest
            {
                let held = walks(&positions, slowest);
                let prepared = self.bring(&held).await?;
                self.settle(&positions, slowest, &prepared).await?;
                if self.arguments.until.is_some_and(|until| slowest >= until) {
                    print!("{}", status(&positions));
                    return Ok(());
                }
            }
            let aims = rotation::forward(&positions);
            let ends = aims.values().any(|aim| aim.retire);
            stored::begin(&self.plan, &positions, &aims)?;
            let prepared = self.bring(&aims).await?;
            if ends {
                stored::retire(&self.plan, &aims)?;
                settle::finished(&prepared.planned.cluster, &positions).await;
                println!("done: cluster {} trusts only what is new", self.plan.name);
                println!("kubeconfigs that were copied from it hold the old CA: `slipway kubeconfig` writes new ones");
                return Ok(());
            }
            positions = self.positions().await?;
        }
    }

    /// Where each chosen pair stands.
    async fn positions(&self) -> Result<Positions, Failure> {
        let (facts, absent) = planning::probe_all(&self.plan, self.transport.as_ref(), self.lock.clone()).await?;
        if let Some(error) = absent.values().next() {
            return Err(Failure::from_error(Kind::Unreachable, error)
                .hint("nothing was changed: a host that is away would be locked out by a new CA, so all must answer"));
        }
        if standing::stage(&self.plan, &facts) == Stage::Fresh {
            return Err(Failure::new(Kind::Refused, format!("cluster {} is not formed yet", self.plan.name)).hint("run `slipway apply` first"));
        }
        let chosen = |pair: &ClusterPair| self.arguments.which.iter().any(|which| which.includes(*pair));
        let given = local_files::authorities(&self.plan).map_err(|error| Failure::from_error(Kind::LocalFile, &error))?;
        let mut positions = Positions::new();
        for pair in ClusterPair::of(&self.plan).filter(chosen) {
            let position = if given.contains_key(&pair) {
                rotation::position_of_given(&self.plan, &facts, pair, &given)
            } else {
                rotation::position(&self.plan, &facts, pair)
            };
            positions.insert(pair, position.map_err(|problem| Failure::from_error(Kind::Refused, &problem))?);
        }
        if positions.is_empty() {
            return Err(Failure::new(Kind::Plan, "this cluster has no such CA: somebody else runs its etcd"));
        }
        Ok(positions)
    }

    async fn prepare(&self, aims: &Aims) -> Result<Prepared, Failure> {
        let (lock, rotation) = (self.lock.clone(), aims.clone());
        let options = Options { hosts: &[], phases: &[], renew: &Requested::NONE, lock, now: Timestamp::now(), rotation, local: planning::LocalSource::Read };
        let mut access = None;
        let reach = |given: Access| {
            access = Some(settle::Credentials { api: given.api.clone(), etcd: given.etcd.clone() });
            planning::live(&self.transport)(given)
        };
        let planned = planning::plan(Arc::clone(&self.plan), self.transport.as_ref(), reach, options).await?;
        let access = access.ok_or_else(|| Failure::new(Kind::Bug, "planning did not reach for the cluster"))?;
        Ok(Prepared { planned, access })
    }

    /// Plans and runs until every host is where it shall be.
    async fn bring(&self, aims: &Aims) -> Result<Prepared, Failure> {
        for round in 0..ROUNDS {
            let prepared = self.prepare(aims).await?;
            let retires = aims.values().any(|aim| aim.retire);
            if !(is_left(&prepared.planned.graph) || retires && prepared.planned.graph.changes() > 0) {
                return Ok(prepared);
            }
            if round == 0 {
                for (pair, aim) in aims {
                    eprintln!("{pair}: to state {}{}", aim.step, if aim.retire { ", and what the walk needed goes" } else { "" });
                }
                self.confirm(&prepared.planned)?;
            }
            let running = Running {
                command: "certs rotate-ca",
                plan: &self.plan,
                plan_digest: self.plan_digest,
                graph: &prepared.planned.graph,
                transport: self.transport.as_ref(),
                cluster: &prepared.planned.cluster,
                output: Output::Text,
            };
            let report = running.carry_out().await;
            if !report.succeeded() {
                print!("{}", report.to_text());
                eprintln!("run the same command again to go on from here, or with --back to turn back");
            }
            running::verdict(&report)?;
        }
        Err(Failure::new(Kind::Steps, "the hosts change faster than they can be brought to one state")
            .hint("run the same command again; it goes on from here"))
    }

    fn confirm(&self, planned: &Planned<LiveCluster<SshTransport>>) -> Result<(), Failure> {
        eprint!("{}", planned.warnings());
        if self.arguments.yes {
            return Ok(());
        }
        eprint!("{}", Difference::of(&planned.graph).to_text(diff::look(false)));
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::new(Kind::NotConfirmed, "a living cluster would be changed, and there is no terminal to ask on")
                .hint("pass `--yes`; `--until trust-both` stops before anything is signed by a new CA"));
        }
        match dialoguer::Confirm::new().with_prompt(format!("Change cluster {}?", self.plan.name)).default(false).interact() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(Kind::NotConfirmed, "not confirmed; the cluster stays in the state it is in")),
            Err(error) => Err(Failure::new(Kind::NotConfirmed, format!("cannot ask: {error}")).hint("pass `--yes`")),
        }
    }

    async fn settle(&self, positions: &Positions, step: Step, prepared: &Prepared) -> Result<(), Failure> {
        self.settling(positions, prepared).reach(step).await
    }

    fn settling<'a>(&'a self, positions: &'a Positions, prepared: &'a Prepared) -> settle::Settling<'a> {
        settle::Settling {
            plan: &self.plan,
            transport: &self.transport,
            cluster: &prepared.planned.cluster,
            credentials: &prepared.access,
            positions,
        }
    }

    /// Turning back to state 0: first nothing may be left of what the new pairs signed. Where hosts
    /// are between the states, an earlier run asked before it began.
    async fn before_trusting_old(&self, positions: &Positions, aims: &Aims) -> Result<(), Failure> {
        let to_old = aims.values().any(|aim| *aim == Aim { step: Step::TrustOld, retire: false });
        let reached = positions.values().flatten().all(|position| position.slowest() == Step::TrustBoth);
        if !to_old || !reached {
            return Ok(());
        }
        let prepared = self.bring(&walks(positions, Step::TrustBoth)).await?;
        self.settling(positions, &prepared).leave_new().await
    }
}

/// Whether a run has anything to do but to write keys whose content no probe sees.
fn is_left(graph: &StepGraph) -> bool {
    let keys: Vec<RemotePath> = Authority::ALL
        .into_iter()
        .map(ClusterPair::Authority)
        .chain([ClusterPair::ServiceAccount])
        .map(ClusterPair::key_path)
        .collect();
    let unseen = |artifact: &Artifact| matches!(artifact, Artifact::File { path, .. } if keys.contains(path));
    graph.steps().flat_map(|step| &step.changes).any(|change| !unseen(&change.artifact))
}

fn walks(positions: &Positions, step: Step) -> Aims {
    let walking = positions.iter().filter(|(_, position)| position.is_some());
    walking.map(|(pair, _)| (*pair, Aim { step, retire: false })).collect()
}

fn too_late(pairs: &[ClusterPair]) -> Failure {
    let names: Vec<String> = pairs.iter().map(ToString::to_string).collect();
    Failure::new(Kind::Refused, format!("too late to turn back: hosts trust only the new one of: {}", names.join(", ")))
        .hint("run without --back to finish; another rotation replaces it again")
        .hint("nothing was changed")
}

/// Where each pair stands, for people.
fn status(positions: &Positions) -> String {
    let mut text = String::new();
    for (pair, position) in positions {
        let line = match position {
            None => "not being replaced".to_owned(),
            Some(position) if position.slowest() == position.furthest() => {
                let steps: Vec<String> =
                    Step::ALL.into_iter().filter(|step| *step > position.slowest()).map(|step| step.to_string()).collect();
                let rest = if steps.is_empty() { "taking away what the walk needed".to_owned() } else { steps.join(", ") };
                format!("state {}; remains: {rest}", position.slowest())
            }
            Some(position) => {
                let hosts: Vec<String> =
                    position.hosts.iter().map(|(host, step)| format!("{host} {}", *step as usize)).collect();
                format!("between states {} and {}: {}", position.slowest(), position.furthest(), hosts.join(", "))
            }
        };
        text.push_str(&format!("{pair}: {line}\n"));
    }
    text
}

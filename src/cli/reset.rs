//! `slipway reset`: hosts as they were before slipway. Probe, see what is to be taken back, ask, and
//! carry it out with the same engine as `apply`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::running::{self, Running};
use super::{Output, PlanFile, check, diff, sessions};
use crate::cluster::live::LiveCluster;
use crate::cluster::{drain, maintenance};
use crate::eviction::Consent;
use crate::status::host::node_status;
use crate::cluster::wire::Tls;
use crate::facts::Facts;
use crate::failure::{Failure, Kind};
use crate::graph::StepGraph;
use crate::names::{Digest, HostName};
use crate::phase::{Phase, Stage, Target};
use crate::planning::{self, mutual, refused};
use crate::plan::Plan;
use crate::plan::load::Loaded;
use crate::report::visible::visible;
use crate::report::difference::Difference;
use crate::standing;
use crate::teardown::{self, Origin, Request};
use crate::transport::ssh::SshTransport;
use crate::transport::{Transport as _, TransportError};
use crate::trust::found;

/// What can be asked of `reset`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// Only this host (may be repeated); from a cluster that lives on it is taken out first
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostName>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Also wipe hosts of a cluster that slipway did not make
    #[arg(long)]
    foreign: bool,
    /// Do not tell the cluster: the hosts' etcd members and Nodes stay behind in it
    #[arg(long)]
    force: bool,
    /// Chosen hosts that do not answer, or are empty, are gone for good: only take them out of the cluster
    #[arg(long, requires = "hosts", conflicts_with = "force")]
    gone: bool,
    /// Do not move the pods of chosen hosts away before they leave a cluster that lives on
    #[arg(long)]
    no_drain: bool,
    /// Evict pods with emptyDir volumes too; the data in them is lost
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Evict pods without a controller too; nothing starts them again
    #[arg(long)]
    evict_unmanaged: bool,
    /// How events and results are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, arguments.output)?;
    let chosen = chosen(&loaded.plan, &arguments.hosts)?;
    let transport = sessions::open(&loaded.plan)?;
    let result = work(arguments, &loaded, &chosen, &transport).await;
    transport.close().await;
    result
}

fn chosen(plan: &Plan, asked: &[HostName]) -> Result<BTreeSet<HostName>, Failure> {
    if let Some(host) = asked.iter().find(|host| plan.host(host).is_none()) {
        return Err(Failure::new(Kind::Plan, format!("the plan has no host `{host}`")));
    }
    let all = || plan.hosts.iter().map(|host| host.name.clone()).collect();
    Ok(if asked.is_empty() { all() } else { asked.iter().cloned().collect() })
}

async fn work(
    arguments: &Arguments,
    loaded: &Loaded,
    chosen: &BTreeSet<HostName>,
    transport: &Arc<SshTransport>,
) -> Result<(), Failure> {
    let now = Timestamp::now();
    let plan = &loaded.plan;
    let lock = Some(format!("slipway reset of {}, since {now}", sessions::operator()));
    let (facts, absent) = planning::probe_all(plan, transport.as_ref(), lock).await?;
    let request = Request { plan, facts: &facts, chosen, foreign: arguments.foreign, force: arguments.force, gone: arguments.gone, drained: &BTreeSet::new(), consent: consent(arguments, plan) };
    let refuse = |refusals: Vec<teardown::Refusal>| refused(&refusals, |refusal| refusal.hint().to_owned());
    teardown::graph(request).map_err(refuse)?;
    for error in absent.values() {
        eprintln!("warning: {}", visible(&error.to_string()));
    }
    let cluster = cluster(request, transport, now)?;
    let drained = drained(arguments, request, &cluster).await?;
    let request = Request { drained: &drained, ..request };
    let graph = teardown::graph(request).map_err(refuse)?;
    if graph.changes() > 0 {
        confirm(arguments, request, &graph)?;
    }
    let running = Running {
        command: "reset",
        plan,
        plan_digest: Digest::of(&loaded.text),
        graph: &graph,
        transport: transport.as_ref(),
        cluster: &cluster,
        output: arguments.output,
    };
    let report = running.carry_out().await;
    if arguments.output == Output::Text {
        if graph.changes() > 0 {
            print!("{}", report.to_text());
        } else if absent.keys().all(|host| !chosen.contains(host)) {
            println!("nothing to do: no trace of slipway or of a cluster");
        }
    }
    running::verdict(&report)?;
    if arguments.gone && request.lives_on() {
        return Ok(());
    }
    unreached(chosen, &absent)
}

/// The cluster that lives on, through the hosts that stay and with credentials that are on the
/// hosts. If it is told nothing, nobody is asked.
fn cluster(
    request: Request<'_>,
    transport: &Arc<SshTransport>,
    now: Timestamp,
) -> Result<LiveCluster<SshTransport>, Failure> {
    let survivors = Arc::new(request.survivors());
    if !request.leaves() {
        return Ok(LiveCluster::new(Arc::clone(transport), survivors, Tls::None, None));
    }
    let Request { plan, facts, .. } = request;
    // A foreign host that is to be wiped would bring the credentials of its own cluster.
    let own = facts.iter().filter(|(_, facts)| standing::foreign(facts).is_none());
    let own: BTreeMap<HostName, Facts> = own.map(|(name, facts)| (name.clone(), facts.clone())).collect();
    let missing = |what: &str| {
        Failure::new(Kind::Cluster, format!("no host that answers has {what}, so the cluster cannot be told that hosts leave; nothing was changed"))
            .hint("bring a control plane back, or leave the hosts' members and Nodes behind in the cluster with `--force`")
    };
    let api = found::administrator(plan, &own, now).ok_or_else(|| missing("an admin.conf"))?;
    let etcd = match plan.etcd.external {
        Some(_) => None,
        None => Some(found::etcd_client(plan, &own, now).ok_or_else(|| missing("credentials for etcd"))?),
    };
    let etcd = etcd.map(|credentials| mutual(&credentials, "localhost"));
    Ok(LiveCluster::new(Arc::clone(transport), survivors, mutual(&api, "kubernetes"), etcd))
}

/// What may be evicted: what the plan or the command line consents to.
fn consent(arguments: &Arguments, plan: &Plan) -> Consent {
    let planned = maintenance::consent(&plan.upgrade);
    Consent { local_data: planned.local_data || arguments.delete_emptydir_data, unmanaged: planned.unmanaged || arguments.evict_unmanaged }
}

/// Hosts whose pods are moved away before they leave. A pod that may not be evicted ends it here.
async fn drained(
    arguments: &Arguments,
    request: Request<'_>,
    cluster: &LiveCluster<SshTransport>,
) -> Result<BTreeSet<HostName>, Failure> {
    let mut drained = BTreeSet::new();
    if arguments.no_drain || !request.leaves() {
        return Ok(drained);
    }
    let unanswered = |message: String| Failure::new(Kind::Cluster, format!("{message}; nothing was changed")).hint("`--no-drain` resets hosts without moving their pods away");
    let nodes = cluster.nodes().await.map_err(unanswered)?;
    let client = cluster.client().await.map_err(|error| unanswered(error.message))?;
    let mut objections = Vec::new();
    for host in request.chosen.iter().filter(|host| request.facts.contains_key(host)) {
        let Some(node) = nodes.get(host.as_str()) else { continue };
        if !node_status(Some(node)).ready {
            eprintln!("warning: the pods of {host} are not moved away first: its Node is not ready");
            continue;
        }
        let judgement = drain::look(&client, host, request.consent).await.map_err(|error| unanswered(error.message))?;
        objections.extend(maintenance::objections(&judgement).into_iter().map(|objection| format!("host {host} cannot be drained: {objection}")));
        drained.insert(host.clone());
    }
    if objections.is_empty() {
        return Ok(drained);
    }
    Err(Failure::new(Kind::Refused, objections.join("\nerror: "))
        .hint("move these pods away, or consent with `--delete-emptydir-data` and `--evict-unmanaged`, or leave them behind with `--no-drain`")
        .hint("nothing was changed"))
}

/// Asks, after saying what is lost.
fn confirm(arguments: &Arguments, request: Request<'_>, graph: &StepGraph) -> Result<(), Failure> {
    if arguments.yes {
        return Ok(());
    }
    eprint!("{}\n{}", Difference::of(graph).to_text(diff::look(false)), what_is_lost(request, graph));
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::new(Kind::NotConfirmed, "hosts would be reset, and there is no terminal to ask on; nothing was changed")
            .hint("review what is lost above and pass `--yes`"));
    }
    let question = format!("Reset {} of cluster {}?", names(graph), request.plan.name);
    match dialoguer::Confirm::new().with_prompt(question).default(false).interact() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Kind::NotConfirmed, "not confirmed; nothing was changed")),
        Err(error) => Err(Failure::new(Kind::NotConfirmed, format!("cannot ask: {error}")).hint("pass `--yes`")),
    }
}

fn names(graph: &StepGraph) -> String {
    let hosts: Vec<String> = graph.hosts().iter().map(ToString::to_string).collect();
    hosts.join(", ")
}

/// What nothing brings back.
fn what_is_lost(request: Request<'_>, graph: &StepGraph) -> String {
    let hosts = graph.hosts();
    let mut text = format!("This cannot be taken back. Cluster {}, hosts {}:\n", request.plan.name, names(graph));
    let with_data: Vec<&str> =
        hosts.iter().filter(|host| request.facts.get(*host).is_some_and(|facts| facts.state.etcd_data)).map(HostName::as_str).collect();
    if !with_data.is_empty() {
        let whose = if graph.stage() == Stage::Living { "these members' copies; the cluster lives on without them" } else { "all data of the cluster" };
        let _ = writeln!(text, "  - etcd's data on {}: {whose}", with_data.join(", "));
    }
    if graph.stage() != Stage::Living && !with_data.is_empty() {
        text.push_str("  - the cluster's CA and every key and certificate signed by it\n");
    }
    text.push_str("  - all pods, their logs, and all local volumes below /var/lib/kubelet\n");
    let untouched = |host: &&HostName| !graph.steps().any(|step| step.id.phase == Phase::Reset && step.id.target == Target::Host((*host).clone()));
    for host in hosts.iter().filter(untouched) {
        let _ = writeln!(text, "  - {host} is not touched; if it still runs, it has to be reset before it may come back");
    }
    for host in &hosts {
        let Some(facts) = request.facts.get(host) else { continue };
        if facts.state.snapshots.iter().any(|taken| taken.etcd) {
            let _ = writeln!(text, "  - on {host} the snapshots of etcd from before upgrades (/var/lib/slipway/snapshots); copy them elsewhere if you may need them");
        }
        if let Origin::Foreign(traces) = teardown::origin(facts) {
            let _ = writeln!(text, "  - on {host} a cluster that slipway did NOT make ({traces}); how the host was before is not known");
        }
    }
    if request.lives_on() && request.force {
        text.push_str("The rest of the cluster is not told: etcd members and Nodes of these hosts stay behind in it.\n");
    } else if graph.steps().any(|step| step.id.phase == Phase::Leave && matches!(step.id.target, Target::Host(_))) {
        text.push_str("The rest of the cluster lives on: these hosts leave it first.\n");
        text.push_str(if request.drained.is_empty() { "Their pods are NOT moved away before.\n" } else { "Their pods are moved away before, as disruption budgets allow.\n" });
    }
    text
}

/// Hosts that were asked for and could not be seen.
fn unreached(chosen: &BTreeSet<HostName>, absent: &BTreeMap<HostName, TransportError>) -> Result<(), Failure> {
    let lines: Vec<String> =
        absent.iter().filter(|(host, _)| chosen.contains(host)).map(|(_, error)| error.to_string()).collect();
    if lines.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::Unreachable, lines.join("\nerror: ")).hint("these hosts are as they were; run the reset again when they answer"))
}

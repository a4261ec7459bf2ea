//! `slipway node restart`: runtimes and kubelets, or whole machines, behind a drain. It looks, refuses
//! what would not end well before anything is touched, and carries the graph of `restart` out.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::Nodes;
use crate::cli::running::{self, Running};
use crate::cli::{Output, check, sessions, survey};
use crate::cluster::Cluster as _;
use crate::failure::{Failure, Kind};
use crate::names::{Digest, HostName, Span};
use crate::plan::load::Loaded;
use crate::plan::{Host, Plan};
use crate::planning::probe;
use crate::report::visible::visible;
use crate::restart::{self, Request};
use crate::transport::ssh::SshTransport;
use crate::transport::{Transport as _, TransportError};

/// What can be asked of `node restart`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    nodes: Nodes,
    /// Restart the machines, not only runtime and kubelet
    #[arg(long)]
    reboot: bool,
    /// Leave pods where they are
    #[arg(long)]
    no_drain: bool,
    /// Evict pods with emptyDir volumes too; the data in them is lost
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Evict pods without a controller too; nothing starts them again
    #[arg(long)]
    force: bool,
    /// How long one Node's pods may take to leave; left out, what the plan says
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// How events and results are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.nodes.file, arguments.output)?;
    super::known(&loaded.plan, &arguments.nodes.hosts)?;
    let transport = sessions::open(&loaded.plan)?;
    let result = work(arguments, &loaded, &transport).await;
    transport.close().await;
    result
}

async fn work(arguments: &Arguments, loaded: &Loaded, transport: &Arc<SshTransport>) -> Result<(), Failure> {
    let now = Timestamp::now();
    let hosts: BTreeSet<HostName> = arguments.nodes.hosts.iter().cloned().collect();
    let plan = Arc::new(consenting(arguments, &loaded.plan));
    let lock = format!("slipway node restart of {}, since {now}", sessions::operator());
    locked(&plan, transport, &hosts, lock).await?;
    let survey = survey::look(&plan, transport, |host: &Host| host.is_control_plane() || plan.has_etcd(host), now).await;
    let (cluster, _) = survey.living()?;
    let unanswered = |error| Failure::from_error(Kind::Cluster, &error).hint("nothing was changed");
    let nodes = cluster.nodes_seen().await.map_err(unanswered)?.of_plan;
    if let Some(host) = hosts.iter().find(|host| !nodes.contains_key(*host)) {
        return Err(Failure::new(Kind::Refused, format!("host {host} has no Node in the cluster; nothing was changed")));
    }
    let drain = (!arguments.no_drain).then(|| arguments.timeout.unwrap_or(plan.upgrade.drain_timeout));
    let request = Request { plan: &plan, hosts: &hosts, nodes: &nodes, machine: arguments.reboot, drain };
    let emptied = request.emptied();
    for host in hosts.difference(&emptied).filter(|_| drain.is_some()) {
        eprintln!("warning: the pods of {host} are not moved away first: its Node is not ready");
    }
    let mut objections = Vec::new();
    for (host, said) in cluster.objections(&emptied).await.map_err(unanswered)? {
        objections.extend(said.into_iter().map(|objection| format!("{host}: {}", visible(&objection))));
    }
    if !objections.is_empty() {
        return Err(Failure::new(Kind::Refused, objections.join("\nerror: "))
            .hint("consent with `--delete-emptydir-data` and `--force`, or leave pods where they are with `--no-drain`")
            .hint("nothing was changed"));
    }
    let graph = restart::graph(request).map_err(|error| Failure::from_error(Kind::Bug, &error))?;
    let running = Running {
        command: "node restart",
        plan: &plan,
        plan_digest: Digest::of(&loaded.text),
        graph: &graph,
        transport: transport.as_ref(),
        cluster: &cluster,
        output: arguments.output,
    };
    let report = running.carry_out().await;
    if arguments.output == Output::Text {
        print!("{}", report.to_text());
    }
    running::verdict(&report)
}

/// The plan with what the command line consents to.
fn consenting(arguments: &Arguments, plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.upgrade.delete_empty_dir_data |= arguments.delete_emptydir_data;
    plan.upgrade.evict_unmanaged |= arguments.force;
    plan
}

/// Takes the hosts' locks: no other run changes them meanwhile.
async fn locked(plan: &Plan, transport: &Arc<SshTransport>, hosts: &BTreeSet<HostName>, lock: String) -> Result<(), Failure> {
    let (_, absent) = probe(plan, transport.as_ref(), Some(lock), |host| hosts.contains(&host.name)).await;
    let Some(error) = absent.values().next() else { return Ok(()) };
    let kind = if matches!(error, TransportError::Locked { .. }) { Kind::Refused } else { Kind::Unreachable };
    Err(Failure::from_error(kind, error).hint("nothing was changed"))
}

//! `slipway node`: what scripts around a cluster need of its Nodes: list, cordon, drain, uncordon.
//! Every wait is for something that is seen, and ends.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;

use super::{Output, PlanFile, check, sessions, survey};
use crate::cluster::{ClusterError, drain};
use crate::eviction::{Consent, Judgement};
use crate::failure::{Failure, Kind};
use crate::names::{HostName, Span};
use crate::plan::Plan;
use crate::report::visible::visible;
use crate::status::host::{NodeStatus, node_status};
use crate::status::text::columns;
use crate::transport::Transport as _;

/// What can be asked of `node`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the Nodes of the plan: ready or not, cordoned or not, version
    List {
        #[command(flatten)]
        file: PlanFile,
        /// How results are written
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Give these Nodes no new pods
    Cordon(Nodes),
    /// Give these Nodes pods again
    Uncordon(Nodes),
    /// Cordon these Nodes and move their pods away, as disruption budgets allow
    Drain {
        #[command(flatten)]
        nodes: Nodes,
        /// Evict pods with emptyDir volumes too; the data in them is lost
        #[arg(long)]
        delete_emptydir_data: bool,
        /// Evict pods without a controller too; nothing starts them again
        #[arg(long)]
        force: bool,
        /// How long one Node's pods may take to leave
        #[arg(long, value_name = "TIME", default_value = "10m")]
        timeout: Span,
    },
}

#[derive(Debug, clap::Args)]
struct Nodes {
    #[command(flatten)]
    file: PlanFile,
    /// Hosts of the plan
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<HostName>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let file = match &arguments.command {
        Command::List { file, .. } => file,
        Command::Cordon(nodes) | Command::Uncordon(nodes) | Command::Drain { nodes, .. } => &nodes.file,
    };
    let plan = Arc::new(check::load_plan(file, Output::Text)?.plan);
    if let Command::Cordon(nodes) | Command::Uncordon(nodes) | Command::Drain { nodes, .. } = &arguments.command {
        known(&plan, &nodes.hosts)?;
    }
    let transport = sessions::open(&plan)?;
    let survey = survey::look(&plan, &transport, crate::plan::Host::is_control_plane, Timestamp::now()).await;
    let work = async {
        let (cluster, _) = survey.living()?;
        let client = cluster.client().await.map_err(unanswered)?;
        match &arguments.command {
            Command::List { output, .. } => {
                let nodes = cluster.nodes().await.map_err(|error| Failure::new(Kind::Cluster, error))?;
                let rows = plan.nodes().map(|host| Row { name: host.name.clone(), node: node_status(nodes.get(host.name.as_str())) });
                show(&rows.collect::<Vec<_>>(), *output);
                Ok(())
            }
            Command::Cordon(nodes) => mark(&client, &nodes.hosts, true).await,
            Command::Uncordon(nodes) => mark(&client, &nodes.hosts, false).await,
            Command::Drain { nodes, delete_emptydir_data, force, timeout } => {
                let consent = Consent { local_data: *delete_emptydir_data, unmanaged: *force };
                empty(&client, &plan, &nodes.hosts, consent, *timeout).await
            }
        }
    };
    let result = work.await;
    transport.close().await;
    result
}

fn known(plan: &Plan, hosts: &[HostName]) -> Result<(), Failure> {
    match hosts.iter().find(|host| !plan.nodes().any(|node| node.name == **host)) {
        Some(host) => Err(Failure::new(Kind::Plan, format!("the plan has no Node `{host}`"))),
        None => Ok(()),
    }
}

async fn mark(client: &kube::Client, hosts: &[HostName], cordoned: bool) -> Result<(), Failure> {
    for host in hosts {
        drain::cordon(client, host, cordoned).await.map_err(unanswered)?;
        eprintln!("{host}: {}", if cordoned { "cordoned" } else { "not cordoned" });
    }
    Ok(())
}

/// Drains Nodes, as many at once as the plan lets be unavailable. Nothing is begun if a pod on one
/// of them may not leave.
async fn empty(client: &kube::Client, plan: &Plan, hosts: &[HostName], consent: Consent, timeout: Span) -> Result<(), Failure> {
    let mut objections = Vec::new();
    for host in hosts {
        let judgement = drain::look(client, host, consent).await.map_err(unanswered)?;
        objections.extend(objections_on(host, &judgement));
    }
    if !objections.is_empty() {
        return Err(Failure::new(Kind::Refused, objections.join("\nerror: ")).hint("nothing was changed"));
    }
    let drained: Vec<Result<(), ClusterError>> = stream::iter(hosts)
        .map(|host| async move {
            drain::cordon(client, host, true).await?;
            // Pods may have come since the first look; none comes any more.
            let judgement = drain::look(client, host, consent).await?;
            let pods = judgement.leaving.len();
            eprintln!("{host}: cordoned; {pods} pods leave, {} stay", judgement.staying.len());
            if let Some(objection) = objections_on(host, &judgement).first() {
                return Err(ClusterError::plain(objection.clone()));
            }
            let told = |line: &str| eprintln!("{}", visible(line));
            drain::evict(client, plan.kubernetes.version, host, &judgement.leaving, timeout.0, told).await?;
            eprintln!("{host}: drained");
            Ok(())
        })
        .buffer_unordered(plan.limits.max_unavailable.of(plan.workers().count()))
        .collect()
        .await;
    let mut failures = drained.into_iter().filter_map(Result::err).map(unanswered);
    let Some(mut first) = failures.next() else { return Ok(()) };
    for other in failures {
        first.message = Some([first.message, other.message].into_iter().flatten().collect::<Vec<_>>().join("\nerror: "));
        first.hints.extend(other.hints);
    }
    Err(first)
}

fn objections_on(host: &HostName, judgement: &Judgement) -> Vec<String> {
    judgement.objections.iter().map(|(pod, objection)| format!("{host}: pod {pod} {objection}")).collect()
}

fn unanswered(error: ClusterError) -> Failure {
    let detail = error.detail.map(|detail| format!("\n{}", visible(&detail))).unwrap_or_default();
    let failure = Failure::new(Kind::Cluster, format!("{}{detail}", error.message));
    error.hint.into_iter().fold(failure, Failure::hint)
}

#[derive(Debug, Serialize)]
struct Row {
    name: HostName,
    #[serde(flatten)]
    node: NodeStatus,
}

fn show(rows: &[Row], output: Output) {
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(rows).expect("rows are plain data")),
        Output::Text => {
            let rows = rows.iter().map(|Row { name, node }| {
                let state = match (node.registered, node.ready) {
                    (false, _) => "not registered",
                    (true, true) => "ready",
                    (true, false) => "not ready",
                };
                let pods = if node.cordoned { "cordoned" } else { "open" };
                vec![name.to_string(), state.to_owned(), pods.to_owned(), node.kubelet_version.clone(), node.reason.clone().unwrap_or_default()]
            });
            print!("{}", columns(&["NODE", "STATE", "PODS", "KUBELET", "REASON"], rows));
        }
    }
}

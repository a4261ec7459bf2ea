//! `slipway certs renew`: leaf certificates made anew, as `apply` would: the same planning with a list of
//! leaves that are asked for, the same graph, only the steps that renewing needs. Afterwards the
//! components are connected to, and must serve what was made; a file alone proves nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::apply::{Consent, confirm};
use super::super::running::{self, Running};
use super::super::{Output, PlanFile, check, sessions};
use crate::artifact::Artifact;
use crate::cluster::served::{Port, presented};
use crate::failure::{Failure, Kind};
use crate::graph::StepGraph;
use crate::names::{Digest, HostName};
use crate::paths;
use crate::phase::{Phase, Stage, Target};
use crate::plan::Plan;
use crate::plan::load::Loaded;
use crate::plan::suggestion::nearest;
use crate::planning::{self, LocalSource, Options};
use crate::report::difference::Difference;
use crate::transport::ssh::SshTransport;
use crate::transport::Transport;
use crate::trust::rotation::Aims;
use crate::trust::decide::Requested;
use crate::trust::inspect::{self, Certificate};
use crate::trust::specification::{self, Leaf};

/// The phases that write certificates and restart who reads them.
const PHASES: [Phase; 6] =
    [Phase::Authority, Phase::Certificates, Phase::Etcd, Phase::ControlPlane, Phase::Kubelet, Phase::Healthy];

/// How long a component may take to serve a new certificate once it is healthy. API servers look at
/// their file every minute, and all that restart read it at once.
const PATIENCE: Duration = Duration::from_secs(75);

/// What can be asked of `certs renew`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// Certificates to renew whatever time they have left, by their names in `certs list`; what is
    /// due by `pki.renewBefore` is renewed always
    #[arg(value_name = "NAME", conflicts_with = "all")]
    names: Vec<String>,
    /// Renew every leaf certificate
    #[arg(long)]
    all: bool,
    /// Only on this host (may be repeated); other hosts are neither changed nor need to answer
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostName>,
    #[command(flatten)]
    consent: Consent,
    /// How events and results are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, arguments.output)?;
    let requested = requested(&loaded.plan, arguments)?;
    let transport = sessions::open(&loaded.plan)?;
    let job = Job {
        command: "certs renew",
        hosts: &arguments.hosts,
        consent: &arguments.consent,
        output: arguments.output,
        requested: &requested,
        makes_cluster: false,
    };
    let result = work(&job, loaded, &transport).await;
    transport.close().await;
    result
}

/// Certificates that change, whoever signs them.
pub(super) struct Job<'a> {
    /// Such as `certs renew`.
    pub command: &'static str,
    /// Only these hosts; none means all.
    pub hosts: &'a [HostName],
    /// What the user said ahead.
    pub consent: &'a Consent,
    /// How events and results are written.
    pub output: Output,
    /// Which certificates.
    pub requested: &'a Requested,
    /// Whether they may be the first ones of a cluster that is made now.
    pub makes_cluster: bool,
}

/// Plans, carries out and proves.
pub(super) async fn work(job: &Job<'_>, loaded: Loaded, transport: &Arc<SshTransport>) -> Result<(), Failure> {
    let now = Timestamp::now();
    let plan_digest = Digest::of(&loaded.text);
    let lock = Some(format!("slipway {} of {}, since {now}", job.command, sessions::operator()));
    let options = Options { hosts: job.hosts, phases: &[], renew: job.requested, lock, now, local: LocalSource::Read, rotation: Aims::new() };
    let mut planned = planning::plan(Arc::new(loaded.plan), transport.as_ref(), planning::live(transport), options).await?;
    let makes_cluster = planned.stage == Stage::Fresh;
    if makes_cluster && !job.makes_cluster {
        return Err(Failure::new(Kind::Refused, "there is no cluster yet, so there is nothing to renew").hint("`slipway apply` makes it"));
    }
    if job.output == Output::Text {
        eprint!("{}", planned.warnings());
    }
    let hosts = affected(&planned.graph);
    if hosts.is_empty() {
        if job.output == Output::Text {
            println!("nothing to do: no certificate of cluster {} is due", planned.plan.name);
        }
        return Ok(());
    }
    if !makes_cluster {
        planned.graph = planned.graph.select(&hosts, &PHASES.into()).map_err(|error| Failure::from_error(Kind::Bug, &error))?;
    }
    let difference = Difference::of(&planned.graph);
    confirm(job.consent, &planned, &difference)?;
    let running = Running {
        command: job.command,
        plan: &planned.plan,
        plan_digest,
        graph: &planned.graph,
        transport: transport.as_ref(),
        cluster: &planned.cluster,
        output: job.output,
    };
    let report = running.carry_out().await;
    if job.output == Output::Text {
        print!("{}", report.to_text());
    }
    running::verdict(&report)?;
    prove(transport.as_ref(), &planned.plan, &planned.graph, job.output).await
}

/// The leaves that are asked for by name.
fn requested(plan: &Plan, arguments: &Arguments) -> Result<Requested, Failure> {
    let leaves = specification::leaves(plan, plan.kubernetes.version);
    let names: BTreeSet<&str> = leaves.iter().map(|leaf| leaf.name).collect();
    for name in &arguments.names {
        if !names.contains(name.as_str()) {
            return Err(unknown(name, &names));
        }
    }
    let chosen = |leaf: &&Leaf| {
        (arguments.all || arguments.names.iter().any(|name| name == leaf.name))
            && (arguments.hosts.is_empty() || arguments.hosts.contains(&leaf.host))
    };
    Ok(Requested::of(leaves.iter().filter(chosen)))
}

pub(super) fn unknown(name: &str, names: &BTreeSet<&str>) -> Failure {
    let failure = Failure::new(Kind::Plan, format!("this cluster has no certificate `{name}` that slipway renews"));
    let hint = match name {
        "ca" | "etcd/ca" | "front-proxy-ca" => "a CA is not renewed like its leaves: everything that trusts it must learn the new one first".to_owned(),
        "kubelet-server" => "a kubelet sees to its own serving certificate".to_owned(),
        "controller-manager-server" | "scheduler-server" => "it is made anew with every start of its component".to_owned(),
        _ => match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.iter().copied().collect::<Vec<_>>().join(", ")),
        },
    };
    failure.hint(hint)
}

/// Hosts on which certificates or kubeconfigs change.
fn affected(graph: &StepGraph) -> BTreeSet<HostName> {
    let changing = graph.steps().filter(|step| {
        graph.is_selected(&step.id) && matches!(step.id.phase, Phase::Authority | Phase::Certificates) && !step.changes.is_empty()
    });
    changing
        .filter_map(|step| match &step.id.target {
            Target::Host(host) => Some(host.clone()),
            Target::Cluster => None,
        })
        .collect()
}

/// The certificates of this run that a port must serve now.
fn to_be_served(graph: &StepGraph) -> Vec<(HostName, Port, Certificate)> {
    let ports = [
        (paths::api_server_certificate(), Port::ApiServer),
        (paths::etcd_server_certificate(), Port::EtcdClients),
        (paths::etcd_peer_certificate(), Port::EtcdPeers),
    ];
    let mut wanted = Vec::new();
    for step in graph.steps().filter(|step| graph.is_selected(&step.id)) {
        let Target::Host(host) = &step.id.target else { continue };
        for change in &step.changes {
            let Artifact::File { path, content, .. } = &change.artifact else { continue };
            let Some((_, port)) = ports.iter().find(|(file, _)| file == path) else { continue };
            if let Ok(certificate) = inspect::certificate(content.bytes()) {
                wanted.push((host.clone(), *port, certificate));
            }
        }
    }
    wanted
}

/// Connects to every component with a new certificate until it serves that one.
async fn prove<T: Transport>(transport: &T, plan: &Plan, graph: &StepGraph, output: Output) -> Result<(), Failure> {
    let wanted = to_be_served(graph);
    let proofs = wanted.iter().map(|(host, port, certificate)| async move {
        let address = plan.host(host).and_then(|host| port.of(plan, host))?;
        Some((host, port, certificate, is_served(transport, host, address, certificate).await))
    });
    let mut problems = Vec::new();
    for (host, port, certificate, proof) in join_all(proofs).await.into_iter().flatten() {
        match (&proof, output) {
            (Ok(()), Output::Text) => println!("{port} on {host} serves {} until {}", certificate.serial, certificate.not_after),
            (Ok(()), Output::Json) => println!(
                "{}",
                json!({ "event": "certificate-served", "time": Timestamp::now(), "host": host, "component": port.to_string(), "serial": certificate.serial, "notAfter": certificate.not_after })
            ),
            (Err(seen), _) => problems.push(format!("{port} on {host} does not serve its new certificate {}: {seen}", certificate.serial)),
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::Steps, problems.join("\nerror: ")).hint("the files are renewed; `slipway certs list` shows what each component serves"))
}

async fn is_served<T: Transport>(transport: &T, host: &HostName, address: std::net::SocketAddr, wanted: &Certificate) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = match presented(transport, host, address).await {
            Ok(served) if served == *wanted => return Ok(()),
            Ok(served) => format!("it serves {} until {}", served.serial, served.not_after),
            Err(reason) => reason,
        };
        if Instant::now() > deadline {
            return Err(seen);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::trust::testing::plan;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(line: &[&str]) -> Arguments {
        Line::parse_from([&["renew", "cluster.yaml"], line].concat()).arguments
    }

    fn chosen(line: &[&str]) -> Vec<String> {
        let plan = plan("external");
        let requested = requested(&plan, &arguments(line)).unwrap();
        let leaves = specification::leaves(&plan, plan.kubernetes.version);
        leaves.iter().filter(|leaf| requested.includes(leaf)).map(|leaf| format!("{}@{}", leaf.name, leaf.host)).collect()
    }

    #[test]
    fn leaves_are_chosen_by_name_and_host() {
        assert_eq!(chosen(&[]), [""; 0]);
        assert_eq!(chosen(&["etcd/peer", "apiserver", "--host", "cp-2"]), ["apiserver@cp-2", "etcd/peer@cp-2"]);
        assert_eq!(chosen(&["kubelet-client"]).len(), 3);
        let all = specification::leaves(&plan("external"), plan("external").kubernetes.version).len();
        assert_eq!(chosen(&["--all"]).len(), all);
    }

    #[test]
    fn an_unknown_name_is_told_what_it_may_have_meant() {
        let refused = |name: &str| requested(&plan("external"), &arguments(&[name])).unwrap_err();
        assert_eq!(refused("apisrver").hints, ["did you mean `apiserver`?"]);
        assert!(refused("ca").hints[0].contains("trusts it"));
        assert!(refused("nonsense").hints[0].contains("etcd/peer"));
        assert_eq!(refused("apisrver").kind, Kind::Plan);
    }
}

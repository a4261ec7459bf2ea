//! `slipway status`: how the cluster is, as far as it can be seen. Reads only.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::join;
use jiff::Timestamp;

use super::survey::{self, Survey};
use super::{Output, PlanFile, check, sessions};
use crate::cluster::etcd::MembershipApi as _;
use crate::cluster::live::{Component, LiveCluster};
use crate::failure::{Failure, Kind};
use crate::names::HostName;
use crate::phase::Stage;
use crate::report::visible;
use crate::plan::{Host, Plan};
use crate::status::{Answers, Verdict, fold};
use crate::transport::Transport;

const EXIT_CODES: &str = "\
Exit codes:
  0    everything is healthy (warnings do not count)
  3    the plan file is wrong
  5    a host cannot be reached, whatever else was seen
  10   every host was reached, and something is not healthy or there is no cluster yet

JSON fields (--output json):
  cluster, kubernetesVersion, stage (living, fresh or null), verdict (healthy, unhealthy, unreachable)
  hosts[]: name, address, roles, unreachable, os, kernel, runtime, kubeletInstalled,
    units[]: name, active, enabled
    node: registered, ready, reason, cordoned, kubeletVersion
    components: kubelet, apiServer, controllerManager, scheduler, etcd (`ok` or what was seen)
    certificates[]: path, name, subject, authority, notAfter, daysLeft, due, problem
  etcd: voters, healthy, quorum, unlisted,
    members[]: host, name, id, role, version, databaseBytes, lag, health
  problems[], warnings[]: host, message";

/// What can be asked of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, arguments.output)?;
    let plan = Arc::new(loaded.plan);
    let transport = sessions::open(&plan)?;
    let now = Timestamp::now();
    let survey = survey::look(&plan, &transport, |_| true, now).await;
    let stage = survey.stage;
    let answers = ask(&plan, survey).await;
    transport.close().await;
    let status = fold(&plan, stage, &answers, now);
    match arguments.output {
        Output::Json => println!("{}", visible::json(&status, true)),
        Output::Text => print!("{}", status.to_text()),
    }
    match status.verdict {
        Verdict::Healthy => Ok(()),
        Verdict::Unhealthy => Err(Failure::shown(Kind::Cluster)),
        Verdict::Unreachable => Err(Failure::shown(Kind::Unreachable)),
    }
}

/// Asks every component of every host that answered, all at once.
async fn ask<T: Transport + 'static>(plan: &Plan, survey: Survey<T>) -> Answers {
    let Survey { facts, absent, stage, administrator, cluster, reaches_etcd } = survey;
    let absent = absent.into_iter().map(|(host, error)| (host, error.to_string())).collect();
    let mut answers = Answers { facts, absent, ..Answers::default() };
    if stage != Some(Stage::Living) {
        return answers;
    }
    let Some(cluster) = cluster else {
        let reason = || "no control plane that answers has credentials".to_owned();
        answers.nodes = Some(Err(reason()));
        answers.members = plan.etcd.external.is_none().then(|| Err(reason()));
        return answers;
    };
    let cluster = &cluster;
    let seen: Vec<&Host> = plan.hosts.iter().filter(|host| answers.facts.contains_key(&host.name)).collect();
    let control_planes: Vec<&Host> = seen.iter().copied().filter(|host| host.is_control_plane()).collect();
    let members: Vec<&Host> =
        seen.iter().copied().filter(|host| reaches_etcd && plan.has_etcd(host)).collect();
    let health = |component| move |host| cluster.health(component, host);
    let nodes = async {
        match &administrator {
            Some(_) => cluster.nodes().await,
            None => Err("no control plane that answers has an admin.conf".to_owned()),
        }
    };
    let status = |host: &Host| {
        let etcd = cluster.etcd_of(host);
        async move {
            match etcd {
                Some(Ok(etcd)) => etcd.status().await.map_err(|error| error.message),
                Some(Err(error)) => Err(error.message),
                None => Err("somebody else runs etcd".to_owned()),
            }
        }
    };
    let (kubelets, api_servers, controller_managers, schedulers, nodes, members_health, members_status) = join!(
        of_each(&seen, health(Component::Kubelet)),
        of_each(&control_planes, health(Component::ApiServer)),
        of_each(&control_planes, health(Component::ControllerManager)),
        of_each(&control_planes, health(Component::Scheduler)),
        nodes,
        of_each(&members, |host| cluster.etcd_health(host)),
        of_each(&members, status),
    );
    let listed = match plan.etcd.external {
        Some(_) => None,
        None => Some(list_members(cluster, &members, &members_health).await),
    };
    Answers {
        kubelets,
        api_servers,
        controller_managers,
        schedulers,
        nodes: Some(nodes),
        members_health,
        members_status,
        members: listed,
        ..answers
    }
}

/// The same question to each host at once.
async fn of_each<'a, A, F: Future<Output = A>>(hosts: &[&'a Host], question: impl Fn(&'a Host) -> F) -> BTreeMap<HostName, A> {
    let question = &question;
    let answers = hosts.iter().map(|&host| async move { (host.name.clone(), question(host).await) });
    join_all(answers).await.into_iter().collect()
}

/// The members as the first that answers knows them; healthy ones are asked first.
async fn list_members<T: Transport + 'static>(
    cluster: &LiveCluster<T>,
    hosts: &[&Host],
    health: &BTreeMap<HostName, Result<(), String>>,
) -> Result<Vec<crate::cluster::etcd::Member>, String> {
    let mut hosts = hosts.to_vec();
    hosts.sort_by_key(|host| health.get(&host.name).is_none_or(Result::is_err));
    let mut reason = "no member's host answers, or there are no credentials for etcd".to_owned();
    for host in hosts {
        match cluster.etcd_of(host) {
            Some(Ok(etcd)) => match etcd.members().await {
                Ok(members) => return Ok(members),
                Err(error) => reason = error.message,
            },
            Some(Err(error)) => reason = error.message,
            None => {}
        }
    }
    Err(reason)
}

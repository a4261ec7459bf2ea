//! THE story, up to the point where something is done: probe every host, see how things stand,
//! check, decide on keys and certificates, compute what is wanted, compare, and build the graph.
//! `diff`, `apply`, `graph` and `status` all begin here, so what one shows the other does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use crate::cluster::etcd::Member;
use crate::cluster::readiness;
use crate::cluster::{Cluster, ClusterError};
use crate::cluster::live::LiveCluster;
use crate::cluster::wire::Tls;
use crate::desired::kubelet::UNIT;
use crate::desired::{Inputs, LocalFiles, Standing};
use crate::facts::{Began, Facts, System};
use crate::failure::{Failure, Kind};
use crate::departed::{self, Departing, Nodes};
use crate::graph::leaving::Leaving;
use crate::graph::{Step, StepGraph, waves};
use crate::inventory::Inventory;
use crate::names::HostName;
use crate::phase::{On, Phase, Stage};
use crate::plan::{Host, Plan};
use crate::preflight::{self, Finding, Severity};
use crate::report::visible::visible;
use crate::release::Release;
use crate::standing;
use crate::transport::{ProbeRequest, Transport, TransportError};
use crate::trust::authorities::{self, KeySource};
use crate::trust::decide::Requested;
use crate::trust::refresh::{ClientCredentials, Material, TrustInputs, plan_material};
use crate::trust::rotation::Aims;
use crate::trust::specification::ClusterPair;
use crate::upgrade::findings::{Progress, drained, findings, progress};
use crate::upgrade::snapshot::{self, Chosen};
use crate::upgrade::turns::NodeSeen;
use departures::Apart;
use crate::{key_store, local_files, request, upgrade};

/// Everything that is known and decided before the first change.
pub struct Planned<C> {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Whether the cluster lives.
    pub stage: Stage,
    /// Preflight's warnings (errors end the planning).
    pub warnings: Vec<Finding>,
    /// The steps with their changes.
    pub graph: StepGraph,
    /// The cluster through its API.
    pub cluster: C,
    /// Hosts that did not answer and were not asked for.
    pub absent: BTreeMap<HostName, TransportError>,
}

impl<C> Planned<C> {
    /// What preflight found and what does not keep a run from going on, a line each.
    #[must_use]
    pub fn warnings(&self) -> String {
        let findings = self.warnings.iter().map(|warning| format!("{warning}\n"));
        let text: String = findings.chain(self.absent.values().map(|error| format!("warning: {error} (not asked for)\n"))).collect();
        visible(&text)
    }
}

/// What planning needs besides the plan.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// Only these hosts; an empty list means all. Others are neither changed nor need to answer.
    pub hosts: &'a [HostName],
    /// Only these phases; an empty list means all.
    pub phases: &'a [Phase],
    /// Leaf certificates to be made anew although they are good.
    pub renew: &'a Requested,
    /// Hold the hosts' locks, as this operator and run.
    pub lock: Option<String>,
    /// The time.
    pub now: Timestamp,
    /// Where CAs that are being replaced are brought; those not named stay in their state.
    pub rotation: Aims,
    /// Where the files of this machine that the plan names come from.
    pub local: LocalSource,
}

/// Files of this machine that a plan names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalSource {
    /// They are read.
    Read,
    /// They need not be there: something is assumed in their place, for rehearsals.
    Assumed,
}

/// What is needed to reach the cluster's own interfaces.
pub struct Access {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The engine's credentials for the API servers.
    pub api: ClientCredentials,
    /// The engine's credentials for etcd; `None` if somebody else runs it.
    pub etcd: Option<ClientCredentials>,
    /// Hosts that did not answer.
    pub absent: BTreeSet<HostName>,
    /// When the kubelets of the others were started, of those that run.
    pub kubelets: BTreeMap<HostName, Began>,
}

/// The cluster's interfaces through the connections of a transport.
pub fn live<T: Transport + 'static>(transport: &Arc<T>) -> impl FnOnce(Access) -> LiveCluster<T> + use<T> {
    let transport = Arc::clone(transport);
    move |access| {
        let etcd = access.etcd.map(|credentials| mutual(&credentials, "localhost"));
        LiveCluster::new(transport, access.plan, mutual(&access.api, "kubernetes"), etcd).leaving_out(access.absent).knowing(access.kubelets)
    }
}

/// When the kubelets of these hosts were started, of those that run.
#[must_use]
pub fn kubelets(facts: &BTreeMap<HostName, Facts>) -> BTreeMap<HostName, Began> {
    let began = |facts: &Facts| facts.state.units.get(UNIT)?.began;
    facts.iter().filter_map(|(host, facts)| Some((host.clone(), began(facts)?))).collect()
}

/// Plans a run. Writes nothing on any host, but for the locks if they are asked for.
///
/// # Errors
/// Whatever keeps the run from beginning: hosts that do not answer or are not ready, files of this
/// machine that cannot be read, keys that cannot be made or used. Nothing was changed then.
pub async fn plan<T: Transport, C: Cluster>(
    plan: Arc<Plan>,
    transport: &T,
    reach: impl FnOnce(Access) -> C,
    options: Options<'_>,
) -> Result<Planned<C>, Failure> {
    let release = Release::of(plan.kubernetes.version).map_err(|error| Failure::from_error(Kind::Plan, &error))?;
    for host in options.hosts {
        if plan.host(host).is_none() {
            return Err(Failure::new(Kind::Plan, format!("the plan has no host `{host}`")));
        }
    }
    let request = request::for_phases(&plan, options.lock.clone(), options.phases);
    let (mut facts, absent) = contend(&plan, transport, &request, CONTEST).await?;
    let standing = standing::survey(&plan, &facts).map_err(|refusals| refused(&refusals, |refusal| refusal.hint().to_owned()))?;
    tolerate(&plan, &absent, standing.stage, options.hosts)?;
    upgrade::check(&plan, &facts, standing.stage).map_err(|refusals| refused(&refusals, upgrade::UpgradeRefusal::hint))?;
    let mut warnings = check(&plan, &facts, standing.stage, options.now)?;

    let architectures: BTreeSet<String> = facts.values().map(|facts| facts.system.architecture.clone()).collect();
    let local = match options.local {
        LocalSource::Read => read_local_files(&plan, architectures)?,
        LocalSource::Assumed => local_files::assumed(&plan, &architectures),
    };
    let material = material(&plan, &facts, &standing, &local, transport, &options).await?;
    let cluster = reach(Access {
        plan: Arc::clone(&plan),
        api: material.api.clone(),
        etcd: plan.etcd.external.is_none().then(|| material.etcd.clone()),
        absent: absent.keys().cloned().collect(),
        kubelets: kubelets(&facts),
    });

    let nodes = seen_nodes(standing.stage, &cluster).await;
    let mut members = seen_members(standing.stage, &plan, &cluster).await;
    let inventory = seen_inventory(standing.stage, &cluster).await;
    let apart = Apart { plan: &plan, facts: &facts, standing: &standing, material: &material, inventory: inventory.as_ref().and_then(Option::as_ref), options: &options };
    let (cluster, departing) = departures::look(apart, cluster, transport, nodes.others, &mut members, &mut warnings).await?;
    let listed = departures::listed(&plan, &departing, inventory, &options);
    let (nodes, unlisted) = (nodes.of_plan, listed.leaving.keys().cloned().collect());
    warnings.extend(readiness::unheard(&nodes, &kubelets(&facts)));
    let standing = with_members(standing, &plan, &mut facts, transport, (members, &departing), options.hosts, &mut warnings).await?;
    let systems: BTreeMap<HostName, &System> = facts.iter().map(|(name, facts)| (name.clone(), &facts.system)).collect();
    let inputs = Inputs { plan: &plan, release: &release, systems: &systems, standing: &standing, material: &material, local: &local };
    let mut steps = steps::on_hosts(&inputs, &facts, &nodes)?;
    let (on_cluster, not_pruned) = steps::on_cluster(&inputs, &cluster, options.now, listed).await?;
    steps.extend(on_cluster);
    warnings.extend(not_pruned);
    let (kept, unkept) = snapshots(&plan, &facts, &standing, &steps, &cluster, &options).await;
    steps.extend(kept);
    let closed = cluster.closed(&waves::doubts(&plan, standing.stage, &steps)).await;
    let leaving: Vec<Leaving> = departing.iter().map(Departing::place).collect();
    steps.extend(departed::steps(&plan, &departing));
    departures::note(&mut steps, &departing, &unlisted);
    let mut graph = StepGraph::parting(&plan, standing.stage, steps, &leaving, &plan.limits, &closed).map_err(|error| Failure::from_error(Kind::Bug, &error))?;
    if !options.hosts.is_empty() || !options.phases.is_empty() {
        let hosts: BTreeSet<HostName> = options.hosts.iter().cloned().collect();
        let phases: BTreeSet<Phase> = options.phases.iter().copied().collect();
        graph = graph.select(&hosts, &phases).map_err(|error| Failure::from_error(Kind::Plan, &error))?;
    }
    upgrade::order::check(&plan, &facts, &nodes, &graph).map_err(|refusals| refused(&refusals, upgrade::order::OrderRefusal::hint))?;
    warnings.extend(upgrade_findings(&plan, &facts, &nodes, &graph, &cluster, unkept).await?);
    Ok(Planned { stage: standing.stage, plan: Arc::clone(&plan), warnings, graph, cluster, absent })
}

/// Credentials as TLS settings.
#[must_use]
pub fn mutual(credentials: &ClientCredentials, server_name: &'static str) -> Tls {
    Tls::Mutual {
        authority: credentials.ca_pem.clone(),
        certificate: credentials.certificate_pem.clone(),
        key: credentials.key.clone(),
        server_name,
    }
}

/// What probes brought, and why others brought nothing.
pub type Probed = (BTreeMap<HostName, Facts>, BTreeMap<HostName, TransportError>);

/// Looks at hosts, in parallel. With `lock` their locks are held, as this operator and run.
pub async fn probe<T: Transport>(plan: &Plan, transport: &T, lock: Option<String>, wanted: impl Fn(&Host) -> bool) -> Probed {
    ask(plan, transport, &request::probe(plan, lock), wanted).await
}

async fn ask<T: Transport>(plan: &Plan, transport: &T, request: &ProbeRequest, wanted: impl Fn(&Host) -> bool) -> Probed {
    let answers: Vec<(HostName, Result<Facts, TransportError>)> = stream::iter(plan.hosts.iter().filter(|host| wanted(host)))
        .map(|host| async move { (host.name.clone(), transport.probe(&host.name, request).await) })
        .buffer_unordered(plan.limits.parallel_hosts)
        .collect()
        .await;
    let (mut facts, mut absent) = (BTreeMap::new(), BTreeMap::new());
    for (host, answer) in answers {
        match answer {
            Ok(answer) => _ = facts.insert(host, answer),
            Err(error) => _ = absent.insert(host, error),
        }
    }
    (facts, absent)
}

/// How often, and how long after one another, locks are asked for that a run lost which began at
/// the same moment: as long as that one may take to hear from a host that is away.
const CONTEST: (usize, Duration) = (30, Duration::from_millis(500));

/// Looks at every host. One whose lock is taken ends the run.
///
/// Two runs that begin at the same moment may each get some of the locks. Then the one with the
/// first host's lock waits for the others, and the other gives its own up: exactly one goes on.
///
/// # Errors
/// Another run holds a host's lock.
pub async fn probe_all<T: Transport>(plan: &Plan, transport: &T, lock: Option<String>) -> Result<Probed, Failure> {
    contend(plan, transport, &request::probe(plan, lock), CONTEST).await
}

async fn contend<T: Transport>(
    plan: &Plan,
    transport: &T,
    request: &ProbeRequest,
    (times, pause): (usize, Duration),
) -> Result<Probed, Failure> {
    let (mut facts, mut absent) = ask(plan, transport, request, |_| true).await;
    for _ in 0..times {
        let taken = |host: &HostName| matches!(absent.get(host), Some(TransportError::Locked { .. }));
        let first = plan.hosts.iter().find(|host| facts.contains_key(&host.name) || taken(&host.name));
        if first.is_none_or(|host| taken(&host.name)) || !plan.hosts.iter().any(|host| taken(&host.name)) {
            break;
        }
        tokio::time::sleep(pause).await;
        let (answered, refused) = ask(plan, transport, request, |host| taken(&host.name)).await;
        absent.retain(|host, error| !matches!(error, TransportError::Locked { .. }) || refused.contains_key(host));
        absent.extend(refused);
        facts.extend(answered);
    }
    if let Some(error) = absent.values().find(|error| matches!(error, TransportError::Locked { .. })) {
        return Err(Failure::from_error(Kind::Refused, error).hint("wait for that run to end; its lock goes with it, also if it dies"));
    }
    Ok((facts, absent))
}

/// A host that does not answer ends the run, unless the cluster lives and the host was not asked for.
fn tolerate(
    plan: &Plan,
    absent: &BTreeMap<HostName, TransportError>,
    stage: Stage,
    chosen: &[HostName],
) -> Result<(), Failure> {
    if absent.is_empty() {
        return Ok(());
    }
    let tolerable = stage == Stage::Living && !chosen.is_empty() && chosen.iter().all(|host| !absent.contains_key(host));
    if tolerable {
        return Ok(());
    }
    let lines: Vec<String> = absent.values().map(ToString::to_string).collect();
    // A host that answers but cannot be worked on (it lacks what the lock needs) is not away.
    let answers = absent.values().all(|error| matches!(error, TransportError::Command { .. }));
    let kind = if answers { Kind::Refused } else { Kind::Unreachable };
    let mut failure = Failure::new(kind, lines.join("\nerror: "));
    for error in absent.values() {
        if let TransportError::Connect { hint: Some(hint), .. } = error
            && !failure.hints.contains(hint)
        {
            failure = failure.hint(hint.clone());
        }
    }
    let keeper = plan.hosts.iter().any(|host| absent.contains_key(&host.name) && On::Keepers.includes(plan, host));
    failure = match stage {
        // They were reached, so the hint would lead astray.
        _ if answers => failure.hint("nothing was changed; run the same command again when the host is ready"),
        Stage::Fresh if keeper => failure.hint(
            "nothing was changed: a host that may already hold the cluster's CA or etcd data was not seen, and slipway never makes a second CA",
        ),
        Stage::Fresh => failure.hint("nothing was changed: a cluster is only formed when every host of the plan answers"),
        Stage::Living => failure.hint("nothing was changed; `--host NAME` works on chosen hosts while others are away"),
    };
    Err(failure)
}

fn check(plan: &Plan, facts: &BTreeMap<HostName, Facts>, stage: Stage, now: Timestamp) -> Result<Vec<Finding>, Failure> {
    #[expect(clippy::cast_precision_loss, reason = "a clock in seconds has room for fractions")]
    let now = now.as_millisecond() as f64 / 1000.0;
    passed(preflight::check(plan, facts, stage, now), "the hosts are not ready")
}

/// What was found, unless something of it keeps the run from going on.
fn passed(findings: Vec<Finding>, what: &str) -> Result<Vec<Finding>, Failure> {
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        return Err(Failure::new(Kind::Refused, format!("{what}; nothing was changed\n{}", lines.join("\n")))
            .hint("a finding can be accepted by its name: `preflight: { ignore: [NAME] }` in the plan file"));
    }
    Ok(findings)
}

fn read_local_files(plan: &Plan, architectures: BTreeSet<String>) -> Result<LocalFiles, Failure> {
    let architectures: Vec<String> = architectures.into_iter().collect();
    local_files::read(plan, &architectures).map_err(|error| Failure::from_error(Kind::LocalFile, &error))
}

/// Which keys and certificates there shall be; CA keys are fetched only if something is to be signed.
async fn material<T: Transport>(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    standing: &Standing,
    local: &LocalFiles,
    transport: &T,
    options: &Options<'_>,
) -> Result<Material, Failure> {
    let Options { renew: requested, now, .. } = *options;
    let version = plan.kubernetes.version;
    let problems = |problems: Vec<crate::trust::problem::TrustProblem>| refused(&problems, |_| String::new());
    let survey = authorities::survey_towards(plan, facts, standing.stage, &options.rotation, &local.authorities).map_err(problems)?;
    let (mut keys, mut stored) = (BTreeMap::new(), Vec::new());
    for wanted in authorities::needed_keys(plan, version, facts, &survey, requested, now).map_err(problems)? {
        let host = match &wanted.from {
            KeySource::Host(host) => host,
            KeySource::Store(key) => {
                stored.push((wanted.pair, *key));
                continue;
            }
        };
        let mut found = transport
            .fetch(host, std::slice::from_ref(&wanted.path))
            .await
            .map_err(|error| Failure::from_error(Kind::Unreachable, &error))?;
        if let Some(key) = found.remove(&wanted.path) {
            keys.insert(wanted.pair, key);
        }
    }
    if let Some(store) = plan.pki.authority.store().filter(|_| !stored.is_empty()) {
        let wanted: Vec<ClusterPair> = stored.iter().map(|(_, key)| *key).collect();
        let opened = key_store::open(store, &wanted).map_err(|error| Failure::from_error(Kind::LocalFile, &error).hint("nothing was changed"))?;
        keys.extend(stored.into_iter().filter_map(|(pair, key)| Some((pair, opened.get(&key)?.clone()))));
    }
    let external_etcd = local.external_etcd.as_ref();
    plan_material(TrustInputs { plan, version, facts, survey: &survey, keys: &keys, external_etcd, requested, now }).map_err(problems)
}

/// How things stand with what a living etcd says about its members.
///
/// The hosts were looked at before etcd is asked. A member that was started in between (by the last
/// command of a run that was killed) had no data then and has a name in the list now, as if its data
/// were gone. So a host is looked at again before it is believed to have lost anything.
async fn with_members<T: Transport>(
    standing: Standing,
    plan: &Plan,
    facts: &mut BTreeMap<HostName, Facts>,
    transport: &T,
    (members, departing): (Option<Result<Vec<Member>, ClusterError>>, &[Departing]),
    chosen: &[HostName],
    warnings: &mut Vec<Finding>,
) -> Result<Standing, Failure> {
    let Some(members) = members else { return Ok(standing) };
    let refuse = |refusals: Vec<standing::Refusal>| refused(&refusals, |refusal| refusal.hint().to_owned());
    let members = members.as_deref().map_err(ToString::to_string);
    if let Ok(members) = members {
        let goes = |member: &Member| departing.iter().any(|departing| standing::member_of(&departing.host, std::slice::from_ref(member)).is_some());
        let stay: Vec<Member> = members.iter().filter(|member| !goes(member)).cloned().collect();
        warnings.extend(standing::strangers(plan, &stay).into_iter().map(|stranger| Finding {
            host: None,
            check: "etcd-stranger",
            severity: Severity::Warning,
            message: format!("etcd has a member on no host of the plan: {stranger}; it counts for the quorum"),
            hint: "put its host back into the plan and take it out with `slipway reset PLAN --host NAME` (with `--gone` if it is lost)".into(),
        }));
    }
    let believed = standing.with_members(plan, facts, members.clone(), chosen).map_err(refuse)?;
    let lost = believed.data_gone();
    if lost.is_empty() {
        return Ok(believed);
    }
    let (again, silent) = probe(plan, transport, None, |host| lost.contains(&host.name)).await;
    if let Some(error) = silent.values().next() {
        return Err(Failure::from_error(Kind::Unreachable, error).hint("nothing was changed; run the same command again"));
    }
    facts.extend(again);
    let standing = standing::survey(plan, facts).map_err(refuse)?;
    standing.with_members(plan, facts, members, chosen).map_err(refuse)
}

/// What the API says of Nodes. One that does not answer keeps no repair from being planned.
async fn seen_nodes<C: Cluster>(stage: Stage, cluster: &C) -> Nodes {
    match stage {
        Stage::Fresh => Nodes::default(),
        Stage::Living => cluster.nodes_seen().await.unwrap_or_default(),
    }
}

/// The list of what slipway made in a cluster: `None` if nobody tells, `Some(None)` if there is none.
async fn seen_inventory<C: Cluster>(stage: Stage, cluster: &C) -> Option<Option<Inventory>> {
    match stage {
        // A cluster that is only being formed is not asked.
        Stage::Fresh => Some(None),
        Stage::Living => cluster.inventory().await.ok(),
    }
}

/// The members of an etcd that lives and is slipway's.
async fn seen_members<C: Cluster>(stage: Stage, plan: &Plan, cluster: &C) -> Option<Result<Vec<Member>, ClusterError>> {
    if stage == Stage::Fresh || plan.etcd.external.is_some() { None } else { Some(cluster.members().await) }
}

/// What is kept before another release is brought, and what stands in the way of that.
async fn snapshots<C: Cluster>(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    standing: &Standing,
    steps: &[Step],
    cluster: &C,
    options: &Options<'_>,
) -> (Vec<Step>, Vec<Finding>) {
    let chosen = Chosen { hosts: options.hosts, phases: options.phases };
    let Some(due) = snapshot::due(plan, facts, standing.stage, steps, chosen) else { return Default::default() };
    let closed = cluster.closed(&due.questions()).await;
    due.steps(plan, facts, &closed)
}

/// What an upgrade would meet, unless something of it keeps the run from going on.
async fn upgrade_findings<C: Cluster>(
    plan: &Plan,
    facts: &BTreeMap<HostName, Facts>,
    nodes: &BTreeMap<HostName, NodeSeen>,
    graph: &StepGraph,
    cluster: &C,
    mut found: Vec<Finding>,
) -> Result<Vec<Finding>, Failure> {
    const UNREADY: &str = "the cluster is not ready for another version";
    found.iter_mut().filter(|finding| plan.preflight.ignore.contains(finding.check)).for_each(|finding| finding.severity = Severity::Warning);
    let progress = progress(plan, facts, graph);
    if graph.stage() == Stage::Fresh || progress == Progress::Done {
        return passed(found, UNREADY);
    }
    let concerns = cluster.concerns().await.unwrap_or_default();
    let (drained, mut nodes) = (drained(graph), nodes.clone());
    for (host, objections) in cluster.objections(&drained).await.unwrap_or_default() {
        if let Some(seen) = nodes.get_mut(&host) {
            seen.objections = objections;
        }
    }
    let what = if progress == Progress::Settings { "Nodes cannot be emptied" } else { UNREADY };
    found.extend(findings(plan, progress, &nodes, &drained, &concerns));
    found.sort();
    passed(found, what)
}

/// All reasons to refuse as one failure.
pub fn refused<E: std::error::Error>(problems: &[E], hint: impl Fn(&E) -> String) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let mut failure = Failure::new(Kind::Refused, lines.join("\nerror: "));
    for problem in problems {
        let hint = hint(problem);
        if !hint.is_empty() && !failure.hints.contains(&hint) {
            failure = failure.hint(hint);
        }
    }
    failure.hint("nothing was changed")
}

mod departures;
mod steps;
#[cfg(test)]
mod tests;

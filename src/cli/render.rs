//! `slipway render`: offline, what every host and the cluster would get.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Output, PlanFile, check};
use crate::artifact::Artifact;
use crate::change::{Change, Reason};
use crate::desired::{self, Inputs, LocalFiles};
use crate::diff::host_changes;
use crate::facts::{State, System};
use crate::failure::{Failure, Kind};
use crate::graph::{Step, StepGraph};
use crate::kubernetes::objects::ObjectInputs;
use crate::names::HostName;
use crate::phase::{On, Phase, RULES, Stage, StepId, Target};
use crate::plan::Plan;
use crate::release::Release;
use crate::trust::refresh::fresh_material;
use crate::{bootstrap_token, local_files, standing, yaml};

/// What can be asked of `render`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PlanFile,
    /// Write below this directory, which must be empty or absent (mode 0700: it gets private keys)
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What the hosts are: a YAML map from host name to facts; left out, plain modern hosts
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = check::load_plan(&arguments.file, Output::Text)?;
    let systems = systems(&loaded.plan, arguments.facts.as_deref())?;
    let architectures: BTreeSet<String> = systems.values().map(|system| system.architecture.clone()).collect();
    let local = local_files::read(&loaded.plan, &architectures.into_iter().collect::<Vec<_>>())
        .map_err(|error| Failure::from_error(Kind::LocalFile, &error))?;
    let wanted = wanted(&loaded.plan, &systems, &local)?;
    let count = write(&arguments.out, &wanted)?;
    println!("wrote {count} files below {}", arguments.out.display());
    Ok(())
}

/// What every host and the cluster would get at a bootstrap.
pub struct Wanted {
    /// By host and phase.
    pub hosts: BTreeMap<HostName, Vec<(Phase, Vec<Artifact>)>>,
    /// Of the cluster, by phase.
    pub cluster: Vec<(Phase, Vec<Artifact>)>,
}

/// Computes what a bootstrap of empty hosts would make, with a fresh PKI.
fn wanted(plan: &Plan, systems: &BTreeMap<HostName, System>, local: &LocalFiles) -> Result<Wanted, Failure> {
    let now = Timestamp::now();
    let release = Release::of(plan.kubernetes.version).map_err(|error| Failure::from_error(Kind::Plan, &error))?;
    let standing = standing::survey_nothing(plan)
        .map_err(|refusals| Failure::new(Kind::Plan, refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    let material = fresh_material(plan, local.external_etcd.as_ref(), now)
        .map_err(|problems| Failure::new(Kind::Plan, problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    let systems: BTreeMap<HostName, &System> = systems.iter().map(|(name, system)| (name.clone(), system)).collect();
    let inputs = Inputs { plan, release: &release, systems: &systems, standing: &standing, material: &material, local };
    let mut hosts = BTreeMap::new();
    for host in &plan.hosts {
        let artifacts = desired::of_host(&inputs, host).map_err(|error| Failure::from_error(Kind::Plan, &error))?;
        hosts.insert(host.name.clone(), artifacts);
    }
    let token = Some(bootstrap_token::first(plan.name.as_str(), now));
    let objects = ObjectInputs { plan, release: &release, ca_pem: &material.api.ca_pem, token };
    let cluster = desired::cluster::artifacts(&inputs, &objects).map_err(|error| Failure::from_error(Kind::Plan, &error))?;
    Ok(Wanted { hosts, cluster })
}

fn systems(plan: &Plan, facts: Option<&Path>) -> Result<BTreeMap<HostName, System>, Failure> {
    let mut given: BTreeMap<HostName, System> = match facts {
        None => BTreeMap::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::new(Kind::LocalFile, format!("cannot read {}: {error}", path.display())))?;
            yaml::read(&text).map_err(|error| Failure::new(Kind::LocalFile, format!("{}: {error}", path.display())))?
        }
    };
    let of = |host: &HostName| System { hostname: host.to_string(), ..System::default() };
    Ok(plan.hosts.iter().map(|host| (host.name.clone(), given.remove(&host.name).unwrap_or_else(|| of(&host.name)))).collect())
}

fn write(directory: &Path, wanted: &Wanted) -> Result<usize, Failure> {
    let failed = |path: &Path, error: std::io::Error| Failure::new(Kind::LocalFile, format!("cannot write {}: {error}", path.display()));
    if std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::new(Kind::LocalFile, format!("{} is not empty", directory.display())).hint("give a new directory"));
    }
    let mut count = 0;
    let mut put = |path: PathBuf, mode: u32, bytes: &[u8]| -> Result<(), Failure> {
        let parent = path.parent().unwrap_or(directory);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|error| failed(parent, error))?;
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        file.and_then(|mut file| file.write_all(bytes)).map_err(|error| failed(&path, error))?;
        count += 1;
        Ok(())
    };
    for (host, phases) in &wanted.hosts {
        for artifact in phases.iter().flat_map(|(_, artifacts)| artifacts) {
            if let Artifact::File { path, mode, content } = artifact {
                put(directory.join(host.as_str()).join(path.as_str().trim_start_matches('/')), mode.0, content.bytes())?;
            }
        }
    }
    let objects = wanted.cluster.iter().flat_map(|(_, artifacts)| artifacts);
    for (index, object) in objects.filter_map(|artifact| if let Artifact::Object(object) = artifact { Some(object) } else { None }).enumerate() {
        let name: String = object.id().chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' }).collect();
        let mode = if object.secret { 0o600 } else { 0o644 };
        put(directory.join("cluster").join(format!("{index:02}-{name}.yaml")), mode, yaml::write(&object.value).as_bytes())?;
    }
    Ok(count)
}

/// The graph of a bootstrap of empty hosts. Local files need not be there: a program to upload
/// counts as a change whatever it holds.
pub(super) fn bootstrap_graph(plan: &Plan) -> Result<StepGraph, Failure> {
    let systems = systems(plan, None)?;
    let local = local_files::assumed(plan, &["amd64".to_owned()].into());
    let wanted = wanted(plan, &systems, &local)?;
    let mut steps = Vec::new();
    for host in &plan.hosts {
        let (system, state, mut changed) = (System { modules: BTreeSet::new(), ..System::default() }, State::default(), BTreeSet::new());
        let mut phases: BTreeMap<Phase, Vec<Artifact>> = wanted.hosts.get(&host.name).cloned().unwrap_or_default().into_iter().collect();
        for rule in RULES.iter().filter(|rule| rule.on.includes(plan, host)) {
            let artifacts = phases.remove(&rule.phase).unwrap_or_default();
            steps.push(Step {
                id: StepId { phase: rule.phase, target: Target::Host(host.name.clone()) },
                before: Vec::new(),
                changes: host_changes(artifacts, &system, &state, &mut changed),
                gates: desired::gates(rule.phase, plan, Some(host), Stage::Fresh, &local),
                fallback: Vec::new(),
            });
        }
    }
    let mut cluster: BTreeMap<Phase, Vec<Artifact>> = wanted.cluster.into_iter().collect();
    for rule in RULES.iter().filter(|rule| rule.on == On::Cluster) {
        let artifacts = cluster.remove(&rule.phase).unwrap_or_default();
        steps.push(Step {
            id: StepId { phase: rule.phase, target: Target::Cluster },
            before: Vec::new(),
            changes: artifacts.into_iter().map(|artifact| Change { artifact, reason: Reason::Missing, before: None }).collect(),
            gates: desired::gates(rule.phase, plan, None, Stage::Fresh, &local),
            fallback: Vec::new(),
        });
    }
    StepGraph::build(plan, Stage::Fresh, steps, &plan.limits).map_err(|error| Failure::from_error(Kind::Bug, &error))
}

//! Plans, hosts and a bootstrapped cluster for this module's tests. Hosts are simulated by writing a
//! `Material` into `Facts`, so that a second run sees what a first one left.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};

use super::authorities::{self, Given, KeyRequest, KeySource};
use super::decide::Requested;
use super::problem::TrustProblem;
use super::refresh::{ExternalEtcdFiles, HostMaterial, Material, TrustInputs, plan_material};
use super::rotation::Aims;
use super::specification::{ClusterPair, keys_without_content};
use crate::artifact::Secret;
use crate::facts::{Facts, FoundFile, FoundKind, State};
use crate::names::{Digest, HostName, KubernetesVersion, Mode, RemotePath};
use crate::phase::Stage;
use crate::plan::{KeyAlgorithm, Plan};
use crate::yaml;

/// When the tests' clusters are bootstrapped.
pub fn epoch() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// That many days after the bootstrap.
pub fn day(days: i64) -> Timestamp {
    epoch() + SignedDuration::from_hours(24 * days)
}

pub fn version(minor: u32) -> KubernetesVersion {
    KubernetesVersion::new(1, minor, 2)
}

pub fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

/// The plans the tests are about.
pub fn plan(kind: &str) -> Plan {
    let control_plane = |n: u32| format!("- {{name: cp-{n}, address: 192.0.2.1{n}, roles: [control-plane]}}\n");
    let worker = "- {name: worker-1, address: 192.0.2.21, roles: [worker]}\n";
    let external = "endpoint: {external: {address: api.example.test}}\n";
    let (settings, hosts) = match kind {
        "single" => (String::new(), control_plane(1)),
        "reference" => (external.to_owned(), control_plane(1)),
        "external" => (external.to_owned(), control_plane(1) + &control_plane(2) + worker),
        "local-proxy" => ("endpoint: {localProxy: {}}\n".to_owned(), control_plane(1) + &control_plane(2) + worker),
        "dedicated-etcd" => (
            "pki: {extraSans: [api.example.test, 198.51.100.7]}\netcd: {extraSans: [etcd.example.test]}\n".to_owned(),
            control_plane(1) + worker + "- {name: etcd-1, address: 192.0.2.31, secondAddress: '2001:db8::31', roles: [etcd]}\n",
        ),
        "external-etcd" => (
            "etcd: {external: {endpoints: ['https://192.0.2.99:2379'], caFile: ca, certificateFile: crt, keyFile: key}}\n".to_owned(),
            control_plane(1),
        ),
        other => panic!("no plan {other}"),
    };
    let text = format!("version: 1\nkubernetes: {{version: v1.36.2}}\n{settings}hosts:\n{hosts}");
    let mut plan: Plan = yaml::read(&text).unwrap();
    // Drawing RSA keys takes most of a second each; one test of `issue` does it.
    plan.pki.algorithm = KeyAlgorithm::EcdsaP256;
    plan
}

/// Hosts in memory.
#[derive(Clone)]
pub struct Hosts {
    pub plan: Plan,
    pub facts: BTreeMap<HostName, Facts>,
    /// CAs whose keys are not on hosts.
    pub given: Given,
    /// Their keys, if the operator has them.
    pub store: BTreeMap<ClusterPair, Secret>,
    /// The keys a probe does not bring.
    hidden: BTreeMap<(HostName, RemotePath), Secret>,
}

impl Hosts {
    /// Empty hosts.
    pub fn new(plan: Plan) -> Self {
        let facts = plan.hosts.iter().map(|host| (host.name.clone(), Facts::default())).collect();
        Self { plan, facts, given: Given::new(), store: BTreeMap::new(), hidden: BTreeMap::new() }
    }

    /// Hosts after a bootstrap at `epoch`.
    pub fn bootstrapped(plan: Plan) -> Self {
        let mut hosts = Self::new(plan);
        let material = hosts.run(Stage::Fresh, epoch()).unwrap();
        hosts.write(&material);
        hosts
    }

    /// Everything a run does up to the first change.
    pub fn run(&self, stage: Stage, now: Timestamp) -> Result<Material, Vec<TrustProblem>> {
        self.run_for(stage, &Requested::NONE, now)
    }

    /// The same, with leaves that are asked for.
    pub fn run_for(&self, stage: Stage, requested: &Requested, now: Timestamp) -> Result<Material, Vec<TrustProblem>> {
        self.run_with(stage, &Aims::new(), requested, now)
    }

    /// The same, while pairs are being replaced.
    pub fn run_towards(&self, stage: Stage, aims: &Aims, now: Timestamp) -> Result<Material, Vec<TrustProblem>> {
        self.run_with(stage, aims, &Requested::NONE, now)
    }

    fn run_with(&self, stage: Stage, aims: &Aims, requested: &Requested, now: Timestamp) -> Result<Material, Vec<TrustProblem>> {
        let version = self.plan.kubernetes.version;
        let survey = authorities::survey_towards(&self.plan, &self.facts, stage, aims, &self.given)?;
        let requests = authorities::needed_keys(&self.plan, version, &self.facts, &survey, requested, now)?;
        let external = ExternalEtcdFiles { ca: "ca".into(), certificate: "crt".into(), key: Secret::new("key") };
        plan_material(TrustInputs {
            plan: &self.plan,
            version,
            facts: &self.facts,
            survey: &survey,
            keys: &self.fetch(&requests),
            external_etcd: Some(&external),
            requested,
            now,
        })
    }

    /// The keys a run would fetch.
    pub fn requests(&self, stage: Stage, now: Timestamp) -> Result<Vec<KeyRequest>, Vec<TrustProblem>> {
        let survey = authorities::survey_towards(&self.plan, &self.facts, stage, &Aims::new(), &self.given)?;
        authorities::needed_keys(&self.plan, self.plan.kubernetes.version, &self.facts, &survey, &Requested::NONE, now)
    }

    pub fn fetch(&self, requests: &[KeyRequest]) -> BTreeMap<ClusterPair, Secret> {
        let key = |request: &KeyRequest| {
            let key = match &request.from {
                KeySource::Host(host) => self.hidden.get(&(host.clone(), request.path.clone()))?,
                KeySource::Store(pair) => self.store.get(pair)?,
            };
            Some((request.pair, key.clone()))
        };
        requests.iter().filter_map(key).collect()
    }

    /// Writes everything to the hosts.
    pub fn write(&mut self, material: &Material) {
        for (host, HostMaterial { files, links }) in &material.hosts {
            for file in files {
                self.put(host, &file.path, file.content.bytes());
            }
            for link in links {
                let kind = FoundKind::Link(link.target.to_string());
                self.state(host).files.insert(link.path.clone(), found(kind));
            }
        }
    }

    pub fn put(&mut self, host: &HostName, path: &RemotePath, bytes: &[u8]) {
        let secret = Secret::new(bytes);
        let shown = !keys_without_content().contains(path);
        let (digest, content) = if shown { (Some(Digest::of(bytes)), Some(secret.clone())) } else { (None, None) };
        self.hidden.insert((host.clone(), path.clone()), secret);
        self.state(host).files.insert(path.clone(), found(FoundKind::File { digest, content }));
    }

    pub fn remove(&mut self, host: &str, path: &str) {
        let path = RemotePath::fixed(path);
        assert!(self.state(&name(host)).files.remove(&path).is_some(), "{path} is not there");
        self.hidden.remove(&(name(host), path));
    }

    pub fn bytes(&self, host: &str, path: &str) -> Vec<u8> {
        self.hidden[&(name(host), RemotePath::fixed(path))].expose().to_vec()
    }

    pub fn state(&mut self, host: &HostName) -> &mut State {
        &mut self.facts.get_mut(host).unwrap().state
    }
}

fn found(kind: FoundKind) -> FoundFile {
    FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind }
}

/// Runs `openssl` with that input and returns what it printed.
pub fn openssl(directory: Option<&Path>, arguments: &[&str], input: &[u8]) -> Result<String, String> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let mut child = command.spawn().expect("these tests need the `openssl` command (Debian package openssl)");
    child.stdin.take().unwrap().write_all(input).ok();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&output.stderr)) }
}

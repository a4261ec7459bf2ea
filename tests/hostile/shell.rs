//! No text of a plan file becomes shell, a directive of a unit or a line of a configuration: every
//! text in a full one is replaced by hostile ones; where the plan is still accepted, the scripts
//! for its hosts run under the real `sh` in a temporary root, and a canary must not appear.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use slipway::artifact::Artifact;
use slipway::desired::{self, Inputs, LocalFiles};
use slipway::diff::host_changes;
use slipway::facts::{State, System};
use slipway::plan::{Plan, load};
use slipway::release::Release;
use slipway::transport::Payload;
use slipway::transport::script::{ScriptContext, bundle};
use slipway::trust::refresh::{Material, fresh_material};
use slipway::{standing, yaml};

/// A plan with a text in every field that may hold one.
const FULL: &str = include_str!("../../fuzz/corpus/plan/full.yaml");

/// `CANARY` becomes the path of a file that must not come to be.
///
/// The first ones are tried by the test command, all with `SLIPWAY_TORTURE=1`.
const EVIL: [&str; 14] = [
    "$(touch CANARY)", "'; touch CANARY; '", "x\nExecStartPre=/bin/touch CANARY", "`touch CANARY`", "\"; touch CANARY; \"", "x\ntouch CANARY\n",
    "; touch CANARY #", "| touch CANARY", "&& touch CANARY", "-oProxyCommand=touch CANARY", "%h%n$CANARY", "${IFS}touch${IFS}CANARY", "x' \" \\", "a\\",
];

fn texts(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(path),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| texts(item, format!("{path}/{index}"), found)),
        Value::Object(map) => map.iter().for_each(|(key, item)| texts(item, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), found)),
        _ => {}
    }
}

/// The artifacts of every host, without those that need files of this machine.
fn changes(plan: &Plan, material: &Material) -> BTreeMap<String, Vec<slipway::change::Change>> {
    let release = Release::of(plan.kubernetes.version).unwrap();
    let system = System { architecture: "amd64".into(), containerd_version: "1.7.1".into(), ..System::default() };
    let systems = plan.hosts.iter().map(|host| (host.name.clone(), &system)).collect();
    let Ok(standing) = standing::survey_nothing(plan) else { return BTreeMap::new() };
    let local = LocalFiles::default();
    let inputs = Inputs { plan, release: &release, systems: &systems, standing: &standing, material, local: &local };
    let mut all = BTreeMap::new();
    for host in &plan.hosts {
        let Ok(phases) = desired::of_host(&inputs, host) else { continue };
        let artifacts: Vec<Artifact> = phases.into_iter().flat_map(|(_, artifacts)| artifacts).collect();
        all.insert(host.name.to_string(), host_changes(artifacts, &system, &State::default(), &mut BTreeSet::new()));
    }
    all
}

struct Stage {
    directory: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { directory: tempfile::tempdir().unwrap() };
        let bin = stage.directory.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for name in ["systemctl", "swapoff", "modprobe", "ctr", "crictl", "journalctl", "sleep", "ip", "iptables", "ip6tables", "sysctl", "mount", "umount", "curl", "wget"] {
            std::fs::write(bin.join(name), "#!/bin/sh\necho ActiveState=active\nexit 0\n").unwrap();
            std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        stage
    }

    /// Runs a script for these changes in an empty root. Whether it went well does not matter.
    fn play(&self, changes: &[slipway::change::Change]) {
        let context = ScriptContext { timeout: Duration::from_secs(30), socket: slipway::names::RemotePath::fixed("/run/containerd/containerd.sock") };
        let bundle = bundle("test@host", changes, &context);
        let (work, root) = (tempfile::tempdir_in(self.directory.path()).unwrap(), tempfile::tempdir_in(self.directory.path()).unwrap());
        for directory in ["etc", "proc/sys/net/ipv4", "sys/module", "var/lib", "usr/local/bin", "run"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        std::fs::write(work.path().join("run.sh"), &bundle.script).unwrap();
        for (name, payload) in &bundle.payloads {
            if let Payload::Bytes(bytes) = payload {
                std::fs::write(work.path().join(name), bytes.expose()).unwrap();
            }
        }
        let path = format!("{}:/usr/bin:/bin", self.directory.path().join("bin").display());
        Command::new("/bin/sh").arg("run.sh").current_dir(work.path()).env_clear().env("ROOT", root.path()).env("PATH", path).output().unwrap();
    }
}

/// A file's lines by what they set: the directives of a unit, the options of a configuration.
fn directives(changes: &[slipway::change::Change]) -> BTreeMap<String, Vec<String>> {
    let line_based = |path: &str| [".conf", ".service", ".cfg", ".env"].iter().any(|ending| path.ends_with(ending));
    let mut all = BTreeMap::new();
    for change in changes {
        if let Artifact::File { path, content, .. } = &change.artifact
            && line_based(path.as_str())
            && !content.is_secret()
        {
            let text = content.review();
            let names = text.lines().map(|line| line.split('=').next().unwrap_or_default().trim_start().chars().take(12).collect());
            all.insert(path.to_string(), names.collect());
        }
        if let Artifact::File { path, content, .. } = &change.artifact
            && path.as_str().ends_with(".toml")
        {
            content.review().parse::<toml::Table>().unwrap_or_else(|error| panic!("{path}: {error}\n{}", content.review()));
        }
    }
    all
}

#[test]
fn no_text_of_a_plan_becomes_a_command() {
    let stage = Stage::new();
    let canary = stage.directory.path().join("canary");
    let (mut tried, mut accepted, mut fields) = (0, 0, BTreeSet::new());
    let document: Value = yaml::read(FULL).unwrap();
    let (plan, _) = load::parse(FULL).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let material = fresh_material(&plan, None, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
    let plain = changes(&plan, &material);
    let few = if std::env::var_os("SLIPWAY_TORTURE").is_some() { EVIL.len() } else { 3 };
    let mut found = Vec::new();
    texts(&document, String::new(), &mut found);
    for place in found {
        for evil in EVIL.into_iter().take(few) {
            tried += 1;
            let mut hostile = document.clone();
            *hostile.pointer_mut(&place).unwrap() = evil.replace("CANARY", &canary.to_string_lossy()).into();
            let Ok((plan, _)) = load::parse(&yaml::write(&hostile)) else { continue };
            accepted += 1;
            fields.insert(place.clone());
            for (host, changes) in changes(&plan, &material) {
                let Some(before) = plain.get(&host) else { continue };
                let (before, now) = (directives(before), directives(&changes));
                for (path, lines) in &now {
                    let grown = before.get(path).is_some_and(|before| before.len() != lines.len());
                    assert!(!grown, "{place} = {evil:?} adds lines to {path} of {host}: {lines:?}");
                }
                let changed: Vec<_> = changes.iter().filter(|change| !plain[&host].iter().any(|other| other.artifact == change.artifact)).cloned().collect();
                if !changed.is_empty() {
                    stage.play(&changed);
                }
                assert!(!Path::new(&canary).exists(), "{place} = {evil:?} was run on {host}");
            }
        }
    }
    eprintln!("{tried} hostile texts, {accepted} of them accepted in {} fields: {fields:?}", fields.len());
    assert!(accepted > 50, "hardly any text is accepted: {accepted}");
}

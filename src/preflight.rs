//! Checks of the hosts before anything is changed: all of them run, all findings are reported at
//! once, each has a stable name that a plan can accept in `preflight.ignore`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::desired::packages::Installer;
use crate::desired::programs::cni_directory;
use crate::facts::{Facts, System};
use crate::names::{HostName, KubernetesVersion};
use crate::phase::Stage;
use crate::plan::{Cni, Endpoint, Host, Plan, Program, Source};

mod vip;

/// Something a check found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Which host; `None` for the hosts together.
    pub host: Option<HostName>,
    /// The check's name.
    pub check: &'static str,
    /// Whether it keeps `apply` from going on.
    pub severity: Severity,
    /// What was seen.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// `apply` does not go on.
    Error,
    /// `apply` goes on.
    Warning,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Error { "error" } else { "warning" };
        write!(f, "{severity}[{}]: ", self.check)?;
        if let Some(host) = &self.host {
            write!(f, "host {host}: ")?;
        }
        write!(f, "{}\n  hint: {}", self.message, self.hint)
    }
}

/// A check of one host.
type HostCheck = fn(&Plan, &Host, &Facts, Stage) -> Vec<(Severity, String, &'static str)>;

/// The checks of one host, by name.
const HOST_CHECKS: &[(&str, HostCheck)] = &[
    ("not-root", |_, _, facts, _| {
        when(!facts.system.root, Severity::Error, "commands do not run as root", "log in as root, or as a user with passwordless sudo")
    }),
    ("systemd", |_, _, facts, _| {
        when(!facts.system.systemd, Severity::Error, "systemd does not manage this host", "slipway needs systemd as process 1")
    }),
    ("architecture", |_, _, facts, _| {
        let known = matches!(facts.system.architecture.as_str(), "amd64" | "arm64");
        when(!known, Severity::Error, format!("architecture {} is not supported", facts.system.architecture), "use amd64 or arm64 hosts")
    }),
    ("kernel", |_, _, facts, _| {
        // The oldest kernel kubeadm's system validator accepts.
        let old = numbers(&facts.system.kernel) < vec![3, 10];
        when(old, Severity::Error, format!("kernel {} is older than 3.10", facts.system.kernel), "update the operating system")
    }),
    ("cpus", |_, host, facts, _| {
        let few = host.is_control_plane() && facts.system.cpus < 2;
        when(few, Severity::Error, format!("{} processor", facts.system.cpus), "a control plane needs 2 (kubeadm's minimum)")
    }),
    ("memory", |_, host, facts, _| {
        let mebibytes = facts.system.memory_bytes >> 20;
        let little = host.is_control_plane() && mebibytes < 1700;
        when(little, Severity::Error, format!("{mebibytes} MiB of memory"), "a control plane needs 1700 MB (kubeadm's minimum)")
    }),
    ("commands", commands),
    ("runtime", |plan, _, facts, _| {
        let brought = is_brought(plan, Program::Containerd);
        let absent = plan.runtime.managed && facts.system.containerd_version.is_empty() && !brought;
        let silent = !plan.runtime.managed && !facts.system.runtime_answers;
        let mut findings = when(absent, Severity::Error, "containerd is not installed", "install it, or let slipway bring it with `binaries.containerd`");
        findings.extend(when(silent, Severity::Error, format!("no container runtime answers on {}", plan.runtime.socket), "start it, or let slipway manage containerd with `runtime.managed: true`"));
        findings
    }),
    ("kubelet", |plan, _, facts, _| {
        let absent = facts.system.kubelet_version.is_empty() && !is_brought(plan, Program::Kubelet);
        when(absent, Severity::Error, "the kubelet is not installed", "install it, or let slipway bring it with `binaries.kubelet`")
    }),
    ("kubelet-version", kubelet_version),
    ("cni-plugins", |plan, host, facts, _| {
        let needed = matches!(plan.network.cni, Cni::Bridge { .. }) && host.is_node();
        let found = facts.system.cni_directory.is_some() || is_brought(plan, Program::CniPlugins) || plan.runtime.cni_directory.is_some();
        when(
            needed && !found,
            Severity::Error,
            format!("the CNI plugins are not in {}", cni_directory(plan, &facts.system)),
            "install them, or let slipway bring them with `binaries.cniPlugins`",
        )
    }),
    ("packages", |plan, _, facts, _| {
        let none = plan.binaries.values().any(|source| *source == Source::Packages) && Installer::of(&facts.system).is_none();
        when(none, Severity::Error, "it has neither apt-get nor dnf, and the plan wants packages", "bring the programs with `upload` or `download`")
    }),
    ("address", |_, host, facts, _| {
        let known = facts.system.addresses.is_empty() || host.addresses().all(|wanted| facts.system.addresses.iter().any(|found| found.address == wanted));
        when(!known, Severity::Error, format!("address {} is not one of its own", host.address), "correct `address`; a host is reached at another address with `ssh.address`")
    }),
    ("ports", ports),
    ("cgroup-v1", |plan, _, facts, _| {
        let old = facts.system.cgroup_version == 1 && plan.kubernetes.version.minor >= 35;
        when(old, Severity::Warning, "it uses cgroup v1, which Kubernetes v1.35 and later only run with `failCgroupV1: false` (slipway sets it)", "boot the host with cgroup v2")
    }),
    ("disk-space", |plan, _, facts, _| {
        // The programs of Kubernetes and of a runtime come to 300 MiB; later they are replaced one by one.
        let programs = facts.state.programs.is_empty() && plan.binaries.values().any(Source::is_file);
        let needed = |path: &str| match path {
            "/var/lib" => 1 << 30,
            "/usr/local/bin" if programs => 300 << 20,
            _ => 10 << 20,
        };
        let small = facts.system.free_bytes.iter().filter(|(path, free)| **free < needed(path));
        small.map(|(path, free)| (Severity::Error, format!("only {} MiB are free on {path}", free >> 20), "free some space")).collect()
    }),
];

/// The names of all checks.
pub const CHECK_NAMES: &[&str] = &[
    "address", "architecture", "cgroup-v1", "clock", "cni-plugins", "commands", "cpus", "disk-space", "kernel", "kubelet",
    "kubelet-version", "machine-id", "memory", "not-root", "packages", "ports", "runtime", "systemd", "vip",
];

/// Commands the generated scripts use on every host.
const COMMANDS: &[&str] = &["sh", "tar", "find", "sha256sum", "stat", "systemctl", "flock", "timeout", "mktemp", "mount", "umount"];

/// Commands the probe looks for.
#[must_use]
pub fn wanted_commands() -> Vec<String> {
    let more = ["ip", "iptables", "ip6tables", "kubelet", "containerd", "ctr", "crictl", "curl", "wget", "modprobe", "conntrack", "apt-get", "dnf"];
    COMMANDS.iter().chain(&more).map(|name| (*name).to_owned()).collect()
}

/// Runs all checks. Findings whose check the plan ignores become warnings.
#[must_use]
pub fn check(plan: &Plan, facts: &BTreeMap<HostName, Facts>, stage: Stage, now: f64) -> Vec<Finding> {
    let mut findings = Vec::new();
    for host in &plan.hosts {
        let Some(facts) = facts.get(&host.name) else { continue };
        for (check, run) in HOST_CHECKS {
            for (severity, message, hint) in run(plan, host, facts, stage) {
                findings.push(Finding { host: Some(host.name.clone()), check, severity, message, hint: hint.to_owned() });
            }
        }
        let skew = (facts.system.clock - now).abs();
        if facts.system.clock > 0.0 && skew > 120.0 {
            findings.push(Finding {
                host: Some(host.name.clone()),
                check: "clock",
                severity: Severity::Error,
                message: format!("its clock is {} s away from this machine's", skew.round()),
                hint: "set both clocks (NTP): certificates are valid by the clock".into(),
            });
        }
    }
    findings.extend(machine_ids(plan, facts));
    findings.extend(vip::check(plan, facts, stage));
    for finding in &mut findings {
        if plan.preflight.ignore.contains(finding.check) {
            finding.severity = Severity::Warning;
        }
    }
    findings.sort();
    findings
}

fn when(bad: bool, severity: Severity, message: impl Into<String>, hint: &'static str) -> Vec<(Severity, String, &'static str)> {
    if bad { vec![(severity, message.into(), hint)] } else { Vec::new() }
}

fn is_brought(plan: &Plan, program: Program) -> bool {
    plan.binaries.get(&program).is_some_and(Source::is_brought)
}

fn commands(plan: &Plan, host: &Host, facts: &Facts, _: Stage) -> Vec<(Severity, String, &'static str)> {
    let mut wanted: Vec<&str> = COMMANDS.to_vec();
    if host.is_node() {
        if matches!(plan.network.cni, Cni::Bridge { .. }) {
            wanted.push("ip");
            wanted.push(if plan.network.pod_cidrs[0].addr().is_ipv4() { "iptables" } else { "ip6tables" });
        }
        // The kubelet checks for it before v1.32 (kubeadm drops its own check there).
        if plan.kubernetes.version.minor < 32 {
            wanted.push("conntrack");
        }
    }
    if plan.runtime.managed && !is_brought(plan, Program::Containerd) {
        wanted.push("ctr");
    }
    let has = |name: &&&str| facts.system.commands.contains_key(**name);
    let missing: Vec<&str> = wanted.iter().filter(|name| !has(name)).copied().collect();
    let downloads = plan.binaries.values().any(|source| matches!(source, Source::Download { .. }));
    let mut findings = when(!missing.is_empty(), Severity::Error, format!("missing commands: {}", missing.join(", ")), "install the packages that hold them");
    findings.extend(when(
        downloads && !has(&&"curl") && !has(&&"wget"),
        Severity::Error,
        "neither curl nor wget is there, and the plan downloads programs",
        "install one of them, or use `upload`",
    ));
    findings
}

fn kubelet_version(plan: &Plan, _: &Host, facts: &Facts, _: Stage) -> Vec<(Severity, String, &'static str)> {
    if is_brought(plan, Program::Kubelet) {
        return Vec::new();
    }
    let Ok(found) = facts.system.kubelet_version.parse::<KubernetesVersion>() else { return Vec::new() };
    let wanted = plan.kubernetes.version;
    // Kubernetes' version skew policy: never newer than the API server; three minors older since
    // v1.28's control planes, two before.
    let oldest = wanted.minor.saturating_sub(if wanted.minor >= 28 { 3 } else { 2 });
    let newer = (found.major, found.minor) > (wanted.major, wanted.minor);
    let mut findings = when(newer, Severity::Error, format!("its kubelet {found} is newer than the cluster's {wanted}"), "install a kubelet of the cluster's version");
    findings.extend(when(
        found.minor < oldest,
        Severity::Error,
        format!("its kubelet {found} is too old for {wanted}"),
        "install a kubelet of the cluster's version",
    ));
    findings
}

/// Ports of components that something listens on although no cluster is on the host yet.
fn ports(plan: &Plan, host: &Host, facts: &Facts, stage: Stage) -> Vec<(Severity, String, &'static str)> {
    let fresh = stage == Stage::Fresh && facts.state.running_containers == 0 && facts.state.units.get("kubelet.service").is_none_or(|unit| unit.active != "active");
    if !fresh {
        return Vec::new();
    }
    let mut wanted = vec![10250];
    if host.is_control_plane() {
        wanted.extend([plan.api_port(), 10257, 10259]);
        if let Some(Endpoint::Vip(vip)) = &plan.endpoint {
            wanted.extend([vip.port, vip.health_port]);
        }
    }
    if plan.has_etcd(host) {
        wanted.extend([2379, 2380]);
    }
    let taken = wanted.into_iter().filter_map(|port| Some((port, facts.system.listening.get(&port)?)));
    taken
        .map(|(port, by)| {
            let by = if by.is_empty() { String::new() } else { format!(" ({by})") };
            (Severity::Error, format!("port {port} is in use{by}"), "stop what listens there")
        })
        .collect()
}

/// Machine ids name nodes to Kubernetes and to some networks; cloned machines often share one.
fn machine_ids(plan: &Plan, facts: &BTreeMap<HostName, Facts>) -> Vec<Finding> {
    let mut holders: BTreeMap<&str, &HostName> = BTreeMap::new();
    let mut findings = Vec::new();
    for host in &plan.hosts {
        let Some(System { machine_id, .. }) = facts.get(&host.name).map(|facts| &facts.system) else { continue };
        if machine_id.is_empty() {
            continue;
        }
        if let Some(first) = holders.insert(machine_id, &host.name) {
            findings.push(Finding {
                host: Some(host.name.clone()),
                check: "machine-id",
                severity: Severity::Error,
                message: format!("it has the machine id of host {first}"),
                hint: "is it the same machine under two names, or a clone? Give it an id of its own with `systemd-machine-id-setup`".into(),
            });
        }
    }
    findings
}

fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok()).take(2).collect()
}

#[cfg(test)]
mod tests;

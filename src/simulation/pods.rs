//! What a kubelet makes of manifests: it starts the static pods that are there, ends those that are
//! not, and restarts those whose manifest changed. A component that lacks a file it reads ends at
//! once and is tried again. Pods live on while the kubelet is stopped, as containers do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::names::{Digest, HostName, Mode, RemotePath};

use super::World;
use super::etcd::{self, command, flag};
use super::host::Entry;
use super::peers::verifies;

const MANIFESTS: &str = "/etc/kubernetes/manifests";
const PKI: &str = "/etc/kubernetes/pki";

/// A static pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The manifest it was made from.
    pub manifest: Digest,
    /// When it answers, counted from the beginning of the world.
    pub ready_at: Duration,
    /// Why its component ends at once, if it does.
    pub problem: Option<String>,
    /// The certificates and kubeconfigs it had read at its start.
    pub read: BTreeMap<RemotePath, Digest>,
    /// The CAs of etcd as they were at its start, if it speaks to members.
    pub trusts: Option<Entry>,
    /// Its command line.
    pub command: Arc<Vec<String>>,
}

impl Pod {
    /// Whether its component runs and answers.
    #[must_use]
    pub fn is_ready(&self, now: Duration) -> bool {
        self.answers(now).is_ok()
    }

    /// Whether its component runs and answers, or what is seen instead.
    ///
    /// # Errors
    /// What is seen instead.
    pub fn answers(&self, now: Duration) -> Result<(), String> {
        match &self.problem {
            Some(problem) => Err(problem.clone()),
            None if self.ready_at > now => Err("connection refused".into()),
            None => Ok(()),
        }
    }
}

/// Pairs of a leaf and its CA that a component needs, and other files, below /etc/kubernetes.
struct Needs {
    signed: &'static [(&'static str, &'static str)],
    files: &'static [&'static str],
    seconds: u64,
}

fn needs(pod: &str) -> Needs {
    match pod {
        "etcd" => Needs {
            signed: &[("pki/etcd/server.crt", "pki/etcd/ca.crt"), ("pki/etcd/peer.crt", "pki/etcd/ca.crt")],
            files: &["pki/etcd/server.key", "pki/etcd/peer.key"],
            seconds: 5,
        },
        "kube-apiserver" => Needs {
            signed: &[
                ("pki/apiserver.crt", "pki/ca.crt"),
                ("pki/apiserver-kubelet-client.crt", "pki/ca.crt"),
                ("pki/front-proxy-client.crt", "pki/front-proxy-ca.crt"),
            ],
            files: &["pki/apiserver.key", "pki/sa.pub", "pki/sa.key"],
            seconds: 10,
        },
        "kube-controller-manager" => {
            Needs { signed: &[], files: &["pki/ca.crt", "pki/ca.key", "pki/sa.key", "controller-manager.conf"], seconds: 4 }
        }
        "kube-scheduler" => Needs { signed: &[], files: &["scheduler.conf"], seconds: 4 },
        _ => Needs { signed: &[], files: &[], seconds: 3 },
    }
}

impl World {
    /// The kubelet of that host looks at the manifests.
    pub(super) fn reconcile(&mut self, name: &HostName, now: Duration) {
        let host = &self.hosts[name];
        if !host.kubelet_runs() {
            return;
        }
        let stem = |path: &RemotePath| path.file_name().strip_suffix(".yaml").map(str::to_owned);
        let wanted: BTreeMap<String, Digest> =
            host.below(MANIFESTS).filter_map(|(path, _)| Some((stem(path)?, host.digest(path)?))).collect();
        let stopped: Vec<String> = host.pods.keys().filter(|pod| !wanted.contains_key(*pod)).cloned().collect();
        let current = |pod: &str, manifest: Digest| host.pods.get(pod).is_some_and(|pod| pod.manifest == manifest && pod.problem.is_none());
        let started: Vec<(String, Digest)> = wanted.into_iter().filter(|(pod, manifest)| !current(pod, *manifest)).collect();
        for pod in stopped {
            self.host_mut(name).pods.remove(&pod);
        }
        for (pod, manifest) in started {
            // The old one ends first.
            self.host_mut(name).pods.remove(&pod);
            let command = self.command_of(name, &pod, manifest);
            let broken = self.broken.as_ref().is_some_and(|image| self.image_of(name, &pod).as_ref() == Some(image));
            let problem = if broken { Some("exec format error".to_owned()) } else { self.begin(name, &pod, &command).err() };
            let delay = self.pace(name, Duration::from_secs(needs(&pod).seconds));
            let (read, trusts) = (self.read_at_start(name, &pod), self.trusted_at_start(name, &pod));
            self.host_mut(name).pods.insert(pod, Pod { manifest, ready_at: now + delay, problem, read, trusts, command });
        }
    }

    /// The kubelet tries what ended at once again.
    pub(super) fn retry(&mut self, name: &HostName, now: Duration) {
        if self.hosts.get(name).is_some_and(|host| host.pods.values().any(|pod| pod.problem.is_some())) {
            self.reconcile(name, now);
        }
    }

    fn read_at_start(&self, name: &HostName, pod: &str) -> BTreeMap<RemotePath, Digest> {
        let needs = needs(pod);
        let signed = needs.signed.iter().flat_map(|(leaf, authority)| [*leaf, *authority]);
        let paths = signed.chain(needs.files.iter().copied()).map(|file| RemotePath::fixed(&format!("/etc/kubernetes/{file}")));
        paths.filter_map(|path| Some((path.clone(), self.hosts[name].digest(&path)?))).collect()
    }

    fn image_of(&self, name: &HostName, pod: &str) -> Option<String> {
        self.hosts[name].runs(pod).map(|version| format!("{pod}:{version}"))
    }

    /// The command line in a manifest, which is read once.
    fn command_of(&mut self, name: &HostName, pod: &str, manifest: Digest) -> Arc<Vec<String>> {
        if let Some(known) = self.commands.get(&manifest) {
            return Arc::clone(known);
        }
        let text = self.hosts[name].text(&format!("{MANIFESTS}/{pod}.yaml")).unwrap_or_default();
        let command = Arc::new(command(text));
        self.commands.insert(manifest, Arc::clone(&command));
        command
    }

    fn begin(&mut self, name: &HostName, pod: &str, command: &[String]) -> Result<(), String> {
        let needs = needs(pod);
        for file in needs.files {
            self.hosts[name].text(&format!("/etc/kubernetes/{file}")).ok_or_else(|| format!("open {file}: no such file"))?;
        }
        for (leaf, authority) in needs.signed {
            self.signed(name, &format!("/etc/kubernetes/{leaf}"), &format!("/etc/kubernetes/{authority}"))?;
        }
        match pod {
            "etcd" => {
                let flags = etcd::flags(command).ok_or("its flags cannot be read")?;
                self.begin_member(name, &flags)
            }
            "kube-apiserver" if flag(command, "etcd-certfile") == Some("/etc/kubernetes/pki/apiserver-etcd-client.crt") => {
                self.signed(name, &format!("{PKI}/apiserver-etcd-client.crt"), &format!("{PKI}/etcd/ca.crt"))
            }
            _ => Ok(()),
        }
    }

    /// Whether one certificate on a host is signed by another.
    fn signed(&self, name: &HostName, leaf: &str, authority: &str) -> Result<(), String> {
        let host = &self.hosts[name];
        let read = |path: &str| host.at(path).ok_or_else(|| format!("open {path}: no such file"));
        if verifies(&mut self.verified.borrow_mut(), read(leaf)?, read(authority)?) {
            Ok(())
        } else {
            Err(format!("{leaf}: certificate signed by unknown authority"))
        }
    }

    /// Whether the API server of a host shows a certificate that these CAs, PEM, have signed.
    pub(super) fn is_trusted(&self, name: &HostName, authorities: &str) -> bool {
        let Some(leaf) = self.hosts[name].at(&format!("{PKI}/apiserver.crt")) else { return false };
        verifies(&mut self.verified.borrow_mut(), leaf, &Entry::file(Mode(0o600), authorities))
    }

    /// Whether the API server of a host is ready, and whose objects it serves. `None`: those of an
    /// etcd that somebody else runs.
    ///
    /// # Errors
    /// What is seen instead.
    pub fn api_server(&mut self, name: &HostName, now: Duration) -> Result<Option<Digest>, String> {
        self.reachable(name)?;
        self.retry(name, now);
        let host = &self.hosts[name];
        let pod = host.pods.get("kube-apiserver").ok_or("connection refused")?;
        pod.answers(now)?;
        let mut seen = "connection refused".to_owned();
        for member in self.asked_by(name) {
            let Some(member) = member else { return Ok(None) };
            match self.member_health(&member, now) {
                Ok(id) if self.serves(&member, name) => return Ok(Some(id)),
                Ok(_) => seen = format!("etcd on {member}: certificate signed by unknown authority"),
                Err(reason) => seen = format!("etcd on {member}: {reason}"),
            }
        }
        Err(seen)
    }

    /// The hosts whose members the API server of a host asks, in its order. `None` is one of an etcd that
    /// somebody else runs.
    pub(super) fn asked_by(&self, name: &HostName) -> Vec<Option<HostName>> {
        let Some(pod) = self.hosts[name].pods.get("kube-apiserver") else { return Vec::new() };
        let servers = flag(&pod.command, "etcd-servers").unwrap_or_default().split(',');
        let member = |server: &str| {
            let address = server.rsplit_once("://").map_or(server, |(_, rest)| rest);
            let address = address.rsplit_once(':').map_or(address, |(address, _)| address).trim_matches(['[', ']']);
            let own = matches!(address, "127.0.0.1" | "::1" | "localhost");
            if own { Some(name.clone()) } else { self.host_at(address) }
        };
        servers.map(member).collect()
    }
}

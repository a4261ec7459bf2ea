//! All hosts and what they share, and the rules that no effect may break: etcd never has fewer members
//! up than it needs because of slipway, its membership never changes twice at once, nobody still asks a member
//! that is removed, there is never a second CA and never a second new etcd cluster, and what etcd held is kept
//! before an upgrade. Broken rules are gathered in `violations`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::desired::kubelet::UNIT as KUBELET;
use crate::desired::packages;
use crate::names::{Digest, HostName, RemotePath};
use crate::phase::StepId;
use crate::plan::Plan;
use crate::standing::API_SERVER_MANIFEST;
use crate::trust::specification::Authority;

use super::effects::Effect;
use super::etcd::EtcdCluster;
use super::faults::{Fault, Strike};
use super::host::{Entry, Host, LIBRARY};
use super::peers::Verified;
use super::undo::OF_BRIDGES;

/// Below it are the certificates of all CAs.
const AUTHORITIES: &str = "/etc/kubernetes/pki/";

/// The world of a simulation.
#[derive(Debug, Clone)]
pub struct World {
    /// The hosts.
    pub hosts: BTreeMap<HostName, Host>,
    /// Clusters of etcd that hosts have data of.
    pub clusters: BTreeMap<Digest, EtcdCluster>,
    /// An etcd that somebody else runs.
    pub external: EtcdCluster,
    /// An image that does not start, as `kube-apiserver:v1.34.2`.
    pub broken: Option<String>,
    /// Rules that were broken.
    pub violations: Vec<String>,
    /// Faults to come.
    pub faults: Vec<Fault>,
    /// Releases may be replaced although nothing of before is kept.
    pub without_snapshots: bool,
    /// The whole cluster is to be lost: no quorum is kept.
    pub expects_loss: bool,
    /// The time on the hosts' clocks when the world began.
    pub now: Timestamp,
    /// Changes that were made, in order: step and artifact.
    pub made: Vec<(Option<StepId>, String)>,
    /// Nobody will read `made`: for ten thousand hosts it would be larger than what it tells of.
    pub forgetful: bool,
    /// Commands sent to each host.
    pub round_trips: BTreeMap<HostName, usize>,
    /// What the API heard last of kubelets whose Nodes were ready, and when, counted from the beginning.
    pub(super) heard: BTreeMap<HostName, (Duration, String)>,
    /// Hosts whose kubelets the engine started since it looked at them, and has not asked since.
    pub(super) unasked: BTreeSet<HostName>,
    pub(super) killed: bool,
    pub(super) signal: Arc<Notify>,
    /// Told when a line is cut.
    pub(super) cuts: Arc<Notify>,
    pub(super) verified: RefCell<Verified>,
    pub(super) commands: HashMap<Digest, Arc<Vec<String>>>,
    pub(super) membership_changes: usize,
    /// Hosts with data of etcd.
    pub(super) keepers: BTreeSet<HostName>,
    /// Hosts that were given an API server; those that run one are among them.
    pub(super) api_servers: BTreeSet<HostName>,
    /// The certificate of each CA that was written last.
    authorities: BTreeMap<RemotePath, Digest>,
    began: Instant,
    seed: u64,
    draws: BTreeMap<HostName, u64>,
    by_address: BTreeMap<String, HostName>,
}

impl World {
    /// The hosts of a plan, as they are delivered.
    #[must_use]
    pub fn new(plan: &Plan, seed: u64, now: Timestamp) -> Self {
        let mut hosts = BTreeMap::new();
        let mut by_address = BTreeMap::new();
        for host in &plan.hosts {
            let addresses: Vec<_> = host.addresses().collect();
            by_address.extend(addresses.iter().map(|address| (address.to_string(), host.name.clone())));
            let version = plan.kubernetes.version.to_string();
            hosts.insert(host.name.clone(), Host::delivered(host.name.clone(), addresses, version));
        }
        Self {
            hosts,
            clusters: BTreeMap::new(),
            external: EtcdCluster { formed: true, ..EtcdCluster::default() },
            broken: None,
            violations: Vec::new(),
            faults: Vec::new(),
            without_snapshots: false,
            expects_loss: false,
            now,
            made: Vec::new(),
            forgetful: false,
            round_trips: BTreeMap::new(),
            heard: BTreeMap::new(),
            unasked: BTreeSet::new(),
            killed: false,
            signal: Arc::new(Notify::new()),
            cuts: Arc::new(Notify::new()),
            verified: RefCell::default(),
            commands: HashMap::new(),
            membership_changes: 0,
            keepers: BTreeSet::new(),
            api_servers: BTreeSet::new(),
            authorities: BTreeMap::new(),
            began: Instant::now(),
            seed,
            draws: BTreeMap::new(),
            by_address,
        }
    }

    /// The time since the world began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The time on the hosts' clocks, in seconds since 1970.
    #[must_use]
    pub fn clock(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a clock in seconds has room for fractions")]
        let begun = self.now.as_millisecond() as f64 / 1000.0;
        begun + self.elapsed().as_secs_f64()
    }

    /// A host to meddle with.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn host_mut(&mut self, name: &HostName) -> &mut Host {
        self.hosts.get_mut(name).expect("the host is of the plan")
    }

    /// The host with that address.
    #[must_use]
    pub fn host_at(&self, address: &str) -> Option<HostName> {
        self.by_address.get(address).cloned()
    }

    pub(super) fn reachable(&self, name: &HostName) -> Result<(), String> {
        match self.hosts.get(name) {
            Some(host) if host.reachable => Ok(()),
            Some(_) => Err("the host is not reached".into()),
            None => Err(format!("no host {name}")),
        }
    }

    /// How long something that takes about this long takes on that host now: between three and five
    /// quarters, from the seed.
    pub(super) fn pace(&mut self, host: &HostName, usual: Duration) -> Duration {
        let draw = self.draws.entry(host.clone()).or_default();
        *draw += 1;
        let mut state = host.as_str().bytes().fold(self.seed ^ *draw, |state, byte| splitmix(state ^ u64::from(byte)));
        state = splitmix(state);
        let slow = self.faults.iter().find_map(|fault| match fault {
            Fault::Slow(slow, times) if slow == host => Some(*times),
            _ => None,
        });
        #[expect(clippy::cast_precision_loss, reason = "53 bits of it are enough")]
        let share = 0.75 + 0.5 * ((state >> 11) as f64 / (1_u64 << 53) as f64);
        usual.mul_f64(share) * slow.unwrap_or(1)
    }

    /// The fault that strikes this change, if one does. It strikes once.
    pub(super) fn strike(&mut self, step: Option<&StepId>, artifact: &str) -> Option<Strike> {
        let place = self.faults.iter().position(|fault| fault.strike(step, artifact).is_some())?;
        self.faults.remove(place).strike(step, artifact)
    }

    /// The line to a host is cut; nobody reaches it any more.
    pub(super) fn cut(&mut self, name: &HostName) {
        self.host_mut(name).reachable = false;
        self.cuts.notify_waiters();
    }

    /// The engine is dead from here.
    pub(super) fn kill(&mut self) {
        self.killed = true;
        self.signal.notify_one();
    }

    /// All locks are free, as after the end of whoever held them, and hosts are reached again.
    pub fn unlock_all(&mut self) {
        self.killed = false;
        self.signal = Arc::new(Notify::new());
        self.cuts = Arc::new(Notify::new());
        self.membership_changes = 0;
        self.unasked.clear();
        for host in self.hosts.values_mut() {
            host.lock = None;
            host.reachable = true;
        }
    }

    /// Whether the kubelet of that host runs and the API hears it.
    pub(super) fn kubelet_is_heard(&self, name: &HostName) -> bool {
        let mute = |host: &Host| host.kubelet_mute && self.faults.contains(&Fault::Mute(name.clone()));
        self.hosts.get(name).is_some_and(|host| host.reachable && host.kubelet_runs() && !mute(host))
    }

    /// The kubelet of that host ends. What it said of its Node stays for a while.
    fn kubelet_ends(&mut self, name: &HostName) {
        let now = self.elapsed();
        if self.kubelet_is_heard(name)
            && let Some(heard) = self.heard.get_mut(name)
        {
            *heard = (now, self.hosts[name].kubelet_running.clone());
        }
    }

    /// Something happens to a host because of slipway.
    pub(super) fn perform(&mut self, name: &HostName, effect: Effect) {
        let now = self.elapsed();
        let counts = |path: &RemotePath| ["/etc/kubernetes/manifests/", "/etc/kubernetes/pki/etcd/"].iter().any(|directory| path.as_str().starts_with(directory));
        let touches_pods = match &effect {
            Effect::Put(path, _) | Effect::Remove(path) => counts(path),
            Effect::RemovePods | Effect::RemoveMember(_) | Effect::Start(..) => true,
            _ => false,
        };
        if !touches_pods {
            self.apply(name, effect);
            return;
        }
        self.guarded(&format!("a change on {name}"), now, |world| {
            world.apply(name, effect);
            world.reconcile(name, now);
            world.check_skew(name);
        });
    }

    /// Something happens because of slipway that may take members of etcd down, and must leave as many up
    /// as each cluster needs if that many were up before.
    pub(super) fn guarded<A>(&mut self, what: &str, now: Duration, happens: impl FnOnce(&mut Self) -> A) -> A {
        let before = self.voters(now);
        let result = happens(self);
        for (id, up) in self.voters(now) {
            let Some(cluster) = self.clusters.get(&id).filter(|cluster| cluster.formed && !self.expects_loss) else { continue };
            let needed = cluster.protected();
            if before.get(&id).is_some_and(|before| *before >= needed) && up < needed {
                self.violations.push(format!("{what} leaves {up} of {} etcd members up", cluster.voters().count()));
            }
        }
        result
    }

    /// Nothing on a host is newer than any API server (Kubernetes' version skew policy).
    fn check_skew(&mut self, name: &HostName) {
        let oldest = self.api_servers.iter().filter_map(|name| self.hosts[name].runs("kube-apiserver")).min();
        let Some(oldest) = oldest else { return };
        let host = &self.hosts[name];
        let kubelet = host.kubelet_runs().then(|| host.kubelet_running.parse().ok()).flatten();
        let others = ["kube-controller-manager", "kube-scheduler"].map(|pod| (pod, host.runs(pod)));
        for (component, version) in [("kubelet", kubelet)].into_iter().chain(others) {
            if let Some(version) = version.filter(|version| *version > oldest) {
                self.violations.push(format!("{component} {version} on {name} is newer than an API server of {oldest}"));
            }
        }
    }

    /// How many members of each cluster are up.
    fn voters(&self, now: Duration) -> BTreeMap<Digest, usize> {
        self.clusters.keys().map(|id| (*id, self.up(id, now).len())).collect()
    }

    fn apply(&mut self, name: &HostName, effect: Effect) {
        if let Effect::Put(path, entry) = &effect {
            self.check_authority(name, path, entry.bytes());
            if path.as_str() == API_SERVER_MANIFEST {
                self.check_kept(name, entry);
                self.api_servers.insert(name.clone());
            }
        }
        if let Effect::Start(unit, _) | Effect::Stop(unit) = &effect
            && unit == KUBELET
        {
            self.kubelet_ends(name);
        }
        let mute = self.faults.contains(&Fault::Mute(name.clone()));
        let host = self.hosts.get_mut(name).expect("the host is of the plan");
        match effect {
            Effect::Put(path, entry) => _ = host.files.insert(path, entry),
            Effect::Remove(path) => {
                if path.as_str() == "/var/lib/kubelet/cpu_manager_state" || path.as_str() == "/var/lib/kubelet/config.yaml" {
                    host.cpu_notes = None;
                }
                if path.as_str() == LIBRARY {
                    host.snapshots.clear();
                }
                host.files.remove(&path);
            }
            Effect::Enable(unit) => host.units.entry(unit).or_default().enabled = true,
            Effect::Disable(unit) => host.units.entry(unit).or_default().enabled = false,
            Effect::Start(unit, inputs) => {
                if unit == KUBELET {
                    host.kubelet_mute = mute;
                    host.kubelet_running.clone_from(&host.system.kubelet_version);
                    // As the real one: it does not start with the notes of another policy.
                    let policy = host.cpu_policy();
                    if host.cpu_notes.replace(policy.clone()).is_some_and(|noted| noted != policy) {
                        self.violations.push(format!("the kubelet on {name} starts with the CPU notes of another policy than {policy}"));
                    }
                }
                let read = inputs.into_iter().map(|path| (path.clone(), host.digest(&path))).collect();
                let unit = host.units.entry(unit).or_default();
                unit.active = true;
                unit.started_with = read;
            }
            Effect::Stop(unit) => {
                let unit = host.units.entry(unit).or_default();
                unit.active = false;
                unit.started_with.clear();
            }
            Effect::Load(module) => {
                if module == "br_netfilter" {
                    // The kernel's own value.
                    host.sysctls.extend(OF_BRIDGES.map(|key| (key.to_owned(), "1".to_owned())));
                }
                host.modules.insert(module);
            }
            Effect::Unload(module) => {
                if module == "br_netfilter" {
                    host.sysctls.retain(|key, _| !OF_BRIDGES.contains(&key.as_str()));
                }
                host.modules.remove(&module);
            }
            Effect::Set(key, value) => _ = host.sysctls.insert(key, value),
            Effect::Swap(devices) => host.swap = devices,
            Effect::Package(name, package) => {
                if name == packages::KUBELET {
                    let version = package.as_ref().and_then(|package| package.version.split('-').next());
                    host.system.kubelet_version = version.map(|version| format!("v{version}")).unwrap_or_default();
                }
                match package {
                    Some(package) => _ = host.packages.insert(name, package),
                    None => _ = host.packages.remove(&name),
                }
            }
            Effect::Image(image) => _ = host.images.insert(image),
            Effect::RemoveImage(image) => _ = host.images.remove(&image),
            Effect::RemovePods => host.pods.clear(),
            Effect::Snapshot(snapshot) => self.keep(name, &snapshot),
            Effect::RemoveMember(directory) => {
                host.etcd.remove(&directory);
                if host.etcd.is_empty() {
                    self.keepers.remove(name);
                }
                self.forget_lost_clusters();
            }
        }
    }

    /// There is one CA of each kind, or while it is replaced two that no two hosts lack in common.
    fn check_authority(&mut self, name: &HostName, path: &RemotePath, bytes: Option<&[u8]>) {
        if !path.as_str().starts_with(AUTHORITIES) || !Authority::ALL.into_iter().any(|authority| authority.certificate_path() == *path) {
            return;
        }
        let Some(digest) = bytes.map(Digest::of) else { return };
        // All hosts are looked at only if it is not the one seen last.
        if self.authorities.insert(path.clone(), digest).is_none_or(|last| last == digest) {
            return;
        }
        let blocks = |bytes: &[u8]| -> BTreeSet<String> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.split_inclusive("-----END CERTIFICATE-----").map(|block| block.trim().to_owned()).filter(|block| !block.is_empty()).collect()
        };
        let own = bytes.map(blocks).unwrap_or_default();
        let mut others = self.hosts.values().filter(|host| host.name != *name && host.digest(path) != Some(digest));
        if others.any(|host| host.files.get(path).and_then(Entry::bytes).is_some_and(|other| blocks(other).is_disjoint(&own))) {
            self.violations.push(format!("{path} on {name} is another CA than on other hosts"));
        }
    }

    /// A host loses its power and comes back: what is enabled starts again.
    pub fn reboot(&mut self, name: &HostName) {
        self.kubelet_ends(name);
        let now = self.elapsed();
        let mute = self.faults.contains(&Fault::Mute(name.clone()));
        let host = self.host_mut(name);
        host.pods.clear();
        let names: Vec<String> = host.units.keys().cloned().collect();
        for unit in names {
            let runs = host.has_unit(&unit);
            let inputs: Vec<RemotePath> = host.units[&unit].started_with.keys().cloned().collect();
            let read = inputs.into_iter().map(|path| (path.clone(), host.digest(&path))).collect();
            let unit = host.units.get_mut(&unit).expect("it was listed");
            unit.active = unit.enabled && runs;
            unit.started_with = read;
        }
        host.kubelet_running.clone_from(&host.system.kubelet_version);
        host.kubelet_mute = mute;
        self.reconcile(name, now);
    }

    /// A machine is lost, and another one of its name and address is delivered in its place.
    pub fn replace(&mut self, name: &HostName) {
        let host = self.host_mut(name);
        let version = host.system.kubelet_version.clone();
        *host = Host::delivered(name.clone(), host.addresses.clone(), version);
        self.keepers.remove(name);
    }

    /// Units and pods that run with other files than are there now, and pods that do not run: what must
    /// be none when everything is as wanted.
    #[must_use]
    pub fn stale(&self) -> Vec<String> {
        let mut stale = Vec::new();
        for host in self.hosts.values() {
            for (name, unit) in host.units.iter().filter(|(_, unit)| unit.active) {
                let old = unit.started_with.iter().filter(|(path, digest)| host.digest(path) != **digest);
                stale.extend(old.map(|(path, _)| format!("{name} on {} runs with an old {path}", host.name)));
            }
            for (name, pod) in &host.pods {
                stale.extend(pod.problem.iter().map(|problem| format!("{name} on {}: {problem}", host.name)));
                let old = pod.read.iter().filter(|(path, digest)| host.digest(path) != Some(**digest));
                stale.extend(old.map(|(path, _)| format!("{name} on {} runs with an old {path}", host.name)));
            }
        }
        stale
    }
}

/// The mixing step of splitmix64.
fn splitmix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

//! A cluster in memory: hosts, etcd, an API, behind the same traits as the real ones, so that the
//! same engine that works over SSH can be killed, cut off and repeated thousands of times, and a
//! user can rehearse a plan without a host.
//!
//! It is not a second engine: `planning::plan` and `execute` run unchanged. What is modelled is what
//! a host does with a change (`effects` and `undo`, which mirror `transport/script/*.sh`; the contract
//! test holds the two together), what kubelets and etcd make of files (`pods`, `etcd`), and what a
//! probe tells of it. Every effect is checked against rules that must never be broken (`world`).
//!
//! Time is tokio's: on a paused clock a bootstrap of an hour takes milliseconds. All that looks like
//! chance (how long things take) follows from a seed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, MutexGuard};

use jiff::{SignedDuration, Timestamp};

use crate::cluster::Cluster;
use crate::execute::control::Control;
use crate::execute::{Execution, execute};
use crate::failure::Failure;
use crate::graph::StepGraph;
use crate::plan::{Host, HostKubelet, Limits, Plan, Role, SshOverrides};
use crate::planning::{self, Access, LocalSource, Options, Planned};
use crate::report::{Event, Report};
use crate::trust::decide::Requested;
use crate::trust::rotation::Aims;

pub mod cluster;
pub mod effects;
pub mod etcd;
pub mod faults;
pub mod fingerprint;
pub mod host;
pub mod membership;
mod objects;
mod peers;
pub mod pods;
pub mod rehearsal;
pub mod shared;
mod snapshots;
pub mod transport;
pub mod undo;
pub mod world;

pub use cluster::SimulatedCluster;
pub use faults::{Fault, Moment, Point};
pub use shared::SharedWorld;
pub use transport::SimulatedTransport;
pub use world::World;

/// A simulated cluster and the ways into it.
#[derive(Debug)]
pub struct Simulation {
    world: SharedWorld,
}

impl Simulation {
    /// The hosts of a plan, as their makers deliver them. `now` is the time on their clocks.
    #[must_use]
    pub fn new(plan: &Plan, seed: u64, now: Timestamp) -> Self {
        Self { world: SharedWorld::new(World::new(plan, seed, now)) }
    }

    /// The world, to look at it or to meddle with it.
    ///
    /// # Panics
    /// Whoever held it before panicked.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    /// A world that is the same now and goes its own way from here, without planned faults.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut world = self.world().clone();
        world.faults.clear();
        world.unlock_all();
        Self { world: SharedWorld::new(world) }
    }

    /// The hosts as the engine reaches them.
    #[must_use]
    pub fn transport(&self) -> SimulatedTransport {
        SimulatedTransport::new(self.world.clone())
    }

    /// The cluster as the engine reaches it, for `planning::plan`.
    pub fn reach(&self) -> impl FnOnce(Access) -> SimulatedCluster + use<> {
        let world = self.world.clone();
        move |access| SimulatedCluster::new(world, access.plan, access.api.ca_pem)
    }

    /// Plans a run, as `apply` does.
    ///
    /// # Errors
    /// As for `planning::plan`.
    pub async fn plan(&self, plan: &Arc<Plan>) -> Result<Planned<SimulatedCluster>, Failure> {
        self.plan_towards(plan, Aims::new()).await
    }

    /// The same for a state of CAs that are being replaced, as `certs rotate-ca` does.
    ///
    /// # Errors
    /// As for `planning::plan`.
    pub async fn plan_towards(&self, plan: &Arc<Plan>, rotation: Aims) -> Result<Planned<SimulatedCluster>, Failure> {
        let (now, elapsed) = {
            let world = self.world();
            (world.now, world.elapsed())
        };
        let now = now.saturating_add(SignedDuration::try_from(elapsed).unwrap_or_default()).unwrap_or(now);
        let options = Options { hosts: &[], phases: &[], renew: &Requested::NONE, lock: Some("a rehearsal".into()), now, rotation, local: LocalSource::Assumed };
        planning::plan(Arc::clone(plan), &self.transport(), self.reach(), options).await
    }

    /// Carries a graph out. `None`: the engine was killed by a fault.
    pub async fn carry_out<C: Cluster>(
        &self,
        graph: &StepGraph,
        cluster: &C,
        limits: &Limits,
        on_event: impl FnMut(&Event),
    ) -> Option<Report> {
        let signal = Arc::clone(&self.world().signal);
        let (transport, control) = (self.transport(), Control::default());
        let execution = Execution { transport: &transport, cluster, limits, control: &control };
        let report = tokio::select! {
            biased;
            () = signal.notified() => None,
            report = execute(graph, &execution, on_event) => Some(report),
        };
        self.world().unlock_all();
        report
    }

    /// The cluster of another simulation as it is in this one.
    #[must_use]
    pub fn cluster_like(&self, other: &SimulatedCluster) -> SimulatedCluster {
        other.within(self.world.clone())
    }

    /// The cluster without credentials of its own, for a reset.
    #[must_use]
    pub fn cluster(&self, plan: Arc<Plan>) -> SimulatedCluster {
        SimulatedCluster::new(self.world.clone(), plan, String::new())
    }
}

/// The plan with that many workers more. Their addresses are those set aside for measurements of networks
/// (198.18.0.0/15, RFC 2544), which no real host has.
#[must_use]
pub fn with_workers(plan: &Plan, count: u32) -> Plan {
    let mut plan = plan.clone();
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 1));
    for index in 0..count {
        let name = format!("simulated-{:05}", index + 1).parse().expect("letters, digits and a dash");
        plan.hosts.push(Host {
            name,
            address: Ipv4Addr::from(first + index).into(),
            second_address: None,
            roles: [Role::Worker].into(),
            ssh: SshOverrides::default(),
            labels: BTreeMap::new(),
            taints: None,
            kubelet: HostKubelet::default(),
            pod_cidrs: Vec::new(),
        });
    }
    plan
}

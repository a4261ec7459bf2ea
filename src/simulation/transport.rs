//! The engine's way to simulated hosts. A step takes effect change by change, and each change effect by
//! effect, with simulated time in between, so that other hosts go on meanwhile and a fault can strike
//! anywhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::artifact::Secret;
use crate::change::Change;
use crate::facts::Facts;
use crate::graph::estimate;
use crate::names::{HostName, RemotePath};
use crate::phase::StepId;
use crate::transport::{ApplyError, ProbeRequest, Stream, Transport, TransportError, Work};

use super::SharedWorld;
use super::effects::{Refused, effects};
use super::faults::{Moment, Strike};

/// How long one round trip takes.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Simulated hosts, as the engine reaches them.
#[derive(Debug, Clone)]
pub struct SimulatedTransport {
    world: SharedWorld,
}

/// What became of one change.
enum Made {
    Good,
    /// From here no answer arrives.
    Unheard,
}

impl SimulatedTransport {
    pub(super) fn new(world: SharedWorld) -> Self {
        Self { world }
    }

    /// One command on a host, as far as it gets there and back.
    async fn trip(&self, host: &HostName) -> Result<(), TransportError> {
        let pace = {
            let mut world = self.world.lock();
            *world.round_trips.entry(host.clone()).or_default() += 1;
            world.pace(host, ROUND_TRIP)
        };
        self.world.pass(pace).await;
        self.world.lock().reachable(host).map_err(|reason| TransportError::Connect {
            host: host.clone(),
            destination: host.to_string(),
            reason,
            hint: None,
        })
    }

    /// Makes one change, as far as its fault lets it.
    async fn make(&self, host: &HostName, step: &StepId, change: &Change) -> Result<Made, MakeError> {
        let artifact = change.artifact.id();
        let strike = self.world.lock().strike(Some(step), &artifact);
        match strike {
            Some(Strike::Kill(Moment::Before)) => self.world.die().await,
            Some(Strike::Fail(Moment::Before)) => return Err(MakeError::Refused("slipway: failed before the change".into())),
            Some(Strike::DiskFull) => return Err(MakeError::Refused("slipway: No space left on device".into())),
            Some(Strike::Gone) => {
                self.world.lock().cut(host);
                return Err(MakeError::Lost);
            }
            _ => {}
        }
        let within = matches!(strike, Some(Strike::Kill(Moment::Within) | Strike::Fail(Moment::Within)));
        {
            let mut world = self.world.lock();
            let (list, result) = effects(&world.hosts[host], change);
            let count = if within { list.len().div_ceil(2) } else { list.len() };
            for effect in list.into_iter().take(count) {
                world.perform(host, effect);
            }
            let now = world.elapsed();
            world.retry(host, now);
            result.map_err(|Refused(reason)| MakeError::Refused(reason))?;
            if !within && !world.forgetful {
                world.made.push((Some(step.clone()), artifact));
            }
        }
        match strike {
            Some(Strike::Kill(_)) => self.world.die().await,
            Some(Strike::Fail(_)) => Err(MakeError::Refused("slipway: failed after the change".into())),
            Some(Strike::Reboot) => {
                self.world.lock().reboot(host);
                Err(MakeError::Lost)
            }
            Some(Strike::ReplyLost) => Ok(Made::Unheard),
            _ => Ok(Made::Good),
        }
    }
}

enum MakeError {
    Refused(String),
    Lost,
}

impl Transport for SimulatedTransport {
    async fn probe(&self, host: &HostName, request: &ProbeRequest) -> Result<Facts, TransportError> {
        self.trip(host).await?;
        let mut world = self.world.lock();
        let clock = world.clock();
        if let Some(holder) = &request.lock {
            match &world.hosts[host].lock {
                Some(other) if other != holder => return Err(TransportError::Locked { host: host.clone(), holder: other.clone() }),
                _ => world.host_mut(host).lock = Some(holder.clone()),
            }
        }
        Ok(world.hosts[host].facts(request, clock))
    }

    async fn fetch(&self, host: &HostName, paths: &[RemotePath]) -> Result<BTreeMap<RemotePath, Secret>, TransportError> {
        self.trip(host).await?;
        let world = self.world.lock();
        let read = |path: &RemotePath| Some((path.clone(), Secret::new(world.hosts[host].files.get(path)?.bytes()?)));
        Ok(paths.iter().filter_map(read).collect())
    }

    async fn apply(&self, host: &HostName, work: Work<'_>, progress: impl Fn(usize) + Send + Sync) -> Result<(), ApplyError> {
        self.trip(host).await?;
        let lost = || TransportError::Lost { host: host.clone(), operation: work.step.to_string() };
        let usual = Duration::from_secs(estimate::seconds(work.step.phase));
        let each = usual / u32::try_from(work.changes.len().max(1)).unwrap_or(u32::MAX);
        let mut heard = true;
        for (index, change) in work.changes.iter().enumerate() {
            let pace = self.world.lock().pace(host, each);
            self.world.pass(pace).await;
            match self.make(host, work.step, change).await {
                Ok(Made::Good) => {}
                Ok(Made::Unheard) => heard = false,
                Err(MakeError::Lost) => return Err(lost().into()),
                Err(MakeError::Refused(stderr)) => return Err(ApplyError::Script { change: Some(index), status: 1, stderr }),
            }
            if heard {
                progress(index);
            }
        }
        if heard { Ok(()) } else { Err(lost().into()) }
    }

    async fn connect(&self, host: &HostName, address: SocketAddr) -> Result<Box<dyn Stream>, TransportError> {
        let reason = format!("nothing listens on {address}: a simulated host has no ports");
        Err(TransportError::Command { host: host.clone(), operation: "connect".into(), reason })
    }

    async fn diagnose(&self, host: &HostName, _: &str) -> Result<String, TransportError> {
        let reason = "a simulated host has no logs".into();
        Err(TransportError::Command { host: host.clone(), operation: "diagnose".into(), reason })
    }

    async fn lost(&self, host: &HostName) -> String {
        let cuts = Arc::clone(&self.world.lock().cuts);
        loop {
            let mut cut = std::pin::pin!(cuts.notified());
            // From here on it hears of a cut, also of one between this look and the wait.
            cut.as_mut().enable();
            let held = {
                let world = self.world.lock();
                world.hosts.get(host).is_some_and(|host| host.lock.is_some()).then(|| world.reachable(host).is_ok())
            };
            match held {
                Some(false) => return "Timeout, server not responding.".to_owned(),
                Some(true) => cut.await,
                // No lock is held, so none can be lost.
                None => std::future::pending().await,
            }
        }
    }

    fn round_trips(&self, host: &HostName) -> usize {
        self.world.lock().round_trips.get(host).copied().unwrap_or_default()
    }

    async fn close(&self) {
        for host in self.world.lock().hosts.values_mut() {
            host.lock = None;
        }
    }
}

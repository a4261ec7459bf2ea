//! A look at a cluster for commands that do not plan: the hosts are probed without their locks, and
//! the API and etcd are reached with credentials that are on the hosts. What is down stays out;
//! nothing is signed and nothing is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::cluster::live::LiveCluster;
use crate::cluster::wire::Tls;
use crate::facts::Facts;
use crate::failure::{Failure, Kind};
use crate::names::HostName;
use crate::phase::{On, Stage};
use crate::planning::{kubelets, mutual, probe};
use crate::plan::{Host, Plan};
use crate::transport::{Transport, TransportError};
use crate::trust::found;
use crate::trust::refresh::ClientCredentials;
use crate::standing;

/// What a look at a cluster found.
pub(super) struct Survey<T> {
    /// What each host that answered is and has.
    pub facts: BTreeMap<HostName, Facts>,
    /// Hosts that were asked and did not answer.
    pub absent: BTreeMap<HostName, TransportError>,
    /// Whether the cluster lives; `None` if nobody who would know was seen.
    pub stage: Option<Stage>,
    /// An administrator's credentials.
    pub administrator: Option<ClientCredentials>,
    /// The cluster through its API, if there are credentials for it.
    pub cluster: Option<LiveCluster<T>>,
    /// Whether `cluster` can ask slipway's own etcd.
    pub reaches_etcd: bool,
}

/// Looks at the hosts of the plan that are `wanted`.
pub(super) async fn look<T: Transport + 'static>(
    plan: &Arc<Plan>,
    transport: &Arc<T>,
    wanted: impl Fn(&Host) -> bool,
    now: Timestamp,
) -> Survey<T> {
    let (facts, absent) = probe(plan, transport.as_ref(), None, wanted).await;
    let keeper_absent = plan.hosts.iter().any(|host| On::Keepers.includes(plan, host) && !facts.contains_key(&host.name));
    let stage = match standing::stage(plan, &facts) {
        Stage::Fresh if keeper_absent => None,
        stage => Some(stage),
    };
    let administrator = found::administrator(plan, &facts, now);
    let etcd = plan.etcd.external.is_none().then(|| found::etcd_client(plan, &facts, now)).flatten();
    let reaches_etcd = etcd.is_some();
    // etcd is asked even if no API server can be.
    let api = administrator.as_ref().map_or(Tls::Unverified, |credentials| mutual(credentials, "kubernetes"));
    let cluster = (administrator.is_some() || reaches_etcd).then(|| {
        let etcd = etcd.map(|credentials| mutual(&credentials, "localhost"));
        LiveCluster::new(Arc::clone(transport), Arc::clone(plan), api, etcd).leaving_out(absent.keys().cloned()).knowing(kubelets(&facts))
    });
    Survey { facts, absent, stage, administrator, cluster, reaches_etcd }
}

impl<T> Survey<T> {
    /// The living cluster and an administrator's credentials for it.
    pub(super) fn living(self) -> Result<(LiveCluster<T>, ClientCredentials), Failure> {
        if let (Some(cluster), Some(credentials)) = (self.cluster, self.administrator) {
            return Ok((cluster, credentials));
        }
        if self.facts.is_empty() {
            let reasons: Vec<String> = self.absent.values().map(ToString::to_string).collect();
            return Err(Failure::new(Kind::Unreachable, reasons.join("\nerror: ")));
        }
        Err(Failure::new(Kind::Cluster, "no control plane that answers has an admin.conf")
            .hint("is the cluster made? `slipway apply` makes it"))
    }
}

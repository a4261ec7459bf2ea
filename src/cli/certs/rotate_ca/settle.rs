//! Between two states: has the cluster followed? Servers are asked with exactly the trust of the
//! state that comes next, published CAs are compared, slipway's own workloads are rolled, and the
//! users' are named. Everything here is safe to repeat.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{Positions, stored};
use crate::artifact::Secret;
use crate::cluster::live::{Component, LiveCluster};
use crate::cluster::wire::Tls;
use crate::cluster::{Cluster as _, trust};
use crate::desired::cluster::addon_gates;
use crate::failure::{Failure, Kind};
use crate::graph::Gate;
use crate::names::Digest;
use crate::plan::{Cni, KeyAlgorithm, Plan};
use crate::planning::mutual;
use crate::transport::Transport as _;
use crate::transport::ssh::SshTransport;
use crate::trust::issue::{self, Signer, Validity};
use crate::trust::refresh::ClientCredentials;
use crate::trust::rotation::{Position, Step};
use crate::trust::specification::{Authority, ClusterPair, Subject};

/// How often a condition is asked.
const POLL: Duration = Duration::from_secs(1);
/// The probing client's certificate lives this long.
const PROBE: Duration = Duration::from_secs(3600);

/// How the engine speaks to the cluster in this run.
pub(super) struct Credentials {
    /// To the API servers.
    pub api: ClientCredentials,
    /// To etcd; `None` if somebody else runs it.
    pub etcd: Option<ClientCredentials>,
}

/// A cluster that has reached a state, and what is needed to ask it.
pub(super) struct Settling<'a> {
    /// The plan.
    pub plan: &'a Arc<Plan>,
    /// How hosts are reached.
    pub transport: &'a Arc<SshTransport>,
    /// How the cluster is reached.
    pub cluster: &'a LiveCluster<SshTransport>,
    /// With which credentials.
    pub credentials: &'a Credentials,
    /// Where the pairs stand.
    pub positions: &'a Positions,
}

impl Settling<'_> {
    /// Waits until the cluster has followed to that state, so that the next one may begin.
    pub async fn reach(&self, step: Step) -> Result<(), Failure> {
        if step == Step::TrustOld {
            return Ok(());
        }
        self.servers(step).await?;
        if let Some(position) = self.position(ClusterPair::Authority(Authority::Kubernetes)) {
            self.published(position, step).await?;
            if step == Step::TrustBoth {
                self.roll(&format!("CA {}", position.new.identity.short())).await?;
                self.name_readers().await?;
            }
        }
        if step == Step::SignNew && self.position(ClusterPair::Authority(Authority::Kubernetes)).is_some() {
            println!("kubeconfigs copied before now hold certificates of the old CA, which state 3 refuses: fetch them again (`slipway kubeconfig`)");
        }
        if let Some(position) = self.position(ClusterPair::ServiceAccount)
            && step == Step::SignNew
        {
            self.tokens(&trust::key_id(position.new.identity)).await?;
        }
        eprintln!("settled in state {step}");
        Ok(())
    }

    /// Waits until nobody holds a token of the new service-account key, so that it may go.
    pub async fn leave_new(&self) -> Result<(), Failure> {
        match self.position(ClusterPair::ServiceAccount).and_then(|position| position.old.first()) {
            Some(old) => self.tokens(&trust::key_id(old.identity)).await,
            None => Ok(()),
        }
    }

    fn position(&self, pair: ClusterPair) -> Option<&Position> {
        self.positions.get(&pair)?.as_ref()
    }

    fn limit(&self) -> Duration {
        self.plan.limits.gate_timeout.0
    }

    /// In state 1 every server must accept a client of the new CA; in states 2 and 3 every server's
    /// own certificate must verify with the new CA alone.
    async fn servers(&self, step: Step) -> Result<(), Failure> {
        let api = self.tls(Authority::Kubernetes, &self.credentials.api, "kubernetes", step).await?;
        let etcd = match &self.credentials.etcd {
            Some(credentials) => Some(self.tls(Authority::Etcd, credentials, "localhost", step).await?),
            None => None,
        };
        let asked = LiveCluster::new(Arc::clone(self.transport), Arc::clone(self.plan), api, etcd);
        for host in self.plan.control_planes() {
            self.wait(&format!("the API server on {} with the new CA", host.name), || asked.health(Component::ApiServer, host)).await?;
        }
        if self.credentials.etcd.is_some() {
            for host in self.plan.etcd_hosts() {
                self.wait(&format!("etcd on {} with the new CA", host.name), || asked.etcd_health(host)).await?;
            }
        }
        Ok(())
    }

    async fn tls(&self, authority: Authority, own: &ClientCredentials, name: &'static str, step: Step) -> Result<Tls, Failure> {
        let pair = ClusterPair::Authority(authority);
        let Some(position) = self.position(pair) else { return Ok(mutual(own, name)) };
        if step.signs_new() {
            return Ok(mutual(&ClientCredentials { ca_pem: position.new.pem.clone(), ..own.clone() }, name));
        }
        let client = self.client_of_new(pair, position).await?;
        Ok(mutual(&ClientCredentials { ca_pem: position.text(step), ..client }, name))
    }

    /// A client that only the new CA vouches for, and that has no rights.
    async fn client_of_new(&self, pair: ClusterPair, position: &Position) -> Result<ClientCredentials, Failure> {
        let bug = |text: String| Failure::new(Kind::Bug, text);
        let next = pair.next().ok_or_else(|| bug(format!("{pair} is followed by nothing")))?;
        let certificate = position.new.certificate.as_ref().ok_or_else(|| bug(format!("{next} has no certificate")))?;
        let key = match stored::key(self.plan, next)? {
            Some(key) => key,
            None => self.key_on_hosts(pair, next).await?,
        };
        let failed = |error: issue::IssueError| Failure::from_error(Kind::Refused, &error);
        let now = Timestamp::now();
        let signer = Signer::load(certificate, &key, now).map_err(failed)?;
        let own = issue::generate_key(KeyAlgorithm::EcdsaP256).map_err(failed)?;
        let subject = Subject { common_name: "slipway-rotation-probe".to_owned(), organizations: BTreeSet::new() };
        let certificate_pem = signer.sign_client(&subject, &own, Validity { now, length: PROBE }).map_err(failed)?;
        Ok(ClientCredentials { ca_pem: String::new(), certificate_pem, key: own.private })
    }

    async fn key_on_hosts(&self, pair: ClusterPair, next: ClusterPair) -> Result<Secret, Failure> {
        let path = next.key_path();
        for host in pair.keepers(self.plan) {
            let files = self.transport.fetch(&host.name, std::slice::from_ref(&path)).await;
            if let Some(key) = files.map_err(|error| Failure::from_error(Kind::Unreachable, &error))?.remove(&path) {
                return Ok(key);
            }
        }
        Err(Failure::new(Kind::Refused, format!("no host has {path}")))
    }

    /// Every namespace's copy of the CA must hold what is trusted in this state.
    async fn published(&self, position: &Position, step: Step) -> Result<(), Failure> {
        let wanted: BTreeSet<Digest> = position.trusted(step).into_iter().map(|item| item.identity).collect();
        self.wait("the CA in every namespace", || async {
            let client = self.cluster.client().await.map_err(|error| error.message)?;
            trust::is_published(&client, &wanted).await
        })
        .await
    }

    /// Rolls slipway's own workloads that speak to the API, and waits for them.
    async fn roll(&self, reason: &str) -> Result<(), Failure> {
        let mut gates = addon_gates(self.plan);
        if matches!(self.plan.network.cni, Cni::Flannel { .. }) {
            gates.push(Gate::RolledOut { kind: "DaemonSet".into(), namespace: "kube-flannel".into(), name: "kube-flannel-ds".into() });
        }
        for gate in gates {
            if let Gate::RolledOut { kind, namespace, name } = &gate {
                self.wait(&format!("{kind} {namespace}/{name}"), || async {
                    let client = self.cluster.client().await.map_err(|error| error.message)?;
                    trust::roll(&client, kind, namespace, name, reason).await.map_err(|error| error.message)
                })
                .await?;
            }
            self.cluster.wait(&gate, self.limit()).await.map_err(|error| Failure::from_error(Kind::Steps, &error))?;
        }
        Ok(())
    }

    /// Names the users' workloads that were started before the new CA was in their volumes.
    async fn name_readers(&self) -> Result<(), Failure> {
        let client = self.cluster.client().await.map_err(|error| Failure::from_error(Kind::Cluster, &error))?;
        let readers = trust::readers_of_old(&client).await.map_err(|seen| Failure::new(Kind::Cluster, seen))?;
        println!("kubeconfigs copied from this cluster must be fetched again now (`slipway kubeconfig`): in state 2 servers are signed by the new CA");
        if !readers.is_empty() {
            println!("restart these before state 2, unless they read the CA of their service account again by themselves:");
            for reader in readers {
                println!("  {reader}");
            }
        }
        Ok(())
    }

    /// No pod may hold a token of another key when that key is no longer accepted.
    async fn tokens(&self, key_id: &str) -> Result<(), Failure> {
        self.wait("a token of the key that stays for every service account that has one in a Secret", || async {
            let client = self.cluster.client().await.map_err(|error| error.message)?;
            trust::renew_token_secrets(&client, key_id).await
        })
        .await?;
        self.roll(&format!("service-account key {key_id}")).await?;
        let mut said = None;
        loop {
            let client = self.cluster.client().await.map_err(|error| Failure::from_error(Kind::Cluster, &error))?;
            let holders = trust::token_holders(&client, key_id, Timestamp::now()).await;
            let holders = holders.map_err(|seen| Failure::new(Kind::Cluster, seen))?;
            if !holders.restart.is_empty() {
                let names: Vec<String> = holders.restart.into_iter().collect();
                return Err(Failure::new(Kind::Refused, format!("these hold tokens of the service-account key that is to go: {}", names.join(", ")))
                    .hint("restart them (`kubectl rollout restart`) and run the same command again; the state holds as long as you like"));
            }
            let Some(until) = holders.until else {
                if holders.leaving == 0 {
                    return Ok(());
                }
                sleep(POLL).await;
                continue;
            };
            if said != Some(until) {
                eprintln!("waiting until {until}: kubelets renew tokens of the key that is to go in running pods by then (Ctrl-C is safe; run the same command again)");
                said = Some(until);
            }
            sleep(POLL * 10).await;
        }
    }

    async fn wait<F>(&self, what: &str, ask: impl Fn() -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), String>>,
    {
        let deadline = Instant::now() + self.limit();
        loop {
            match ask().await {
                Ok(()) => return Ok(()),
                Err(seen) if Instant::now() >= deadline => {
                    return Err(Failure::new(Kind::Cluster, format!("waited {} s for {what}: {seen}", self.limit().as_secs()))
                        .hint("the cluster stays in its state; run the same command again when the cause is mended"));
                }
                Err(_) => sleep(POLL).await,
            }
        }
    }
}

/// What is left when all is done, as far as the API still answers: only for people.
pub(super) async fn finished(cluster: &LiveCluster<SshTransport>, positions: &Positions) {
    let Some(position) = positions.get(&ClusterPair::ServiceAccount).and_then(Option::as_ref) else { return };
    let Ok(client) = cluster.client().await else { return };
    if let Ok(old) = trust::stale_secrets(&client, &trust::key_id(position.new.identity)).await
        && !old.is_empty()
    {
        println!("these Secrets hold tokens of the old service-account key, which are no longer accepted; delete them when nobody needs to see them: {}", old.join(", "));
    }
}

//! THE table of leaf certificates: one row each, for every version and kind of host. What kubeadm
//! makes for a version is the source; the reference in `tests/reference/kubeadm` shows it. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Authority, KubeconfigPlace, Leaf, Storage, Subject, SubjectName, Usage, kubelet_pki_path, kubernetes_path, pki_path,
};
use crate::names::KubernetesVersion;
use crate::plan::{Endpoint, Host, Plan};

/// One kind of leaf certificate.
struct Row {
    name: &'static str,
    authority: Authority,
    on: Bearer,
    /// First minor version that has it.
    since: u32,
    common_name: CommonName,
    organization: Organization,
    usages: &'static [Usage],
    names: Names,
    place: Place,
}

/// Since which minor and patch release: which organization. The last entry that is not newer counts.
type Organization = &'static [((u32, u32), Option<&'static str>)];

/// Which hosts have it.
#[derive(Clone, Copy)]
enum Bearer {
    ControlPlanes,
    /// The first control plane of the plan, and only with the cluster: kubeadm makes it at `init`
    /// and on no other host.
    Initial,
    /// Control planes whose etcd is slipway's own.
    EtcdClients,
    EtcdHosts,
    Nodes,
}

#[derive(Clone, Copy)]
enum CommonName {
    Fixed(&'static str),
    HostName,
    /// The user the Node authorizer knows: `system:node:<name>`.
    Node,
}

/// Which names and addresses it is good for.
#[derive(Clone, Copy)]
enum Names {
    None,
    ApiServer,
    EtcdMember,
}

#[derive(Clone, Copy)]
enum Place {
    /// `.crt` and `.key` in the PKI directory.
    Pair,
    /// A kubeconfig of that name.
    Kubeconfig(Server),
    KubeletClient,
}

/// Which API server a kubeconfig leads to.
#[derive(Clone, Copy)]
enum Server {
    /// The host's own. By its address: the loopback is not in its certificate.
    Own,
    /// The external endpoint if there is one, else the host's own.
    Public,
}

const MASTERS: Option<&str> = Some("system:masters");
const CLUSTER_ADMINS: Option<&str> = Some("kubeadm:cluster-admins");

const NO_ORGANIZATION: Organization = &[];
const ADMIN_ORGANIZATION: Organization = &[((0, 0), MASTERS), ((29, 0), CLUSTER_ADMINS)];
const ETCD_CLIENT_ORGANIZATION: Organization = &[((0, 0), MASTERS), ((29, 0), None)];
// kubernetes/kubernetes#138957, carried back to four minors: the user of this certificate gets its
// rights by name, through the ClusterRoleBinding `kubeadm:apiserver-kubelet-client`.
const KUBELET_CLIENT_ORGANIZATION: Organization = &[
    ((0, 0), MASTERS),
    ((29, 0), CLUSTER_ADMINS),
    ((33, 12), None),
    ((34, 0), CLUSTER_ADMINS),
    ((34, 8), None),
    ((35, 0), CLUSTER_ADMINS),
    ((35, 5), None),
    ((36, 0), CLUSTER_ADMINS),
    ((36, 1), None),
];

const SERVER: &[Usage] = &[Usage::Server];
const CLIENT: &[Usage] = &[Usage::Client];
const SERVER_AND_CLIENT: &[Usage] = &[Usage::Server, Usage::Client];

const ROWS: &[Row] = &[
    Row {
        name: "apiserver",
        authority: Authority::Kubernetes,
        on: Bearer::ControlPlanes,
        since: 0,
        common_name: CommonName::Fixed("kube-apiserver"),
        organization: NO_ORGANIZATION,
        usages: SERVER,
        names: Names::ApiServer,
        place: Place::Pair,
    },
    Row {
        name: "apiserver-kubelet-client",
        authority: Authority::Kubernetes,
        on: Bearer::ControlPlanes,
        since: 0,
        common_name: CommonName::Fixed("kube-apiserver-kubelet-client"),
        organization: KUBELET_CLIENT_ORGANIZATION,
        usages: CLIENT,
        names: Names::None,
        place: Place::Pair,
    },
    Row {
        name: "front-proxy-client",
        authority: Authority::FrontProxy,
        on: Bearer::ControlPlanes,
        since: 0,
        common_name: CommonName::Fixed("front-proxy-client"),
        organization: NO_ORGANIZATION,
        usages: CLIENT,
        names: Names::None,
        place: Place::Pair,
    },
    Row {
        name: "etcd/server",
        authority: Authority::Etcd,
        on: Bearer::EtcdHosts,
        since: 0,
        common_name: CommonName::HostName,
        organization: NO_ORGANIZATION,
        usages: SERVER_AND_CLIENT,
        names: Names::EtcdMember,
        place: Place::Pair,
    },
    Row {
        name: "etcd/peer",
        authority: Authority::Etcd,
        on: Bearer::EtcdHosts,
        since: 0,
        common_name: CommonName::HostName,
        organization: NO_ORGANIZATION,
        usages: SERVER_AND_CLIENT,
        names: Names::EtcdMember,
        place: Place::Pair,
    },
    Row {
        name: "etcd/healthcheck-client",
        authority: Authority::Etcd,
        on: Bearer::EtcdHosts,
        since: 0,
        common_name: CommonName::Fixed("kube-etcd-healthcheck-client"),
        organization: ETCD_CLIENT_ORGANIZATION,
        usages: CLIENT,
        names: Names::None,
        place: Place::Pair,
    },
    Row {
        name: "apiserver-etcd-client",
        authority: Authority::Etcd,
        on: Bearer::EtcdClients,
        since: 0,
        common_name: CommonName::Fixed("kube-apiserver-etcd-client"),
        organization: ETCD_CLIENT_ORGANIZATION,
        usages: CLIENT,
        names: Names::None,
        place: Place::Pair,
    },
    Row {
        name: "admin.conf",
        authority: Authority::Kubernetes,
        on: Bearer::ControlPlanes,
        since: 0,
        common_name: CommonName::Fixed("kubernetes-admin"),
        organization: ADMIN_ORGANIZATION,
        usages: CLIENT,
        names: Names::None,
        place: Place::Kubeconfig(Server::Public),
    },
    // Since v1.29 admin.conf has no rights until a ClusterRoleBinding gives it some.
    Row {
        name: "super-admin.conf",
        authority: Authority::Kubernetes,
        on: Bearer::Initial,
        since: 29,
        common_name: CommonName::Fixed("kubernetes-super-admin"),
        organization: &[((0, 0), MASTERS)],
        usages: CLIENT,
        names: Names::None,
        place: Place::Kubeconfig(Server::Public),
    },
    Row {
        name: "controller-manager.conf",
        authority: Authority::Kubernetes,
        on: Bearer::ControlPlanes,
        since: 0,
        common_name: CommonName::Fixed("system:kube-controller-manager"),
        organization: NO_ORGANIZATION,
        usages: CLIENT,
        names: Names::None,
        place: Place::Kubeconfig(Server::Own),
    },
    Row {
        name: "scheduler.conf",
        authority: Authority::Kubernetes,
        on: Bearer::ControlPlanes,
        since: 0,
        common_name: CommonName::Fixed("system:kube-scheduler"),
        organization: NO_ORGANIZATION,
        usages: CLIENT,
        names: Names::None,
        place: Place::Kubeconfig(Server::Own),
    },
    Row {
        name: "kubelet-client",
        authority: Authority::Kubernetes,
        on: Bearer::Nodes,
        since: 0,
        common_name: CommonName::Node,
        organization: &[((0, 0), Some("system:nodes"))],
        usages: CLIENT,
        names: Names::None,
        place: Place::KubeletClient,
    },
];

/// The leaf certificates of the whole cluster at that version, host by host in the order of the
/// plan.
#[must_use]
pub fn leaves(plan: &Plan, version: KubernetesVersion) -> Vec<Leaf> {
    let of_host = |host| ROWS.iter().filter_map(move |row| row.leaf(plan, host, version));
    plan.hosts.iter().flat_map(of_host).collect()
}

impl Row {
    /// The certificate of this row on that host, if it has one.
    fn leaf(&self, plan: &Plan, host: &Host, version: KubernetesVersion) -> Option<Leaf> {
        if version.minor < self.since || !self.on.includes(plan, host) {
            return None;
        }
        let organization = self.organization.iter().rev().find(|(since, _)| (version.minor, version.patch) >= *since);
        let subject = Subject {
            common_name: match self.common_name {
                CommonName::Fixed(name) => name.to_owned(),
                CommonName::HostName => host.name.to_string(),
                CommonName::Node => format!("system:node:{}", host.name),
            },
            organizations: organization.and_then(|(_, name)| *name).map(str::to_owned).into_iter().collect(),
        };
        Some(Leaf {
            name: self.name,
            host: host.name.clone(),
            authority: self.authority,
            usages: self.usages.iter().copied().collect(),
            names: self.names.of(plan, host),
            storage: self.storage(plan, host, version, &subject),
            once: matches!(self.on, Bearer::Initial),
            self_renewing: matches!(self.place, Place::KubeletClient) && plan.pki.authority.are_on_hosts(),
            subject,
        })
    }

    fn storage(&self, plan: &Plan, host: &Host, version: KubernetesVersion, subject: &Subject) -> Storage {
        let place = |file: &str, server: String| KubeconfigPlace {
            path: kubernetes_path(file),
            server,
            cluster: plan.name.to_string(),
            user: subject.common_name.clone(),
        };
        match self.place {
            Place::Pair => Storage::FilePair {
                certificate: pki_path(&format!("{}.crt", self.name)),
                key: pki_path(&format!("{}.key", self.name)),
            },
            Place::Kubeconfig(server) => Storage::Kubeconfig(place(self.name, server.url(plan, host))),
            Place::KubeletClient => Storage::KubeletClient {
                current: kubelet_pki_path("kubelet-client-current.pem"),
                issued: kubelet_pki_path("kubelet-client-slipway.pem"),
                kubeconfig: place("kubelet.conf", kubelet_server(plan, host, version)),
            },
        }
    }
}

impl Bearer {
    fn includes(self, plan: &Plan, host: &Host) -> bool {
        match self {
            Self::ControlPlanes => host.is_control_plane(),
            Self::Initial => plan.control_planes().next().is_some_and(|first| first.name == host.name),
            Self::EtcdClients => host.is_control_plane() && plan.etcd.external.is_none(),
            Self::EtcdHosts => plan.has_etcd(host),
            Self::Nodes => host.is_node(),
        }
    }
}

impl Server {
    fn url(self, plan: &Plan, host: &Host) -> String {
        match (self, &plan.endpoint) {
            (Self::Public, Some(Endpoint::External { .. } | Endpoint::Vip(_))) => plan.public_url(),
            _ => host.api_url(plan.api_port()),
        }
    }
}

/// A control plane's kubelet speaks to the API server beside it if there is no other way
/// (`localProxy` runs no proxy there), if it itself brings up what holds the address (`vip`), and since
/// v1.33 always (ControlPlaneKubeletLocalMode).
fn kubelet_server(plan: &Plan, host: &Host, version: KubernetesVersion) -> String {
    let is_ours = matches!(plan.endpoint, Some(Endpoint::LocalProxy { .. } | Endpoint::Vip(_)));
    if host.is_control_plane() && (is_ours || version.minor >= 33) {
        host.api_url(plan.api_port())
    } else if host.is_control_plane() {
        plan.public_url()
    } else {
        plan.node_url()
    }
}

impl Names {
    fn of(self, plan: &Plan, host: &Host) -> Vec<SubjectName> {
        match self {
            Self::None => Vec::new(),
            Self::ApiServer => api_server_names(plan, host),
            Self::EtcdMember => etcd_member_names(plan, host),
        }
    }
}

fn api_server_names(plan: &Plan, host: &Host) -> Vec<SubjectName> {
    let service = "kubernetes.default.svc";
    let mut names: Vec<SubjectName> = [host.name.as_str(), "kubernetes", "kubernetes.default", service]
        .map(|name| SubjectName::Dns(name.to_owned()))
        .into();
    names.push(SubjectName::Dns(format!("{service}.{}", plan.network.dns_domain)));
    names.push(SubjectName::Address(plan.api_service_address()));
    names.extend(host.addresses().map(SubjectName::Address));
    match &plan.endpoint {
        Some(Endpoint::External { address, .. }) => names.push(SubjectName::parse(address)),
        // Clients of the local proxy verify the API server under the loopback's address.
        Some(Endpoint::LocalProxy { .. }) => names.push(SubjectName::Address(loopback_of_nodes(plan))),
        Some(Endpoint::Vip(vip)) => names.push(SubjectName::Address(vip.address)),
        None => {}
    }
    names.extend(plan.pki.extra_sans.iter().map(|name| SubjectName::parse(name)));
    in_order(names)
}

fn etcd_member_names(plan: &Plan, host: &Host) -> Vec<SubjectName> {
    let mut names = vec![SubjectName::Dns(host.name.to_string()), SubjectName::Dns("localhost".to_owned())];
    names.extend(host.addresses().map(SubjectName::Address));
    names.push(SubjectName::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    names.push(SubjectName::Address(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    names.extend(plan.etcd.extra_sans.iter().map(|name| SubjectName::parse(name)));
    in_order(names)
}

/// The loopback `Plan::node_url` names.
fn loopback_of_nodes(plan: &Plan) -> IpAddr {
    if plan.hosts[0].address.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

/// DNS names sorted, addresses in the order given, each once: as kubeadm writes them.
fn in_order(names: Vec<SubjectName>) -> Vec<SubjectName> {
    let (dns, addresses): (BTreeSet<_>, Vec<_>) = {
        let (dns, addresses): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| matches!(name, SubjectName::Dns(_)));
        (dns.into_iter().collect(), addresses)
    };
    let mut ordered: Vec<SubjectName> = dns.into_iter().collect();
    for address in addresses {
        if !ordered.contains(&address) {
            ordered.push(address);
        }
    }
    ordered
}

#[cfg(test)]
mod tests;

//! What there shall be: the words for keys and certificates, and where they are kept. The rows
//! themselves are in `table`; all paths and names are kubeadm's, so that a cluster can be operated
//! with either. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::names::{HostName, RemotePath};
use crate::plan::{Host, Plan};

pub mod table;

pub use table::leaves;

/// Where kubeadm keeps kubeconfigs.
const KUBERNETES_DIRECTORY: &str = "/etc/kubernetes";
/// Where kubeadm keeps keys and certificates.
const PKI_DIRECTORY: &str = "/etc/kubernetes/pki";
/// Where the kubelet keeps its own keys and certificates.
const KUBELET_PKI_DIRECTORY: &str = "/var/lib/kubelet/pki";

/// A certificate authority of the cluster. Each has its own key: trust in one never implies trust
/// in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Authority {
    /// Signs API servers, kubelets and everyone who speaks to an API server.
    Kubernetes,
    /// Signs the API servers as clients of aggregated API servers.
    FrontProxy,
    /// Signs etcd's members and clients.
    Etcd,
}

impl Authority {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kubernetes, Self::FrontProxy, Self::Etcd];

    /// The common name kubeadm gives it.
    #[must_use]
    pub const fn common_name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::FrontProxy => "front-proxy-ca",
            Self::Etcd => "etcd-ca",
        }
    }

    /// Path of the files without `.crt` and `.key`, below the PKI directory.
    const fn stem(self) -> &'static str {
        match self {
            Self::Kubernetes => "ca",
            Self::FrontProxy => "front-proxy-ca",
            Self::Etcd => "etcd/ca",
        }
    }

    /// Where its certificate is.
    #[must_use]
    pub fn certificate_path(self) -> RemotePath {
        pki_path(&format!("{}.crt", self.stem()))
    }

    /// Whether that host has the certificate (but not the key), because it must trust this CA.
    #[must_use]
    pub fn is_read_by(self, plan: &Plan, host: &Host) -> bool {
        let keeper = ClusterPair::Authority(self).is_kept_by(plan, host);
        !keeper
            && match self {
                Self::Kubernetes => host.is_node(),
                Self::FrontProxy => false,
                // API servers of dedicated etcd hosts.
                Self::Etcd => host.is_control_plane() && plan.etcd.external.is_none(),
            }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CA {}", self.common_name())
    }
}

/// A key with its public half that is made once for the whole cluster and kept on several hosts:
/// a CA, or the pair that signs service-account tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterPair {
    /// A CA's certificate and key.
    Authority(Authority),
    /// The public and private key for service-account tokens.
    ServiceAccount,
    /// The CA that is to follow, while one is replaced (see `rotation`).
    NextAuthority(Authority),
    /// The service-account pair that is to follow.
    NextServiceAccount,
}

impl ClusterPair {
    /// The pairs a cluster of that plan has. External etcd brings its own CA.
    pub fn of(plan: &Plan) -> impl Iterator<Item = Self> {
        let local_etcd = plan.etcd.external.is_none();
        Authority::ALL
            .into_iter()
            .filter(move |authority| local_etcd || *authority != Authority::Etcd)
            .map(Self::Authority)
            .chain(std::iter::once(Self::ServiceAccount))
    }

    /// Where the certificate or public key is.
    #[must_use]
    pub fn public_path(self) -> RemotePath {
        match self {
            Self::Authority(authority) => authority.certificate_path(),
            Self::ServiceAccount => pki_path("sa.pub"),
            Self::NextAuthority(authority) => pki_path(&format!("{}-next.crt", authority.stem())),
            Self::NextServiceAccount => pki_path("sa-next.pub"),
        }
    }

    /// Where the private key is.
    #[must_use]
    pub fn key_path(self) -> RemotePath {
        match self {
            Self::Authority(authority) => pki_path(&format!("{}.key", authority.stem())),
            Self::ServiceAccount => pki_path("sa.key"),
            Self::NextAuthority(authority) => pki_path(&format!("{}-next.key", authority.stem())),
            Self::NextServiceAccount => pki_path("sa-next.key"),
        }
    }

    /// The CA, present or to follow; `None` for the service-account pair.
    #[must_use]
    pub fn authority(self) -> Option<Authority> {
        match self {
            Self::Authority(authority) | Self::NextAuthority(authority) => Some(authority),
            Self::ServiceAccount | Self::NextServiceAccount => None,
        }
    }

    /// The pair that follows this one; `None` for one that is to follow itself.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Authority(authority) => Some(Self::NextAuthority(authority)),
            Self::ServiceAccount => Some(Self::NextServiceAccount),
            Self::NextAuthority(_) | Self::NextServiceAccount => None,
        }
    }

    /// Whether that host has the public part, as a keeper or because it trusts it.
    #[must_use]
    pub fn is_on(self, plan: &Plan, host: &Host) -> bool {
        self.is_kept_by(plan, host) || matches!(self, Self::Authority(authority) if authority.is_read_by(plan, host))
    }

    /// Whether that host keeps the pair: etcd's CA is on the hosts with a member, all others are
    /// on the control planes.
    #[must_use]
    pub fn is_kept_by(self, plan: &Plan, host: &Host) -> bool {
        match self {
            Self::Authority(Authority::Etcd) | Self::NextAuthority(Authority::Etcd) => plan.has_etcd(host),
            _ => host.is_control_plane(),
        }
    }

    /// The hosts that keep the pair, in the order of the plan.
    pub fn keepers(self, plan: &Plan) -> impl Iterator<Item = &Host> {
        plan.hosts.iter().filter(move |host| self.is_kept_by(plan, host))
    }
}

impl fmt::Display for ClusterPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(authority) => authority.fmt(f),
            Self::ServiceAccount => f.write_str("service-account key"),
            Self::NextAuthority(authority) => write!(f, "new {authority}"),
            Self::NextServiceAccount => f.write_str("new service-account key"),
        }
    }
}

/// Whom a certificate names: Kubernetes reads the user from the common name and the groups from
/// the organizations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// `CN`.
    pub common_name: String,
    /// `O`, any number.
    pub organizations: BTreeSet<String>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for organization in &self.organizations {
            write!(f, "O={organization}, ")?;
        }
        write!(f, "CN={}", self.common_name)
    }
}

/// What a certificate may be used for (RFC 5280, extended key usage).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// Being a TLS server.
    Server,
    /// Being a TLS client.
    Client,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// A name or address a certificate is good for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectName {
    /// A DNS name, perhaps with a leading `*.`.
    Dns(String),
    /// An address.
    Address(IpAddr),
}

impl SubjectName {
    /// An address if the text is one, else a DNS name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Dns(text.to_owned()), Self::Address)
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A certificate below a CA, with everything that is decided about it by the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its name in messages: `apiserver`, `etcd/peer`, `admin.conf`, `kubelet-client`.
    pub name: &'static str,
    /// The host it is on.
    pub host: HostName,
    /// Who signs it.
    pub authority: Authority,
    /// Whom it names.
    pub subject: Subject,
    /// What for.
    pub usages: BTreeSet<Usage>,
    /// For which names: DNS names sorted, then addresses in kubeadm's order.
    pub names: Vec<SubjectName>,
    /// Where it is.
    pub storage: Storage,
    /// Whether it is made with the cluster and never again. While it is there it is renewed like
    /// the others; operators are told to take it off the hosts.
    pub once: bool,
    /// Whether whoever uses it renews it by itself (a kubelet whose cluster signs its requests).
    pub self_renewing: bool,
}

/// Where a leaf certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// A file each.
    FilePair {
        /// The certificate's file.
        certificate: RemotePath,
        /// The key's file.
        key: RemotePath,
    },
    /// Inside a kubeconfig.
    Kubeconfig(KubeconfigPlace),
    /// One file behind a link that the kubelet moves when it renews the certificate by itself.
    KubeletClient {
        /// The link.
        current: RemotePath,
        /// The file that slipway writes and points the link at. Its name is always the same (the
        /// kubelet's own files carry the time), so that two runs announce the same change.
        issued: RemotePath,
        /// The kubeconfig that refers to the link.
        kubeconfig: KubeconfigPlace,
    },
}

/// A kubeconfig file, but for its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeconfigPlace {
    /// Where the file is.
    pub path: RemotePath,
    /// The API server it leads to.
    pub server: String,
    /// The name of the cluster in it.
    pub cluster: String,
    /// The name of the user in it: the certificate's common name.
    pub user: String,
}

/// The user's files for an etcd that somebody else runs, as paths on the control planes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalEtcdPlace {
    /// The CA of the members.
    pub ca: RemotePath,
    /// The API servers' client certificate.
    pub certificate: RemotePath,
    /// Its key.
    pub key: RemotePath,
}

/// Where the user's files for external etcd go.
#[must_use]
pub fn external_etcd_place() -> ExternalEtcdPlace {
    ExternalEtcdPlace {
        ca: pki_path("etcd-external/ca.crt"),
        certificate: pki_path("etcd-external/client.crt"),
        key: pki_path("etcd-external/client.key"),
    }
}

/// What a probe must look at so that this module sees all it decides about.
#[must_use]
pub fn probe_roots() -> Vec<RemotePath> {
    let mut roots = vec![RemotePath::fixed(PKI_DIRECTORY), RemotePath::fixed(KUBELET_PKI_DIRECTORY)];
    roots.extend(kubeconfig_paths());
    roots
}

/// Files of which a probe tells only the existence: the keys a whole cluster hangs on.
#[must_use]
pub fn keys_without_content() -> Vec<RemotePath> {
    let authorities = Authority::ALL.into_iter().map(ClusterPair::Authority);
    let pairs = authorities.chain([ClusterPair::ServiceAccount]);
    pairs.flat_map(|pair| std::iter::once(pair).chain(pair.next())).map(ClusterPair::key_path).collect()
}

/// All kubeconfigs kubeadm or slipway puts on hosts.
#[must_use]
pub fn kubeconfig_paths() -> Vec<RemotePath> {
    ["admin", "super-admin", "controller-manager", "scheduler", "kubelet"]
        .map(|name| kubernetes_path(&format!("{name}.conf")))
        .into()
}

fn kubernetes_path(name: &str) -> RemotePath {
    RemotePath::fixed(&format!("{KUBERNETES_DIRECTORY}/{name}"))
}

fn pki_path(name: &str) -> RemotePath {
    RemotePath::fixed(&format!("{PKI_DIRECTORY}/{name}"))
}

fn kubelet_pki_path(name: &str) -> RemotePath {
    RemotePath::fixed(&format!("{KUBELET_PKI_DIRECTORY}/{name}"))
}

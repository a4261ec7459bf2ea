//! The plan file: the hosts and what the cluster is. These types are the file's format
//! (`slipway schema` and `docs/plan-file.md` are made from them) and what the rest of the
//! program reads. `load` is the only way in: a `Plan` it returns has passed every check of
//! `validate`, so nothing later has to doubt it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use indexmap::IndexMap;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{ClusterName, Digest, HostName, KubernetesVersion, RemotePath, Span};

pub mod arguments;
pub mod authority;
mod defaults;
pub mod field;
pub mod hosts;
pub mod load;
pub mod local_files;
pub mod packages;
pub mod patches;
pub mod problem;
pub mod report;
pub mod rewrite;
pub mod schema;
pub mod software;
pub mod structure;
pub mod suggestion;
pub mod unavailable;
pub mod upgrade;
pub mod validate;
pub mod vip;

pub use arguments::ArgumentValues;
pub use authority::{AuthorityKeys, KeyStore};
pub use hosts::{Effect, Host, HostKubelet, Role, Ssh, SshOverrides, Taint};
pub use packages::{Packages, SigningKey};
pub use patches::{Patch, PatchKind, PatchTarget};
pub use software::{CgroupDriver, ImageArchive, Images, Mirror, Program, Runtime, Source};
pub use unavailable::Unavailable;
pub use upgrade::{DrainPolicy, Upgrade};
pub use vip::Vip;

/// A free-form document (part of a component's own configuration), kept in the order written.
pub type Document = serde_json::Map<String, serde_json::Value>;

/// Everything slipway knows about the cluster it shall make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// The format of this file. Always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The cluster's name, in kubeconfigs and in the controller manager's `--cluster-name`.
    #[serde(default = "defaults::name")]
    pub name: ClusterName,
    /// Which Kubernetes.
    pub kubernetes: Kubernetes,
    /// How nodes and clients reach the API servers. Left out, a cluster of one control plane is
    /// reached at that host's address; with more control planes it must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Addresses and how pods get them.
    #[serde(default)]
    pub network: Network,
    /// kube-proxy.
    #[serde(default)]
    pub kube_proxy: KubeProxy,
    /// CoreDNS.
    #[serde(default)]
    pub core_dns: CoreDns,
    /// etcd. Its members are: the given endpoints if `external` is set; else the hosts with the
    /// role `etcd` if there are any; else the control planes.
    #[serde(default)]
    pub etcd: Etcd,
    /// Keys and certificates.
    #[serde(default)]
    pub pki: Pki,
    /// kube-apiserver.
    #[serde(default)]
    pub api_server: Component,
    /// kube-controller-manager.
    #[serde(default)]
    pub controller_manager: Component,
    /// kube-scheduler.
    #[serde(default)]
    pub scheduler: Component,
    /// The kubelets of all hosts; a host may add to it.
    #[serde(default)]
    pub kubelet: Kubelet,
    /// The container runtime of all hosts.
    #[serde(default)]
    pub runtime: Runtime,
    /// How programs come to the hosts. What is not named here is expected to be installed.
    #[serde(default)]
    #[schemars(with = "schema::SourceByProgram")]
    pub binaries: BTreeMap<Program, Source>,
    /// Where packages of the operating system come from, for programs with `packages` in `binaries`.
    #[serde(default)]
    pub packages: Packages,
    /// Container images.
    #[serde(default)]
    pub images: Images,
    /// Changes to generated documents, applied in order after everything else.
    #[serde(default)]
    pub patches: Vec<Patch>,
    /// Checks of the hosts before anything is changed.
    #[serde(default)]
    pub preflight: Preflight,
    /// How hosts are reached, unless a host says otherwise.
    #[serde(default)]
    pub ssh: Ssh,
    /// How much at once, and how long.
    #[serde(default)]
    pub limits: Limits,
    /// How a living cluster goes to another version of Kubernetes.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// The machines.
    #[schemars(length(min = 1))]
    pub hosts: Vec<Host>,
}

/// Which Kubernetes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// The release in full, such as `v1.34.2`. Supported: v1.20, v1.21 and v1.31 to v1.36.
    pub version: KubernetesVersion,
    /// Where the images of Kubernetes, etcd, CoreDNS and pause come from. Left out: the default
    /// of that Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_repository: Option<String>,
    /// Feature gates given to every component of Kubernetes that has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
}

/// How nodes and clients reach the API servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Endpoint {
    /// A name or address that the user's own load balancer (or DNS) answers for.
    #[serde(rename_all = "camelCase")]
    External {
        /// A DNS name or an IP address.
        address: String,
        /// The port clients use.
        #[serde(default = "defaults::api_port")]
        port: u16,
    },
    /// Every host without an API server runs a small proxy (haproxy, a static pod) on its
    /// loopback that knows all API servers. Nothing outside the hosts is needed.
    #[serde(rename_all = "camelCase")]
    LocalProxy {
        /// The port of the proxy, and so of the API servers.
        #[serde(default = "defaults::api_port")]
        port: u16,
        /// The haproxy image.
        #[serde(default = "defaults::proxy_image")]
        image: String,
    },
    /// An address that the control planes hold among themselves: keepalived and haproxy, a static pod
    /// on each of them. The control planes must share one layer 2 network.
    Vip(Vip),
}

/// Addresses and how pods get them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// Pod networks: one, or one IPv4 and one IPv6 for dual stack.
    #[serde(default = "defaults::pod_cidrs")]
    #[schemars(with = "Vec<schema::NetworkText>")]
    pub pod_cidrs: Vec<IpNet>,
    /// Service networks: one, or one IPv4 and one IPv6 for dual stack, in the order of `podCidrs`.
    #[serde(default = "defaults::service_cidrs")]
    #[schemars(with = "Vec<schema::NetworkText>")]
    pub service_cidrs: Vec<IpNet>,
    /// The cluster's DNS domain.
    #[serde(default = "defaults::dns_domain")]
    pub dns_domain: String,
    /// Prefix length of each node's share of the IPv4 pod network.
    #[serde(default = "defaults::node_mask_v4")]
    pub node_mask_v4: u8,
    /// Prefix length of each node's share of the IPv6 pod network.
    #[serde(default = "defaults::node_mask_v6")]
    pub node_mask_v6: u8,
    /// What connects the pods.
    #[serde(default)]
    pub cni: Cni,
}

/// What connects the pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Cni {
    /// Built in: the standard `bridge`, `host-local` and `portmap` plugins and a route to every
    /// other node. The hosts must reach each other directly (one layer 2 network).
    #[serde(rename_all = "camelCase")]
    Bridge {
        /// MTU of the pods' interfaces; left out, the kernel's default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mtu: Option<u32>,
    },
    /// flannel with its VXLAN or host-gw backend.
    #[serde(rename_all = "camelCase")]
    Flannel {
        /// The flannel image.
        #[serde(default = "defaults::flannel_image")]
        image: String,
        /// The image that holds flannel's CNI plugin.
        #[serde(default = "defaults::flannel_plugin_image")]
        plugin_image: String,
        /// How packets travel between nodes.
        #[serde(default)]
        backend: FlannelBackend,
    },
    /// Any provider's own manifests, applied in order and waited for.
    #[serde(rename_all = "camelCase")]
    Manifest {
        /// The files.
        sources: Vec<ManifestSource>,
    },
    /// Nothing: nodes stay NotReady until the user brings a network. slipway does not wait for them.
    None,
}

/// How flannel's packets travel between nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlannelBackend {
    /// Encapsulated; works over any network.
    #[default]
    Vxlan,
    /// Routed; the hosts must share one layer 2 network.
    HostGw,
}

/// A file of Kubernetes objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ManifestSource {
    /// A file beside the plan file (or an absolute path).
    File(PathBuf),
    /// A file fetched by the operator's machine.
    #[serde(rename_all = "camelCase")]
    Url {
        /// An `https` address.
        address: String,
        /// What the file must be.
        sha256: Digest,
    },
}

/// kube-proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubeProxy {
    /// Whether slipway sets it up. Turn it off for a CNI that replaces it.
    #[serde(default = "defaults::yes")]
    pub enabled: bool,
    /// How it programs the kernel; left out, kube-proxy's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<KubeProxyMode>,
    /// Fields of `KubeProxyConfiguration`, merged over the generated ones.
    #[serde(default, skip_serializing_if = "Document::is_empty")]
    pub configuration: Document,
}

/// How kube-proxy programs the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KubeProxyMode {
    /// iptables rules.
    Iptables,
    /// IPVS (the kernel modules must be there).
    Ipvs,
    /// nftables (Kubernetes v1.31 or later).
    Nftables,
}

/// CoreDNS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CoreDns {
    /// Whether slipway sets it up.
    #[serde(default = "defaults::yes")]
    pub enabled: bool,
    /// How many pods.
    #[serde(default = "defaults::dns_replicas")]
    pub replicas: u32,
    /// The image; left out, the one of that Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A whole Corefile instead of the generated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corefile: Option<String>,
}

/// etcd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Etcd {
    /// A cluster that somebody else runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalEtcd>,
    /// Where members keep their data.
    #[serde(default = "defaults::etcd_directory")]
    pub data_directory: RemotePath,
    /// The image; left out, the one of that Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Command-line flags over the generated ones.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub extra_args: IndexMap<String, ArgumentValues>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_env: BTreeMap<String, String>,
    /// More names and addresses in the members' certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_sans: Vec<String>,
}

/// An etcd cluster that somebody else runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalEtcd {
    /// `https` addresses of all members.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<String>,
    /// The CA of the members' certificates, a local file.
    pub ca_file: PathBuf,
    /// The API servers' client certificate, a local file.
    pub certificate_file: PathBuf,
    /// Its key, a local file.
    pub key_file: PathBuf,
}

/// Keys and certificates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pki {
    /// Who keeps the keys of the cluster's CAs.
    #[serde(default, skip_serializing_if = "AuthorityKeys::are_on_hosts")]
    pub authority: AuthorityKeys,
    /// The kind of every new key.
    #[serde(default)]
    pub algorithm: KeyAlgorithm,
    /// How long leaf certificates are valid, also those that the cluster signs for kubelets.
    #[serde(default = "defaults::validity")]
    pub validity: Span,
    /// How long CA certificates are valid.
    #[serde(default = "defaults::ca_validity")]
    pub ca_validity: Span,
    /// A leaf certificate with less time left than this is made anew by the next `apply`.
    #[serde(default = "defaults::renew_before")]
    pub renew_before: Span,
    /// More names and addresses in the API servers' certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_sans: Vec<String>,
    /// The SHA-256 fingerprint of the CA of a cluster that kubeadm made, as `slipway adopt` writes it:
    /// hosts with this CA are this plan's, and nothing is formed anew. Everybody else's are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Digest>,
}

/// The kind of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// RSA with 2048 bits.
    #[default]
    #[serde(rename = "RSA-2048")]
    Rsa2048,
    /// RSA with 3072 bits.
    #[serde(rename = "RSA-3072")]
    Rsa3072,
    /// RSA with 4096 bits.
    #[serde(rename = "RSA-4096")]
    Rsa4096,
    /// ECDSA on P-256.
    #[serde(rename = "ECDSA-P256")]
    EcdsaP256,
    /// ECDSA on P-384.
    #[serde(rename = "ECDSA-P384")]
    EcdsaP384,
}

/// Settings of a control-plane component, over the generated ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Component {
    /// Command-line flags without the dashes. A value replaces the generated flag of that name;
    /// a list gives the flag several times; an empty list removes it.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub extra_args: IndexMap<String, ArgumentValues>,
    /// Directories or files of the host that the component sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_volumes: Vec<Volume>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_env: BTreeMap<String, String>,
}

/// A directory or file of the host that a component sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// A name of its own within the pod.
    pub name: String,
    /// Where it is on the host.
    pub host_path: RemotePath,
    /// Where the component sees it.
    pub mount_path: RemotePath,
    /// Whether the component may only read it.
    #[serde(default)]
    pub read_only: bool,
    /// A hostPath type such as `DirectoryOrCreate`, `File` or `FileOrCreate`; left out, no check.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// The kubelets of all hosts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubelet {
    /// Fields of `KubeletConfiguration`, merged over the generated ones.
    #[serde(default, skip_serializing_if = "Document::is_empty")]
    pub configuration: Document,
    /// Command-line flags without the dashes.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub extra_args: IndexMap<String, ArgumentValues>,
    /// Environment variables of the kubelet's unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_env: BTreeMap<String, String>,
}

/// Checks of the hosts before anything is changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preflight {
    /// Names of checks that may fail.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ignore: BTreeSet<String>,
}

/// How much at once, and how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// How many hosts are worked on at once.
    #[serde(default = "defaults::parallel_hosts")]
    #[schemars(range(min = 1))]
    pub parallel_hosts: usize,
    /// How many hosts receive uploads at once.
    #[serde(default = "defaults::parallel_uploads")]
    #[schemars(range(min = 1))]
    pub parallel_uploads: usize,
    /// How many workers of a living cluster may be changed at once: a number, or a share of all workers
    /// like `10%`, rounded down and one host at least.
    #[serde(default = "defaults::max_unavailable")]
    pub max_unavailable: Unavailable,
    /// How long one step may take on its host.
    #[serde(default = "defaults::step_timeout")]
    pub step_timeout: Span,
    /// How long a component may take to become healthy.
    #[serde(default = "defaults::gate_timeout")]
    pub gate_timeout: Span,
}

impl Plan {
    /// The host of that name.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == *name)
    }

    /// Hosts with a Node that carry nothing of the cluster itself, in the order of the file.
    pub fn workers(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.is_node() && !host.is_control_plane() && !self.has_etcd(host))
    }

    /// Hosts that run an API server, in the order of the file.
    pub fn control_planes(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.is_control_plane())
    }

    /// Hosts that run an etcd member, in the order of the file. None with external etcd.
    pub fn etcd_hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| self.has_etcd(host))
    }

    /// Whether that host runs an etcd member.
    #[must_use]
    pub fn has_etcd(&self, host: &Host) -> bool {
        if self.etcd.external.is_some() {
            return false;
        }
        // Most hosts of a large cluster have neither role, and need no look at all the others.
        if !host.roles.contains(&Role::Etcd) && !host.roles.contains(&Role::ControlPlane) {
            return false;
        }
        let dedicated = self.hosts.iter().any(|host| host.roles.contains(&Role::Etcd));
        host.roles.contains(if dedicated { &Role::Etcd } else { &Role::ControlPlane })
    }

    /// Hosts whose kubelet registers a Node: all but those with only the role `etcd`.
    pub fn nodes(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.is_node())
    }

    /// The port every API server listens on.
    #[must_use]
    pub fn api_port(&self) -> u16 {
        match &self.endpoint {
            Some(Endpoint::LocalProxy { port, .. }) => *port,
            _ => defaults::api_port(),
        }
    }

    /// The API server's address in service networks: the first address of the first one.
    #[must_use]
    pub fn api_service_address(&self) -> IpAddr {
        nth_address(&self.network.service_cidrs[0], 1)
    }

    /// The cluster's DNS address: the tenth address of the first service network.
    #[must_use]
    pub fn dns_service_address(&self) -> IpAddr {
        nth_address(&self.network.service_cidrs[0], 10)
    }

    /// The URL clients outside a host use: the external endpoint, the virtual address, or the first control plane's
    /// own address when every host has its local proxy (or the cluster is a single one).
    #[must_use]
    pub fn public_url(&self) -> String {
        match &self.endpoint {
            Some(Endpoint::External { address, port }) => url(address, *port),
            Some(Endpoint::Vip(vip)) => url(&vip.address.to_string(), vip.port),
            _ => {
                let first = self.control_planes().next().expect("a checked plan has a control plane");
                first.api_url(self.api_port())
            }
        }
    }

    /// The URL a host's own components (kubelet, kube-proxy) use: the external endpoint, the virtual address, the
    /// host's loopback with `localProxy`, else the single control plane.
    #[must_use]
    pub fn node_url(&self) -> String {
        match &self.endpoint {
            Some(Endpoint::LocalProxy { port, .. }) => {
                let loopback = if self.hosts[0].address.is_ipv6() { "::1" } else { "127.0.0.1" };
                url(loopback, *port)
            }
            _ => self.public_url(),
        }
    }
}

/// `https://address:port`, with brackets around an IPv6 address.
#[must_use]
pub fn url(address: &str, port: u16) -> String {
    if address.contains(':') { format!("https://[{address}]:{port}") } else { format!("https://{address}:{port}") }
}

/// The n-th address of a network, counted from its network address.
#[must_use]
pub fn nth_address(network: &IpNet, n: u32) -> IpAddr {
    match network.network() {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) + n).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) + u128::from(n)).into()),
    }
}

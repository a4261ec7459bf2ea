//! The machines of a plan and how they are reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use indexmap::IndexMap;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{AddressText, NetworkText};
use super::{ArgumentValues, Document, url};
use crate::names::{HostName, Span};

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// The name of the host and of its Node.
    pub name: HostName,
    /// The address the other hosts reach it at.
    #[schemars(with = "AddressText")]
    pub address: IpAddr,
    /// Its address of the other family, for dual stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AddressText>")]
    pub second_address: Option<IpAddr>,
    /// What the host is for. `control-plane` with `worker` makes a control plane that also runs
    /// ordinary pods.
    #[schemars(length(min = 1))]
    pub roles: BTreeSet<Role>,
    /// How it is reached, over the plan's `ssh`.
    #[serde(default)]
    pub ssh: SshOverrides,
    /// Labels of the Node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints of the Node. Left out: the control-plane taint on control planes that are not
    /// also workers, none elsewhere. An empty list: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taints: Option<Vec<Taint>>,
    /// This host's kubelet, over the plan's `kubelet`.
    #[serde(default)]
    pub kubelet: HostKubelet,
    /// This node's share of the pod networks, with the built-in bridge network. Left out, the next
    /// free one; it then stays with the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<NetworkText>")]
    pub pod_cidrs: Vec<IpNet>,
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs an API server, a controller manager and a scheduler.
    ControlPlane,
    /// Runs an etcd member. As soon as one host has this role, only hosts with it run members.
    Etcd,
    /// Runs ordinary pods.
    Worker,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlPlane => "control-plane",
            Self::Etcd => "etcd",
            Self::Worker => "worker",
        })
    }
}

/// A taint of a Node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Taint {
    /// The taint's key.
    pub key: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What it does to pods that do not tolerate it.
    pub effect: Effect,
}

/// What a taint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Effect {
    /// New pods stay away.
    NoSchedule,
    /// New pods stay away if they can.
    PreferNoSchedule,
    /// Running pods leave too.
    NoExecute,
}

impl Effect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute];
}

/// One host's kubelet, over the plan's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostKubelet {
    /// Fields of `KubeletConfiguration`.
    #[serde(default, skip_serializing_if = "Document::is_empty")]
    pub configuration: Document,
    /// Command-line flags without the dashes.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub extra_args: IndexMap<String, ArgumentValues>,
}

/// How hosts are reached. Everything left out is decided by the user's own SSH configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ssh {
    /// The login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A private key file; keys with a passphrase must be in an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// Hosts to go through, in order, each as `[user@]host[:port]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jump_hosts: Vec<String>,
    /// Run everything through `sudo -n`. Left out: unless the login name is root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<bool>,
    /// An SSH configuration file instead of the user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<PathBuf>,
    /// A known-hosts file instead of the user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts_file: Option<PathBuf>,
    /// How long a connection may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Span,
    /// How long a connection that is not used stays open for the next run of slipway, which then
    /// needs no login; at least a minute, or `0s` to close connections when a run ends. Left out:
    /// `10m`, and `0s` where the environment variable `CI` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persist: Option<Span>,
}

fn default_connect_timeout() -> Span {
    Span::seconds(15)
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            user: None,
            port: None,
            identity_file: None,
            jump_hosts: Vec::new(),
            sudo: None,
            config_file: None,
            known_hosts_file: None,
            connect_timeout: default_connect_timeout(),
            persist: None,
        }
    }
}

/// How one host is reached, over the plan's `ssh`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SshOverrides {
    /// The name or address to connect to, or an alias of the SSH configuration; left out, the
    /// host's `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A private key file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// Hosts to go through, in order; an empty list for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jump_hosts: Option<Vec<String>>,
    /// Run everything through `sudo -n`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<bool>,
    /// The host's public key as in known-hosts files (`ssh-ed25519 AAAA…`); nothing else is
    /// accepted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
}

impl Host {
    /// Whether it runs an API server.
    #[must_use]
    pub fn is_control_plane(&self) -> bool {
        self.roles.contains(&Role::ControlPlane)
    }

    /// Whether its kubelet registers a Node.
    #[must_use]
    pub fn is_node(&self) -> bool {
        self.is_control_plane() || self.roles.contains(&Role::Worker)
    }

    /// The URL of this host's own API server.
    #[must_use]
    pub fn api_url(&self, port: u16) -> String {
        url(&self.address.to_string(), port)
    }

    /// Its addresses, the first one first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(self.address).chain(self.second_address)
    }
}

//! Text files that live on hosts: Tera templates under `templates/`, each with one input type.
//! Structured documents (pods, kubeconfigs, configurations of components) never come from
//! templates, shell never either.

use std::sync::LazyLock;

use include_dir::{Dir, include_dir};
use serde::Serialize;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates");

static TEMPLATES: LazyLock<tera::Tera> = LazyLock::new(|| {
    let mut tera = tera::Tera::new();
    tera.autoescape_on(Vec::<&str>::new());
    let files = FILES.files().map(|file| {
        let name = file.path().to_str().expect("template names are plain");
        (name, file.contents_utf8().expect("templates are text"))
    });
    tera.add_raw_templates(files).expect("every template parses; a test renders each");
    tera
});

/// The input of one template.
pub trait Template: Serialize {
    /// The file below `templates/`.
    const NAME: &'static str;

    /// The text with this input.
    fn render(&self) -> String {
        let context = tera::Context::from_serialize(self).expect("inputs are structs");
        let text = TEMPLATES.render(Self::NAME, &context).expect("inputs fit their template; a test checks each");
        // A loop's last line ends the file with an empty line; one newline is enough.
        format!("{}\n", text.trim_end())
    }
}

/// A name with a value.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Modules loaded at boot.
#[derive(Debug, Serialize)]
pub struct Modules {
    /// Their names.
    pub modules: Vec<String>,
}
impl Template for Modules {
    const NAME: &'static str = "modules.conf";
}

/// Kernel parameters set at boot.
#[derive(Debug, Serialize)]
pub struct Sysctl {
    /// Their names and values.
    pub parameters: Vec<Pair>,
}
impl Template for Sysctl {
    const NAME: &'static str = "sysctl.conf";
}

/// containerd's configuration.
#[derive(Debug, Serialize)]
pub struct Containerd {
    /// 2 for containerd 1.x, 3 for 2.x.
    pub version: u8,
    /// `key = value` lines before the first table.
    pub top: Vec<String>,
    /// The tables.
    pub tables: Vec<Table>,
}
impl Template for Containerd {
    const NAME: &'static str = "containerd.toml";
}

/// A table of a TOML file.
#[derive(Debug, Serialize)]
pub struct Table {
    /// What stands between the brackets.
    pub header: String,
    /// `key = value` lines.
    pub lines: Vec<String>,
}

/// containerd's mirrors of one registry.
#[derive(Debug, Serialize)]
pub struct RegistryHosts {
    /// The registry's host.
    pub registry: String,
    /// The registry itself, asked last; empty for the default entry.
    pub server: String,
    /// The mirrors in order.
    pub endpoints: Vec<String>,
    /// Whether any certificate of the mirrors is accepted.
    pub skip_verify: bool,
}
impl Template for RegistryHosts {
    const NAME: &'static str = "hosts.toml";
}

/// The kubelet's unit.
#[derive(Debug, Serialize)]
pub struct KubeletUnit {
    /// The program's path.
    pub program: String,
}
impl Template for KubeletUnit {
    const NAME: &'static str = "kubelet.service";
}

/// The kubelet's drop-in.
#[derive(Debug, Serialize)]
pub struct KubeletDropIn {
    /// The program's path.
    pub program: String,
    /// Whether it runs static pods only, without an API server.
    pub standalone: bool,
    /// Environment variables.
    pub environment: Vec<Variable>,
}
impl Template for KubeletDropIn {
    const NAME: &'static str = "kubelet.dropin.conf";
}

/// An environment variable, escaped for a unit file.
#[derive(Debug, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Variable {
    /// A variable whose value is escaped for `Environment="NAME=value"` of systemd: quotes and
    /// backslashes, and `%` which starts a specifier there.
    #[must_use]
    pub fn new(name: &str, value: &str) -> Self {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        Self { name: name.to_owned(), value }
    }
}

/// The local API proxy's configuration.
#[derive(Debug, Serialize)]
pub struct Haproxy {
    /// The loopback address it listens on.
    pub listen: String,
    /// Its port and the API servers'.
    pub port: u16,
    /// The API servers.
    pub servers: Vec<Server>,
}
impl Template for Haproxy {
    const NAME: &'static str = "haproxy.cfg";
}

/// An API server behind the proxy.
#[derive(Debug, Serialize)]
pub struct Server {
    /// The host's name.
    pub name: String,
    /// Its address.
    pub address: String,
}

/// The built-in pod network's CNI configuration.
#[derive(Debug, Serialize)]
pub struct Bridge {
    /// MTU of pod interfaces; 0 for the kernel's default.
    pub mtu: u32,
    /// This node's networks.
    pub ranges: Vec<BridgeRange>,
}
impl Template for Bridge {
    const NAME: &'static str = "bridge.conflist";
}

/// One network of a node.
#[derive(Debug, Serialize)]
pub struct BridgeRange {
    /// The network.
    pub subnet: String,
    /// The default route of its family.
    pub everything: String,
}

/// The unit that sets the routes to other nodes' pods.
#[derive(Debug, Serialize)]
pub struct Routes {
    /// Path of `ip`.
    pub ip: String,
    /// The routes.
    pub routes: Vec<Route>,
    /// Masquerading rules, one per family.
    pub masquerades: Vec<Masquerade>,
}
impl Template for Routes {
    const NAME: &'static str = "routes.service";
}

/// A route to another node's pods.
#[derive(Debug, Serialize)]
pub struct Route {
    /// `-4` or `-6`.
    pub family: &'static str,
    /// The other node's pod network.
    pub network: String,
    /// The other node's address.
    pub gateway: String,
}

/// A rule that gives packets from pods to the world the node's address.
#[derive(Debug, Serialize)]
pub struct Masquerade {
    /// Path of `iptables` or `ip6tables`.
    pub iptables: String,
    /// This node's pod network.
    pub source: String,
    /// The cluster's pod network, which is left alone.
    pub network: String,
}

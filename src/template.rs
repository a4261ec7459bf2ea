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
    tera.add_raw_templates(files(&FILES)).expect("every template parses; a test renders each");
    tera
});

/// All files below a directory of templates, by their names below `templates/`.
fn files(directory: &'static Dir<'static>) -> Vec<(&'static str, &'static str)> {
    let text = |file: &'static include_dir::File<'static>| {
        let name = file.path().to_str().expect("template names are plain");
        (name, file.contents_utf8().expect("templates are text"))
    };
    directory.files().map(text).chain(directory.dirs().flat_map(files)).collect()
}

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

/// containerd's unit, where slipway brings containerd.
#[derive(Debug, Serialize)]
pub struct ContainerdUnit {}
impl Template for ContainerdUnit {
    const NAME: &'static str = "containerd.service";
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

/// The configuration of haproxy in front of the API servers.
#[derive(Debug, Serialize)]
pub struct Haproxy {
    /// The address it listens on.
    pub listen: String,
    /// Its port.
    pub port: u16,
    /// The API servers' port.
    pub api_port: u16,
    /// The API servers.
    pub servers: Vec<Server>,
    /// Which of them is on the same host, where it tells keepalived how they are; else empty.
    pub own: String,
    /// The port at which it tells.
    pub health_port: u16,
}
impl Template for Haproxy {
    const NAME: &'static str = "haproxy.cfg";
}

/// keepalived's configuration on one host.
#[derive(Debug, Serialize)]
pub struct Keepalived {
    /// The program that asks how API servers are, given an address.
    pub check: String,
    /// The port of haproxy's answers.
    pub health_port: u16,
    /// The interface that gets the address.
    pub interface: String,
    /// VRRP's number for this group of hosts.
    pub router_id: u8,
    /// Who takes the address if several could: the highest.
    pub priority: u8,
    /// This host's own address.
    pub source: String,
    /// The other hosts' addresses.
    pub peers: Vec<String>,
    /// The virtual address with its prefix.
    pub address: String,
}
impl Template for Keepalived {
    const NAME: &'static str = "keepalived.conf";
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

/// CoreDNS' own configuration.
#[derive(Debug, Serialize)]
pub struct Corefile {
    /// The cluster's DNS domain.
    pub dns_domain: String,
    /// Whether answers about the cluster's own names are not cached.
    pub cluster_names_uncached: bool,
}
impl Template for Corefile {
    const NAME: &'static str = "coredns/Corefile";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// An input of every template. A new template has a row here, or the test below fails.
    fn inputs() -> Vec<(&'static str, serde_json::Value, String)> {
        fn row<T: Template>(input: T) -> (&'static str, serde_json::Value, String) {
            (T::NAME, serde_json::to_value(&input).unwrap(), input.render())
        }
        let text = |text: &str| text.to_owned();
        vec![
            row(Modules { modules: vec![text("overlay")] }),
            row(Sysctl { parameters: vec![Pair { key: text("a.b"), value: text("1") }] }),
            row(Containerd {
                version: 2,
                top: vec![text("root = \"/x\"")],
                tables: vec![Table { header: text("plugins"), lines: vec![text("a = 1")] }],
            }),
            row(ContainerdUnit {}),
            row(RegistryHosts {
                registry: text("docker.io"),
                server: text("https://docker.io"),
                endpoints: vec![text("https://mirror.example.test")],
                skip_verify: true,
            }),
            row(KubeletUnit { program: text("/usr/bin/kubelet") }),
            row(KubeletDropIn {
                program: text("/usr/bin/kubelet"),
                standalone: false,
                environment: vec![Variable::new("A", "b")],
            }),
            row(Haproxy {
                listen: text("127.0.0.1"),
                port: 6443,
                api_port: 6443,
                servers: vec![Server { name: text("cp-1"), address: text("192.0.2.11") }],
                own: text("cp-1"),
                health_port: 8444,
            }),
            row(Keepalived {
                check: text("/etc/slipway/api-vip/check"),
                health_port: 8444,
                interface: text("eth0"),
                router_id: 100,
                priority: 200,
                source: text("192.0.2.11"),
                peers: vec![text("192.0.2.12")],
                address: text("192.0.2.100/32"),
            }),
            row(Bridge {
                mtu: 1400,
                ranges: vec![BridgeRange { subnet: text("10.244.0.0/24"), everything: text("0.0.0.0/0") }],
            }),
            row(Routes {
                ip: text("/usr/sbin/ip"),
                routes: vec![Route { family: "-4", network: text("10.244.1.0/24"), gateway: text("192.0.2.12") }],
                masquerades: vec![Masquerade {
                    iptables: text("/usr/sbin/iptables"),
                    source: text("10.244.0.0/24"),
                    network: text("10.244.0.0/16"),
                }],
            }),
            row(Corefile { dns_domain: text("cluster.local"), cluster_names_uncached: true }),
        ]
    }

    #[test]
    fn every_template_uses_exactly_the_fields_of_its_input() {
        for (name, input, _) in inputs() {
            let fields: BTreeSet<String> = input.as_object().unwrap().keys().cloned().collect();
            let variables: BTreeSet<String> =
                TEMPLATES.get_template_variables(name).unwrap().into_iter().map(Into::into).collect();
            assert_eq!(variables, fields, "{name}");
        }
    }

    #[test]
    fn every_file_below_templates_has_an_input_and_ends_with_one_newline() {
        let named: BTreeSet<&str> = inputs().iter().map(|(name, ..)| *name).collect();
        assert_eq!(named, files(&FILES).into_iter().map(|(name, _)| name).collect());
        for (name, _, text) in inputs() {
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
            assert!(!text.contains("{{") && !text.contains("{%"), "{name}: {text}");
        }
    }

    #[test]
    fn values_in_units_stay_values() {
        let variable = Variable::new("A", r#"a "quoted" \ 100%"#);
        assert_eq!(variable.value, r#"a \"quoted\" \\ 100%%"#);
    }
}

//! kubeadm, as its documentation says for a highly available cluster.
//!
//! Prepared before the clock runs: containerd's configuration, the kubelet's unit
//! as the packages ship it, kernel settings, open SSH connections. Inside the
//! time: `init --upload-certs`, the joins, the network, the finish line.
//!
//! The network is the one slipway's own bridge network makes: a CNI
//! configuration with the node's pod network, and a route to every other node's.
//! It goes to each host as soon as that host has joined.

use super::finish;
use super::hosts::{CONTROL_PLANES, Hosts, KUBELET, WORKERS, each, endpoint, names};
use super::results::{Lap, Part};
use crate::error::{Error, Result};
use crate::lab::address::address;
use crate::lab::kubernetes::SOURCE_VERSION;
use std::time::Instant;

/// Any well-formed token and key do; given ahead, nobody has to ask for them.
const TOKEN: &str = "abcdef.0123456789abcdef";
const CERTIFICATE_KEY: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

/// What only the lab needs is said in docs/lab.md.
const CONTAINERD: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "k8s.gcr.io/pause:3.2"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
"#;

const KUBELET_UNIT: &str = "[Unit]
Description=kubelet: The Kubernetes Node Agent
Wants=network-online.target
After=network-online.target
[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10
[Install]
WantedBy=multi-user.target
";

const KUBELET_DROP_IN: &str = r#"[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"#;

/// How hosts join.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Joins {
    /// Control planes one after another, then the workers at once.
    InTurn,
    /// All that join at once; documented as possible since v1.15.
    AtOnce,
}

/// Makes the cluster and says how long it took.
pub fn bootstrap(hosts: &Hosts, joins: Joins) -> Result<Lap> {
    let all = names();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    each(&all, |name| prepare(hosts, name))?;

    let start = Instant::now();
    let mut parts = Vec::new();
    let mut part = |title: &str, begun: Instant| {
        parts.push(Part {
            title: title.to_owned(),
            from: begun.duration_since(start),
            to: start.elapsed(),
        });
    };
    let begun = Instant::now();
    let first = CONTROL_PLANES[0];
    let said = hosts.run(
        first,
        "kubeadm init --upload-certs --config /root/kubeadm.yaml 2>&1",
    )?;
    let digest = ca_digest(&said)?;
    network(hosts, first)?;
    part("init", begun);

    let begun = Instant::now();
    let others = &CONTROL_PLANES[1..];
    match joins {
        Joins::InTurn => {
            for name in others {
                join(hosts, name, &digest)?;
            }
            part("control planes join", begun);
            let begun = Instant::now();
            each(&WORKERS, |name| join(hosts, name, &digest))?;
            part("workers join", begun);
        }
        Joins::AtOnce => {
            let joining: Vec<&str> = others.iter().chain(&WORKERS).copied().collect();
            each(&joining, |name| join(hosts, name, &digest))?;
            part("all join", begun);
        }
    }

    let begun = Instant::now();
    routes(hosts, &all)?;
    part("routes", begun);
    let begun = Instant::now();
    finish::wait(hosts)?;
    part("finish", begun);
    Ok(Lap {
        elapsed: start.elapsed(),
        parts,
    })
}

fn prepare(hosts: &Hosts, name: &str) -> Result<()> {
    hosts.connect(name)?;
    let configuration = format!(
        "apiVersion: kubeadm.k8s.io/v1beta2
kind: InitConfiguration
bootstrapTokens: [{{token: {TOKEN}}}]
certificateKey: {CERTIFICATE_KEY}
localAPIEndpoint: {{advertiseAddress: {address}}}
nodeRegistration: {{criSocket: /run/containerd/containerd.sock}}
---
apiVersion: kubeadm.k8s.io/v1beta2
kind: ClusterConfiguration
kubernetesVersion: {SOURCE_VERSION}
controlPlaneEndpoint: {endpoint}:6443
networking: {{podSubnet: 10.244.0.0/16}}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
{KUBELET}---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack: {{maxPerCore: 0, min: 0}}
",
        address = address(name),
        endpoint = endpoint(),
    );
    let script = format!(
        "set -e
        umask 022
        mkdir -p /etc/systemd/system/kubelet.service.d /etc/cni/net.d
        cat > /etc/containerd/config.toml <<'END'\n{CONTAINERD}END
        cat > /etc/systemd/system/kubelet.service <<'END'\n{KUBELET_UNIT}END
        cat > /etc/systemd/system/kubelet.service.d/10-kubeadm.conf <<'END'\n{KUBELET_DROP_IN}END
        cat > /root/kubeadm.yaml <<'END'\n{configuration}END
        sysctl -q -w net.ipv4.ip_forward=1
        if [ -e /proc/sys/net/bridge ]; then sysctl -q -w net.bridge.bridge-nf-call-iptables=1; fi
        systemctl daemon-reload
        systemctl -q enable kubelet
        systemctl restart containerd"
    );
    hosts.run(name, &script).map(drop)
}

fn join(hosts: &Hosts, name: &str, digest: &str) -> Result<()> {
    let mut command = format!(
        "kubeadm join {}:6443 --token {TOKEN} --discovery-token-ca-cert-hash {digest} \
         --cri-socket /run/containerd/containerd.sock",
        endpoint()
    );
    if CONTROL_PLANES.contains(&name) {
        command.push_str(&format!(
            " --control-plane --certificate-key {CERTIFICATE_KEY} --apiserver-advertise-address {}",
            address(name)
        ));
    }
    hosts.run(name, &format!("{command} 2>&1"))?;
    network(hosts, name)
}

/// Gives a node the CNI configuration for its pod network.
fn network(hosts: &Hosts, name: &str) -> Result<()> {
    let subnet = hosts.run(
        CONTROL_PLANES[0],
        &format!(
            "timeout 60 sh -c 'until kubectl --kubeconfig /etc/kubernetes/admin.conf get node {name} \
             -o jsonpath={{.spec.podCIDR}} | grep .; do sleep 0.2; done'"
        ),
    )?;
    let configuration = format!(
        r#"{{
  "cniVersion": "0.4.0",
  "name": "bench",
  "plugins": [
    {{
      "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
      "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}
    }},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}, "snat": true}}
  ]
}}
"#,
        subnet.trim()
    );
    let file = "/etc/cni/net.d/10-bench.conflist";
    let script = format!("cat > {file}.new <<'END'\n{configuration}END\nmv {file}.new {file}");
    hosts.run(name, &script).map(drop)
}

/// Sets on every host the routes to the pods of all others.
fn routes(hosts: &Hosts, all: &[&str]) -> Result<()> {
    let networks = hosts.run(
        CONTROL_PLANES[0],
        "kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes \
         -o jsonpath='{range .items[*]}{.metadata.name} {.spec.podCIDR}{\"\\n\"}{end}'",
    )?;
    each(all, |name| {
        let script: String = networks
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(other, _)| *other != name)
            .map(|(other, network)| format!("ip route replace {network} via {}\n", address(other)))
            .collect();
        hosts.run(name, &format!("set -e\n{script}"))
    })
    .map(drop)
}

/// The digest of the CA's key, from the join command that `init` prints.
fn ca_digest(said: &str) -> Result<String> {
    let place = said
        .find("sha256:")
        .ok_or_else(|| Error::new(format!("kubeadm init printed no join command:\n{said}")))?;
    Ok(said[place..].chars().take("sha256:".len() + 64).collect())
}

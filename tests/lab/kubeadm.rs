//! kubeadm on hosts of the lab, as its users have it: what they prepare before it, and what they add after.

use super::machines::Machines;

/// The bootstrap token of every cluster that is made with it.
pub const TOKEN: &str = "abcdef.0123456789abcdef";

/// What only the lab needs is said in docs/lab.md.
const CONTAINERD: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "k8s.gcr.io/pause:3.2"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
"#;

/// The unit and drop-in as kubeadm's package brings them.
const KUBELET_UNIT: &str = "[Unit]
Description=kubelet
[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=2
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

/// A host as its owner prepares it before kubeadm, with `/root/kubeadm.yaml`.
pub fn prepare(machines: &Machines, name: &str, configuration: &str) {
    let script = format!(
        "set -e
        mkdir -p /etc/systemd/system/kubelet.service.d /etc/cni/net.d
        cat > /etc/containerd/config.toml <<'END'\n{CONTAINERD}END
        cat > /etc/systemd/system/kubelet.service <<'END'\n{KUBELET_UNIT}END
        cat > /etc/systemd/system/kubelet.service.d/10-kubeadm.conf <<'END'\n{KUBELET_DROP_IN}END
        cat > /root/kubeadm.yaml <<'END'\n{configuration}END
        sysctl -q -w net.ipv4.ip_forward=1
        if [ -e /proc/sys/net/bridge ]; then sysctl -q -w net.bridge.bridge-nf-call-iptables=1; fi
        systemctl daemon-reload
        systemctl -q enable kubelet
        systemctl restart containerd",
    );
    machines.shell(name, &script);
}

/// Gives a node a network for its pods.
pub fn network(machines: &Machines, control_plane: &str, name: &str) {
    let subnet = machines.shell(
        control_plane,
        &format!(
            "timeout 60 sh -c 'until kubectl --kubeconfig /etc/kubernetes/admin.conf get node {name} \
             -o jsonpath={{.spec.podCIDR}} | grep .; do sleep 0.5; done'"
        ),
    );
    let configuration = format!(
        r#"{{"cniVersion": "0.4.0", "name": "lab", "plugins": [{{"type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}}]}}"#,
        subnet.trim()
    );
    machines.shell(name, &format!("cat > /etc/cni/net.d/10-lab.conflist <<'END'\n{configuration}\nEND"));
}

/// The digest of the CA's key that `kubeadm init` printed for those who join.
pub fn ca_digest(said: &str) -> String {
    let place = said.find("sha256:").unwrap_or_else(|| panic!("kubeadm init printed no join command:\n{said}"));
    said[place..].chars().take("sha256:".len() + 64).collect()
}

//! Every path slipway uses on hosts, in one place, so that two parts of the program can never
//! mean different files. The paths below `/etc/kubernetes`, `/var/lib/kubelet` and
//! `/var/lib/etcd` are kubeadm's, so that kubeadm can operate what slipway made.

use crate::names::{HostName, RemotePath};

/// Declares functions that return a fixed path each.
macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name() -> RemotePath { RemotePath::fixed($path) })*

        #[cfg(test)]
        fn every_path() -> Vec<RemotePath> {
            vec![$($name()),*]
        }
    };
}

paths! {
    /// Kubernetes' own directory.
    kubernetes_directory = "/etc/kubernetes";
    /// Where the kubelet looks for static pods.
    manifests_directory = "/etc/kubernetes/manifests";
    /// Where kubeadm keeps backups and intermediate files.
    kubernetes_temporary_directory = "/etc/kubernetes/tmp";
    /// Keys and certificates.
    pki_directory = "/etc/kubernetes/pki";
    /// Keys and certificates of etcd.
    etcd_pki_directory = "/etc/kubernetes/pki/etcd";
    /// What the user gave for an external etcd. It lies below the PKI directory, so the API
    /// server's pod sees it without a volume of its own.
    external_etcd_directory = "/etc/kubernetes/pki/etcd-external";

    /// The cluster's CA certificate.
    ca_certificate = "/etc/kubernetes/pki/ca.crt";
    /// The cluster's CA key.
    ca_key = "/etc/kubernetes/pki/ca.key";
    /// The API server's serving certificate.
    api_server_certificate = "/etc/kubernetes/pki/apiserver.crt";
    /// The API server's serving key.
    api_server_key = "/etc/kubernetes/pki/apiserver.key";
    /// The API server's client certificate for kubelets.
    kubelet_client_certificate = "/etc/kubernetes/pki/apiserver-kubelet-client.crt";
    /// The API server's client key for kubelets.
    kubelet_client_key = "/etc/kubernetes/pki/apiserver-kubelet-client.key";
    /// The API server's client certificate for etcd.
    etcd_client_certificate = "/etc/kubernetes/pki/apiserver-etcd-client.crt";
    /// The API server's client key for etcd.
    etcd_client_key = "/etc/kubernetes/pki/apiserver-etcd-client.key";
    /// The front proxy's CA certificate.
    front_proxy_ca_certificate = "/etc/kubernetes/pki/front-proxy-ca.crt";
    /// The front proxy's CA key.
    front_proxy_ca_key = "/etc/kubernetes/pki/front-proxy-ca.key";
    /// The front proxy's client certificate.
    front_proxy_client_certificate = "/etc/kubernetes/pki/front-proxy-client.crt";
    /// The front proxy's client key.
    front_proxy_client_key = "/etc/kubernetes/pki/front-proxy-client.key";
    /// The key that signs service account tokens.
    service_account_key = "/etc/kubernetes/pki/sa.key";
    /// Its public half.
    service_account_public_key = "/etc/kubernetes/pki/sa.pub";
    /// etcd's CA certificate.
    etcd_ca_certificate = "/etc/kubernetes/pki/etcd/ca.crt";
    /// etcd's CA key.
    etcd_ca_key = "/etc/kubernetes/pki/etcd/ca.key";
    /// The member's serving certificate.
    etcd_server_certificate = "/etc/kubernetes/pki/etcd/server.crt";
    /// The member's serving key.
    etcd_server_key = "/etc/kubernetes/pki/etcd/server.key";
    /// The member's certificate towards other members.
    etcd_peer_certificate = "/etc/kubernetes/pki/etcd/peer.crt";
    /// The member's key towards other members.
    etcd_peer_key = "/etc/kubernetes/pki/etcd/peer.key";
    /// The client certificate of health checks (and of kubeadm).
    etcd_health_check_certificate = "/etc/kubernetes/pki/etcd/healthcheck-client.crt";
    /// The client key of health checks.
    etcd_health_check_key = "/etc/kubernetes/pki/etcd/healthcheck-client.key";
    /// The CA of an external etcd, given by the user.
    external_etcd_ca_certificate = "/etc/kubernetes/pki/etcd-external/ca.crt";
    /// The API servers' client certificate for an external etcd, given by the user.
    external_etcd_client_certificate = "/etc/kubernetes/pki/etcd-external/client.crt";
    /// The API servers' client key for an external etcd, given by the user.
    external_etcd_client_key = "/etc/kubernetes/pki/etcd-external/client.key";

    /// The administrator's kubeconfig.
    admin_kubeconfig = "/etc/kubernetes/admin.conf";
    /// The kubeconfig that works before any RBAC rule does (Kubernetes v1.29 and later).
    super_admin_kubeconfig = "/etc/kubernetes/super-admin.conf";
    /// The kubelet's kubeconfig.
    kubelet_kubeconfig = "/etc/kubernetes/kubelet.conf";
    /// The kubeconfig a kubelet joins with when kubeadm does it.
    bootstrap_kubelet_kubeconfig = "/etc/kubernetes/bootstrap-kubelet.conf";
    /// The controller manager's kubeconfig.
    controller_manager_kubeconfig = "/etc/kubernetes/controller-manager.conf";
    /// The scheduler's kubeconfig.
    scheduler_kubeconfig = "/etc/kubernetes/scheduler.conf";

    /// The static pod of etcd.
    etcd_manifest = "/etc/kubernetes/manifests/etcd.yaml";
    /// The static pod of the API server.
    api_server_manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    /// The static pod of the controller manager.
    controller_manager_manifest = "/etc/kubernetes/manifests/kube-controller-manager.yaml";
    /// The static pod of the scheduler.
    scheduler_manifest = "/etc/kubernetes/manifests/kube-scheduler.yaml";

    /// The kubelet's directory.
    kubelet_directory = "/var/lib/kubelet";
    /// The kubelet's own keys and certificates.
    kubelet_pki_directory = "/var/lib/kubelet/pki";
    /// The kubelet's current client certificate and key; a link that rotation moves.
    kubelet_client_current = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    /// The kubelet's client certificate and key as slipway made them.
    kubelet_client_issued = "/var/lib/kubelet/pki/kubelet-client-slipway.pem";
    /// The kubelet's serving certificate and key, if the cluster's CA signed it; a link that rotation moves.
    kubelet_server_current = "/var/lib/kubelet/pki/kubelet-server-current.pem";
    /// The serving certificate a kubelet signs itself.
    kubelet_self_signed = "/var/lib/kubelet/pki/kubelet.crt";
    /// The kubelet's configuration.
    kubelet_configuration = "/var/lib/kubelet/config.yaml";
    /// What of the kubelet's configuration belongs to this host alone (Kubernetes v1.34 and later).
    kubelet_instance_configuration = "/var/lib/kubelet/instance-config.yaml";
    /// The kubelet's generated command-line flags.
    kubelet_flags = "/var/lib/kubelet/kubeadm-flags.env";

    /// Where the kubelet and the runtime look for CNI configuration.
    cni_configuration_directory = "/etc/cni/net.d";
    /// Where CNI plugins are unless the plan or the host says otherwise.
    cni_plugin_directory = "/opt/cni/bin";
    /// The flex volume plugins (mounted by the controller manager until v1.35).
    flex_volume_directory = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec";
    /// The resolver configuration without the local stub, written by systemd-resolved.
    resolved_configuration = "/run/systemd/resolve/resolv.conf";
    /// The operating system's trusted CAs.
    trusted_ca_directory = "/etc/ssl/certs";

    /// slipway's own directory: stamps, notes, the lock.
    slipway_directory = "/var/lib/slipway";
}

/// Where Kubernetes' kubelet finds the static pod of that name.
///
/// The name is checked as host names are, which every pod name passes.
#[must_use]
pub fn manifest(pod: &HostName) -> RemotePath {
    manifests_directory().join(&format!("{pod}.yaml")).expect("a host name is one path component")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_well_formed_and_named_once() {
        let paths = every_path();
        let distinct: std::collections::BTreeSet<_> = paths.iter().collect();
        assert_eq!(distinct.len(), paths.len());
    }

    #[test]
    fn the_external_etcd_files_are_visible_to_the_api_server() {
        assert!(external_etcd_client_key().is_within(&pki_directory()));
        assert_eq!(manifest(&"haproxy".parse().unwrap()).as_str(), "/etc/kubernetes/manifests/haproxy.yaml");
    }
}

//! Which flags are gone, and which are slipway's: facts, one line each.

use std::fmt;

/// A program that takes flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    ApiServer,
    ControllerManager,
    Scheduler,
    Etcd,
    Kubelet,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Etcd => "etcd",
            Self::Kubelet => "the kubelet",
        })
    }
}

/// A flag that a program no longer knows; giving it is fatal.
pub(super) struct Removed {
    pub program: Program,
    pub flag: &'static str,
    /// The first minor release of Kubernetes without it.
    pub since: u32,
    pub instead: &'static str,
}

use Program::{ApiServer, ControllerManager, Etcd, Kubelet, Scheduler};

const fn removed(program: Program, flag: &'static str, since: u32, instead: &'static str) -> Removed {
    Removed { program, flag, since, instead }
}

pub(super) const REMOVED: [Removed; 7] = [
    removed(ApiServer, "insecure-port", 24, "remove it: there is no insecure port any more"),
    removed(ControllerManager, "port", 24, "remove it: there is no insecure port any more"),
    removed(Scheduler, "port", 24, "remove it: there is no insecure port any more"),
    removed(Kubelet, "container-runtime", 27, "remove it: every runtime is reached through `runtime.socket`"),
    removed(Kubelet, "pod-infra-container-image", 35, "use `runtime.pauseImage`"),
    removed(Etcd, "experimental-initial-corrupt-check", 34, "use `feature-gates: InitialCorruptCheck=true`"),
    removed(Etcd, "experimental-watch-progress-notify-interval", 34, "use `watch-progress-notify-interval`"),
];

/// Program, flag, and the field of the plan to use instead, if there is one.
pub(super) const OWNED: [(Program, &str, Option<&str>); 74] = [
    (ApiServer, "advertise-address", Some("hosts[].address")),
    (ApiServer, "secure-port", Some("endpoint.localProxy.port")),
    (ApiServer, "service-cluster-ip-range", Some("network.serviceCidrs")),
    (ApiServer, "etcd-servers", Some("etcd.external.endpoints")),
    (ApiServer, "etcd-cafile", Some("etcd.external.caFile")),
    (ApiServer, "etcd-certfile", Some("etcd.external.certificateFile")),
    (ApiServer, "etcd-keyfile", Some("etcd.external.keyFile")),
    (ApiServer, "tls-cert-file", Some("pki.extraSans")),
    (ApiServer, "tls-private-key-file", None),
    (ApiServer, "client-ca-file", None),
    (ApiServer, "kubelet-client-certificate", None),
    (ApiServer, "kubelet-client-key", None),
    (ApiServer, "proxy-client-cert-file", None),
    (ApiServer, "proxy-client-key-file", None),
    (ApiServer, "requestheader-client-ca-file", None),
    (ApiServer, "requestheader-allowed-names", None),
    (ApiServer, "service-account-key-file", None),
    (ApiServer, "service-account-signing-key-file", None),
    (ControllerManager, "cluster-name", Some("name")),
    (ControllerManager, "cluster-cidr", Some("network.podCidrs")),
    (ControllerManager, "service-cluster-ip-range", Some("network.serviceCidrs")),
    (ControllerManager, "allocate-node-cidrs", Some("network.podCidrs")),
    (ControllerManager, "node-cidr-mask-size", Some("network.nodeMaskV4")),
    (ControllerManager, "node-cidr-mask-size-ipv4", Some("network.nodeMaskV4")),
    (ControllerManager, "node-cidr-mask-size-ipv6", Some("network.nodeMaskV6")),
    (ControllerManager, "secure-port", None),
    (ControllerManager, "kubeconfig", None),
    (ControllerManager, "authentication-kubeconfig", None),
    (ControllerManager, "authorization-kubeconfig", None),
    (ControllerManager, "client-ca-file", None),
    (ControllerManager, "root-ca-file", None),
    (ControllerManager, "cluster-signing-cert-file", None),
    (ControllerManager, "cluster-signing-key-file", None),
    (ControllerManager, "requestheader-client-ca-file", None),
    (ControllerManager, "service-account-private-key-file", None),
    (Scheduler, "secure-port", None),
    (Scheduler, "kubeconfig", None),
    (Scheduler, "authentication-kubeconfig", None),
    (Scheduler, "authorization-kubeconfig", None),
    (Etcd, "data-dir", Some("etcd.dataDirectory")),
    (Etcd, "name", Some("hosts[].name")),
    (Etcd, "initial-cluster", Some("hosts[].roles")),
    (Etcd, "initial-cluster-state", None),
    (Etcd, "initial-cluster-token", None),
    (Etcd, "initial-advertise-peer-urls", Some("hosts[].address")),
    (Etcd, "listen-peer-urls", Some("hosts[].address")),
    (Etcd, "listen-client-urls", Some("hosts[].address")),
    (Etcd, "advertise-client-urls", Some("hosts[].address")),
    (Etcd, "cert-file", Some("etcd.extraSans")),
    (Etcd, "key-file", None),
    (Etcd, "trusted-ca-file", None),
    (Etcd, "client-cert-auth", None),
    (Etcd, "peer-cert-file", Some("etcd.extraSans")),
    (Etcd, "peer-key-file", None),
    (Etcd, "peer-trusted-ca-file", None),
    (Etcd, "peer-client-cert-auth", None),
    (Etcd, "force-new-cluster", None),
    (Etcd, "config-file", Some("etcd.extraArgs")),
    (Kubelet, "config", Some("kubelet.configuration")),
    (Kubelet, "kubeconfig", None),
    (Kubelet, "bootstrap-kubeconfig", None),
    (Kubelet, "cert-dir", None),
    (Kubelet, "root-dir", None),
    (Kubelet, "hostname-override", Some("hosts[].name")),
    (Kubelet, "node-ip", Some("hosts[].address")),
    (Kubelet, "node-labels", Some("hosts[].labels")),
    (Kubelet, "register-with-taints", Some("hosts[].taints")),
    (Kubelet, "container-runtime", Some("runtime.socket")),
    (Kubelet, "container-runtime-endpoint", Some("runtime.socket")),
    (Kubelet, "pod-infra-container-image", Some("runtime.pauseImage")),
    (Kubelet, "cgroup-driver", Some("runtime.cgroupDriver")),
    (Kubelet, "pod-manifest-path", None),
    (Kubelet, "cluster-dns", Some("kubelet.configuration.clusterDNS")),
    (Kubelet, "cluster-domain", Some("network.dnsDomain")),
];

//! What all static pods share: one container on the host's network, probes with kubeadm's
//! timings, directories of the host as volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, HTTPGetAction, HostPathVolumeSource, Pod, PodSecurityContext, PodSpec, Probe,
    ResourceRequirements, SeccompProfile, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{INPUTS_ANNOTATION, PodInputs};
use crate::names::RemotePath;
use crate::paths;
use crate::plan;
use crate::release::ProbePaths;

/// The name of the port that probes refer to.
const PROBE_PORT: &str = "probe-port";
/// What `system-node-critical` stands for.
const NODE_CRITICAL_PRIORITY: i32 = 2_000_001_000;

/// One static pod.
pub(super) struct StaticPod<'a> {
    /// The pod, its container and its program.
    pub name: &'static str,
    pub image: String,
    /// The flags, in order.
    pub flags: Vec<String>,
    pub environment: &'a BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub requests: &'static [(&'static str, &'static str)],
    pub probe: ProbeTarget,
    /// Generated and user-given volumes.
    pub volumes: Vec<HostVolume>,
}

/// Where a component answers for its health.
pub(super) struct ProbeTarget {
    /// The address; empty for the pod's own, which is the host's.
    pub address: String,
    pub port: u16,
    pub scheme: &'static str,
    pub paths: ProbePaths,
}

/// A directory or file of the host in a pod.
pub(super) struct HostVolume {
    pub name: String,
    pub host_path: String,
    pub mount_path: String,
    pub read_only: bool,
    pub kind: Option<String>,
}

impl HostVolume {
    /// A directory that is made if it is missing, at the same path in the pod.
    pub fn directory(name: &str, path: &RemotePath, read_only: bool) -> Self {
        Self::same(name, path, read_only, "DirectoryOrCreate")
    }

    /// A file, read-only. A missing one would be made empty, so files come before manifests.
    pub fn file(name: &str, path: &RemotePath) -> Self {
        Self::same(name, path, true, "FileOrCreate")
    }

    fn same(name: &str, path: &RemotePath, read_only: bool, kind: &str) -> Self {
        let path = path.to_string();
        Self { name: name.to_owned(), host_path: path.clone(), mount_path: path, read_only, kind: Some(kind.to_owned()) }
    }
}

impl From<&plan::Volume> for HostVolume {
    fn from(volume: &plan::Volume) -> Self {
        Self {
            name: volume.name.clone(),
            host_path: volume.host_path.to_string(),
            mount_path: volume.mount_path.to_string(),
            read_only: volume.read_only,
            kind: volume.kind.clone(),
        }
    }
}

/// The cluster's PKI and the host's trusted CAs. Which directories hold those depends on the
/// operating system, so only the ones that are on the host are mounted.
pub(super) fn pki_volumes(inputs: &PodInputs<'_>) -> Vec<HostVolume> {
    let mut volumes = vec![
        HostVolume::directory("ca-certs", &paths::trusted_ca_directory(), true),
        HostVolume::directory("k8s-certs", &paths::pki_directory(), true),
    ];
    for directory in inputs.release.pods.ca_directories {
        if inputs.system.ca_directories.contains(*directory) {
            let name = directory.trim_start_matches('/').replace('/', "-");
            volumes.push(HostVolume::directory(&name, &RemotePath::fixed(directory), true));
        }
    }
    volumes
}

impl StaticPod<'_> {
    /// The pod as a document.
    pub fn into_value(self, inputs: &PodInputs<'_>) -> Value {
        let facts = &inputs.release.pods;
        let mut annotations = self.annotations.clone();
        if let Some(digest) = inputs.inputs_digest {
            annotations.insert(INPUTS_ANNOTATION.into(), digest.into());
        }
        let (mounts, volumes) = self.mounts_and_volumes();
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(self.name.into()),
                namespace: Some("kube-system".into()),
                labels: Some(labels(self.name)),
                annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
                ..Default::default()
            },
            spec: Some(PodSpec {
                containers: vec![self.container(mounts, facts.named_probe_port)],
                host_network: Some(true),
                priority: facts.numeric_priority.then_some(NODE_CRITICAL_PRIORITY),
                priority_class_name: Some("system-node-critical".into()),
                security_context: facts.seccomp.then(default_seccomp),
                volumes: Some(volumes),
                ..Default::default()
            }),
            status: None,
        };
        serde_json::to_value(pod).expect("a pod is a JSON document")
    }

    fn container(self, mounts: Vec<VolumeMount>, named_port: bool) -> Container {
        let environment = self.environment.iter().map(|(name, value)| EnvVar {
            name: name.clone(),
            value: Some(value.clone()),
            value_from: None,
        });
        let requests = self.requests.iter().map(|(name, quantity)| ((*name).into(), Quantity((*quantity).into())));
        let port = ContainerPort {
            container_port: self.probe.port.into(),
            name: Some(PROBE_PORT.into()),
            protocol: Some("TCP".into()),
            ..Default::default()
        };
        Container {
            name: self.name.into(),
            image: Some(self.image),
            image_pull_policy: Some("IfNotPresent".into()),
            command: Some(std::iter::once(self.name.to_owned()).chain(self.flags).collect()),
            env: Some(environment.collect::<Vec<_>>()).filter(|variables| !variables.is_empty()),
            ports: named_port.then(|| vec![port]),
            resources: Some(ResourceRequirements { requests: Some(requests.collect()), ..Default::default() }),
            liveness_probe: Some(self.probe.liveness(named_port)),
            readiness_probe: self.probe.readiness(named_port),
            startup_probe: Some(self.probe.startup(named_port)),
            volume_mounts: Some(mounts),
            ..Default::default()
        }
    }

    /// Mounts and volumes, sorted by name as kubeadm writes them.
    fn mounts_and_volumes(&self) -> (Vec<VolumeMount>, Vec<Volume>) {
        let mut sorted: Vec<&HostVolume> = self.volumes.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let mounts = sorted.iter().map(|volume| VolumeMount {
            name: volume.name.clone(),
            mount_path: volume.mount_path.clone(),
            read_only: volume.read_only.then_some(true),
            ..Default::default()
        });
        let volumes = sorted.iter().map(|volume| Volume {
            name: volume.name.clone(),
            host_path: Some(HostPathVolumeSource { path: volume.host_path.clone(), type_: volume.kind.clone() }),
            ..Default::default()
        });
        (mounts.collect(), volumes.collect())
    }
}

/// kubeadm's timings. 24 failures of the startup probe, 10 seconds apart, are the four minutes
/// kubeadm gives a component to come up.
impl ProbeTarget {
    fn liveness(&self, named_port: bool) -> Probe {
        Probe {
            initial_delay_seconds: Some(10),
            failure_threshold: Some(8),
            period_seconds: Some(10),
            ..self.probe(self.paths.liveness, named_port)
        }
    }

    fn readiness(&self, named_port: bool) -> Option<Probe> {
        let path = self.paths.readiness?;
        Some(Probe { failure_threshold: Some(3), period_seconds: Some(1), ..self.probe(path, named_port) })
    }

    fn startup(&self, named_port: bool) -> Probe {
        Probe {
            initial_delay_seconds: Some(10),
            failure_threshold: Some(24),
            period_seconds: Some(10),
            ..self.probe(self.paths.startup, named_port)
        }
    }

    fn probe(&self, path: &str, named_port: bool) -> Probe {
        let port =
            if named_port { IntOrString::String(PROBE_PORT.into()) } else { IntOrString::Int(self.port.into()) };
        Probe {
            http_get: Some(HTTPGetAction {
                host: Some(self.address.clone()).filter(|address| !address.is_empty()),
                path: Some(path.into()),
                port,
                scheme: Some(self.scheme.into()),
                ..Default::default()
            }),
            timeout_seconds: Some(15),
            ..Default::default()
        }
    }
}

/// The address a probe uses for a component that listens on `bind_address`: none for all
/// addresses, since the kubelet then uses the host's.
pub(super) fn probe_address(bind_address: &str) -> String {
    match bind_address.parse::<std::net::IpAddr>() {
        Ok(address) if address.is_unspecified() => String::new(),
        _ => bind_address.to_owned(),
    }
}

fn labels(component: &str) -> BTreeMap<String, String> {
    [("component", component), ("tier", "control-plane")].map(|(key, value)| (key.into(), value.into())).into()
}

fn default_seccomp() -> PodSecurityContext {
    PodSecurityContext {
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..Default::default()
    }
}

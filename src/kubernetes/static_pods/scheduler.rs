//! The scheduler's static pod.

use serde_json::Value;

use crate::kubernetes::flags::{Flags, override_of};
use crate::kubernetes::pod::{HostVolume, ProbeTarget, StaticPod, probe_address};
use crate::kubernetes::{PodInputs, feature_gates};
use crate::patch::{self, PatchError};
use crate::paths;
use crate::plan::PatchTarget;

/// The static pod of the host's scheduler.
///
/// # Errors
/// A patch of the plan does not fit the pod.
pub fn scheduler(inputs: &PodInputs<'_>) -> Result<Value, PatchError> {
    let PodInputs { plan, host, release, .. } = *inputs;
    let component = &plan.scheduler;
    let kubeconfig = paths::scheduler_kubeconfig();

    let mut flags = Flags::default();
    flags.set_all([("bind-address", "127.0.0.1"), ("leader-elect", "true")]);
    flags.set_all(["authentication-kubeconfig", "authorization-kubeconfig", "kubeconfig"].map(|name| (name, &kubeconfig)));
    flags.set_all(release.pods.controller_flags.iter().copied());
    flags.set_feature_gates(&feature_gates(plan, release));

    let mut volumes = vec![HostVolume::file("kubeconfig", &kubeconfig)];
    volumes.extend(component.extra_volumes.iter().map(HostVolume::from));
    let bind_address = override_of(&component.extra_args, "bind-address").unwrap_or("127.0.0.1");
    let pod = StaticPod {
        name: "kube-scheduler",
        image: release.images(plan).scheduler,
        flags: flags.merged(&component.extra_args, release.pods.flag_order),
        environment: &component.extra_env,
        annotations: [].into(),
        requests: &[("cpu", "100m")],
        probe: ProbeTarget {
            address: probe_address(bind_address),
            port: 10259,
            scheme: "HTTPS",
            paths: release.pods.scheduler_probes,
        },
        volumes,
    };
    patch::apply(pod.into_value(inputs), &plan.patches, PatchTarget::KubeScheduler, Some(&host.name))
}

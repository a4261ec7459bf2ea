//! The static pod of an etcd member, the same on control planes and on hosts with only the role
//! `etcd`.

use serde_json::Value;

use crate::kubernetes::PodInputs;
use crate::kubernetes::flags::{Flags, override_of};
use crate::kubernetes::pod::{HostVolume, ProbeTarget, StaticPod, probe_address};
use crate::patch::{self, PatchError};
use crate::paths;
use crate::plan::{PatchTarget, url};
use crate::release::EtcdFlags;

/// kubeadm finds the members through this annotation.
const CLIENT_URLS_ANNOTATION: &str = "kubeadm.kubernetes.io/etcd.advertise-client-urls";

/// The port of metrics and health, plain HTTP on the loopback.
const METRICS_PORT: u16 = 2381;

/// How a member finds the others when its data directory is empty. A member that has data
/// ignores both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdMember {
    /// `--initial-cluster`: `name=peer-url`, separated by commas.
    pub initial_cluster: String,
    /// `--initial-cluster-state`: `new` or `existing`. Left out, etcd takes `new`.
    pub state: Option<&'static str>,
}

/// The static pod of the host's etcd member.
///
/// # Errors
/// A patch of the plan does not fit the pod.
pub fn etcd(inputs: &PodInputs<'_>, member: &EtcdMember) -> Result<Value, PatchError> {
    let PodInputs { plan, host, release, .. } = *inputs;
    let client_url = url(&host.address.to_string(), 2379);
    let client_urls = override_of(&plan.etcd.extra_args, "advertise-client-urls").unwrap_or(&client_url);
    let image = release.images(plan).etcd;
    let mut requests: &[(&str, &str)] = &[("cpu", "100m"), ("memory", "100Mi")];
    if release.etcd.ephemeral_storage {
        requests = &[("cpu", "100m"), ("ephemeral-storage", "100Mi"), ("memory", "100Mi")];
    }
    let pod = StaticPod {
        name: "etcd",
        flags: flags(inputs, member, &image).merged(&plan.etcd.extra_args, release.pods.flag_order),
        image,
        environment: &plan.etcd.extra_env,
        annotations: [(CLIENT_URLS_ANNOTATION.to_owned(), client_urls.to_owned())].into(),
        requests,
        probe: probe(inputs),
        volumes: vec![
            HostVolume::directory("etcd-data", &plan.etcd.data_directory, false),
            HostVolume::directory("etcd-certs", &paths::etcd_pki_directory(), false),
        ],
    };
    patch::apply(pod.into_value(inputs), &plan.patches, PatchTarget::Etcd, Some(&host.name))
}

/// The address and scheme of health follow the first metrics URL, if the user moved it.
fn probe(inputs: &PodInputs<'_>) -> ProbeTarget {
    let given = override_of(&inputs.plan.etcd.extra_args, "listen-metrics-urls")
        .and_then(|urls| urls.split(',').next())
        .and_then(|url| url.split_once("://"))
        .and_then(|(scheme, authority)| Some((scheme, authority.trim_end_matches('/').rsplit_once(':')?)))
        .and_then(|(scheme, (address, port))| Some((scheme, address, port.parse().ok()?)));
    let (scheme, address, port) = given.unwrap_or(("http", loopback(inputs), METRICS_PORT));
    ProbeTarget {
        address: probe_address(address.trim_matches(['[', ']'])),
        port,
        scheme: if scheme == "https" { "HTTPS" } else { "HTTP" },
        paths: inputs.release.etcd.probes,
    }
}

fn loopback(inputs: &PodInputs<'_>) -> &'static str {
    if inputs.host.address.is_ipv6() { "::1" } else { "127.0.0.1" }
}

fn flags(inputs: &PodInputs<'_>, member: &EtcdMember, image: &str) -> Flags {
    let PodInputs { plan, host, release, .. } = *inputs;
    let own = |port| url(&host.address.to_string(), port);
    let local = |port| url(loopback(inputs), port);
    let mut flags = Flags::default();
    flags.set_all([
        ("name", host.name.to_string()),
        ("data-dir", plan.etcd.data_directory.to_string()),
        ("advertise-client-urls", own(2379)),
        ("listen-client-urls", format!("{},{}", local(2379), own(2379))),
        ("listen-peer-urls", own(2380)),
        ("initial-advertise-peer-urls", own(2380)),
        ("listen-metrics-urls", local(METRICS_PORT).replacen("https", "http", 1)),
        ("initial-cluster", member.initial_cluster.clone()),
    ]);
    if let Some(state) = member.state {
        flags.set("initial-cluster-state", state);
    }
    flags.set_all([("client-cert-auth", "true"), ("peer-client-cert-auth", "true"), ("snapshot-count", "10000")]);
    flags.set_all([
        ("cert-file", paths::etcd_server_certificate()),
        ("key-file", paths::etcd_server_key()),
        ("trusted-ca-file", paths::etcd_ca_certificate()),
        ("peer-cert-file", paths::etcd_peer_certificate()),
        ("peer-key-file", paths::etcd_peer_key()),
        ("peer-trusted-ca-file", paths::etcd_ca_certificate()),
    ]);
    match release.etcd.flags {
        EtcdFlags::Without => {}
        EtcdFlags::ByTag if is_before_3_6(image) => experimental(&mut flags),
        EtcdFlags::Experimental => experimental(&mut flags),
        EtcdFlags::ByTag | EtcdFlags::Stable => {
            flags.set_all([("feature-gates", "InitialCorruptCheck=true"), ("watch-progress-notify-interval", "5s")]);
        }
    }
    flags
}

fn experimental(flags: &mut Flags) {
    flags.set_all([
        ("experimental-initial-corrupt-check", "true"),
        ("experimental-watch-progress-notify-interval", "5s"),
    ]);
}

/// Whether an image's tag names an etcd before 3.6. A tag that is no version counts as new.
fn is_before_3_6(image: &str) -> bool {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag).trim_start_matches('v');
    let mut numbers = tag.split(['.', '-']).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (3, 6))
}

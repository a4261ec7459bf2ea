//! kubeadm's own output of each release, with a person's settings in it, as a plan.

use serde_json::{Value, json};

use super::*;
use crate::artifact::Object;
use crate::kubernetes::cluster_configuration::cluster_configuration;
use crate::kubernetes::static_pods::{self, EtcdMember};
use crate::kubernetes::{PodInputs, kubelet};
use crate::meaning::{self, Meaning};
use crate::names::RemotePath;
use crate::trust::rotation::SigningFiles;
use crate::trust::testing::{Hosts, name, plan};
use crate::yaml;

const RELEASES: [&str; 5] = ["v1.20.2", "v1.32.13", "v1.34.9", "v1.35.6", "v1.36.2"];
const COMPONENTS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// A cluster as kubeadm of that release makes it.
struct Kubeadm {
    hosts: Hosts,
    objects: Objects,
}

/// How kubeadm starts the member of the n-th control plane: the first one alone, the others as members
/// of what is there by then.
fn member(number: usize) -> EtcdMember {
    let members: Vec<String> = (1..=number).map(|number| format!("cp-{number}=https://192.0.2.1{number}:2380")).collect();
    EtcdMember { initial_cluster: members.join(","), state: (number > 1).then_some("existing") }
}

fn manifest(component: &str) -> RemotePath {
    format!("/etc/kubernetes/manifests/{component}.yaml").parse().unwrap()
}

impl Kubeadm {
    fn of(release: &str) -> Self {
        Self::with(release, 1)
    }

    /// With that many control planes: `kubeadm init`, then `kubeadm join --control-plane`.
    fn with(release: &str, control_planes: usize) -> Self {
        let directory = format!("{}/tests/reference/kubeadm/{release}", env!("CARGO_MANIFEST_DIR"));
        let read = |file: &str| std::fs::read_to_string(format!("{directory}/{file}")).unwrap();
        let mut reference = plan("reference");
        reference.kubernetes.version = release.parse().unwrap();
        for number in 2..=control_planes {
            let mut host = reference.hosts[0].clone();
            (host.name, host.address) = (name(&format!("cp-{number}")), format!("192.0.2.1{number}").parse().unwrap());
            reference.hosts.push(host);
        }
        let mut hosts = Hosts::bootstrapped(reference);
        let every: Vec<HostName> = (1..=control_planes).map(|number| name(&format!("cp-{number}"))).collect();
        for (number, host) in (1..).zip(&every) {
            hosts.facts.get_mut(host).unwrap().system.hostname = host.to_string();
            for component in COMPONENTS {
                let mut text = read(&format!("manifests/{component}.yaml"));
                if number > 1 {
                    let EtcdMember { initial_cluster, .. } = member(number);
                    text = text.replace("192.0.2.11", &format!("192.0.2.1{number}")).replace("--name=cp-1", &format!("--name={host}"));
                    let first = format!("--initial-cluster=cp-1=https://192.0.2.1{number}:2380");
                    text = text.replace(&first, &format!("--initial-cluster={initial_cluster}\n    - --initial-cluster-state=existing"));
                }
                hosts.put(host, &manifest(component), text.as_bytes());
            }
        }
        let all: BTreeMap<String, Value> =
            yaml::read_all(&read("objects.yaml")).unwrap().into_iter().map(|value| (Object::new(value.clone()).id(), value)).collect();
        let object = |id: &str| all.iter().find(|(known, _)| known.starts_with(id)).unwrap_or_else(|| panic!("{id}")).1.clone();
        let kubelet_map = object("ConfigMap/kube-system/kubelet-config");
        let mut configuration: Value = yaml::read(kubelet_map["data"]["kubelet"].as_str().unwrap()).unwrap();
        if !Release::of(release.parse().unwrap()).unwrap().kubelet.endpoint_flag {
            // The socket is in the configuration of a host, not in that of all.
            configuration["containerRuntimeEndpoint"] = json!("unix:///run/containerd/containerd.sock");
        }
        let flags = match release {
            "v1.20.2" => "--container-runtime=remote --container-runtime-endpoint=/run/containerd/containerd.sock",
            "v1.34.9" => "--pod-infra-container-image=registry.k8s.io/pause:3.10.1",
            "v1.32.13" => "--container-runtime-endpoint=unix:///run/containerd/containerd.sock --pod-infra-container-image=registry.k8s.io/pause:3.10",
            _ => "",
        };
        for host in &every {
            hosts.put(host, &paths::kubelet_configuration(), yaml::write(&configuration).as_bytes());
            hosts.put(host, &paths::kubelet_flags(), format!("KUBELET_KUBEADM_ARGS=\"{flags}\"\n").as_bytes());
        }
        let node: Value = yaml::read(&read("node.yaml")).unwrap();
        let labels: serde_json::Map<String, Value> =
            node["labels"].as_array().unwrap().iter().map(|label| (label.as_str().unwrap().to_owned(), json!(""))).collect();
        let taints: Vec<Value> =
            node["taints"].as_array().unwrap().iter().map(|key| json!({ "key": key, "effect": "NoSchedule" })).collect();
        let node = |(number, host): (usize, &HostName)| {
            json!({
                "metadata": { "name": host, "labels": labels },
                "spec": { "taints": taints },
                "status": { "addresses": [{ "type": "InternalIP", "address": format!("192.0.2.1{number}") }] },
            })
        };
        let nodes = (1..).zip(&every).map(node).collect();
        let configuration = object("ConfigMap/kube-system/kubeadm-config");
        let objects = Objects {
            nodes,
            cluster_configuration: yaml::read(configuration["data"]["ClusterConfiguration"].as_str().unwrap()).unwrap(),
            kube_proxy: Some(object("ConfigMap/kube-system/kube-proxy")),
            core_dns: Some(object("ConfigMap/kube-system/coredns")),
            core_dns_deployment: Some(object("Deployment/kube-system/coredns")),
        };
        Self { hosts, objects }
    }

    /// Changes a manifest or configuration as an administrator would.
    fn edit(&mut self, path: &RemotePath, change: impl Fn(&mut Value)) {
        let host = name("cp-1");
        let mut document = self.document(path);
        change(&mut document);
        self.hosts.put(&host, path, yaml::write(&document).as_bytes());
    }

    fn document(&self, path: &RemotePath) -> Value {
        yaml::read(self.hosts.facts[&name("cp-1")].state.text(path).unwrap()).unwrap()
    }

    fn try_adopt(&self) -> Result<Adoption, AdoptError> {
        let ssh = json!({ "user": "root" });
        adopt(&Found { objects: &self.objects, facts: &self.hosts.facts, ssh: &ssh, host_ssh: &BTreeMap::new() })
    }

    fn adopt(&self) -> Adoption {
        self.try_adopt().unwrap_or_else(|error| panic!("{}: {error}", self.hosts.plan.kubernetes.version))
    }

    /// The names of documents that mean something else than the plan's.
    fn differing(&self, plan: &Plan) -> Vec<String> {
        let release = Release::of(plan.kubernetes.version).unwrap();
        let mut differing = Vec::new();
        for (number, host) in (1..).zip(&plan.hosts) {
            let Facts { system, state } = &self.hosts.facts[&host.name];
            let inputs = PodInputs { plan, host, system, release: &release, inputs_digest: None, signing: &SigningFiles::default() };
            let mut wanted: Vec<(RemotePath, String)> = [
                ("etcd", static_pods::etcd(&inputs, &member(number))),
                ("kube-apiserver", static_pods::api_server(&inputs)),
                ("kube-controller-manager", static_pods::controller_manager(&inputs)),
                ("kube-scheduler", static_pods::scheduler(&inputs)),
            ]
            .into_iter()
            .map(|(component, pod)| (manifest(component), yaml::write(&pod.unwrap())))
            .collect();
            let configuration = kubelet::configuration(plan, host, system, &release).unwrap();
            wanted.push((paths::kubelet_configuration(), yaml::write(&configuration)));
            wanted.push((paths::kubelet_flags(), kubelet::flags_environment(plan, host, system, &release)));
            let other = |(path, text): &(RemotePath, String)| meaning::of_file(path, text, state.text(path).unwrap()) == Meaning::Other;
            differing.extend(wanted.iter().filter(|wanted| other(wanted)).map(|(path, _)| path.to_string()));
        }
        let stored = yaml::write(&self.objects.cluster_configuration);
        if !meaning::contains(&yaml::write(&cluster_configuration(plan, &release)), &stored) {
            differing.push("ClusterConfiguration".to_owned());
        }
        differing
    }
}

#[test]
fn what_kubeadm_of_each_release_makes_is_what_the_plan_wants() {
    for release in RELEASES {
        let kubeadm = Kubeadm::of(release);
        let Adoption { plan, left, text } = kubeadm.adopt();
        assert_eq!(left, [], "{release}\n{text}");
        let differing = kubeadm.differing(&plan);
        // kubeadm's ConfigMap names the key kind of its own; the test's hosts have faster keys.
        let differing: Vec<String> = differing.into_iter().filter(|name| name != "ClusterConfiguration").collect();
        assert_eq!(differing, Vec::<String>::new(), "{release}\n{text}");
        assert!(plan.api_server.extra_args.is_empty() && plan.patches.is_empty() && plan.kube_proxy.configuration.is_empty(), "{release}\n{text}");
    }
}

#[test]
fn control_planes_that_joined_one_after_another_differ_in_nothing_a_plan_must_say() {
    for release in RELEASES {
        let kubeadm = Kubeadm::with(release, 3);
        let Adoption { plan, left, text } = kubeadm.adopt();
        assert_eq!(left, [], "{release}\n{text}");
        assert_eq!(plan.control_planes().count(), 3, "{release}");
        let differing: Vec<String> = kubeadm.differing(&plan).into_iter().filter(|name| name != "ClusterConfiguration").collect();
        assert_eq!(differing, Vec::<String>::new(), "{release}\n{text}");
        assert!(plan.patches.is_empty() && plan.etcd.extra_args.is_empty() && plan.etcd.extra_sans.is_empty(), "{release}\n{text}");
        // Each API server's certificate has the names of its own host, which no other one needs.
        assert_eq!(plan.pki.extra_sans, Kubeadm::of(release).adopt().plan.pki.extra_sans, "{release}\n{text}");
    }
}

#[test]
fn what_one_control_plane_has_stays_its_own() {
    let mut kubeadm = Kubeadm::with("v1.36.2", 3);
    kubeadm.edit(&manifest("kube-scheduler"), |pod| pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("200m"));
    kubeadm.edit(&paths::kubelet_configuration(), |document| document["maxPods"] = json!(60));
    let Adoption { plan, left, text } = kubeadm.adopt();
    assert_eq!(left, [], "{text}");
    let differing: Vec<String> = kubeadm.differing(&plan).into_iter().filter(|name| name != "ClusterConfiguration").collect();
    assert_eq!(differing, Vec::<String>::new(), "{text}");
    assert_eq!(plan.patches.len(), 1, "{text}");
    assert_eq!(plan.patches[0].hosts, [name("cp-1")].into(), "{text}");
    assert_eq!(plan.hosts[0].kubelet.configuration["maxPods"], 60);
    assert!(plan.hosts[1].kubelet.configuration.is_empty() && plan.kubelet.configuration.is_empty(), "{text}");
}

#[test]
fn an_even_number_of_members_is_refused_with_the_way_out() {
    let error = Kubeadm::with("v1.36.2", 2).try_adopt().unwrap_err();
    assert!(matches!(error, AdoptError::EvenMembers { .. }), "{error}");
    assert!(error.to_string().contains("the cluster has 2 control planes with etcd (cp-1, cp-2)"), "{error}");
    assert!(error.hint().contains("kubeadm join --control-plane"), "{}", error.hint());
}

#[test]
fn a_persons_settings_become_fields() {
    let mut kubeadm = Kubeadm::of("v1.36.2");
    kubeadm.edit(&manifest("kube-apiserver"), |pod| {
        let container = &mut pod["spec"]["containers"][0];
        let command = container["command"].as_array_mut().unwrap();
        command.retain(|flag| flag != "--enable-bootstrap-token-auth=true");
        command.insert(1, json!("--profiling=false"));
        container["env"] = json!([{ "name": "HTTPS_PROXY", "value": "http://192.0.2.9" }]);
        container["volumeMounts"].as_array_mut().unwrap().push(json!({ "name": "audit", "mountPath": "/audit", "readOnly": true }));
        container["resources"]["requests"]["cpu"] = json!("500m");
        pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({ "name": "audit", "hostPath": { "path": "/srv/audit" } }));
    });
    kubeadm.edit(&paths::kubelet_configuration(), |document| {
        document["maxPods"] = json!(60);
    });
    kubeadm.objects.nodes[0]["metadata"]["labels"]["example.test/zone"] = json!("a");
    kubeadm.objects.nodes[0]["spec"] = json!({});
    let Adoption { plan, left, text } = kubeadm.adopt();
    assert_eq!(left, []);
    let differing: Vec<String> = kubeadm.differing(&plan).into_iter().filter(|name| name != "ClusterConfiguration").collect();
    assert_eq!(differing, Vec::<String>::new(), "{text}");
    assert_eq!(plan.api_server.extra_args["profiling"], "false".into());
    assert_eq!(plan.api_server.extra_args["enable-bootstrap-token-auth"].0, Vec::<String>::new());
    assert_eq!(plan.api_server.extra_volumes.len(), 1);
    assert_eq!(plan.api_server.extra_env["HTTPS_PROXY"], "http://192.0.2.9");
    assert_eq!(plan.patches.len(), 1, "{text}");
    assert_eq!(plan.kubelet.configuration["maxPods"], 60);
    assert_eq!(plan.hosts[0].labels["example.test/zone"], "a");
    assert_eq!(plan.hosts[0].roles.len(), 2, "without a taint it runs ordinary pods");
}

#[test]
fn a_field_that_a_plan_must_not_set_is_told_and_left_out() {
    let mut kubeadm = Kubeadm::of("v1.36.2");
    kubeadm.edit(&paths::kubelet_configuration(), |document| document["staticPodPath"] = json!("/srv/pods"));
    let Adoption { plan, left, .. } = kubeadm.adopt();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].place, "kubelet.configuration.staticPodPath");
    assert!(plan.kubelet.configuration.is_empty());
}

#[test]
fn a_flag_that_only_slipway_sets_is_kept_by_a_patch_and_told() {
    let mut kubeadm = Kubeadm::of("v1.36.2");
    kubeadm.edit(&manifest("kube-controller-manager"), |pod| {
        let command = pod["spec"]["containers"][0]["command"].as_array_mut().unwrap();
        command.retain(|flag| flag != "--allocate-node-cidrs=true");
    });
    let Adoption { plan, left, .. } = kubeadm.adopt();
    assert!(left.iter().any(|left| left.reason.contains("--allocate-node-cidrs")), "{left:?}");
    assert!(!kubeadm.differing(&plan).contains(&manifest("kube-controller-manager").to_string()));
}

#[test]
fn another_image_is_told_and_never_frozen() {
    let mut kubeadm = Kubeadm::of("v1.36.2");
    kubeadm.edit(&manifest("kube-scheduler"), |pod| pod["spec"]["containers"][0]["image"] = json!("example.test/scheduler:1"));
    let Adoption { left, text, .. } = kubeadm.adopt();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].reason.contains("example.test/scheduler:1"), "{left:?}");
    assert!(text.contains("# Not in this plan: host cp-1: /etc/kubernetes/manifests/kube-scheduler.yaml"), "{text}");
}

#[test]
fn what_a_plan_cannot_describe_is_refused_with_the_reason() {
    let refused = |change: fn(&mut Kubeadm), reason: &str| {
        let mut kubeadm = Kubeadm::of("v1.36.2");
        change(&mut kubeadm);
        let error = kubeadm.try_adopt().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    refused(|it| it.objects.cluster_configuration["kubernetesVersion"] = json!("v1.28.3"), "v1.28.3");
    refused(|it| it.objects.cluster_configuration["etcd"] = json!({ "external": { "endpoints": [] } }), "external");
    refused(|it| it.hosts.remove("cp-1", "/etc/kubernetes/pki/ca.crt"), "ca.crt");
    let moved = |it: &mut Kubeadm| {
        it.edit(&manifest("kube-apiserver"), |pod| {
            let command = pod["spec"]["containers"][0]["command"].as_array_mut().unwrap();
            command.iter_mut().filter(|flag| *flag == "--secure-port=6443").for_each(|flag| *flag = json!("--secure-port=7443"));
        });
    };
    refused(moved, "7443");
}

/// The plan knows its cluster again, and no other.
#[test]
fn hosts_with_the_adopted_ca_are_a_living_cluster_and_others_are_refused() {
    let kubeadm = Kubeadm::of("v1.36.2");
    let plan = kubeadm.adopt().plan;
    let standing = crate::standing::survey(&plan, &kubeadm.hosts.facts).unwrap();
    assert_eq!(standing.stage, crate::phase::Stage::Living);
    let mut unnamed = plan.clone();
    unnamed.pki.adopted = None;
    let refusals = crate::standing::survey(&unnamed, &kubeadm.hosts.facts).unwrap_err();
    assert!(matches!(refusals.as_slice(), [crate::standing::Refusal::Foreign { .. }]), "{refusals:?}");
    let other = Kubeadm::of("v1.36.2");
    let refusals = crate::standing::survey(&plan, &other.hosts.facts).unwrap_err();
    assert!(refusals.iter().any(|refusal| matches!(refusal, crate::standing::Refusal::Foreign { .. })), "{refusals:?}");
    let empty = Hosts::new(plan.clone()).facts;
    let refusals = crate::standing::survey(&plan, &empty).unwrap_err();
    assert!(matches!(refusals.as_slice(), [crate::standing::Refusal::AdoptedGone { .. }]), "{refusals:?}");
}

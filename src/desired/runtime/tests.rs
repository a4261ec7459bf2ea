//! containerd's configuration for its versions, read back as TOML.

use super::*;

fn plan(more: &str) -> Plan {
    let text = format!(
        "version: 1\nkubernetes: {{version: v1.34.2}}\n{more}\nhosts: [{{name: a, address: 192.0.2.1, roles: [control-plane]}}]\n"
    );
    crate::yaml::read(&text).unwrap()
}

fn files(plan: &Plan, version: &str) -> Vec<(String, String)> {
    let system =
        System { containerd_version: version.into(), cni_directory: Some("/usr/lib/cni".into()), ..System::default() };
    let artifacts = artifacts(plan, &system, "registry.k8s.io/pause:3.10");
    let text = |artifact: &Artifact| match artifact {
        Artifact::File { path, content, .. } => Some((path.to_string(), content.review().to_owned())),
        _ => None,
    };
    artifacts.iter().filter_map(text).collect()
}

fn configuration(plan: &Plan, version: &str) -> toml::Table {
    let (path, text) = files(plan, version).remove(0);
    assert_eq!(path, CONFIGURATION_FILE);
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn at<'a>(table: &'a toml::Table, path: &[&str]) -> Option<&'a toml::Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(*first)?, |value, key| value.get(key))
}

const OLD: &str = "io.containerd.grpc.v1.cri";
const RUNTIME: &str = "io.containerd.cri.v1.runtime";
const IMAGES: &str = "io.containerd.cri.v1.images";

#[test]
fn containerd_1_has_one_plugin() {
    for version in ["1.6.20", "1.7.27", "", "unknown"] {
        let table = configuration(&plan(""), version);
        assert_eq!(table["version"].as_integer(), Some(2), "{version}");
        let at = |path: &[&str]| at(&table, &[&["plugins", OLD], path].concat()).cloned();
        assert_eq!(at(&["sandbox_image"]), Some("registry.k8s.io/pause:3.10".into()));
        assert_eq!(at(&["cni", "bin_dir"]), Some("/usr/lib/cni".into()));
        assert_eq!(at(&["containerd", "runtimes", "runc", "options", "SystemdCgroup"]), Some(true.into()));
        assert_eq!(at(&["registry", "config_path"]), Some("/etc/containerd/certs.d".into()));
    }
}

#[test]
fn containerd_2_has_two_and_2_1_takes_several_plugin_directories() {
    for (version, single) in [("2.0.4", true), ("2.1.9+unknown", false), ("2.2.0", false)] {
        let table = configuration(&plan(""), version);
        assert_eq!(table["version"].as_integer(), Some(3), "{version}");
        assert_eq!(at(&table, &["plugins", OLD]), None);
        let sandbox = at(&table, &["plugins", IMAGES, "pinned_images", "sandbox"]);
        assert_eq!(sandbox.and_then(toml::Value::as_str), Some("registry.k8s.io/pause:3.10"));
        let cni = at(&table, &["plugins", RUNTIME, "cni"]).unwrap();
        assert_eq!(cni.get("bin_dir").is_some(), single, "{version}");
        assert_eq!(cni.get("bin_dirs").is_some(), !single, "{version}");
        let group = at(&table, &["plugins", RUNTIME, "containerd", "runtimes", "runc", "options", "SystemdCgroup"]);
        assert_eq!(group.and_then(toml::Value::as_bool), Some(true));
    }
}

#[test]
fn the_cgroup_driver_is_the_kubelets() {
    let table = configuration(&plan("runtime: {cgroupDriver: cgroupfs}"), "1.7.0");
    let group = at(&table, &["plugins", OLD, "containerd", "runtimes", "runc", "options", "SystemdCgroup"]);
    assert_eq!(group.and_then(toml::Value::as_bool), Some(false));
}

#[test]
fn settings_of_the_plan_are_merged_at_any_depth() {
    let more = "runtime:\n  settings:\n    oom_score: -999\n    imports: [/etc/containerd/conf.d/*.toml]\n    debug: {level: warn}\n    plugins:\n      io.containerd.grpc.v1.cri:\n        restrict_oom_score_adj: true\n        cni: {conf_dir: /srv/cni}\n        containerd: {runtimes: {'kata \"x\"': {runtime_type: io.containerd.kata.v2, pod_annotations: ['a.*', 'b'], nothing: null}}}\n";
    let table = configuration(&plan(more), "1.7.0");
    assert_eq!(table["oom_score"].as_integer(), Some(-999));
    assert_eq!(table["imports"][0].as_str(), Some("/etc/containerd/conf.d/*.toml"));
    assert_eq!(table["debug"]["level"].as_str(), Some("warn"));
    let cri = at(&table, &["plugins", OLD]).unwrap();
    assert_eq!(cri["restrict_oom_score_adj"].as_bool(), Some(true));
    // What the plan does not name stays.
    assert_eq!(cri["cni"]["bin_dir"].as_str(), Some("/usr/lib/cni"));
    assert_eq!(cri["cni"]["conf_dir"].as_str(), Some("/srv/cni"));
    let runtimes = cri["containerd"]["runtimes"].as_table().unwrap();
    assert_eq!(runtimes.keys().map(String::as_str).collect::<Vec<_>>(), ["kata \"x\"", "runc"]);
    let kata = runtimes["kata \"x\""].as_table().unwrap();
    assert_eq!((kata["pod_annotations"].as_array().unwrap().len(), kata.contains_key("nothing")), (2, false));
}

#[test]
fn strings_with_any_character_come_back_from_toml() {
    let awkward = "tab\tquote\" backslash\\ newline\n unit\u{1} snowman\u{2603} delete\u{7f}";
    let mut plan = plan("");
    plan.runtime.settings.insert("note".into(), awkward.into());
    plan.runtime.settings.insert("inline".into(), serde_json::json!([{ "a key": awkward }]));
    let table = configuration(&plan, "2.1.0");
    assert_eq!(table["note"].as_str(), Some(awkward));
    assert_eq!(table["inline"][0]["a key"].as_str(), Some(awkward));
}

#[test]
fn each_mirrored_registry_has_its_file() {
    let more = "runtime:\n  mirrors:\n    docker.io: {endpoints: ['https://one.example.test', 'https://two.example.test:5000'], skipVerify: true}\n    _default: {endpoints: ['https://all.example.test']}\n";
    let files = files(&plan(more), "1.7.0");
    let hosts = |registry: &str| -> toml::Table {
        let path = format!("/etc/containerd/certs.d/{registry}/hosts.toml");
        files.iter().find(|(name, _)| *name == path).unwrap().1.parse().unwrap()
    };
    let docker = hosts("docker.io");
    assert_eq!(docker["server"].as_str(), Some("https://docker.io"));
    assert_eq!(docker["host"].as_table().unwrap().len(), 2);
    assert_eq!(docker["host"]["https://two.example.test:5000"]["skip_verify"].as_bool(), Some(true));
    let all = hosts("_default");
    // The entry for all registries has no registry of its own to ask last.
    assert_eq!(all.get("server"), None);
    assert_eq!(all["host"]["https://all.example.test"].get("skip_verify"), None);
}

#[test]
fn the_archives_name_tells_the_version_before_it_is_installed() {
    let none = System { containerd_version: String::new(), ..System::default() };
    let of = |more: &str| expected_version(&plan(more), &none);
    assert_eq!(of("binaries: {containerd: {upload: x-9/containerd-2.1.4-linux-amd64.tar.gz}}"), "2.1.4");
    assert_eq!(of("binaries: {containerd: {upload: containerd.tar.gz}}"), "");
    let there = System { containerd_version: "1.7.2".into(), ..System::default() };
    assert_eq!(expected_version(&plan("binaries: {containerd: {upload: containerd-2.1.4.tar.gz}}"), &there), "1.7.2");
}

#[test]
fn containerd_restarts_for_its_configuration_and_programs_but_not_for_mirrors() {
    let unit = |more: &str| {
        let artifacts = artifacts(&plan(more), &System::default(), "p");
        artifacts.into_iter().find_map(|artifact| match artifact {
            Artifact::Unit { inputs, stamp, .. } => Some((inputs.iter().map(ToString::to_string).collect::<Vec<_>>(), stamp)),
            _ => None,
        })
    };
    let (inputs, stamp) = unit("").unwrap();
    assert_eq!(inputs, [CONFIGURATION_FILE]);
    let mirrored = unit("runtime: {mirrors: {docker.io: {endpoints: ['https://one.example.test']}}}").unwrap();
    assert_eq!(mirrored.1, stamp);
    assert_ne!(unit("runtime: {cgroupDriver: cgroupfs}").unwrap().1, stamp);
    let brought = unit("binaries: {containerd: {upload: c}, runc: preinstalled}").unwrap();
    assert_eq!(brought.0, [CONFIGURATION_FILE, UNIT_FILE, "/usr/local/bin/containerd"]);
    assert_eq!(unit("runtime: {managed: false}"), None);
}

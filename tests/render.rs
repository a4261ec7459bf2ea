//! Every example plan is rendered by the real program, and every rendered file is read back by a
//! reader of its kind. A file no reader knows fails the test, so nothing reaches hosts unread.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use slipway::artifact::Secret;
use slipway::plan::load;
use slipway::plan::local_files;
use slipway::trust::inspect::{self, Certificate};
use slipway::trust::kubeconfig::{self, Credentials};
use slipway::yaml;

/// A rendered file.
struct File {
    mode: u32,
    bytes: Vec<u8>,
}

impl File {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("rendered files are text")
    }
}

/// Rendered files by host (`cluster` for the cluster) and path.
type Rendered = BTreeMap<String, BTreeMap<String, File>>;

/// Renders a copy of the plan beside stand-ins for the files it names.
fn render(name: &str) -> Rendered {
    let place = tempfile::tempdir().unwrap();
    let plan = place.path().join("plan.yaml");
    fs::copy(format!("{}/plans/{name}.yaml", env!("CARGO_MANIFEST_DIR")), &plan).unwrap();
    stand_ins(&fs::read_to_string(&plan).unwrap(), place.path());
    let out = place.path().join("out");
    let output = Command::new("sh")
        .args(["-c", "umask 022 && exec \"$0\" render \"$1\" --out \"$2\"", env!("CARGO_BIN_EXE_slipway")])
        .args([&plan, &out])
        .env("HOME", place.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let mut rendered = Rendered::new();
    for path in files_below(&out) {
        let relative = path.strip_prefix(&out).unwrap().to_str().unwrap();
        let (host, file) = relative.split_once('/').unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let file_content = File { mode, bytes: fs::read(&path).unwrap() };
        rendered.entry(host.to_owned()).or_default().insert(file.to_owned(), file_content);
    }
    rendered
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Writes something usable for every local file the plan names.
fn stand_ins(text: &str, directory: &Path) {
    let (mut plan, _) = load::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"));
    // Credentials of an etcd that is not slipway's: those slipway would have made.
    let etcd = plan.etcd.external.is_some().then(|| render("single-node").remove("node-1").unwrap());
    let of_etcd = |name: &str| etcd.as_ref().unwrap()[&format!("etc/kubernetes/pki/{name}")].bytes.clone();
    local_files::for_each(&mut plan, |field, file| {
        let path = local_files::resolve(file, directory, Some(directory));
        let path = PathBuf::from(path.to_str().unwrap().replace("{arch}", "amd64"));
        let field = field.to_string();
        let bytes = match field.rsplit('.').next().unwrap() {
            "caFile" => of_etcd("etcd/ca.crt"),
            "certificateFile" => of_etcd("apiserver-etcd-client.crt"),
            "keyFile" => of_etcd("apiserver-etcd-client.key"),
            "file" if field.starts_with("images.") => image_archive(),
            "file" => b"{apiVersion: v1, kind: ConfigMap, metadata: {name: stand-in}}".to_vec(),
            _ => b"stand-in".to_vec(),
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    });
}

fn image_archive() -> Vec<u8> {
    let table = br#"[{"Config": "c.json", "RepoTags": ["registry.example.test/kubernetes/pause:3.10"], "Layers": []}]"#;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(table.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "manifest.json", &table[..]).unwrap();
    archive.into_inner().unwrap()
}

/// Reads a file back with a reader of its kind.
fn check_file(path: &str, file: &File) {
    let text = || file.text();
    match path {
        _ if path.starts_with("etc/kubernetes/manifests/") => check_pod(path, text()),
        "etc/kubernetes/bootstrap-kubelet.conf" => check_kubeconfig(path, text()),
        _ if path.starts_with("etc/kubernetes/") && path.ends_with(".conf") => check_kubeconfig(path, text()),
        _ if path.ends_with(".crt") => assert!(!inspect::certificates(&file.bytes).unwrap().is_empty(), "{path}"),
        "var/lib/kubelet/pki/kubelet-client-slipway.pem" => {
            let certificate = inspect::certificate(&file.bytes).unwrap();
            assert_eq!(inspect::public_half(&Secret::new(file.bytes.clone())).unwrap(), certificate.public_key);
        }
        _ if path.ends_with(".key") => {
            inspect::public_half(&Secret::new(file.bytes.clone())).unwrap();
        }
        _ if path.ends_with(".pub") => {
            inspect::public_key(&file.bytes).unwrap();
        }
        // kubeadm's own: one field, and no kind.
        "var/lib/kubelet/instance-config.yaml" => {
            let instance: Value = yaml::read(text()).unwrap();
            assert!(instance["containerRuntimeEndpoint"].as_str().unwrap().starts_with("unix:///"));
        }
        _ if path.ends_with(".yaml") => {
            for document in yaml::read_all(text()).unwrap() {
                assert!(document["apiVersion"].is_string() && document["kind"].is_string(), "{path}");
            }
        }
        _ if path.ends_with(".toml") => check_toml(path, text()),
        _ if path.ends_with(".conflist") => check_conflist(text()),
        _ if path.starts_with("etc/systemd/system/") => check_unit(path, text()),
        "etc/slipway/api-proxy/haproxy.cfg" | "etc/slipway/api-vip/haproxy.cfg" => check_haproxy(text()),
        "etc/slipway/api-vip/keepalived.conf" => check_keepalived(text()),
        // The unit's own test runs it.
        "etc/slipway/api-vip/check" => assert!(text().starts_with("#!/bin/sh\n")),
        "var/lib/kubelet/kubeadm-flags.env" => {
            let value = text().trim_end().strip_prefix("KUBELET_KUBEADM_ARGS=\"").and_then(|rest| rest.strip_suffix('"'));
            assert!(value.unwrap().split_whitespace().all(|flag| flag.starts_with("--")), "{}", text());
        }
        "etc/modules-load.d/slipway.conf" => {
            assert!(entries(text()).all(|line| line.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')));
        }
        "etc/sysctl.d/90-slipway.conf" => assert!(entries(text()).all(|line| line.split(" = ").count() == 2)),
        "var/lib/slipway/pod-cidrs" => text().lines().for_each(|line| _ = line.parse::<ipnet::IpNet>().unwrap()),
        "var/lib/slipway/formed" => assert_eq!(text().lines().count(), 1),
        _ => panic!("no reader knows the file {path}"),
    }
}

/// Lines that are not comments.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn check_pod(path: &str, text: &str) {
    let pod: Value = yaml::read(text).unwrap();
    assert_eq!((pod["kind"].as_str(), pod["spec"]["hostNetwork"].as_bool()), (Some("Pod"), Some(true)), "{path}");
    let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap();
    assert!(path.ends_with(&format!("/{name}.yaml")), "{path} holds {name}");
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).unwrap();
    let volumes: BTreeSet<&str> =
        pod.pointer("/spec/volumes").and_then(Value::as_array).unwrap().iter().filter_map(|volume| volume["name"].as_str()).collect();
    for container in containers {
        assert!(container["image"].as_str().is_some_and(|image| image.contains(':')), "{path}");
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            assert!(volumes.contains(mount["name"].as_str().unwrap()), "{path}: {mount}");
        }
    }
}

fn check_kubeconfig(path: &str, text: &str) {
    let read = kubeconfig::read(text).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(read.server.starts_with("https://"), "{path}: {}", read.server);
    let authority = inspect::certificate(&read.authority.expect("the CA is in the file")).unwrap();
    if let Credentials::Embedded { certificate, key } = read.credentials {
        let certificate = inspect::certificate(&certificate).unwrap();
        assert!(certificate.is_signed_by(&authority), "{path}");
        assert_eq!(inspect::public_half(&key).unwrap(), certificate.public_key, "{path}");
    }
}

fn check_toml(path: &str, text: &str) {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
    if path.ends_with("config.toml") {
        assert!(matches!(table["version"].as_integer(), Some(2 | 3)), "{path}");
        assert!(table["plugins"].as_table().is_some_and(|plugins| plugins.keys().all(|name| name.contains(".cri"))), "{path}");
    } else {
        let hosts = table["host"].as_table().unwrap();
        assert!(hosts.values().all(|host| host["capabilities"].as_array().is_some_and(|list| list.len() == 2)), "{path}");
    }
}

fn check_conflist(text: &str) {
    let list: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let kinds: Vec<&str> = list["plugins"].as_array().unwrap().iter().filter_map(|plugin| plugin["type"].as_str()).collect();
    assert_eq!(kinds, ["bridge", "portmap"]);
    let ranges = list.pointer("/plugins/0/ipam/ranges").and_then(Value::as_array).unwrap();
    let routes = list.pointer("/plugins/0/ipam/routes").and_then(Value::as_array).unwrap();
    assert_eq!(ranges.len(), routes.len());
    for range in ranges {
        range[0]["subnet"].as_str().unwrap().parse::<ipnet::IpNet>().unwrap();
    }
}

/// systemd.syntax(7): sections of `Key=value` lines. Commands must have an absolute path.
fn check_unit(path: &str, text: &str) {
    let mut section = "";
    for line in entries(text) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            assert!(matches!(name, "Unit" | "Service" | "Install"), "{path}: {line}");
            section = name;
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"));
        assert!(!section.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric()), "{path}: {line}");
        if key == "ExecStart" && !value.is_empty() {
            assert!(value.starts_with('/'), "{path}: {line}");
        }
        assert_eq!(value.matches('"').count() % 2, 0, "{path}: {line}");
    }
    assert!(text.contains("[Service]"), "{path}");
}

/// haproxy judges its own configuration where it is installed; the shape is checked anyway.
fn check_haproxy(text: &str) {
    let mut section = "";
    let mut servers = 0;
    for line in entries(text) {
        if line.starts_with(' ') {
            assert!(!section.is_empty(), "{line}");
            servers += usize::from(line.trim_start().starts_with("server "));
        } else {
            section = line.split(' ').next().unwrap();
            assert!(matches!(section, "global" | "defaults" | "frontend" | "backend"), "{line}");
        }
    }
    assert!(servers > 0 && text.contains("default_backend api-servers") && text.contains("backend api-servers"));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    match Command::new("haproxy").args(["-c", "-f"]).arg(file.path()).output() {
        Ok(output) => assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => eprintln!("skipped: haproxy is not installed, only the shape of haproxy.cfg was checked"),
    }
}

/// keepalived.conf(5): blocks of keywords, one on a line. keepalived judges it where it is installed.
fn check_keepalived(text: &str) {
    let mut depth = 0;
    let mut blocks = BTreeSet::new();
    for line in entries(text).map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(block) = line.strip_suffix(" {") {
            blocks.insert(block.split(' ').next().unwrap());
            depth += 1;
        } else if line == "}" {
            depth -= 1;
        }
        assert!(depth > 0 || line == "}", "{line}");
    }
    assert_eq!(depth, 0, "{text}");
    for block in ["global_defs", "track_script", "unicast_peer", "virtual_ipaddress", "vrrp_instance", "vrrp_script"] {
        assert!(blocks.contains(block), "{blocks:?}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    // The check and the interface are on hosts only.
    fs::write(file.path(), text.replace("/etc/slipway/api-vip/check", "/bin/true").replace("eth0", "lo")).unwrap();
    match Command::new("keepalived").args(["--config-test", "--use-file"]).arg(file.path()).output() {
        Ok(output) => assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => eprintln!("skipped: keepalived is not installed, only the shape of keepalived.conf was checked"),
    }
}

/// Every certificate of a host is signed by a CA of that host, and its key fits.
fn check_chains(host: &str, files: &BTreeMap<String, File>) {
    let certificates: BTreeMap<&str, Certificate> = files
        .iter()
        .filter(|(path, _)| path.ends_with(".crt"))
        .map(|(path, file)| (path.as_str(), inspect::certificate(&file.bytes).unwrap()))
        .collect();
    let authorities: Vec<&Certificate> = certificates.values().filter(|certificate| certificate.is_authority).collect();
    for (path, certificate) in &certificates {
        // The plan's own client certificate of an external etcd is signed elsewhere.
        let signed = authorities.iter().any(|authority| certificate.is_signed_by(authority));
        assert!(signed, "{host}: nothing on the host signed {path}");
        if let Some(key) = files.get(&path.replace(".crt", ".key")) {
            assert_eq!(key.mode, 0o600, "{host}: {path}");
            let public = inspect::public_half(&Secret::new(key.bytes.clone())).unwrap();
            assert_eq!(public, certificate.public_key, "{host}: the key of {path} is another's");
        }
    }
}

/// Names and modes. Hosts with the same files are listed together, hosts with nearly the same by
/// what differs.
fn listing(rendered: &Rendered) -> String {
    let mut groups: Vec<(BTreeSet<String>, Vec<&str>)> = Vec::new();
    for (host, files) in rendered {
        let lines: BTreeSet<String> = files.iter().map(|(path, file)| format!("{:04o} {path}", file.mode)).collect();
        match groups.iter_mut().find(|(known, _)| *known == lines) {
            Some((_, hosts)) => hosts.push(host),
            None => groups.push((lines, vec![host])),
        }
    }
    let mut text = String::new();
    for (index, (lines, hosts)) in groups.iter().enumerate() {
        let hosts = hosts.join(", ");
        let near = groups[..index].iter().find(|(other, _)| other.symmetric_difference(lines).count() <= 3);
        let lines: Vec<String> = match near {
            Some((other, others)) => {
                text.push_str(&format!("{hosts}, as {}:\n", others[0]));
                let less = other.difference(lines).map(|line| format!("- {line}"));
                less.chain(lines.difference(other).map(|line| format!("+ {line}"))).collect()
            }
            None => {
                text.push_str(&format!("{hosts}:\n"));
                lines.iter().map(|line| format!("  {line}")).collect()
            }
        };
        text.push_str(&format!("{}\n", lines.join("\n")));
    }
    text
}

fn check(name: &str) {
    let rendered = render(name);
    for (host, files) in &rendered {
        files.iter().for_each(|(path, file)| check_file(path, file));
        check_chains(host, files);
        let private = |path: &str| path.ends_with(".key") || path.ends_with(".conf") && path.starts_with("etc/kubernetes/");
        assert!(files.iter().all(|(path, file)| !private(path) || file.mode == 0o600), "{host}");
    }
    let listing = listing(&rendered);
    assert!(listing.lines().count() <= 120, "{name}: the listing is too long to be read");
    insta::assert_snapshot!(name, listing);
}

#[test]
fn single_node() {
    check("single-node");
}

#[test]
fn highly_available() {
    check("highly-available");
}

#[test]
fn etcd_hosts() {
    check("etcd-hosts");
}

#[test]
fn external_etcd() {
    check("external-etcd");
}

#[test]
fn dual_stack() {
    check("dual-stack");
}

#[test]
fn offline() {
    check("offline");
}

#[test]
fn lab() {
    check("lab");
}

#[test]
fn virtual_address() {
    check("virtual-address");
}

#[test]
fn every_example_is_rendered_here() {
    let named: BTreeSet<String> =
        files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("plans")).iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let text = include_str!("render.rs");
    for name in named {
        assert!(text.contains(&format!("    check(\"{name}\");")), "plans/{name}.yaml has no test");
    }
}

#[test]
fn a_directory_with_something_in_it_is_not_written_to() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("mine"), "x").unwrap();
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/single-node.yaml");
    let output =
        Command::new(env!("CARGO_BIN_EXE_slipway")).args(["render", plan, "--out"]).arg(place.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(files_below(place.path()).len(), 1);
}

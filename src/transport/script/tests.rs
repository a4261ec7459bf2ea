//! The scripts run for real, in a temporary root, with stub programs for what a test must not touch.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::*;
use crate::artifact::{Content, Object};
use crate::names::Mode;
use crate::transport::shell::shellcheck;

mod packages;
mod snapshot;
mod undo;

const STUB: &str = r#"#!/bin/sh
name=${0##*/}
printf '%s\n' "$name $*" >>"$ROOT/calls"
case $name in
  systemctl)
    case $1 in
      show) printf 'ActiveState=%s\nUnitFileState=%s\nLoadState=loaded\nNeedDaemonReload=%s\nFragmentPath=%s\n' "$(cat "$ROOT/active" 2>/dev/null || echo inactive)" "$(cat "$ROOT/enabled" 2>/dev/null || echo disabled)" "$(cat "$ROOT/reload" 2>/dev/null || echo yes)" "$(cat "$ROOT/fragment" 2>/dev/null)" ;;
      enable) echo enabled >"$ROOT/enabled" ;;
      restart) [ ! -e "$ROOT/unit-broken" ] || exit 1; echo active >"$ROOT/active" ;;
      list-units) [ -e "$ROOT/masked" ] || echo 'dev-sda2.swap loaded active active Swap' ;;
      mask) echo "$3" >"$ROOT/masked" ;;
    esac ;;
  swapoff) echo 'Filename Type Size Used Priority' >"$ROOT/proc/swaps" ;;
  modprobe) mkdir -p "$ROOT/sys/module/$2" ;;
  ctr)
    case "$*" in
      *import*) grep -q pause "$ROOT/images" 2>/dev/null || echo registry.example/pause:3 >>"$ROOT/images" ;;
      *pull*) for last in "$@"; do :; done; echo "$last" >>"$ROOT/images" ;;
      *'images ls'*) cat "$ROOT/images" 2>/dev/null ;;
      *version) [ ! -e "$ROOT/runtime-dead" ] || exit 1 ;;
    esac ;;
esac
exit 0
"#;

struct Host {
    root: tempfile::TempDir,
    bin: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { root: tempfile::tempdir().unwrap(), bin: tempfile::tempdir().unwrap() };
        for directory in ["etc", "proc/sys/net/ipv4", "sys/module", "var/lib", "usr/local/bin", "run"] {
            std::fs::create_dir_all(host.path(directory)).unwrap();
        }
        host.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n");
        host.write("proc/sys/net/ipv4/ip_forward", "0\n");
        for name in ["systemctl", "swapoff", "modprobe", "ctr", "journalctl"] {
            host.stub(name, STUB);
        }
        host.stub("timeout", "#!/bin/sh\nshift\nexec \"$@\"\n");
        // A pod network of stubs needs no patience.
        host.stub("sleep", "#!/bin/sh\n");
        host
    }

    fn stub(&self, name: &str, text: &str) {
        let path = self.bin.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        std::fs::write(self.path(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn run(&self, changes: &[Change]) -> Output {
        let bundle = bundle_of(changes);
        shellcheck(&bundle.script);
        self.run_quietly(&bundle)
    }

    fn good(&self, changes: &[Change]) {
        let output = self.run(changes);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let done = String::from_utf8(output.stdout).unwrap();
        for index in 0..changes.len() {
            assert!(done.contains(&format!("@begin {index}\n@done {index}\n")), "{done}");
        }
    }

    fn bad(&self, changes: &[Change]) -> String {
        let output = self.run(changes);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// Everything on the host but the stubs' notes: mode and content by path.
    fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        walk(self.root.path(), self.root.path(), &mut tree);
        tree.remove("calls");
        tree
    }
}

fn walk(base: &Path, directory: &Path, tree: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_symlink() {
            format!("-> {}", std::fs::read_link(&path).unwrap().display())
        } else if metadata.is_dir() {
            walk(base, &path, tree);
            String::new()
        } else {
            String::from_utf8_lossy(&std::fs::read(&path).unwrap())
                .lines()
                .filter(|line| !line.starts_with("mtime="))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let name = path.strip_prefix(base).unwrap().display().to_string();
        tree.insert(name, format!("{:o} {}:{} {what}", metadata.mode(), metadata.uid(), metadata.gid()));
    }
}

fn bundle_of(changes: &[Change]) -> Bundle {
    let context =
        ScriptContext { timeout: Duration::from_secs(60), socket: RemotePath::fixed("/run/containerd/containerd.sock") };
    bundle("test@host", changes, &context)
}

fn change(artifact: Artifact) -> Change {
    Change { artifact, reason: Reason::Missing, before: None }
}

fn file(path: &str, mode: u32, text: &str) -> Change {
    change(Artifact::File { path: RemotePath::fixed(path), mode: Mode(mode), content: Content::plain(text) })
}

fn unit(stamp: &str, reason: Reason) -> Change {
    let artifact = Artifact::Unit {
        name: "kubelet.service".into(),
        inputs: vec![RemotePath::fixed("/etc/kubelet.conf")],
        stamp: Digest::of(stamp),
        check: Some(UnitCheck::Containerd),
    };
    Change { artifact, reason, before: None }
}

fn archive(directory: &Path) -> (PathBuf, Digest) {
    let file = directory.join("plugins.tgz");
    let content = directory.join("content");
    std::fs::create_dir_all(content.join("sub")).unwrap();
    std::fs::write(content.join("bridge"), "#!bridge").unwrap();
    std::fs::write(content.join("sub/o'dd $(name)"), "x").unwrap();
    symlink("bridge", content.join("alias")).unwrap();
    let status = Command::new("tar").args(["-czf"]).arg(&file).arg("-C").arg(&content).arg(".").status().unwrap();
    assert!(status.success());
    let digest = Digest::of(std::fs::read(&file).unwrap());
    (file, digest)
}

/// Every kind of artifact of a host.
fn everything(directory: &Path) -> Vec<Change> {
    let program = directory.join("kubelet");
    std::fs::write(&program, "ELF").unwrap();
    let images = directory.join("images.tar");
    std::fs::write(&images, "images").unwrap();
    let (plugins, plugins_digest) = archive(directory);
    vec![
        change(Artifact::Directory { path: RemotePath::fixed("/etc/kubernetes/pki"), mode: Mode(0o700) }),
        file("/etc/kubernetes/pki/it's $(a) key", 0o600, "secret"),
        file("/etc/kubelet.conf", 0o644, "new"),
        file("/etc/kubernetes/manifests/etcd.yaml", 0o600, "pod"),
        change(Artifact::Link { path: RemotePath::fixed("/etc/link"), target: "kubelet.conf".into() }),
        change(Artifact::Absent { path: RemotePath::fixed("/etc/old.conf") }),
        change(Artifact::Program {
            path: RemotePath::fixed("/usr/local/bin/kubelet"),
            source: ProgramSource::Upload(program),
            digest: Digest::of("ELF"),
            unpack: None,
        }),
        change(Artifact::Program {
            path: RemotePath::fixed("/opt/cni/bin/bridge"),
            source: ProgramSource::Upload(plugins),
            digest: plugins_digest,
            unpack: Some(RemotePath::fixed("/opt/cni/bin")),
        }),
        change(Artifact::Module { name: "br-netfilter".into() }),
        change(Artifact::Sysctl { key: "net.ipv4.ip_forward".into(), value: "1".into() }),
        change(Artifact::NoSwap),
        change(Artifact::Image {
            names: vec!["registry.example/pause:3".into()],
            archive: images,
            digest: Digest::of("images"),
        }),
        change(Artifact::Pulled { name: "registry.example/etcd:3".into() }),
        unit("1", Reason::Missing),
    ]
}

fn used_host() -> Host {
    let host = Host::new();
    host.write("etc/kubelet.conf", "old");
    std::fs::set_permissions(host.path("etc/kubelet.conf"), std::fs::Permissions::from_mode(0o640)).unwrap();
    host.write("etc/old.conf", "was here");
    host.write("etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n# /dev/x none swap sw 0 0\n");
    host
}

#[test]
fn every_kind_of_change_is_made_and_recorded() {
    let host = used_host();
    let payloads = tempfile::tempdir().unwrap();
    host.good(&everything(payloads.path()));

    assert_eq!(host.read("etc/kubelet.conf"), "new");
    assert_eq!(std::fs::metadata(host.path("etc/kubelet.conf")).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(host.read("etc/kubernetes/pki/it's $(a) key"), "secret");
    assert_eq!(std::fs::metadata(host.path("etc/kubernetes/pki")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(std::fs::metadata(host.path("etc/kubernetes")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(std::fs::read_link(host.path("etc/link")).unwrap(), Path::new("kubelet.conf"));
    assert!(!host.path("etc/old.conf").exists());
    assert_eq!(std::fs::metadata(host.path("usr/local/bin/kubelet")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(host.read("opt/cni/bin/sub/o'dd $(name)"), "x");
    assert_eq!(std::fs::read_link(host.path("opt/cni/bin/alias")).unwrap(), Path::new("bridge"));
    assert_eq!(host.read("proc/sys/net/ipv4/ip_forward"), "1\n");
    assert!(host.path("sys/module/br-netfilter").exists());
    assert_eq!(
        host.read("etc/fstab"),
        "/dev/sda1 / ext4 defaults 0 1\n# slipway: /dev/sda2 none swap sw 0 0\n# /dev/x none swap sw 0 0\n"
    );

    // What reset needs.
    let lib = "var/lib/slipway";
    assert_eq!(host.read(&format!("{lib}/original/etc/kubelet.conf")), "old");
    assert_eq!(std::fs::metadata(host.path(&format!("{lib}/original/etc/kubelet.conf"))).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(std::fs::metadata(host.path(lib)).unwrap().mode() & 0o7777, 0o700);
    let record = |name: &str| host.read(&format!("{lib}/records/{name}"));
    assert_eq!(
        record("etc%2Fkubelet.conf"),
        format!("path=/etc/kubelet.conf\nkind=file\nbefore=original\nwritten={}\n", Digest::of("new"))
    );
    assert!(record("etc%2Fkubernetes%2Fmanifests%2Fetcd.yaml").contains("before=absent\n"));
    assert_eq!(record("etc%2Fkubernetes"), "path=/etc/kubernetes\nkind=directory\nbefore=absent\n");
    assert_eq!(record("etc%2Fold.conf"), "path=/etc/old.conf\nkind=absent\nbefore=original\n");
    assert_eq!(record("unit:kubelet.service"), "unit=kubelet.service\nkind=unit\nbefore=disabled inactive\n");
    assert_eq!(record("sysctl:net.ipv4.ip_forward"), "sysctl=net.ipv4.ip_forward\nkind=sysctl\nbefore=0\n");
    assert_eq!(record("module:br_netfilter"), "module=br_netfilter\nkind=module\nbefore=absent\n");
    assert_eq!(record("image:registry.example%2Fetcd:3"), "image=registry.example/etcd:3\nkind=image\nbefore=absent\n");
    assert_eq!(record("swap"), "kind=swap\nbefore=active\ndevice=/dev/sda2\nunit=dev-sda2.swap\n");
    assert_eq!(
        host.read(&format!("{lib}/stamps/kubelet.service")),
        format!("{}\ninput=/etc/kubelet.conf\n", Digest::of("1"))
    );
    let note = host.read(&format!("{lib}/programs/usr%2Flocal%2Fbin%2Fkubelet"));
    assert!(note.starts_with(&format!("path=/usr/local/bin/kubelet\ndigest={}\nsize=3\nmtime=", Digest::of("ELF"))), "{note}");
    assert!(!host.path(&format!("{lib}/stage")).exists());
}

#[test]
fn a_second_run_changes_nothing() {
    let host = used_host();
    let payloads = tempfile::tempdir().unwrap();
    let changes = everything(payloads.path());
    host.good(&changes);
    let before = host.tree();
    host.good(&changes);
    assert_eq!(host.tree(), before);
}

/// Death by `kill -9` at the n-th call of a program, before or after its effect: no trap runs.
fn stub_of_death(host: &Host, program: &str, nth: usize, after_effect: bool) {
    let own = host.bin.path().join(program);
    let real = if own.exists() {
        let moved = host.bin.path().join(format!("real-{program}"));
        std::fs::write(&moved, STUB.replace("${0##*/}", program)).unwrap();
        std::fs::set_permissions(&moved, std::fs::Permissions::from_mode(0o755)).unwrap();
        moved.display().to_string()
    } else {
        format!("/bin/{program}")
    };
    let counter = host.bin.path().join("count");
    let counter = counter.display();
    let effect = if after_effect { format!("'{real}' \"$@\"") } else { String::new() };
    host.stub(
        program,
        &format!(
            "#!/bin/sh\necho x >>'{counter}'\nif [ $(wc -l <'{counter}') -eq {nth} ]; then\n{effect}\nkill -9 $PPID\nexit 1\nfi\nexec '{real}' \"$@\"\n"
        ),
    );
}

#[test]
fn a_run_cut_off_anywhere_is_finished_by_the_next() {
    let payloads = tempfile::tempdir().unwrap();
    let changes = everything(payloads.path());
    let whole = used_host();
    whole.good(&changes);
    let wanted = whole.tree();
    let bundle = bundle_of(&changes);
    // Renames are where state changes: each one. Strides keep the others within seconds.
    for (program, stride) in [("mv", 1), ("rm", 9), ("install", 2), ("mkdir", 3), ("cp", 1), ("ctr", 3), ("systemctl", 3)] {
        let mut deaths = 0;
        // `cargo xtask torture` dies at each call of each.
        let stride = if std::env::var_os("SLIPWAY_TORTURE").is_some() { 1 } else { stride };
        for nth in (1..500).step_by(stride) {
            let host = used_host();
            stub_of_death(&host, program, nth, nth % 2 == 0);
            let survived = host.run_quietly(&bundle).status.success();
            std::fs::remove_file(host.bin.path().join(program)).unwrap();
            if host.bin.path().join(format!("real-{program}")).exists() {
                host.stub(program, STUB);
            }
            host.good_quietly(&bundle);
            assert_eq!(host.tree(), wanted, "killed at call {nth} of {program}");
            if survived {
                break;
            }
            deaths += 1;
        }
        assert!(deaths > 0, "{program} was never killed");
    }
}

impl Host {
    fn run_quietly(&self, bundle: &Bundle) -> Output {
        let work = tempfile::tempdir().unwrap();
        std::fs::write(work.path().join("run.sh"), &bundle.script).unwrap();
        for (name, payload) in &bundle.payloads {
            match payload {
                Payload::Bytes(bytes) => std::fs::write(work.path().join(name), bytes.expose()).unwrap(),
                Payload::File(file) => drop(std::fs::copy(file, work.path().join(name)).unwrap()),
            }
        }
        Command::new("/bin/sh")
            .arg("run.sh")
            .current_dir(work.path())
            .env_clear()
            .env("ROOT", self.root.path())
            .env("PATH", format!("{}:/usr/bin:/bin", self.bin.path().display()))
            .output()
            .unwrap()
    }

    fn good_quietly(&self, bundle: &Bundle) {
        let output = self.run_quietly(bundle);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_original_is_kept_once_and_the_record_follows() {
    let host = used_host();
    host.good(&[file("/etc/kubelet.conf", 0o644, "one")]);
    host.good(&[file("/etc/kubelet.conf", 0o600, "two")]);
    assert_eq!(host.read("var/lib/slipway/original/etc/kubelet.conf"), "old");
    let record = host.read("var/lib/slipway/records/etc%2Fkubelet.conf");
    assert!(record.ends_with(&format!("before=original\nwritten={}\n", Digest::of("two"))), "{record}");
    // What slipway made and unmakes leaves no trace.
    host.good(&[file("/etc/mine", 0o644, "x")]);
    host.good(&[change(Artifact::Absent { path: RemotePath::fixed("/etc/mine") })]);
    assert!(!host.path("var/lib/slipway/records/etc%2Fmine").exists());
}

#[test]
fn names_that_are_too_long_for_a_file_get_a_record_all_the_same() {
    let host = Host::new();
    let path = format!("/etc/{}", ["directory%"; 40].join("/"));
    host.good(&[file(&path, 0o644, "x")]);
    let records = std::fs::read_dir(host.path("var/lib/slipway/records")).unwrap();
    let found = records.filter(|entry| {
        let text = std::fs::read_to_string(entry.as_ref().unwrap().path()).unwrap();
        text.starts_with(&format!("path={path}\n"))
    });
    assert_eq!(found.count(), 1);
    assert!(host.path("var/lib/slipway/records/etc%2Fdirectory%25").exists());
}

#[test]
fn a_changed_input_takes_the_stamp_away_even_without_its_unit() {
    let host = Host::new();
    host.good(&[file("/etc/kubelet.conf", 0o644, "one"), unit("1", Reason::Missing)]);
    let stamp = host.path("var/lib/slipway/stamps/kubelet.service");
    host.good(&[file("/etc/kubelet.conf", 0o600, "one")]);
    assert!(stamp.exists(), "only the mode changed");
    host.write("etc/kubelet.conf", "drift");
    host.good(&[file("/etc/kubelet.conf", 0o600, "one")]);
    assert!(!stamp.exists());
}

#[test]
fn a_unit_that_does_not_come_up_gets_no_stamp() {
    let host = Host::new();
    host.write("unit-broken", "");
    assert!(host.bad(&[unit("1", Reason::Missing)]).contains("slipway: kubelet.service does not start"));
    assert!(!host.path("var/lib/slipway/stamps/kubelet.service").exists());
    std::fs::remove_file(host.path("unit-broken")).unwrap();
    host.write("runtime-dead", "");
    assert!(host.bad(&[unit("1", Reason::Missing)]).contains("containerd does not answer"));
    assert!(!host.path("var/lib/slipway/stamps/kubelet.service").exists());
}

#[test]
fn a_unit_that_only_was_not_enabled_is_not_restarted() {
    let host = Host::new();
    host.good(&[unit("1", Reason::Missing)]);
    host.write("enabled", "disabled\n");
    std::fs::remove_file(host.path("calls")).unwrap();
    host.good(&[unit("1", Reason::Disabled)]);
    let calls = host.read("calls");
    assert!(calls.contains("systemctl enable") && !calls.contains("systemctl restart"), "{calls}");
}

#[test]
fn a_wrong_checksum_installs_nothing_and_says_both() {
    let host = Host::new();
    let payloads = tempfile::tempdir().unwrap();
    let program = payloads.path().join("kubelet");
    std::fs::write(&program, "broken").unwrap();
    let wanted = change(Artifact::Program {
        path: RemotePath::fixed("/usr/local/bin/kubelet"),
        source: ProgramSource::Upload(program),
        digest: Digest::of("ELF"),
        unpack: None,
    });
    let said = host.bad(&[wanted]);
    assert!(said.contains(&format!("expected {}, got {}", Digest::of("ELF"), Digest::of("broken"))), "{said}");
    assert!(!host.path("usr/local/bin/kubelet").exists());
}

#[test]
fn programs_are_downloaded_by_the_host() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/kubelet", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nELF").unwrap();
    });
    let host = Host::new();
    host.good(&[change(Artifact::Program {
        path: RemotePath::fixed("/usr/local/bin/kubelet"),
        source: ProgramSource::Download(address),
        digest: Digest::of("ELF"),
        unpack: None,
    })]);
    server.join().unwrap();
    assert_eq!(host.read("usr/local/bin/kubelet"), "ELF");
}

#[test]
fn other_file_systems_are_staged_on_and_left_clean() {
    use std::os::unix::fs::MetadataExt as _;
    let host = Host::new();
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return eprintln!("skipped: no /dev/shm") };
    if std::fs::metadata(other.path()).unwrap().dev() == std::fs::metadata(host.root.path()).unwrap().dev() {
        return eprintln!("skipped: /dev/shm is no file system of its own");
    }
    symlink(other.path(), host.path("etc/kubernetes")).unwrap();
    host.good(&[file("/etc/kubernetes/manifests/etcd.yaml", 0o600, "pod"), file("/etc/kubernetes/a.conf", 0o600, "a")]);
    assert_eq!(host.read("etc/kubernetes/manifests/etcd.yaml"), "pod");
    let names = |path: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(other.path()), ["a.conf", "manifests"]);
    assert_eq!(names(&other.path().join("manifests")), ["etcd.yaml"]);

    // A run that dies between staging and renaming leaves nothing that the next one does not clear.
    host.stub("mv", "#!/bin/sh\ncase \"$*\" in */.slipway.*) kill -9 $PPID; exit 1 ;; esac\nexec /bin/mv \"$@\"\n");
    assert!(!host.run(&[file("/etc/kubernetes/manifests/etcd.yaml", 0o600, "new")]).status.success());
    assert!(names(other.path()).iter().any(|name| name.starts_with(".slipway.")), "staged beside the manifests");
    std::fs::remove_file(host.bin.path().join("mv")).unwrap();
    host.good(&[file("/etc/other", 0o600, "x")]);
    assert_eq!(names(other.path()), ["a.conf", "manifests"]);
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let host = Host::new();
    host.write("etc/a", "old");
    host.stub("install", "#!/bin/sh\nfor last in \"$@\"; do :; done\nprintf half >\"$last\"\necho 'install: No space left on device' >&2\nexit 1\n");
    let said = host.bad(&[file("/etc/a", 0o600, "new")]);
    assert!(said.contains("slipway: cannot write /etc/a (disk full?)") && said.contains("No space left"), "{said}");
    assert_eq!(host.read("etc/a"), "old");
    assert!(!host.path("var/lib/slipway/stage").exists());
}

#[test]
fn what_is_in_the_way_is_not_destroyed() {
    let host = Host::new();
    host.write("etc/a/file", "x");
    assert!(host.bad(&[file("/etc/a", 0o600, "new")]).contains("is a directory that is not empty"));
    assert!(host.bad(&[change(Artifact::Absent { path: RemotePath::fixed("/etc/a") })]).contains("is a directory"));
    assert_eq!(host.read("etc/a/file"), "x");
    symlink("a", host.path("etc/b")).unwrap();
    host.good(&[file("/etc/b", 0o600, "new")]);
    assert_eq!(host.read("etc/b"), "new");
    assert_eq!(std::fs::read_link(host.path("var/lib/slipway/original/etc/b")).unwrap(), Path::new("a"));
}

#[test]
fn objects_never_reach_a_host() {
    let host = Host::new();
    let said = host.bad(&[change(Artifact::Object(Object::new(serde_json::json!({}))))]);
    assert!(said.contains("bug of slipway"));
    assert!(!bundle_of(&[]).script.contains("start_unit"));
}

#[test]
fn a_kubelet_stands_still_before_its_notes_and_pods_go() {
    let host = Host::new();
    host.good(&[unit("1", Reason::Missing)]);
    host.write("var/lib/kubelet/cpu_manager_state", "{}");
    let halted = |pods| change(Artifact::Halted { unit: "kubelet.service".into(), files: vec![RemotePath::fixed("/var/lib/kubelet/cpu_manager_state")], pods });
    std::fs::remove_file(host.path("calls")).unwrap();
    host.good(&[halted(true)]);
    assert!(!host.path("var/lib/kubelet/cpu_manager_state").exists());
    assert!(!host.path("var/lib/slipway/stamps/kubelet.service").exists(), "it is started again whatever happens");
    let calls = host.read("calls");
    let place = |part: &str| calls.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part} in {calls}"));
    assert!(place("systemctl stop -- kubelet.service") < place("containers ls"), "{calls}");
    std::fs::remove_file(host.path("calls")).unwrap();
    host.good(&[halted(false)]);
    assert!(!host.read("calls").contains("containers ls"), "without pods none is looked for");
}

#[test]
fn units_are_restarted_as_they_are_and_a_machine_is_only_asked_to() {
    let host = Host::new();
    host.good(&[unit("1", Reason::Missing)]);
    std::fs::remove_file(host.path("calls")).unwrap();
    let restarted = |machine| change(Artifact::Restarted { units: vec!["kubelet.service".into()], machine });
    host.good(&[restarted(false)]);
    assert!(host.read("calls").contains("systemctl restart -- kubelet.service"));
    assert!(host.path("var/lib/slipway/stamps/kubelet.service").exists(), "it reads what it read before");
    host.write("unit-broken", "");
    assert!(host.bad(&[restarted(false)]).contains("kubelet.service does not start"));
    std::fs::remove_file(host.path("calls")).unwrap();
    host.good(&[restarted(true)]);
    let calls = host.read("calls");
    assert!(calls.contains("systemctl --no-block reboot") && !calls.contains("systemctl restart"), "{calls}");
}

#[test]
fn parameters_are_where_sysctl_looks_for_them() {
    assert_eq!(sysctl_file("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
    assert_eq!(sysctl_file("net.ipv4.conf.eth0/100.rp_filter"), "net/ipv4/conf/eth0.100/rp_filter");
    assert_eq!(sysctl_file("net/ipv4/conf/eth0.100/rp_filter"), "net/ipv4/conf/eth0.100/rp_filter");
}

#[test]
fn the_calls_of_a_script_read_well() {
    let bundle = bundle_of(&[
        file("/etc/it's", 0o600, "x"),
        change(Artifact::Sysctl { key: "vm.overcommit_memory".into(), value: "$(reboot)".into() }),
        unit("1", Reason::Disabled),
    ]);
    let calls = &bundle.script[bundle.script.rfind("begin '0'").unwrap()..];
    insta::assert_snapshot!(calls, @r"
    begin '0'
    install_file '/etc/it'\''s' '0600' '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881' 'payload-0'
    finish '0'
    begin '1'
    set_parameter 'vm.overcommit_memory' 'vm/overcommit_memory' '$(reboot)'
    finish '1'
    begin '2'
    start_unit 'kubelet.service' '6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b' 'stopped' '/etc/kubelet.conf'
    await_containerd '/run/containerd/containerd.sock'
    stamp_unit
    finish '2'
    ");
}

/// A runtime with one container of a static pod, which runs until it is told to end.
const PATIENT: &str = r#"#!/bin/sh
case "$*" in
  *'containers ls'*) echo abc ;;
  *'tasks ls'*) if [ -e "$ROOT/ended" ]; then echo 'abc 12 STOPPED'; else echo 'abc 12 RUNNING'; fi ;;
  *'tasks kill'*) printf '%s\n' "ctr $*" >>"$ROOT/calls"; [ ! -e "$ROOT/stubborn" ] || case "$*" in *TERM*) exit 0 ;; esac; : >"$ROOT/ended" ;;
esac
"#;

#[test]
fn a_pod_that_the_kubelet_does_not_end_is_ended() {
    let paused = |text: &str| Change {
        reason: Reason::Content { found: None, drift: false },
        ..file("/etc/kubernetes/manifests/etcd.yaml", 0o600, text)
    };
    for (stubborn, signals) in [(false, &["TERM"][..]), (true, &["TERM", "KILL"])] {
        let host = Host::new();
        host.stub("ctr", PATIENT);
        if stubborn {
            host.write("stubborn", "");
        }
        host.good(&[paused("new")]);
        let calls = host.read("calls");
        let killed: Vec<&str> = calls.lines().filter(|line| line.contains("tasks kill")).collect();
        assert_eq!(killed.len(), signals.len(), "{calls}");
        assert!(killed.iter().zip(signals).all(|(line, signal)| line.contains(&format!("kill -s {signal} abc"))), "{calls}");
        assert!(calls.lines().any(|line| line == "systemctl restart kubelet.service"), "{calls}");
    }
    let host = Host::new();
    host.stub("ctr", PATIENT);
    host.write("ended", "");
    host.good(&[paused("new")]);
    assert!(!host.read("calls").contains("restart kubelet"), "one that ends by itself needs no help");
}

/// systemd does not look for files that stand over those it has read.
#[test]
fn a_unit_over_one_of_a_package_is_read_before_it_is_started() {
    for (fragment, expected) in [("/lib/systemd/system/kubelet.service", true), ("/etc/systemd/system/kubelet.service", false)] {
        let host = Host::new();
        host.write("etc/systemd/system/kubelet.service", "");
        host.write("reload", "no");
        host.write("fragment", fragment);
        host.good(&[unit("one", Reason::Missing)]);
        let calls = host.read("calls");
        let place = |call: &str| calls.lines().position(|line| line.starts_with(call));
        assert_eq!(place("systemctl daemon-reload").is_some(), expected, "{fragment}: {calls}");
        assert!(place("systemctl daemon-reload") < place("systemctl restart"), "{calls}");
    }
}

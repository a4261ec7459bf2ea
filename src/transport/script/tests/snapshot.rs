//! Snapshots through a stub of containerd that has a container of etcd, and in it an etcdctl that saves what
//! the test prepared.

use super::*;
use crate::artifact::snapshot::{Snapshot, Way};

const CTR: &str = r#"#!/bin/sh
printf '%s\n' "ctr $*" >>"$ROOT/calls"
for last; do :; done
case "$*" in
  *version) exit 0 ;;
  *'tasks ls'*) [ -e "$ROOT/no-etcd" ] || echo 'e7cd 4711 RUNNING' ;;
  *'containers ls'*) [ -e "$ROOT/no-etcd" ] || echo e7cd ;;
  *'tasks exec'*'snapshot save'*)
    if [ -e "$ROOT/etcd-dead" ]; then echo 'Error: context deadline exceeded' >&2; exit 4; fi
    cp "$ROOT/prepared" "$ROOT$last" ;;
esac
exit 0
"#;

/// Each question is a second later.
const DATE: &str = r#"#!/bin/sh
n=$(cat "$ROOT/clock")
echo $((n + 1)) >"$ROOT/clock"
printf '20261121T1345%02dZ\n' "$n"
"#;

/// What etcd sends: whole blocks, and then their checksum.
fn sent(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().repeat(2048);
    bytes.truncate(1024);
    let sum = Digest::of(&bytes).to_string();
    bytes.extend((0..64).step_by(2).map(|place| u8::from_str_radix(&sum[place..place + 2], 16).unwrap()));
    bytes
}

fn host_with_etcd() -> Host {
    let host = Host::new();
    host.stub("ctr", CTR);
    host.stub("date", DATE);
    host.write("clock", "1\n");
    host.write("var/lib/etcd/member/snap/db", "a database");
    host.write("etc/kubernetes/manifests/etcd.yaml", "the old manifest");
    std::fs::write(host.path("prepared"), sent("keys")).unwrap();
    host
}

fn snapshot(keep: u8, to: &str) -> Change {
    change(Artifact::Snapshot(Snapshot {
        way: Way::new("v1.33.4", to),
        files: ["/etc/kubernetes/manifests/etcd.yaml", "/etc/kubernetes/manifests/none.yaml"].map(RemotePath::fixed).into(),
        etcd: Some(RemotePath::fixed("/var/lib/etcd")),
        keep,
    }))
}

/// What is in a directory, hidden things too.
fn within(host: &Host, directory: &str) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(host.path(directory)).into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const SNAPSHOTS: &str = "var/lib/slipway/snapshots";

fn nothing_is_left_of_it(host: &Host) {
    assert_eq!(within(host, "var/lib/etcd"), ["member"]);
    assert!(!host.path("var/lib/slipway/staged-elsewhere").exists());
    let names = within(host, SNAPSHOTS);
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
}

#[test]
fn a_snapshot_has_what_etcd_holds_and_the_files_and_is_roots_alone() {
    let host = host_with_etcd();
    host.good(&[snapshot(3, "v1.34.2")]);
    assert_eq!(within(&host, SNAPSHOTS), ["20261121T134502Z_v1.33.4_to_v1.34.2"]);
    let taken = format!("{SNAPSHOTS}/20261121T134502Z_v1.33.4_to_v1.34.2");
    assert_eq!(std::fs::read(host.path(&format!("{taken}/etcd.db"))).unwrap(), sent("keys"));
    assert_eq!(host.read(&format!("{taken}/etc/kubernetes/manifests/etcd.yaml")), "the old manifest");
    let mode = |path: &str| std::fs::metadata(host.path(path)).unwrap().mode() & 0o777;
    assert_eq!((mode(SNAPSHOTS), mode(&taken), mode(&format!("{taken}/etcd.db"))), (0o700, 0o700, 0o600));
    assert!(host.read("calls").contains("--address /run/containerd/containerd.sock -n k8s.io tasks exec"), "{}", host.read("calls"));
    nothing_is_left_of_it(&host);
}

#[test]
fn the_newest_stay_and_the_first_of_this_way_and_what_is_somebody_elses() {
    let host = host_with_etcd();
    host.write(&format!("{SNAPSHOTS}/mine_v1_to_v2/etcd.db"), "the operator's");
    host.good(&[snapshot(2, "v1.33.9")]);
    for _ in 0..4 {
        host.good(&[snapshot(2, "v1.34.2")]);
    }
    let names = within(&host, SNAPSHOTS);
    let wanted = ["20261121T134504Z_v1.33.4_to_v1.34.2", "20261121T134508Z_v1.33.4_to_v1.34.2", "20261121T134510Z_v1.33.4_to_v1.34.2", "mine_v1_to_v2"];
    assert_eq!(names, wanted, "the first attempt at v1.34.2, the newest two, and a stranger");
    nothing_is_left_of_it(&host);
}

#[test]
fn what_is_not_whole_or_not_right_is_no_snapshot() {
    let damaged = || {
        let mut bytes = sent("keys");
        bytes[100] ^= 1;
        bytes
    };
    for (bytes, says) in [(damaged(), "is damaged"), (sent("keys")[..1000].to_vec(), "is not whole: 1000 bytes"), (vec![0; 32], "is not whole")] {
        let host = host_with_etcd();
        std::fs::write(host.path("prepared"), bytes).unwrap();
        let said = host.bad(&[snapshot(3, "v1.34.2")]);
        assert!(said.contains(says), "{said}");
        assert_eq!(within(&host, SNAPSHOTS), [""; 0]);
        nothing_is_left_of_it(&host);
    }
}

#[test]
fn it_is_said_why_there_is_none_and_nothing_is_left() {
    for (mark, says) in [
        ("etcd-dead", "context deadline exceeded\nslipway: etcdctl in the container of etcd cannot save a snapshot"),
        ("no-etcd", "no container of etcd runs on this host"),
    ] {
        let host = host_with_etcd();
        host.write(mark, "");
        let said = host.bad(&[snapshot(3, "v1.34.2")]);
        assert!(said.contains(says), "{said}");
        assert_eq!(within(&host, SNAPSHOTS), [""; 0]);
        nothing_is_left_of_it(&host);
    }
    let full = host_with_etcd();
    full.stub("df", "#!/bin/sh\necho 'Filesystem 1024-blocks Used Available Capacity Mounted on'\necho '/dev/a 100000 90000 10240 90% /var'\n");
    let said = full.bad(&[snapshot(3, "v1.34.2")]);
    assert!(said.contains("only 10 MiB are free on /var/lib/etcd, too little for a snapshot of etcd's 0 MiB"), "{said}");
    assert!(!full.read("calls").contains("exec"), "a member whose disk fills up ends, so it is not even asked");
}

#[test]
fn a_host_without_ctr_is_asked_through_crictl() {
    let host = host_with_etcd();
    host.stub("ctr", "#!/bin/sh\nexit 1\n");
    host.stub("crictl", "#!/bin/sh\nfor last; do :; done\nprintf '%s\\n' \"crictl $*\" >>\"$ROOT/calls\"\ncase \"$*\" in *' ps '*) echo e7cd ;; *exec*) cp \"$ROOT/prepared\" \"$ROOT$last\" ;; esac\n");
    host.good(&[snapshot(3, "v1.34.2")]);
    assert_eq!(within(&host, SNAPSHOTS).len(), 1);
    assert!(host.read("calls").contains("crictl --runtime-endpoint unix:///run/containerd/containerd.sock exec --sync e7cd etcdctl"), "{}", host.read("calls"));
}

/// What looks like a snapshot is one, whenever the host dies; and the next run clears the rest.
#[test]
fn whenever_it_dies_there_is_a_whole_snapshot_or_none() {
    let bundle = bundle_of(&[snapshot(1, "v1.34.2")]);
    let mut deaths = 0;
    for program in ["mv", "cp", "rm", "mkdir", "sync", "chmod", "sort"] {
        for nth in 1..30 {
            let host = host_with_etcd();
            host.good_quietly(&bundle_of(&[snapshot(1, "v1.33.9")]));
            stub_of_death(&host, program, nth, nth % 2 == 0);
            let survived = host.run_quietly(&bundle).status.success();
            std::fs::remove_file(host.bin.path().join(program)).unwrap();
            for name in within(&host, SNAPSHOTS).iter().filter(|name| !name.starts_with('.')) {
                assert_eq!(std::fs::read(host.path(&format!("{SNAPSHOTS}/{name}/etcd.db"))).unwrap(), sent("keys"), "{program} {nth}: {name}");
                assert!(host.path(&format!("{SNAPSHOTS}/{name}/etc/kubernetes/manifests/etcd.yaml")).exists(), "{program} {nth}: {name}");
            }
            // Any script of slipway's clears what is left, not only one that takes snapshots.
            host.good_quietly(&bundle_of(&[change(Artifact::Directory { path: RemotePath::fixed("/etc/any"), mode: Mode(0o755) })]));
            nothing_is_left_of_it(&host);
            host.good_quietly(&bundle);
            assert!(within(&host, SNAPSHOTS).iter().any(|name| name.ends_with("v1.34.2")), "{program} {nth}");
            if survived {
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths > 20, "{deaths} deaths");
}

//! Everything slipway does to a host, and Kubernetes after it, taken back again.

use super::*;
use crate::artifact::undone::Undone;
use crate::facts::{FoundFile, FoundKind, State};
use crate::teardown::{Origin, host_changes};

/// A runtime with pods, packet filter rules and mounts that are files below the root. It calls
/// programs by their path, so that a test that kills the reset at one of them does not meet these.
const STUB_OF_KUBERNETES: &str = r##"#!/bin/sh
name=${0##*/}
name=${name#real-}
printf '%s\n' "$name $*" >>"$ROOT/calls"
lists=$ROOT/run/lists
case $name in
  systemctl)
    case $1 in
      show) printf 'ActiveState=%s\nUnitFileState=%s\nLoadState=loaded\nNeedDaemonReload=yes\n' "$(cat "$lists/active" 2>/dev/null || echo inactive)" "$(cat "$lists/enabled" 2>/dev/null || echo disabled)" ;;
      cat) [ -e "$ROOT/etc/systemd/system/$3" ] ;;
      enable) echo enabled >"$lists/enabled" ;;
      disable) /bin/rm -f "$lists/enabled" ;;
      restart | start) echo active >"$lists/active" ;;
      stop) /bin/rm -f "$lists/active" ;;
      is-active) exit 1 ;;
      list-units) [ "$2" != --type=swap ] || [ -e "$lists/masked" ] || echo 'dev-sda2.swap loaded active active Swap' ;;
      mask) echo "$3" >"$lists/masked" ;;
      unmask) /bin/rm -f "$lists/masked" ;;
    esac ;;
  swapoff) echo 'Filename Type Size Used Priority' >"$ROOT/proc/swaps" ;;
  swapon) printf 'Filename Type Size Used Priority\n%s partition 1 0 -2\n' "$1" >"$ROOT/proc/swaps" ;;
  modprobe) if [ "$1" = -r ]; then /bin/rm -rf "$ROOT/sys/module/$(echo "$3" | tr _ -)"; else /bin/mkdir -p "$ROOT/sys/module/$2"; fi ;;
  umount)
    place=$(printf '%s' "$2" | sed 's/ /\\040/g')
    grep -vF -e " $place " "$ROOT/proc/mounts" >"$ROOT/proc/mounts.new"
    /bin/mv "$ROOT/proc/mounts.new" "$ROOT/proc/mounts" ;;
  ip)
    case "$*" in
      'link delete '*) /bin/rm -rf "$ROOT/sys/class/net/$3" ;;
      *' route del '*) /bin/rm -f "$lists/route" ;;
    esac ;;
  iptables-save) cat "$lists/rules" 2>/dev/null || : ;;
  iptables-restore) cat >"$lists/transaction"; /bin/cp "$lists/rules-of-others" "$lists/rules" ;;
  ctr)
    if [ "$3" = version ]; then exit 0; fi
    shift 4
    case "$1 $2" in
      'images ls') cat "$lists/images" 2>/dev/null || : ;;
      'images import') grep -q pause "$lists/images" 2>/dev/null || echo registry.example/pause:3 >>"$lists/images" ;;
      'images pull') for last in "$@"; do :; done; echo "$last" >>"$lists/images" ;;
      'images rm') shift 3; for image in "$@"; do grep -vxF "$image" "$lists/images" >"$lists/rest"; /bin/mv "$lists/rest" "$lists/images"; done ;;
      'containers ls') cat "$lists/containers" 2>/dev/null || : ;;
      'tasks ls') cat "$lists/tasks" 2>/dev/null || : ;;
      'tasks rm') /bin/rm -f "$lists/tasks"; exit 137 ;;
      'containers rm') [ ! -e "$lists/tasks" ] || exit 1; /bin/rm -f "$lists/containers" ;;
    esac ;;
esac
"##;

const PROGRAMS: [&str; 10] =
    ["systemctl", "swapoff", "swapon", "modprobe", "ctr", "journalctl", "umount", "ip", "iptables-save", "iptables-restore"];

fn equip(host: &Host) {
    for name in PROGRAMS {
        host.stub(name, STUB_OF_KUBERNETES);
    }
}

/// A host with things of its own, before slipway.
fn untouched() -> Host {
    let host = used_host();
    equip(&host);
    host.write("run/lists/images", "docker.io/library/own:1\n");
    host.write("run/lists/rules", OTHERS);
    host.write("run/lists/rules-of-others", OTHERS);
    host.write("proc/mounts", "proc /proc proc rw 0 0\n");
    host.write("proc/sys/net/ipv4/conf/all/route_localnet", "0\n");
    host.write("proc/sys/kernel/panic", "60\n");
    host.write("dev/sda2", "");
    host.write("etc/kubernetes/audit.yaml", "of the user");
    host.write("etc/kubernetes/pki/ca.crt", "of the user");
    host.write("var/log/pods/keep", "");
    std::fs::remove_file(host.path("var/log/pods/keep")).unwrap();
    std::fs::set_permissions(host.path("etc/kubernetes/pki"), std::fs::Permissions::from_mode(0o750)).unwrap();
    host.write("run/slipway/lock", "");
    host.write("sys/class/net/eth0/x", "");
    std::fs::create_dir_all(host.path("usr/libexec")).unwrap();
    host
}

const ROUTES: &str = "/etc/systemd/system/slipway-routes.service";
const OTHERS: &str = "*filter\n:INPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n-A INPUT -j DOCKER\nCOMMIT\n";

/// What the cluster does by itself.
fn live(host: &Host) {
    host.write("run/lists/containers", "a\nb\n");
    host.write("run/lists/tasks", "a\nb\n");
    host.write("run/lists/route", "x");
    host.write(
        "run/lists/rules",
        "*filter\n:INPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n:DOCKER - [0:0]\n-A INPUT -j KUBE-FIREWALL\n-A INPUT -j DOCKER\n\
         -A KUBE-FIREWALL -m comment --comment \"kubernetes firewall -j DOCKER\" -j DROP\nCOMMIT\n\
         *nat\n:POSTROUTING ACCEPT [0:0]\n:CNI-HOSTPORT-MASQ - [0:0]\n-A POSTROUTING -m comment --comment \"x\" -j CNI-HOSTPORT-MASQ\n\
         -A POSTROUTING -s 10.244.0.0/24 ! -d 10.244.0.0/16 -m comment --comment slipway-masquerade -j MASQUERADE\n\
         -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE\nCOMMIT\n",
    );
    let kubelet = host.path("var/lib/kubelet");
    let kubelet = kubelet.display();
    host.write(
        "proc/mounts",
        &format!("proc /proc proc rw 0 0\ntmpfs {kubelet}/pods/1/volumes/a\\040b tmpfs rw 0 0\ntmpfs {kubelet}/pods/1/volumes/a\\040b/in tmpfs rw 0 0\n"),
    );
    host.write("var/lib/kubelet/pods/1/volumes/data", "data");
    host.write("var/lib/kubelet/pki/kubelet-client-1.pem", "key");
    host.write("var/lib/etcd/member/snap/db", "data");
    host.write("var/log/pods/p/0.log", "log");
    host.write("var/lib/cni/results/x", "x");
    host.write("etc/kubernetes/tmp/backup/etcd.yaml", "pod");
    host.write("usr/libexec/kubernetes/kubelet-plugins/volume/exec/.keep", "");
    std::fs::remove_file(host.path("usr/libexec/kubernetes/kubelet-plugins/volume/exec/.keep")).unwrap();
    host.write("proc/sys/net/ipv4/conf/all/route_localnet", "1\n");
    host.write("proc/sys/kernel/panic", "10\n");
    host.write("sys/class/net/cni0/brif/veth1/x", "");
    host.write("sys/class/net/veth1/x", "");
    host.write("run/lists/images", &(host.read("run/lists/images") + "registry.example/pulled-by-kubelet:1\n"));
}

/// What the probe would bring of the host.
fn probed(host: &Host) -> State {
    let mut state = State::default();
    let records = host.path("var/lib/slipway/records");
    let names = std::fs::read_dir(records).into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let paths = names.map(|name| RemotePath::fixed("/var/lib/slipway/records").join(&name).unwrap());
    for path in paths.chain([RemotePath::fixed(ROUTES)]).filter(|path| host.path(path.as_str()).exists()) {
        let kind = FoundKind::File { digest: None, content: Some(Secret::new(host.read(path.as_str()))) };
        state.files.insert(path, FoundFile { mode: Mode(0o600), owner: 0, group: 0, kind });
    }
    state
}

fn reset(host: &Host, origin: &Origin) -> Bundle {
    let plan = crate::graph::tests::plan(1, 0, 0);
    bundle_of(&host_changes(&plan, &plan.hosts[0], &probed(host), origin))
}

fn used_by_a_cluster(payloads: &Path) -> Host {
    let host = applied(payloads);
    live(&host);
    host
}

fn applied(payloads: &Path) -> Host {
    let host = untouched();
    let mut changes = everything(payloads);
    changes.insert(0, file("/etc/systemd/system/kubelet.service", 0o644, "unit"));
    changes.insert(0, change(Artifact::Directory { path: RemotePath::fixed("/var/lib/kubelet"), mode: Mode(0o700) }));
    changes.insert(0, change(Artifact::Directory { path: RemotePath::fixed("/var/lib/etcd"), mode: Mode(0o700) }));
    changes.push(file("/var/lib/slipway/formed", 0o600, "cluster"));
    changes.push(file(ROUTES, 0o644, "[Service]\nExecStart=/usr/sbin/ip -4 route replace 10.244.1.0/24 via 192.0.2.12\n"));
    host.good_quietly(&bundle_of(&changes));
    host
}

/// Another host that is just the same.
fn copy_of(host: &Host) -> Host {
    let copy = Host { root: tempfile::tempdir().unwrap(), bin: tempfile::tempdir().unwrap() };
    for (from, to) in [(&host.root, &copy.root), (&host.bin, &copy.bin)] {
        assert!(Command::new("cp").arg("-a").arg(from.path().join(".")).arg(to.path()).status().unwrap().success());
    }
    copy
}

/// The tree without what is of no host: an empty directory in memory is all that stays.
fn compared(host: &Host) -> BTreeMap<String, String> {
    let mut tree = host.tree();
    for path in ["run/slipway/lock", "run/lists/transaction", "run/lists/rest"] {
        tree.remove(path);
    }
    // What the stubs rewrite by renaming has another mode.
    for path in ["run/lists/images", "proc/mounts"] {
        tree.entry(path.into()).and_modify(|text| *text = text.split_off(text.find(' ').unwrap_or(0)));
    }
    tree
}

#[test]
fn a_host_is_as_it_was_before() {
    let payloads = tempfile::tempdir().unwrap();
    let before = compared(&untouched());
    let host = used_by_a_cluster(payloads.path());
    let bundle = reset(&host, &Origin::Slipway);
    shellcheck(&bundle.script);
    host.good_quietly(&bundle);
    pretty_assertions(&compared(&host), &before);
    insta::assert_snapshot!(host.read("run/lists/transaction"), @r#"
    *filter
    :KUBE-FIREWALL - [0:0]
    -D INPUT -j KUBE-FIREWALL
    -X KUBE-FIREWALL
    COMMIT
    *nat
    :CNI-HOSTPORT-MASQ - [0:0]
    -D POSTROUTING -m comment --comment "x" -j CNI-HOSTPORT-MASQ
    -D POSTROUTING -s 10.244.0.0/24 ! -d 10.244.0.0/16 -m comment --comment slipway-masquerade -j MASQUERADE
    -X CNI-HOSTPORT-MASQ
    COMMIT
    "#);
    let calls = host.read("calls");
    assert!(calls.contains("ip link delete veth1\n") && !calls.contains("link delete eth0"), "{calls}");
    // Once more: nothing is there any more, and nothing is done to what others own.
    host.good_quietly(&reset(&host, &Origin::Slipway));
    pretty_assertions(&compared(&host), &before);
}

/// Only what differs, which a person can read.
fn pretty_assertions(found: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) {
    let lines = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>, sign: char| -> Vec<String> {
        a.iter().filter(|(path, text)| b.get(*path) != Some(*text)).map(|(path, text)| format!("{sign} {path}: {text}")).collect()
    };
    let differences = [lines(wanted, found, '-'), lines(found, wanted, '+')].concat();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_reset_cut_off_anywhere_is_finished_by_the_next() {
    let payloads = tempfile::tempdir().unwrap();
    let before = compared(&untouched());
    let applied = applied(payloads.path());
    for (program, stride) in
        [("mv", 1), ("rm", 7), ("rmdir", 3), ("find", 2), ("cp", 1), ("ctr", 2), ("systemctl", 3), ("umount", 1), ("ip", 1), ("iptables-restore", 1)]
    {
        let mut deaths = 0;
        for nth in (1..500).step_by(stride) {
            let host = copy_of(&applied);
            live(&host);
            let bundle = reset(&host, &Origin::Slipway);
            stub_of_death(&host, program, nth, nth % 2 == 0);
            if PROGRAMS.contains(&program) {
                host.stub(&format!("real-{program}"), STUB_OF_KUBERNETES);
            }
            let survived = host.run_quietly(&bundle).status.success();
            std::fs::remove_file(host.bin.path().join(program)).unwrap();
            equip(&host);
            // What is left to do is read off the host again.
            host.good_quietly(&reset(&host, &Origin::Slipway));
            pretty_assertions(&compared(&host), &before);
            deaths += usize::from(!survived);
            if std::fs::read_to_string(host.bin.path().join("count")).unwrap_or_default().lines().count() < nth {
                break;
            }
        }
        assert!(deaths > 0, "{program} was never killed");
    }
}

#[test]
fn nothing_is_deleted_through_a_mount() {
    let payloads = tempfile::tempdir().unwrap();
    let host = used_by_a_cluster(payloads.path());
    host.stub("umount", "#!/bin/sh\necho 'umount: target is busy.' >&2\nexit 32\n");
    // Stopped before the mounts are looked at, so the data is reached in no way.
    let output = host.run_quietly(&reset(&host, &Origin::Slipway));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("target is busy") && said.contains("nothing below /var/lib/kubelet was deleted"), "{said}");
    assert_eq!(host.read("var/lib/kubelet/pods/1/volumes/data"), "data");
    // Nor when a mount appears after they were.
    let output = host.run_quietly(&bundle_of(&[change(Artifact::Undone(Undone::Kubernetes {
        foreign: false,
        etcd: Some(RemotePath::fixed("/var/lib/etcd")),
    }))]));
    assert!(!output.status.success());
    assert_eq!(host.read("var/lib/kubelet/pods/1/volumes/data"), "data");
    assert_eq!(host.read("var/lib/etcd/member/snap/db"), "data");
}

#[test]
fn the_kubelets_directory_may_be_a_link() {
    let host = untouched();
    host.write("srv/kubelet/pods/1/data", "data");
    symlink(host.path("srv/kubelet"), host.path("var/lib/kubelet")).unwrap();
    let place = host.path("srv/kubelet/pods/1/mount");
    host.write("proc/mounts", &format!("tmpfs {} tmpfs rw 0 0\n", place.display()));
    host.good(&[
        change(Artifact::Undone(Undone::Mounts)),
        change(Artifact::Undone(Undone::Kubernetes { foreign: true, etcd: Some(RemotePath::fixed("/var/lib/etcd")) })),
    ]);
    assert!(host.read("calls").contains(&format!("umount -- {}", place.display())));
    assert!(host.path("srv/kubelet").is_dir() && !host.path("srv/kubelet/pods").exists());
}

#[test]
fn a_foreign_cluster_goes_but_not_what_is_the_users() {
    let host = untouched();
    live(&host);
    host.write("etc/kubernetes/admin.conf", "x");
    host.write("etc/kubernetes/manifests/etcd.yaml", "x");
    host.good_quietly(&reset(&host, &Origin::Foreign("admin.conf".into())));
    assert!(!host.path("etc/kubernetes/admin.conf").exists() && !host.path("etc/kubernetes/pki/ca.crt").exists());
    assert!(!host.path("var/lib/etcd/member").exists() && !host.path("var/lib/kubelet/pods").exists());
    assert!(!host.path("run/lists/containers").exists() && !host.path("var/lib/slipway").exists());
    assert_eq!(host.read("etc/kubernetes/audit.yaml"), "of the user");
    assert!(host.read("run/lists/images").contains("own:1"), "images stay where nobody knows whose they are");
}

#[test]
fn a_lost_original_stops_the_reset_before_its_record_is_gone() {
    let host = untouched();
    host.good_quietly(&bundle_of(&[file("/etc/kubelet.conf", 0o644, "new")]));
    std::fs::remove_file(host.path("var/lib/slipway/original/etc/kubelet.conf")).unwrap();
    let said = host.bad(&[change(Artifact::Undone(Undone::Path { path: RemotePath::fixed("/etc/kubelet.conf"), restored: true }))]);
    assert!(said.contains("the original of /etc/kubelet.conf is no longer"), "{said}");
    assert!(host.path("var/lib/slipway/records/etc%2Fkubelet.conf").exists());
}

#[test]
fn what_others_put_into_slipways_directories_stays() {
    let host = untouched();
    host.good_quietly(&bundle_of(&[change(Artifact::Directory { path: RemotePath::fixed("/etc/new"), mode: Mode(0o755) })]));
    host.write("etc/new/of-the-user", "x");
    host.good_quietly(&reset(&host, &Origin::Slipway));
    assert_eq!(host.read("etc/new/of-the-user"), "x");
    assert!(!host.path("var/lib/slipway").exists());
}

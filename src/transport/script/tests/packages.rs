//! Packages through stubs of apt and dnf that keep what is installed in files: versions, holds, order,
//! what is left of a run that is cut off, and what is said when it does not work.

use super::*;
use crate::artifact::undone::Undone;

/// apt and dpkg. `available` has `NAME VERSION`, newest first; `installed` has `NAME VERSION hold|install`.
const APT: &str = r#"#!/bin/sh
name=${0##*/}
for last in "$@"; do :; done
case $name in
  dpkg-query) sed -n "s/^$last /installed /p" "$ROOT/installed" 2>/dev/null; exit 0 ;;
  apt-cache) sed -n "s/^\($last\) \(.*\)/ \1 | \2 | repository/p" "$ROOT/available"; exit 0 ;;
esac
printf '%s\n' "$name $*" >>"$ROOT/calls"
change() { { grep -v "^$1 " "$ROOT/installed"; [ -z "$2" ] || echo "$1 $2 $3"; } >"$ROOT/new"; mv "$ROOT/new" "$ROOT/installed"; }
version_of() { sed -n "s/^$1 \([^ ]*\) .*/\1/p" "$ROOT/installed"; }
case $name in
  apt-mark) [ ! -e "$ROOT/no-hold" ] || exit 1; state=$1; [ "$state" = hold ] || state=install; change "$2" "$(version_of "$2")" "$state" ;;
  dpkg) change "$2" '' ;;
  apt-get)
    if [ -e "$ROOT/locked" ]; then echo 'E: Could not get lock /var/lib/dpkg/lock-frontend.'; exit 100; fi
    case "$*" in
      *' update'*) if [ -e "$ROOT/unreachable" ]; then echo 'E: Failed to fetch https://mirror.example.test/Packages'; exit 100; fi ;;
      *' -s '*) echo "Inst ${last%=*} (${last#*=} repository)"; [ "${last%=*}" != kubelet ] || echo 'Inst kubernetes-cni (1.6.0-1.1 repository)' ;;
      *)
        sh "$ROOT/usr/sbin/policy-rc.d" kubelet.service start; echo "policy $?" >>"$ROOT/calls"
        change "${last%=*}" "${last#*=}" install
        [ "${last%=*}" != kubelet ] || change kubernetes-cni 1.6.0-1.1 install
        ;;
    esac ;;
esac
exit 0
"#;

/// dnf and rpm, the same way.
const DNF: &str = r#"#!/bin/sh
for last in "$@"; do :; done
case ${0##*/} in
  rpm) if [ "$1" = -e ]; then printf '%s\n' "rpm $*" >>"$ROOT/calls"; : >"$ROOT/installed"; else sed -n "s/^$last //p" "$ROOT/installed" 2>/dev/null; fi ;;
  dnf) printf '%s\n' "dnf $*" >>"$ROOT/calls"; echo "${last%%-*} ${last#*-}-150500.1.1 install" >"$ROOT/installed" ;;
esac
exit 0
"#;

fn apt_host() -> Host {
    let host = Host::new();
    for name in ["apt-get", "apt-cache", "apt-mark", "dpkg", "dpkg-query"] {
        host.stub(name, APT);
    }
    std::fs::create_dir_all(host.path("usr/sbin")).unwrap();
    host.write("installed", "");
    host.write("available", "kubelet 1.34.3-1.1\nkubelet 1.34.2-2.1\nkubelet 1.34.2-1.1\nkubectl 1.34.2-1.1\n");
    host.write("etc/apt/sources.list.d/slipway-kubernetes.list", "deb https://mirror.example.test/ /\n");
    host
}

fn package(name: &str, version: &str) -> Change {
    let program = (name == "kubelet").then(|| RemotePath::fixed("/usr/bin/kubelet"));
    change(Artifact::Package { name: name.into(), version: Some(version.into()), program, held: true })
}

/// What was called, without options.
fn calls(host: &Host) -> Vec<String> {
    let text = std::fs::read_to_string(host.path("calls")).unwrap_or_default();
    let is_word = |word: &&str| !word.starts_with('-') && !word.contains("::");
    text.lines().filter(|line| !line.starts_with("ctr")).map(|line| line.split(' ').filter(is_word).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_newest_revision_is_installed_and_held_and_a_second_run_calls_nobody() {
    let host = apt_host();
    host.write("var/lib/slipway/stamps/kubelet.service", "stamp\ninput=/usr/bin/kubelet\n");
    let wanted = [package("kubelet", "1.34.2"), package("kubectl", "1.34.2")];
    host.good(&wanted);
    let mut installed: Vec<String> = host.read("installed").lines().map(str::to_owned).collect();
    installed.sort();
    assert_eq!(installed, ["kubectl 1.34.2-1.1 hold", "kubelet 1.34.2-2.1 hold", "kubernetes-cni 1.6.0-1.1 install"]);
    let seen = calls(&host);
    assert_eq!(seen.iter().filter(|call| call.contains(" update")).count(), 1, "{seen:?}");
    assert!(seen.contains(&"policy 101".to_owned()), "the kubelet must not be started by its package: {seen:?}");
    assert!(!host.path("usr/sbin/policy-rc.d").exists(), "nobody is kept from starting units afterwards");
    assert!(!host.path("var/lib/slipway/stamps/kubelet.service").exists(), "the unit must be restarted");
    for name in ["kubelet", "kubernetes-cni"] {
        assert_eq!(host.read(&format!("var/lib/slipway/records/package:{name}")), format!("package={name}\nkind=package\nbefore=absent\n"));
    }
    std::fs::remove_file(host.path("calls")).unwrap();
    host.good(&wanted);
    assert_eq!(calls(&host), [""; 0]);
}

#[test]
fn another_version_is_installed_over_a_hold_and_held_again() {
    let host = apt_host();
    host.write("installed", "kubelet 1.34.1-1.1 hold\n");
    host.good(&[package("kubelet", "1.34.2-1.1")]);
    assert!(host.read("installed").contains("kubelet 1.34.2-1.1 hold\n"));
    assert_eq!(host.read("var/lib/slipway/records/package:kubelet"), "package=kubelet\nkind=package\nbefore=1.34.1-1.1 hold\n");
}

#[test]
fn a_run_that_was_cut_off_before_the_hold_is_finished_by_the_next() {
    let host = apt_host();
    host.write("no-hold", "");
    host.bad(&[package("kubectl", "1.34.2")]);
    assert!(host.read("installed").contains("kubectl 1.34.2-1.1 install"));
    std::fs::remove_file(host.path("no-hold")).unwrap();
    std::fs::remove_file(host.path("calls")).unwrap();
    // What a power failure left of the installation.
    host.write("var/lib/slipway/staged-elsewhere", &format!("{}\n", host.path("usr/sbin/policy-rc.d").display()));
    host.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
    host.good(&[package("kubectl", "1.34.2")]);
    assert_eq!(calls(&host), ["apt-mark hold kubectl"]);
    assert!(!host.path("usr/sbin/policy-rc.d").exists());
}

#[test]
fn what_does_not_work_is_said() {
    let host = apt_host();
    assert!(host.bad(&[package("kubelet", "1.99.0")]).contains("no repository of this host has the package kubelet in version 1.99.0"));
    host.write("unreachable", "");
    let said = host.bad(&[package("kubelet", "1.34.2")]);
    assert!(said.contains("Failed to fetch") && said.contains("cannot read the repository of Kubernetes"), "{said}");
    host.write("locked", "");
    assert!(host.bad(&[package("kubelet", "1.34.2")]).contains("another program has held the lock of apt"));
    assert_eq!(host.read("installed"), "");
}

#[test]
fn a_policy_of_the_administrators_is_left_alone() {
    let host = apt_host();
    host.write("usr/sbin/policy-rc.d", "exit 42\n");
    host.good(&[package("kubectl", "1.34.2")]);
    assert_eq!(host.read("usr/sbin/policy-rc.d"), "exit 42\n");
}

#[test]
fn a_reset_removes_what_came_and_lets_go_of_what_was_there() {
    let host = apt_host();
    host.write("installed", "kubectl 1.34.1-1.1 install\n");
    host.good(&[package("kubelet", "1.34.2"), package("kubectl", "1.34.2")]);
    let undone = |name: &str, kept| change(Artifact::Undone(Undone::Package { name: name.into(), kept }));
    let undo = [undone("kubectl", true), undone("kubelet", false), undone("kubernetes-cni", false)];
    host.good(&undo);
    assert_eq!(host.read("installed"), "kubectl 1.34.2-1.1 install\n");
    assert!(std::fs::read_dir(host.path("var/lib/slipway/records")).unwrap().next().is_none());
    host.good(&undo);
}

#[test]
fn dnf_installs_past_the_repositorys_own_exclusion() {
    let host = Host::new();
    // A machine of the tests may have apt: it is hidden behind commands that are not there.
    for name in ["dnf", "rpm"] {
        host.stub(name, DNF);
    }
    host.write("installed", "");
    let wanted = change(Artifact::Package { name: "kubelet".into(), version: Some("1.34.2".into()), program: None, held: false });
    let bundle = bundle_of(std::slice::from_ref(&wanted));
    let script = bundle.script.replace("command -v apt-get", "command -v no-apt-get").replace("command -v apt-mark", "command -v no-apt-mark");
    let output = host.run_quietly(&Bundle { script, ..bundle });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(host.read("calls").lines().last(), Some("dnf -q -y --disableexcludes=slipway-kubernetes install kubelet-1.34.2"));
    assert_eq!(host.read("var/lib/slipway/records/package:kubelet"), "package=kubelet\nkind=package\nbefore=absent\n");
}

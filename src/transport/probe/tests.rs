//! The probe runs for real: against a temporary root with stub programs, and against this machine.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::*;
use crate::facts::{Facts, FoundKind};
use crate::names::{Digest, Mode, RemotePath};
use crate::transport::parse::{self, ParseError};
use crate::transport::shell::shellcheck;

mod notes;

fn mark() -> Mark {
    Mark::of([1; 16])
}

fn script(request: &ProbeRequest) -> String {
    super::script(request, &mark())
}

fn path(text: &str) -> RemotePath {
    RemotePath::fixed(text)
}

fn request() -> ProbeRequest {
    ProbeRequest {
        packages: vec!["slipway-test-that-is-not-there".into()],
        roots: vec![path("/etc/kubernetes"), path("/etc/link"), path("/nowhere"), path("/var/lib/slipway/records")],
        without_content: vec![path("/etc/kubernetes/pki/ca.key"), path("/etc/kubernetes/[odd]*.key")],
        directories: vec![path("/var/lib/slipway"), path("/no/where")],
        programs: vec![path("/usr/bin/kubelet"), path("/usr/bin/missing"), path("/usr/bin/changed")],
        units: vec!["kubelet.service".into(), "missing.service".into()],
        commands: vec!["tar".into(), "kubelet".into(), "containerd".into(), "ctr".into(), "no-such-command".into()],
        modules: vec!["br-netfilter".into(), "overlay".into(), "ip_vs".into()],
        sysctls: vec!["net.ipv4.ip_forward".into(), "no.such".into()],
        ports: true,
        interfaces: true,
        etcd_directory: Some(path("/var/lib/etcd")),
        socket: Some(path("/run/containerd/containerd.sock")),
        lock: None,
    }
}

fn write(root: &Path, file: &str, text: impl AsRef<[u8]>, mode: u32) {
    let file = root.join(file);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A host on disk: a root, and programs.
fn host() -> tempfile::TempDir {
    let host = tempfile::tempdir().unwrap();
    let root = &host.path().join("root");
    write(root, "proc/sys/kernel/hostname", "cp-1\n", 0o644);
    write(root, "proc/sys/kernel/osrelease", "6.1.0-x\n", 0o644);
    write(root, "proc/sys/kernel/arch", "x86_64\n", 0o644);
    write(root, "proc/sys/net/ipv4/ip_forward", "1\n", 0o644);
    write(root, "proc/1/comm", "systemd\n", 0o644);
    write(root, "proc/uptime", "700.50 1390.00\n", 0o644);
    write(root, "proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n", 0o644);
    write(root, "proc/swaps", "Filename\tType\n/dev/sda2 partition\n", 0o644);
    write(root, "etc/machine-id", "abc\n", 0o644);
    write(root, "etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian \u{1b}[31m12\"\n", 0o644);
    write(root, "sys/fs/cgroup/cgroup.controllers", "", 0o644);
    write(root, "sys/module/overlay/x", "", 0o644);
    write(root, "lib/modules/6.1.0-x/modules.builtin", "kernel/net/bridge/br-netfilter.ko\n", 0o644);
    write(root, "opt/cni/bin/bridge", "", 0o755);
    write(root, "usr/share/ca-certificates/x", "", 0o644);
    write(root, "run/systemd/resolve/resolv.conf", "", 0o644);
    write(root, "run/containerd/containerd.sock", "", 0o600);
    write(root, "var/lib/etcd/member/wal", "", 0o600);
    write(root, "var/lib/etcd/member/snap/db", "database", 0o600);
    write(root, "var/lib/slipway/snapshots/20261121T134500Z_v1.33.4_to_v1.34.2/etcd.db", "snapshot", 0o600);
    write(root, "var/lib/slipway/snapshots/20261122T134500Z_v1.34.2_to_v1.35.0/etc/x", "file", 0o600);
    write(root, "var/lib/slipway/snapshots/mine_to_keep/etcd.db", "x", 0o600);
    write(root, "etc/kubernetes/pki/ca.crt", "certificate", 0o644);
    write(root, "etc/kubernetes/pki/ca.key", "SECRET", 0o600);
    write(root, "etc/kubernetes/[odd]*.key", "SECRET", 0o600);
    write(root, "etc/kubernetes/odd.key", "not secret", 0o600);
    write(root, "etc/kubernetes/exactly", vec![7; 1 << 20], 0o600);
    write(root, "etc/kubernetes/large", vec![7; (1 << 20) + 1], 0o640);
    write(root, "etc/kubernetes/a\n600 0 0 etc/kubernetes/forged", "x", 0o640);
    write(root, "etc/kubernetes/a\n//600 0 0 etc/kubernetes/forged", "x", 0o640);
    write(root, "etc/kubernetes/odd.key ", "a space", 0o600);
    write(root, "etc/kubernetes/ odd\\056key", "a number", 0o600);
    write(root, "etc/kubernetes/@slipway-end", "\n@slipway-end\n@locked x\n", 0o640);
    symlink("kubernetes/pki", root.join("etc/link")).unwrap();
    write(root, "var/lib/slipway/stamps/kubelet.service", format!("{}\ninput=/x\n", Digest::of("stamp")), 0o600);
    write(root, "usr/bin/kubelet", "ELF", 0o755);
    write(root, "usr/bin/changed", "ELF", 0o755);
    let changed = std::fs::metadata(root.join("usr/bin/kubelet")).unwrap();
    let mtime = std::os::unix::fs::MetadataExt::mtime(&changed);
    for (name, size) in [("kubelet", 3), ("changed", 4)] {
        let note = format!("path=/usr/bin/{name}\ndigest={}\nsize={size}\nmtime={mtime}\n", Digest::of("source"));
        write(root, &format!("var/lib/slipway/programs/usr%2Fbin%2F{name}"), note, 0o600);
    }
    let bin = &host.path().join("bin");
    write(bin, "kubelet", "#!/bin/sh\necho Kubernetes v1.34.2\n", 0o755);
    write(bin, "containerd", "#!/bin/sh\necho containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1\n", 0o755);
    write(
        bin,
        "ctr",
        "#!/bin/sh\ncase \"$*\" in\n*images*) echo registry.k8s.io/pause:3.10 ;;\n*) echo 'TASK PID STATUS'; echo 'a 1 RUNNING'; echo 'b 2 STOPPED' ;;\nesac\n",
        0o755,
    );
    write(
        bin,
        "systemctl",
        "#!/bin/sh\nprintf 'ActiveState=active\\nUnitFileState=enabled\\nExecMainStartTimestamp=Sat 2026-11-21 03:00:00 %s\\nExecMainStartTimestampMonotonic=600000000\\n\\n' \"$TZ\"\nprintf 'ActiveState=inactive\\nUnitFileState=\\n\\nActiveState=active\\nUnitFileState=enabled\\n'\n",
        0o755,
    );
    write(bin, "ip", "#!/bin/sh\necho '2: eth0@if3    inet 10.0.0.5/24 brd 10.0.0.255 scope global eth0\\       valid_lft'\necho '2: eth0    inet6 fe80::1/64 scope link'\n", 0o755);
    write(bin, "ss", "#!/bin/sh\necho 'LISTEN 0 4096 127.0.0.1:8080 0.0.0.0:*'\necho 'LISTEN 0 128 [::]:22 [::]:*'\n", 0o755);
    host
}

fn command(host: &Path, script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(script)
        .env_clear()
        .env("ROOT", host.join("root"))
        .env("PATH", format!("{}:/usr/bin:/bin", host.join("bin").display()));
    command
}

fn facts_of(request: &ProbeRequest, output: &Output) -> Facts {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8_lossy(&output.stdout);
    parse::facts(request, &mark(), &output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_answer_holds_what_the_host_has() {
    let host = host();
    let request = request();
    let output = command(host.path(), &script(&request)).output().unwrap();
    let facts = facts_of(&request, &output);
    let system = &facts.system;
    assert_eq!((system.hostname.as_str(), system.kernel.as_str(), system.architecture.as_str()), ("cp-1", "6.1.0-x", "amd64"));
    assert_eq!((system.os_id.as_str(), system.os_version.as_str()), ("debian", "12"));
    assert_eq!(system.os_name, "Debian \u{fffd}[31m12");
    assert_eq!((system.memory_bytes, system.machine_id.as_str(), system.cgroup_version), (2 << 20, "abc", 2));
    assert!(system.cpus > 0 && system.clock > 1.7e9 && system.systemd && system.systemd_resolved && system.runtime_answers);
    assert_eq!(system.swap, ["/dev/sda2"]);
    assert_eq!(system.listening.keys().copied().collect::<Vec<_>>(), [22, 8080]);
    let addresses: Vec<String> =
        system.addresses.iter().map(|a| format!("{} {}/{}", a.interface, a.address, a.prefix)).collect();
    assert_eq!(addresses, ["eth0 10.0.0.5/24", "eth0 fe80::1/64"]);
    assert_eq!(system.commands["kubelet"], host.path().join("bin/kubelet").to_str().unwrap());
    assert!(system.commands.contains_key("tar") && !system.commands.contains_key("no-such-command"));
    assert_eq!((system.containerd_version.as_str(), system.kubelet_version.as_str()), ("1.6.20~ds1", "v1.34.2"));
    assert_eq!(system.cni_directory.as_deref(), Some("/opt/cni/bin"));
    assert_eq!(system.ca_directories.iter().collect::<Vec<_>>(), ["/usr/share/ca-certificates"]);
    assert_eq!(system.modules.iter().collect::<Vec<_>>(), ["br-netfilter", "overlay"]);
    assert_eq!(system.sysctls, BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "1".to_owned())]));
    assert!(system.free_bytes["/etc"] > 0);

    let state = &facts.state;
    let unit = &state.units["kubelet.service"];
    assert_eq!((unit.active.as_str(), unit.enabled.as_str(), unit.stamp), ("active", "enabled", Some(Digest::of("stamp"))));
    let began = unit.began.unwrap();
    assert_eq!(began.noted, "2026-11-21T03:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second());
    let ago = system.clock - began.reckoned as f64;
    assert!((100.4..102.0).contains(&ago), "600 s of 700.5 s after the boot: {ago}");
    assert_eq!((state.units["missing.service"].enabled.as_str(), state.units["missing.service"].began), ("", None));
    assert_eq!(state.images.iter().collect::<Vec<_>>(), ["registry.k8s.io/pause:3.10"]);
    assert_eq!((state.running_containers, state.etcd_data), (1, true));
    assert_eq!(state.etcd_bytes, Some(8));
    assert!(state.etcd_free_bytes.is_some());
    let snapshots: Vec<(String, bool)> = state.snapshots.iter().map(|taken| (taken.name(), taken.etcd)).collect();
    let wanted = [("20261121T134500Z_v1.33.4_to_v1.34.2", true), ("20261122T134500Z_v1.34.2_to_v1.35.0", false)];
    assert_eq!(snapshots, wanted.map(|(name, etcd)| (name.to_owned(), etcd)));
    assert_eq!(state.programs[&path("/usr/bin/kubelet")].noted, Some(Digest::of("source")));
    assert_eq!(state.programs[&path("/usr/bin/changed")].noted, None, "its size is not the noted one");
    assert_eq!(state.programs.len(), 2);

    assert_eq!(state.text(&path("/etc/kubernetes/pki/ca.crt")), Some("certificate"));
    assert_eq!(state.files[&path("/etc/kubernetes/pki/ca.crt")].mode, Mode(0o644));
    assert_eq!(state.files[&path("/etc/kubernetes/pki")].kind, FoundKind::Directory);
    for unread in ["pki/ca.key", "[odd]*.key", "large"] {
        let file = &state.files[&path(&format!("/etc/kubernetes/{unread}"))];
        assert_eq!(file.kind, FoundKind::File { digest: None, content: None }, "{unread}");
    }
    assert_eq!(state.text(&path("/etc/kubernetes/odd.key")), Some("not secret"));
    assert_eq!(state.text(&path("/etc/kubernetes/odd.key ")), Some("a space"));
    assert_eq!(state.text(&path("/etc/kubernetes/ odd\\056key")), Some("a number"));
    assert_eq!(state.content(&path("/etc/kubernetes/exactly")).unwrap().len(), 1 << 20);
    assert_eq!(state.text(&path("/etc/kubernetes/@slipway-end")), Some("\n@slipway-end\n@locked x\n"));
    assert_eq!(state.files[&path("/etc/link")].kind, FoundKind::Link("kubernetes/pki".into()));
    assert!(!state.files.contains_key(&path("/etc/kubernetes/forged")));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("SECRET"));
}

#[test]
fn without_the_lock_nothing_is_written() {
    let request = request();
    let text = script(&request);
    for (number, line) in text.lines().enumerate() {
        let code = if line.trim_start().starts_with('#') { "" } else { line };
        for rest in code.split('>').skip(1) {
            assert!(rest.starts_with("/dev/null"), "line {}: {line}", number + 1);
        }
    }
    let host = host();
    let snapshot = || {
        let listing = Command::new("find").arg(host.path()).args(["-printf", "%p %m %T@ %C@ %s\n"]).output().unwrap();
        String::from_utf8(listing.stdout).unwrap()
    };
    let before = snapshot();
    assert!(command(host.path(), &text).output().unwrap().status.success());
    assert_eq!(snapshot(), before);
}

#[test]
fn this_machine_answers_with_an_empty_environment() {
    let request = ProbeRequest {
        roots: vec![path("/etc/ssl")],
        units: vec!["ssh.service".into()],
        commands: vec!["sh".into()],
        modules: vec!["overlay".into()],
        sysctls: vec!["kernel.hostname".into()],
        etcd_directory: Some(path("/var/lib/etcd")),
        socket: Some(path("/run/containerd/containerd.sock")),
        ..ProbeRequest::default()
    };
    let output = Command::new("/bin/sh").arg("-c").arg(script(&request)).env_clear().output().unwrap();
    let facts = parse::facts(&request, &mark(), &output.stdout).unwrap();
    assert_eq!(facts.system.sysctls["kernel.hostname"], facts.system.hostname);
    assert!(facts.system.memory_bytes > 0 && facts.system.commands.contains_key("sh"));
    assert!(facts.state.files.contains_key(&path("/etc/ssl")));
}

#[test]
fn addresses_are_found_without_the_command_ip() {
    let host = host();
    let root = &host.path().join("root");
    write(root, "proc/net/fib_trie", "Main:\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.5\n        /32 host LOCAL\nLocal:\n     |-- 10.0.0.5\n        /32 host LOCAL\n", 0o444);
    write(root, "proc/net/if_inet6", "fe800000000000000000000000000001 02 40 20 80     eth0\n", 0o444);
    write(&host.path().join("bin"), "ip", "#!/bin/sh\nexit 127\n", 0o755);
    let request = request();
    let facts = facts_of(&request, &command(host.path(), &script(&request)).output().unwrap());
    let addresses: Vec<String> = facts.system.addresses.iter().map(|a| format!("{}/{}", a.address, a.prefix)).collect();
    assert_eq!(addresses, ["10.0.0.5/32", "fe80::1/64"]);
}

#[test]
fn ports_are_found_without_the_command_ss() {
    let host = host();
    let root = &host.path().join("root");
    write(
        root,
        "proc/net/tcp",
        "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 0:0\n   1: 0100007F:1F91 00000000:0000 01 0:0\n",
        0o644,
    );
    write(root, "proc/net/tcp6", "   0: 00000000000000000000000000000000:0016 0:0000 0A 0:0\n", 0o644);
    write(&host.path().join("bin"), "ss", "#!/bin/sh\nexit 127\n", 0o755);
    let request = request();
    let facts = facts_of(&request, &command(host.path(), &script(&request)).output().unwrap());
    assert_eq!(facts.system.listening.keys().copied().collect::<Vec<_>>(), [22, 8080]);
    let request = ProbeRequest { ports: false, ..request };
    assert!(facts_of(&request, &command(host.path(), &script(&request)).output().unwrap()).system.listening.is_empty());
}

#[test]
fn many_files_are_told_one_by_one() {
    let host = host();
    for number in 0..3000 {
        write(&host.path().join("root"), &format!("etc/kubernetes/many/{number}"), "x", 0o600);
    }
    let request = request();
    let facts = facts_of(&request, &command(host.path(), &script(&request)).output().unwrap());
    let many = path("/etc/kubernetes/many");
    assert_eq!(facts.state.files.keys().filter(|path| path.is_within(&many)).count(), 3001, "and the directory");
}

#[test]
fn the_lock_is_held_until_the_engine_is_silent_and_names_its_holder() {
    let host = host();
    let request = ProbeRequest { lock: Some("olga's run\n7".into()), ..request() };
    let text = script(&request);
    let mut first = command(host.path(), &text).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(first.stdout.take().unwrap()));
    assert!(lines.any(|line| line.is_ok_and(|line| line == mark().line())));
    let refused = command(host.path(), &text).stdin(Stdio::null()).output().unwrap();
    assert_eq!(parse::facts(&request, &mark(), &refused.stdout), Err(ParseError::Locked("olga's run\u{fffd}7".into())));
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    let free = command(host.path(), &text).stdin(Stdio::null()).output().unwrap();
    assert!(parse::facts(&request, &mark(), &free.stdout).is_ok());
}

#[test]
fn containers_with_a_process_are_counted_without_asking_the_runtime() {
    let host = host();
    let root = &host.path().join("root");
    let tasks = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
    std::fs::create_dir_all(root.join(tasks).join("starting")).unwrap();
    let running = || facts_of(&request(), &command(host.path(), &script(&request())).output().unwrap()).state.running_containers;
    assert_eq!(running(), 0);
    write(root, &format!("{tasks}/one/init.pid"), "71", 0o644);
    write(root, &format!("{tasks}/two/init.pid"), "72", 0o644);
    write(root, &format!("{tasks}/ended/init.pid"), "73", 0o644);
    for process in [71, 72] {
        std::fs::create_dir_all(root.join(format!("proc/{process}"))).unwrap();
    }
    assert_eq!(running(), 2);
}

#[test]
fn a_step_of_a_dead_run_is_waited_for_and_then_named() {
    let host = host();
    write(&host.path().join("root"), "run/slipway/step-abc/run.sh", "", 0o600);
    // The wait itself is the kernel's; a stub makes it short.
    write(&host.path().join("bin"), "flock", "#!/bin/sh\n[ \"$1\" = -n ] || exit 1\n", 0o755);
    let request = ProbeRequest { lock: Some("x".into()), ..request() };
    let output = command(host.path(), &script(&request)).stdin(Stdio::null()).output().unwrap();
    let error = parse::facts(&request, &mark(), &output.stdout).unwrap_err();
    assert!(error.to_string().contains("a step of an earlier run is still at work"), "{error}");
}

#[test]
fn files_are_fetched_through_links_and_missing_ones_left_out() {
    let host = host();
    let paths = [path("/etc/kubernetes/pki/ca.key"), path("/etc/link/ca.crt"), path("/etc/missing")];
    let text = fetch_script(paths.iter().map(RemotePath::as_str), &mark());
    shellcheck(&text);
    let output = command(host.path(), &text).output().unwrap();
    let files = parse::fetched(&paths, &mark(), &output.stdout).unwrap();
    assert_eq!(files.len(), 2);
    assert_eq!(files[&paths[0]].expose(), b"SECRET");
    assert_eq!(files[&paths[1]].expose(), b"certificate");
    assert!(matches!(parse::fetched(&paths[1..], &mark(), &output.stdout), Err(ParseError::Stray(_))));
    let none = command(host.path(), &fetch_script(["/etc/missing"], &mark())).output().unwrap();
    assert!(parse::fetched(&paths, &mark(), &none.stdout).unwrap().is_empty());
}

#[test]
fn probe_scripts_are_clean_for_shellcheck() {
    shellcheck(&script(&request()));
    shellcheck(&script(&ProbeRequest { lock: Some("'; reboot; '".into()), ..request() }));
    shellcheck(&script(&ProbeRequest::default()));
    shellcheck(KUBELET_BEGAN);
}

/// Before every program of this machine, one that notes that it was started. Those whose version is asked stay
/// as they are.
fn note_starts(host: &Path) {
    let noting = host.join("noting");
    std::fs::create_dir(&noting).unwrap();
    let own = host.join("bin");
    let text = format!(
        "#!/bin/sh\nname=${{0##*/}}\necho \"$name\" >>{}\nfor directory in {} /usr/sbin; do\n\
         if [ -x \"$directory/$name\" ]; then exec \"$directory/$name\" \"$@\"; fi\ndone\nexec \"/usr/bin/$name\" \"$@\"\n",
        host.join("starts").display(),
        own.display()
    );
    write(host, "note", text, 0o755);
    for directory in [&own, Path::new("/usr/sbin"), Path::new("/usr/bin")] {
        for entry in std::fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().file_name();
            if !["kubelet", "containerd"].contains(&name.to_str().unwrap_or_default()) {
                let _twice = symlink("../note", noting.join(name));
            }
        }
    }
}

#[test]
fn a_probe_starts_few_processes() {
    let host = host();
    for name in ["kubelet", "containerd"] {
        write(&host.path().join("bin"), name, format!("#!/bin/sh\necho a b c\nexit 0\n{}", "#".repeat(5 << 20)), 0o755);
    }
    note_starts(host.path());
    let request = ProbeRequest { packages: Vec::new(), interfaces: false, lock: Some("x".into()), ..request() };
    let starts = || {
        let _none = std::fs::remove_file(host.path().join("starts"));
        let path = format!("{}:{}:/usr/bin:/bin", host.path().join("noting").display(), host.path().join("bin").display());
        let output = command(host.path(), &script(&request)).env("PATH", path).stdin(Stdio::null()).output().unwrap();
        facts_of(&request, &output);
        let text = std::fs::read_to_string(host.path().join("starts")).unwrap();
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    let first = starts();
    // This host's containerd and units leave no sign that they stayed as they are. The second `ctr` is for
    // containers, as the host has no directory for them; `sed`, `stat` and the second `df` are for etcd; `sh` and
    // a `timeout` hold the lock.
    let again = "ctr ctr df df find flock grep sed sh ss stat systemctl tar timeout timeout";
    assert_eq!(starts(), again);
    assert!(first.len() > again.len(), "versions are asked once: {first}");
}

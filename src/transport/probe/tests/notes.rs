//! What is noted on a host is believed for as long as it is still so, and no longer.

use std::os::unix::fs::MetadataExt as _;

use super::*;

/// How often a program was started that leaves marks.
fn starts(host: &Path, name: &str) -> usize {
    std::fs::read(host.join(name)).map_or(0, |marks| marks.len())
}

fn look(host: &Path, lock: bool) -> Facts {
    let request = ProbeRequest { lock: lock.then(|| "x".into()), packages: Vec::new(), ..request() };
    let output = command(host, &script(&request)).stdin(Stdio::null()).output().unwrap();
    facts_of(&request, &output)
}

/// A host on which everything happened long ago: nobody can set when a file was changed, so `find` lies.
fn old_host() -> tempfile::TempDir {
    let host = host();
    let find = r#"#!/bin/sh
/usr/bin/find "$@" | awk '
/^\/[^\/]/ && !/\/proc\/self$/ { split($4, written, "."); split($5, changed, "."); $4 = written[1] - 1000 "." written[2]; $5 = changed[1] - 1000 "." changed[2] }
{ print }'
"#;
    write(&host.path().join("bin"), "find", find, 0o755);
    host
}

/// A kubelet of the size of real ones, that says its version and leaves a mark when it is started.
fn write_large_kubelet(host: &Path, version: &str) {
    let mut program = format!("#!/bin/sh\nprintf x >>{}\necho Kubernetes {version}\nexit 0\n", host.join("started").display());
    program.push_str(&"#".repeat(5 << 20));
    write(&host.join("bin"), "kubelet.new", program, 0o755);
    std::fs::rename(host.join("bin/kubelet.new"), host.join("bin/kubelet")).unwrap();
}

#[test]
fn versions_are_asked_once_for_the_same_program() {
    let host = host();
    write_large_kubelet(host.path(), "v1.34.2");
    let unlocked = request();
    let locked = ProbeRequest { lock: Some("x".into()), ..request() };
    let version = |request: &ProbeRequest| {
        let output = command(host.path(), &script(request)).stdin(Stdio::null()).output().unwrap();
        facts_of(request, &output).system.kubelet_version
    };
    let starts = || std::fs::read(host.path().join("started")).map_or(0, |marks| marks.len());
    assert_eq!((version(&unlocked), version(&unlocked), starts()), ("v1.34.2".into(), "v1.34.2".into(), 2), "nothing is noted");
    assert_eq!((version(&locked), starts()), ("v1.34.2".into(), 3));
    assert_eq!((version(&locked), version(&unlocked), starts()), ("v1.34.2".into(), "v1.34.2".into(), 3), "it is noted");
    write_large_kubelet(host.path(), "v1.34.3");
    assert_eq!((version(&unlocked), starts()), ("v1.34.3".into(), 4), "another program is asked");
    // A wrapper stays the same when what it starts does not.
    write(&host.path().join("bin"), "kubelet", "#!/bin/sh\necho Kubernetes v1.34.4\n", 0o755);
    assert_eq!(version(&locked), "v1.34.4");
    write(&host.path().join("bin"), "kubelet", "#!/bin/sh\necho Kubernetes v1.34.5\n", 0o755);
    assert_eq!(version(&locked), "v1.34.5");
    // Of a link it is the file behind it that counts.
    write_large_kubelet(host.path(), "v1.34.6");
    std::fs::rename(host.path().join("bin/kubelet"), host.path().join("bin/behind")).unwrap();
    symlink("behind", host.path().join("bin/kubelet")).unwrap();
    let before = starts();
    assert_eq!((version(&locked), version(&locked), starts()), ("v1.34.6".into(), "v1.34.6".into(), before + 1));
    write_large_kubelet(host.path(), "v1.34.7");
    std::fs::rename(host.path().join("bin/kubelet"), host.path().join("bin/behind")).unwrap();
    symlink("behind", host.path().join("bin/kubelet")).unwrap();
    assert_eq!((version(&locked), starts()), ("v1.34.7".into(), before + 2));
}

/// systemd says this of the kubelet, that the other unit is not there, and that systemd-resolved runs.
fn write_systemctl(host: &Path, kubelet: &str) {
    let text = format!(
        "#!/bin/sh\nprintf x >>{}\nprintf 'LoadState=loaded\\nActiveState={kubelet}\\nUnitFileState=enabled\\n\\n'\n\
         printf 'LoadState=not-found\\nActiveState=inactive\\n\\nLoadState=loaded\\nActiveState=active\\n'\n",
        host.join("asked").display()
    );
    write(&host.join("bin"), "systemctl", text, 0o755);
}

/// systemd's link for a unit that starts.
fn start(host: &Path, unit: &str) {
    let links = host.join("root/run/systemd/units");
    std::fs::create_dir_all(&links).unwrap();
    let link = links.join(format!("invocation:{unit}"));
    let _none = std::fs::remove_file(&link);
    symlink(Digest::of(unit).to_string(), link).unwrap();
}

#[test]
fn systemd_is_asked_again_when_anything_happened_to_a_unit() {
    let host = old_host();
    let host = host.path();
    write_systemctl(host, "active");
    start(host, "kubelet.service");
    start(host, RESOLVED);
    std::fs::create_dir_all(host.join("root/etc/systemd/system/multi-user.target.wants")).unwrap();
    let state = |lock: bool| {
        let facts = look(host, lock);
        assert!(facts.system.systemd_resolved);
        (facts.state.units["kubelet.service"].active.clone(), starts(host, "asked"))
    };
    assert_eq!((state(false), state(false)), (("active".into(), 1), ("active".into(), 2)), "nothing is noted");
    assert_eq!((state(true), state(true), state(false)), (("active".into(), 3), ("active".into(), 3), ("active".into(), 3)), "it is noted");

    start(host, "kubelet.service");
    assert_eq!((state(true), state(true)), (("active".into(), 4), ("active".into(), 4)), "it was started again");
    symlink("x", host.join("root/etc/systemd/system/multi-user.target.wants/x.service")).unwrap();
    assert_eq!((state(true), state(true)), (("active".into(), 5), ("active".into(), 5)), "something else is enabled");
    symlink("/dev/null", host.join("root/etc/systemd/system/kubelet.service")).unwrap();
    assert_eq!((state(true), state(true)), (("active".into(), 6), ("active".into(), 6)), "a unit is masked");

    // It ends, and starts again and again: what it does next cannot be seen from outside.
    write_systemctl(host, "activating");
    std::fs::remove_file(host.join("root/run/systemd/units/invocation:kubelet.service")).unwrap();
    assert_eq!((state(true), state(true)), (("activating".into(), 7), ("activating".into(), 8)));
    write_systemctl(host, "failed");
    assert_eq!((state(true), state(true)), (("failed".into(), 9), ("failed".into(), 10)));
}

#[test]
fn what_happened_a_moment_ago_is_not_noted() {
    let host = host();
    let host = host.path();
    write_systemctl(host, "active");
    start(host, "kubelet.service");
    start(host, RESOLVED);
    look(host, true);
    look(host, true);
    assert_eq!(starts(host, "asked"), 2, "a second start can have the same time as the first");
}

/// The kernel's list of locks, with a process that has containerd's database open.
fn lock_database(host: &Path, process: u32) {
    let database = std::fs::metadata(host.join("root").join(DATABASE)).unwrap();
    let device = database.dev();
    let (major, minor) = (device / 256 % 4096, device % 256 + device / 1_048_576 * 256);
    let text = format!(
        "1: POSIX  ADVISORY  WRITE 5 00:01:7 0 EOF\n2: FLOCK  ADVISORY  WRITE {process} {major:02x}:{minor:02x}:{} 0 EOF\n",
        database.ino()
    );
    write(&host.join("root"), "proc/locks", text, 0o444);
}

const DATABASE: &str = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";

#[test]
fn containerd_is_asked_again_when_it_wrote_or_was_started_again() {
    let host = old_host();
    let host = host.path();
    let root = &host.join("root");
    let ctr = |image: &str| {
        let text = format!("#!/bin/sh\ncase \"$*\" in *images*) printf x >>{}; echo {image} ;; esac\n", host.join("asked").display());
        write(&host.join("bin"), "ctr", text, 0o755);
    };
    let images = |lock: bool| {
        let facts = look(host, lock);
        assert!(facts.system.runtime_answers);
        (facts.state.images.into_iter().collect::<Vec<_>>().join(" "), starts(host, "asked"))
    };
    let told = |image: &str, asked: usize| (image.to_owned(), asked);
    ctr("pause:1");
    write(root, DATABASE, "records", 0o644);
    write(root, "proc/locks", "", 0o444);
    assert_eq!((images(true), images(true)), (told("pause:1", 1), told("pause:1", 2)), "nobody has this database open");
    lock_database(host, 77);
    assert_eq!((images(true), images(true), images(false)), (told("pause:1", 3), told("pause:1", 3), told("pause:1", 3)), "it is noted");

    ctr("pause:2");
    write(root, DATABASE, "RECORDS", 0o644);
    assert_eq!((images(false), images(true), images(true)), (told("pause:2", 4), told("pause:2", 5), told("pause:2", 5)), "it was written");
    lock_database(host, 78);
    assert_eq!((images(true), images(true)), (told("pause:2", 6), told("pause:2", 6)), "another process has it");
    std::fs::remove_file(root.join("run/containerd/containerd.sock")).unwrap();
    write(root, "run/containerd/containerd.sock", "", 0o600);
    assert_eq!((images(true), images(true)), (told("pause:2", 7), told("pause:2", 7)), "the socket is another one");
    write(root, "proc/locks", "", 0o444);
    assert_eq!((images(true), images(true)), (told("pause:2", 8), told("pause:2", 9)), "it ended");
}

//! The contract: a simulated host and the real scripts, run by a real shell in a temporary root, do the
//! same with the same changes, as a probe sees it. What keeps the simulation honest.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use slipway::artifact::snapshot::{Snapshot, Way};
use slipway::artifact::undone::Undone;
use slipway::artifact::{Artifact, Content, ProgramSource};
use slipway::change::{Change, Reason};
use slipway::facts::{Facts, FoundKind};
use slipway::names::{Digest, Mode, RemotePath};
use slipway::phase::{Phase, StepId, Target};
use slipway::simulation::Simulation;
use slipway::simulation::host::Entry;
use slipway::transport::probe::Mark;
use slipway::transport::script::{ScriptContext, bundle};
use slipway::transport::{Payload, ProbeRequest, Transport as _, Work, parse, probe};

use crate::plans::{beginning, cluster, host, simulated};

/// systemd as far as the scripts ask it: what runs and what is enabled, one file each.
const SYSTEMCTL: &str = r#"#!/bin/sh
lists=$ROOT/run/units
mkdir -p "$lists"
verb=$1
for last; do :; done
case $verb in
  show)
    shift 3
    for unit; do
      [ "$unit" != -- ] || continue
      active=inactive
      enabled=
      loaded=not-found
      if [ -e "$ROOT/etc/systemd/system/$unit" ]; then
        loaded=loaded
        enabled=disabled
        [ ! -e "$lists/$unit.enabled" ] || enabled=enabled
      fi
      [ ! -e "$lists/$unit.active" ] || active=active
      printf 'ActiveState=%s\nUnitFileState=%s\nLoadState=%s\nNeedDaemonReload=no\n\n' "$active" "$enabled" "$loaded"
    done
    ;;
  cat) [ -e "$ROOT/etc/systemd/system/$last" ] ;;
  enable) [ -e "$ROOT/etc/systemd/system/$last" ] && : >"$lists/$last.enabled" ;;
  disable) rm -f "$lists/$last.enabled" ;;
  start | restart) : >"$lists/$last.active" ;;
  stop) rm -f "$lists/$last.active" ;;
  is-active) [ -e "$lists/$last.active" ] ;;
  is-failed) exit 1 ;;
esac
"#;

/// A host of files below a temporary root.
struct Root {
    directory: tempfile::TempDir,
}

impl Root {
    fn new() -> Self {
        let root = Self { directory: tempfile::tempdir().unwrap() };
        for directory in ["etc/systemd/system", "usr/local/bin", "var/lib", "run", "proc/sys", "proc/net"] {
            std::fs::create_dir_all(root.path(directory)).unwrap();
        }
        for directory in ["etc", "etc/systemd", "etc/systemd/system", "usr", "usr/local", "usr/local/bin", "var", "var/lib"] {
            std::fs::set_permissions(root.path(directory), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (name, text) in [("meminfo", "MemTotal: 1 kB\n"), ("swaps", "Filename\n"), ("sys/kernel", "")] {
            let path = root.path("proc").join(name);
            if text.is_empty() { std::fs::create_dir_all(path).unwrap() } else { std::fs::write(path, text).unwrap() }
        }
        std::fs::write(root.path("proc/sys/kernel/osrelease"), "6.1.0\n").unwrap();
        std::fs::create_dir(root.directory.path().join("bin")).unwrap();
        for (name, text) in [("systemctl", SYSTEMCTL), ("timeout", "#!/bin/sh\nshift\nexec \"$@\"\n"), ("journalctl", "#!/bin/sh\n")] {
            let path = root.directory.path().join("bin").join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path.trim_start_matches('/'))
    }

    fn shell(&self, script: &Path, work: &Path) -> std::process::Output {
        Command::new("/bin/sh")
            .arg(script)
            .current_dir(work)
            .env_clear()
            .env("ROOT", self.path(""))
            .env("PATH", format!("{}:/usr/bin:/bin", self.directory.path().join("bin").display()))
            .output()
            .unwrap()
    }

    /// Whether the script succeeded.
    fn apply(&self, changes: &[Change]) -> bool {
        let context = ScriptContext { timeout: Duration::from_secs(60), socket: RemotePath::fixed("/run/containerd/containerd.sock") };
        let bundle = bundle("system@cp-1", changes, &context);
        let work = tempfile::tempdir().unwrap();
        for (name, payload) in &bundle.payloads {
            match payload {
                Payload::Bytes(bytes) => std::fs::write(work.path().join(name), bytes.expose()).unwrap(),
                Payload::File(file) => drop(std::fs::copy(file, work.path().join(name)).unwrap()),
            }
        }
        let script = work.path().join("run.sh");
        std::fs::write(&script, &bundle.script).unwrap();
        self.shell(&script, work.path()).status.success()
    }

    fn probe(&self, request: &ProbeRequest) -> Facts {
        let work = tempfile::tempdir().unwrap();
        let script = work.path().join("probe.sh");
        let mark = Mark::of([0; 16]);
        std::fs::write(&script, probe::script(request, &mark)).unwrap();
        let output = self.shell(&script, work.path());
        parse::facts(request, &mark, &output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn path(text: &str) -> RemotePath {
    RemotePath::fixed(text)
}

fn change(artifact: Artifact) -> Change {
    Change { artifact, reason: Reason::Missing, before: None }
}

fn file(at: &str, mode: u32, text: &str) -> Change {
    change(Artifact::File { path: path(at), mode: Mode(mode), content: Content::plain(text) })
}

fn unit(stamp: &str) -> Change {
    let inputs = vec![path("/etc/systemd/system/contract.service"), path("/etc/contract/input")];
    change(Artifact::Unit { name: "contract.service".into(), inputs, stamp: Digest::of(stamp), check: None })
}

fn halted() -> Change {
    change(Artifact::Halted { unit: "contract.service".into(), files: vec![path("/etc/contract/notes"), path("/etc/contract/none")], pods: false })
}

fn restarted() -> Change {
    change(Artifact::Restarted { units: vec!["contract.service".into()], machine: false })
}

fn kept(from: &str, to: &str) -> Change {
    let files = ["/etc/contract/file", "/etc/contract/none"].map(path).into();
    change(Artifact::Snapshot(Snapshot { way: Way::new(from, to), files, etcd: None, keep: 3 }))
}

fn undone(at: &str) -> Change {
    change(Artifact::Undone(Undone::Path { path: path(at), restored: false }))
}

/// One thing that happens to both hosts.
enum Act {
    /// slipway's changes.
    Changes(Vec<Change>),
    /// Somebody else writes a file.
    Meddled(&'static str, &'static str),
}

fn changes<const N: usize>(changes: [Change; N]) -> Act {
    Act::Changes(changes.into())
}

fn scenarios(upload: &Path) -> Vec<(&'static str, Vec<Act>)> {
    let directory = |at: &str, mode| change(Artifact::Directory { path: path(at), mode: Mode(mode) });
    let link = |at: &str, target: &str| change(Artifact::Link { path: path(at), target: target.into() });
    let absent = |at: &str| change(Artifact::Absent { path: path(at) });
    let program = |digest: Digest| {
        change(Artifact::Program { path: path("/usr/local/bin/contract"), source: ProgramSource::Upload(upload.to_owned()), digest, unpack: None })
    };
    let started = || {
        changes([file("/etc/systemd/system/contract.service", 0o644, "[Service]\n"), file("/etc/contract/input", 0o644, "one"), unit("one")])
    };
    vec![
        ("a file is made, with its directories", vec![changes([file("/etc/contract/deep/er/file", 0o600, "one")])]),
        ("a file is replaced", vec![changes([file("/etc/contract/file", 0o644, "one")]), changes([file("/etc/contract/file", 0o600, "two")])]),
        ("a file is written again", vec![changes([file("/etc/contract/file", 0o644, "one")]), changes([file("/etc/contract/file", 0o644, "one")])]),
        ("somebody else's file is replaced", vec![Act::Meddled("/etc/contract/file", "theirs"), changes([file("/etc/contract/file", 0o644, "ours")])]),
        (
            "drift is taken back",
            vec![changes([file("/etc/contract/file", 0o644, "one")]), Act::Meddled("/etc/contract/file", "theirs"), changes([file("/etc/contract/file", 0o644, "two")])],
        ),
        ("directories", vec![Act::Meddled("/etc/contract/x", "y"), changes([directory("/etc/contract", 0o700), directory("/etc/contract/own", 0o750)])]),
        ("links", vec![changes([link("/etc/contract/link", "/somewhere")]), changes([link("/etc/contract/link", "/elsewhere")])]),
        ("a link becomes a file", vec![changes([link("/etc/contract/link", "/somewhere")]), changes([file("/etc/contract/link", 0o644, "file")])]),
        ("what slipway made goes without a trace", vec![changes([file("/etc/contract/file", 0o644, "one")]), changes([absent("/etc/contract/file")])]),
        ("what others made goes with a record", vec![Act::Meddled("/etc/contract/file", "theirs"), changes([absent("/etc/contract/file")])]),
        ("a file does not replace a directory with something in it", vec![Act::Meddled("/etc/contract/file/x", "theirs"), changes([file("/etc/contract/file", 0o644, "ours")])]),
        ("a directory does not become absent", vec![Act::Meddled("/etc/contract/file/x", "theirs"), changes([absent("/etc/contract/file")])]),
        ("a unit starts", vec![started()]),
        ("a changed input takes the stamp away", vec![started(), changes([file("/etc/contract/input", 0o644, "two")])]),
        ("an input that is written again leaves the stamp", vec![started(), changes([file("/etc/contract/input", 0o644, "one")])]),
        ("a unit restarts with a new stamp", vec![started(), changes([file("/etc/contract/input", 0o644, "two"), unit("two")])]),
        ("a unit stands still without its notes", vec![started(), Act::Meddled("/etc/contract/notes", "mine"), changes([halted()])]),
        ("a unit that stood still starts again", vec![started(), changes([halted(), file("/etc/contract/input", 0o644, "two"), unit("two")])]),
        ("a unit is restarted as it is", vec![started(), changes([restarted()])]),
        ("a unit that stands still is not restarted", vec![started(), changes([halted()]), changes([restarted()])]),
        ("a unit that is not there does not start", vec![changes([unit("one")])]),
        ("a program", vec![changes([program(Digest::of("program"))])]),
        ("a program that was replaced", vec![changes([program(Digest::of("program"))]), Act::Meddled("/usr/local/bin/contract", "another program")]),
        (
            "files are kept before upgrades",
            vec![
                changes([file("/etc/contract/file", 0o644, "one"), kept("v1.33.4", "v1.34.2"), file("/etc/contract/file", 0o644, "two")]),
                changes([kept("v1.34.2", "v1.35.0")]),
            ],
        ),
        ("a file is taken back", vec![changes([file("/etc/contract/file", 0o644, "one")]), changes([undone("/etc/contract/file")])]),
        (
            "an original comes back",
            vec![Act::Meddled("/etc/contract/file", "theirs"), changes([file("/etc/contract/file", 0o600, "ours")]), changes([undone("/etc/contract/file")])],
        ),
        ("a directory of slipway's with somebody's file stays", vec![changes([directory("/etc/contract", 0o755)]), Act::Meddled("/etc/contract/x", "theirs"), changes([undone("/etc/contract")])]),
    ]
}

/// What a probe tells, as text; owners count only where the scripts may set them.
fn told(facts: &Facts) -> Vec<String> {
    let mut lines: Vec<String> = facts
        .state
        .files
        .iter()
        .map(|(path, found)| match &found.kind {
            FoundKind::File { content, .. } => {
                let text = content.as_ref().and_then(|content| content.expose_text()).unwrap_or_default();
                format!("{path} {} {text:?}", found.mode)
            }
            FoundKind::Directory => format!("{path} {} directory", found.mode),
            FoundKind::Link(target) => format!("{path} link to {target}"),
        })
        .collect();
    lines.extend(facts.state.units.iter().map(|(name, unit)| format!("unit {name} {unit:?}")));
    // The time is each host's own.
    lines.extend(facts.state.snapshots.iter().map(|taken| format!("snapshot {} with etcd: {}", taken.way, taken.etcd)));
    lines.extend(facts.state.programs.iter().map(|(path, program)| format!("program {path} {} {:?}", program.mode, program.noted)));
    lines
}

#[test]
fn the_simulated_host_and_the_real_scripts_do_the_same() {
    let upload = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(upload.path(), "program").unwrap();
    let request = ProbeRequest {
        roots: vec![path("/etc/contract"), path("/etc/systemd/system/contract.service"), path("/var/lib/slipway/records")],
        programs: vec![path("/usr/local/bin/contract")],
        units: vec!["contract.service".into()],
        etcd_directory: Some(path("/var/lib/etcd")),
        ..ProbeRequest::default()
    };
    let scenarios = scenarios(upload.path());
    println!("contract: {} scenarios", scenarios.len());
    for (name, acts) in scenarios {
        simulated(async {
            let plan = cluster(1, 0, "");
            let simulation = Simulation::new(&plan, 1, beginning());
            let (transport, root, cp) = (simulation.transport(), Root::new(), host("cp-1"));
            for (index, act) in acts.iter().enumerate() {
                match act {
                    Act::Changes(changes) => {
                        let step = StepId { phase: Phase::System, target: Target::Host(cp.clone()) };
                        let work = Work { step: &step, changes, timeout: Duration::from_secs(60) };
                        let mine = transport.apply(&cp, work, |_| {}).await.is_ok();
                        assert_eq!(mine, root.apply(changes), "{name}, act {index}: succeeds or fails alike");
                    }
                    Act::Meddled(at, text) => {
                        let mut world = simulation.world();
                        let simulated = world.host_mut(&cp);
                        let mut directory = path(at).parent();
                        while !simulated.files.contains_key(&directory) && directory.as_str() != "/" {
                            simulated.files.insert(directory.clone(), Entry::directory(Mode(0o755)));
                            directory = directory.parent();
                        }
                        let mode = simulated.files.get(&path(at)).map_or(Mode(0o644), |entry| entry.mode);
                        simulated.files.insert(path(at), Entry::file(mode, *text));
                        let real = root.path(at);
                        std::fs::create_dir_all(real.parent().unwrap()).unwrap();
                        for part in real.parent().unwrap().ancestors().take_while(|part| part.ends_with("contract") || part.ends_with("file")) {
                            std::fs::set_permissions(part, std::fs::Permissions::from_mode(0o755)).unwrap();
                        }
                        std::fs::write(&real, text).unwrap();
                        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(mode.0)).unwrap();
                    }
                }
            }
            let mine = transport.probe(&cp, &request).await.unwrap();
            assert_eq!(told(&mine), told(&root.probe(&request)), "{name}");
        });
    }
}

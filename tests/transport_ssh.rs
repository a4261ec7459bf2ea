//! The SSH transport against a real sshd: started here on a loopback port with keys of its own,
//! as the current user, and ended by its process id. Hosts live in a temporary root.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use slipway::artifact::{Artifact, Content, ProgramSource, Secret};
use slipway::change::{Change, Reason};
use slipway::cluster::{Cluster, ClusterError};
use slipway::execute::control::Control;
use slipway::execute::{Execution, execute};
use slipway::graph::{Gate, Step, StepGraph};
use slipway::names::{Digest, HostName, Mode, RemotePath};
use slipway::phase::{Phase, Stage, StepId, Target};
use slipway::plan::{Limits, Plan};
use slipway::report::Outcome;
use slipway::transport::script::{ScriptContext, bundle};
use slipway::transport::ssh::{SshOptions, SshTransport, UserConfig};
use slipway::transport::{ApplyError, Bundle, Payload, ProbeRequest, Transport as _, TransportError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A running sshd and what its clients need. `None` where there is none to run.
struct Sshd {
    directory: tempfile::TempDir,
    process: Child,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

fn keygen(file: &Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).status().unwrap();
    assert!(status.success());
}

impl Sshd {
    fn start() -> Option<Self> {
        let Some(program) = ["/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"].into_iter().find(|path| Path::new(path).exists())
        else {
            eprintln!("skipped: no sshd on this machine (package openssh-server)");
            return None;
        };
        // Needed by Debian's sshd when it runs as root; made by its unit otherwise.
        let _exists = std::fs::create_dir_all("/run/sshd");
        let directory = tempfile::Builder::new().prefix("slw").tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        keygen(&at("host"));
        keygen(&at("user"));
        std::fs::copy(at("user.pub"), at("authorized")).unwrap();
        std::fs::create_dir_all(at("root")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {authorized}\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nKbdInteractiveAuthentication no\nPrintMotd no\n",
            host = at("host").display(),
            authorized = at("authorized").display(),
        );
        std::fs::write(at("sshd_config"), config).unwrap();
        let process = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(at("sshd.log")).unwrap())
            .spawn()
            .unwrap();
        let sshd = Self { directory, process, port };
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "sshd does not start: {}", sshd.read("sshd.log"));
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(sshd)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A path below the root that stands for the host's.
    fn host_path(&self, path: &str) -> PathBuf {
        self.path("root").join(path.trim_start_matches('/'))
    }

    fn host_key(&self) -> String {
        self.read("host.pub").split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    fn user() -> String {
        String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned()
    }

    fn ssh(&self) -> serde_json::Value {
        serde_json::json!({
            "address": "127.0.0.1", "port": self.port, "hostKey": self.host_key(),
            "identityFile": self.path("user"), "user": Self::user(), "sudo": false
        })
    }

    fn options(&self) -> SshOptions {
        SshOptions {
            control_directory: self.path("c"),
            reuse: false,
            idle: Duration::from_secs(20),
            user_config: UserConfig::default(),
            root: Some(RemotePath::fixed(self.path("root").to_str().unwrap())),
        }
    }

    fn transport(&self) -> SshTransport {
        self.transport_to(self.ssh(), self.options())
    }

    fn transport_to(&self, ssh: serde_json::Value, options: SshOptions) -> SshTransport {
        let plan = serde_json::json!({
            "version": 1,
            "kubernetes": { "version": "v1.34.2" },
            "ssh": { "connectTimeout": "5s", "identityFile": self.path("user"), "knownHostsFile": self.path("known") },
            "hosts": [{ "name": "cp-1", "address": "127.0.0.1", "roles": ["control-plane"], "ssh": ssh }]
        });
        let plan: Plan = serde_json::from_value(plan).unwrap();
        SshTransport::new(&plan, options).unwrap()
    }
}

fn host() -> HostName {
    "cp-1".parse().unwrap()
}

fn script(text: &str, changes: usize, timeout: u64) -> Bundle {
    let timeout = Duration::from_secs(timeout);
    Bundle { step: "test@cp-1".into(), script: text.into(), payloads: Vec::new(), changes, timeout, restarts: false }
}

fn file(path: &str, text: &str) -> Change {
    let artifact =
        Artifact::File { path: RemotePath::fixed(path), mode: Mode(0o600), content: Content::plain(text.to_owned()) };
    Change { artifact, reason: Reason::Missing, before: None }
}

fn locking(text: &str) -> ProbeRequest {
    ProbeRequest { lock: Some(text.into()), ..ProbeRequest::default() }
}

/// Waits for something another process does.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "not seen: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_applied_seen_by_a_probe_and_fetched() {
    let Some(sshd) = Sshd::start() else { return };
    let transport = sshd.transport();
    let context =
        ScriptContext { timeout: Duration::from_secs(30), socket: RemotePath::fixed("/run/containerd/containerd.sock") };
    let changes = [file("/etc/kubernetes/a", "one"), file("/etc/kubernetes/it's b", "two")];
    let done = Mutex::new(Vec::new());
    transport
        .run(&host(), &bundle("test@cp-1", &changes, &context), |index| done.lock().unwrap().push(index))
        .await
        .unwrap_or_else(|error| panic!("{error:?} {}", sshd.read("sshd.log")));
    assert_eq!(*done.lock().unwrap(), [0, 1]);
    assert_eq!(std::fs::read_to_string(sshd.host_path("etc/kubernetes/it's b")).unwrap(), "two");

    let request = ProbeRequest { roots: vec![RemotePath::fixed("/etc/kubernetes")], ..ProbeRequest::default() };
    let facts = transport.probe(&host(), &request).await.unwrap();
    assert_eq!(facts.state.text(&RemotePath::fixed("/etc/kubernetes/a")), Some("one"));
    let paths = [RemotePath::fixed("/etc/kubernetes/a"), RemotePath::fixed("/etc/missing")];
    let files = transport.fetch(&host(), &paths).await.unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[&paths[0]], Secret::new("one"));
    assert_eq!(transport.diagnose(&host(), "echo 'a\u{1b}b'; cat; exit 3").await.unwrap(), "a\u{fffd}b");
    assert_eq!(transport.round_trips(&host()), 4);
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_tell_the_change_the_status_and_the_last_words() {
    let Some(sshd) = Sshd::start() else { return };
    let transport = sshd.transport();
    for status in [1, 3, 126, 127, 255] {
        let text = format!("echo '@begin 0'; echo '@done 0'; echo '@begin 1'; i=0; while [ $i -lt 50 ]; do i=$((i+1)); printf 'line %s\\033[2J\\n' $i >&2; done; exit {status}");
        let error = transport.run(&host(), &script(&text, 2, 30), |_| {}).await.unwrap_err();
        let ApplyError::Script { change, status: told, stderr } = error else { panic!("{error:?}") };
        assert_eq!((change, told), (Some(1), status));
        assert_eq!(stderr.lines().count(), 20);
        assert!(stderr.ends_with("line 50\u{fffd}[2J"), "{stderr}");
    }
    // Nothing of the failed steps is left.
    let left: Vec<_> = std::fs::read_dir(sshd.host_path("run/slipway")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["step.lock"]);
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_payload_is_streamed_and_checked() {
    let Some(sshd) = Sshd::start() else { return };
    let transport = sshd.transport();
    let large = sshd.path("large");
    let block: Vec<u8> = (0..1 << 20).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut out = std::fs::File::create(&large).unwrap();
    (0..64).for_each(|_| out.write_all(&block).unwrap());
    drop(out);
    let digest = Digest::of(std::fs::read(&large).unwrap());
    let context =
        ScriptContext { timeout: Duration::from_secs(60), socket: RemotePath::fixed("/run/containerd/containerd.sock") };
    let program = |digest| Change {
        artifact: Artifact::Program {
            path: RemotePath::fixed("/usr/local/bin/large"),
            source: ProgramSource::Upload(large.clone()),
            digest,
            unpack: None,
        },
        reason: Reason::Missing,
        before: None,
    };
    transport.run(&host(), &bundle("programs@cp-1", &[program(digest)], &context), |_| {}).await.unwrap();
    let there = sshd.host_path("usr/local/bin/large");
    assert_eq!(Digest::of(std::fs::read(&there).unwrap()), digest);
    assert_eq!(std::fs::metadata(&there).unwrap().permissions().mode() & 0o7777, 0o755);
    let wrong = transport.run(&host(), &bundle("programs@cp-1", &[program(Digest::of("x"))], &context), |_| {}).await;
    let Err(ApplyError::Script { stderr, .. }) = wrong else { panic!("{wrong:?}") };
    assert!(stderr.contains("wrong checksum") && stderr.contains(&digest.to_string()), "{stderr}");
    assert_eq!(std::fs::read_dir(sshd.host_path("var/lib/slipway/work")).unwrap().count(), 0);

    let mut missing = script("exit 0", 0, 10);
    missing.payloads.push(("payload-0".into(), Payload::File(sshd.path("no-such-file"))));
    let error = transport.run(&host(), &missing, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("no-such-file"), "{error}");
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_long_is_ended_on_the_host() {
    let Some(sshd) = Sshd::start() else { return };
    let transport = sshd.transport();
    let text = "echo '@begin 0'; echo $$ >\"$ROOT/pid\"; sleep 300; touch \"$ROOT/survived\"";
    let error = transport.run(&host(), &script(text, 1, 1), |_| {}).await.unwrap_err();
    let ApplyError::Script { change, status, .. } = error else { panic!("{error:?}") };
    assert_eq!((change, status), (Some(0), 124));
    let pid = std::fs::read_to_string(sshd.host_path("pid")).unwrap();
    eventually("the end of the process", || !Path::new(&format!("/proc/{}", pid.trim())).exists());
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_keeps_others_out_until_it_is_released() {
    let Some(sshd) = Sshd::start() else { return };
    let (first, second) = (sshd.transport(), sshd.transport());
    first.probe(&host(), &locking("olga on build-7")).await.unwrap();
    // Once more by the same run is no contradiction.
    first.probe(&host(), &locking("olga on build-7")).await.unwrap();
    let refused = second.probe(&host(), &locking("egon")).await;
    assert_eq!(refused, Err(TransportError::Locked { host: host(), holder: "olga on build-7".into() }));
    // Looking is free.
    second.probe(&host(), &ProbeRequest::default()).await.unwrap();
    first.run(&host(), &script("exit 0", 0, 10), |_| {}).await.unwrap();
    first.close().await;
    second.probe(&host(), &locking("egon")).await.unwrap();
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_free_when_its_engine_is_killed() {
    let Some(sshd) = Sshd::start() else { return };
    // The engine is another process: this test program, running only `engine_that_holds_the_lock`.
    let mut engine = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "engine_that_holds_the_lock", "--nocapture"])
        .env("SLIPWAY_TEST_ENGINE", sshd.directory.path())
        .env("SLIPWAY_TEST_PORT", sshd.port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the engine's lock", || sshd.path("engine-holds").exists());
    let transport = sshd.transport();
    assert!(matches!(transport.probe(&host(), &locking("egon")).await, Err(TransportError::Locked { .. })));
    engine.kill().unwrap();
    engine.wait().unwrap();
    let started = Instant::now();
    while transport.probe(&host(), &locking("egon")).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "the lock of a dead engine stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    transport.close().await;
}

/// Not a test by itself: the engine that `the_lock_is_free_when_its_engine_is_killed` kills.
#[tokio::test(flavor = "multi_thread")]
async fn engine_that_holds_the_lock() {
    let Ok(directory) = std::env::var("SLIPWAY_TEST_ENGINE") else { return };
    let at = |name: &str| Path::new(&directory).join(name);
    let port: u16 = std::env::var("SLIPWAY_TEST_PORT").unwrap().parse().unwrap();
    let key = std::fs::read_to_string(at("host.pub")).unwrap();
    let plan = serde_json::json!({
        "version": 1,
        "kubernetes": { "version": "v1.34.2" },
        "hosts": [{ "name": "cp-1", "address": "127.0.0.1", "roles": ["control-plane"], "ssh": {
            "port": port, "hostKey": key.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
            "identityFile": at("user"), "user": Sshd::user(), "sudo": false
        } }]
    });
    let options = SshOptions {
        control_directory: at("e"),
        reuse: true,
        idle: Duration::from_secs(5),
        user_config: UserConfig::default(),
        root: Some(RemotePath::fixed(at("root").to_str().unwrap())),
    };
    let transport = SshTransport::new(&serde_json::from_value(plan).unwrap(), options).unwrap();
    transport.probe(&host(), &locking("the dead")).await.unwrap();
    std::fs::write(at("engine-holds"), "").unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_not_who_they_should_be_are_refused() {
    let Some(sshd) = Sshd::start() else { return };
    let mut other = sshd.ssh();
    keygen(&sshd.path("other"));
    other["hostKey"] = sshd.read("other.pub").split_whitespace().take(2).collect::<Vec<_>>().join(" ").into();
    let mut unknown = sshd.ssh();
    unknown.as_object_mut().unwrap().remove("hostKey");
    for (ssh, expected) in [(other, "ssh-keygen -R"), (unknown.clone(), "pin it as `ssh.hostKey`")] {
        let transport = sshd.transport_to(ssh, sshd.options());
        let error = transport.probe(&host(), &ProbeRequest::default()).await.unwrap_err();
        let TransportError::Connect { hint, reason, .. } = error else { panic!("{error:?}") };
        assert!(hint.as_deref().is_some_and(|hint| hint.contains(expected)), "{hint:?} {reason}");
        transport.close().await;
    }
    // The same host, once it is known.
    std::fs::write(sshd.path("known"), format!("[127.0.0.1]:{} {}\n", sshd.port, sshd.host_key())).unwrap();
    let transport = sshd.transport_to(unknown, sshd.options());
    transport.probe(&host(), &ProbeRequest::default()).await.unwrap();
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_hosts_and_refused_logins_say_what_to_do() {
    let Some(sshd) = Sshd::start() else { return };
    let mut closed = sshd.ssh();
    closed["port"] = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().into();
    let mut stranger = sshd.ssh();
    keygen(&sshd.path("stranger"));
    stranger["identityFile"] = sshd.path("stranger").to_str().unwrap().into();
    let mut nowhere = sshd.ssh();
    nowhere["address"] = "nowhere.invalid".into();
    for (ssh, said, advice) in [
        (closed, "Connection refused", "ssh.port"),
        (stranger, "Permission denied", "ssh.identityFile"),
        (nowhere, "Could not resolve", "ssh.address"),
    ] {
        let transport = sshd.transport_to(ssh, sshd.options());
        let error = transport.probe(&host(), &ProbeRequest::default()).await.unwrap_err();
        let TransportError::Connect { hint, reason, .. } = error else { panic!("{error:?}") };
        assert!(reason.contains(said), "{reason}");
        assert!(hint.unwrap().contains(advice));
        transport.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_reach_ports_of_the_host() {
    let Some(sshd) = Sshd::start() else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word.map(|byte| byte.to_ascii_uppercase())).await.unwrap();
        }
    });
    let transport = sshd.transport();
    for _ in 0..2 {
        let mut stream = transport.connect(&host(), address).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"PING");
    }
    server.await.unwrap();
    // A port that nobody listens on shows at the first use.
    let mut dead = transport.connect(&host(), address).await.unwrap();
    assert!(!matches!(dead.read(&mut [0; 1]).await, Ok(1..)));
    assert_eq!(transport.round_trips(&host()), 0, "streams are no commands");
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_host_is_passed_even_behind_the_same_address() {
    let (Some(target), Some(jump)) = (Sshd::start(), Sshd::start()) else { return };
    // Both sshds are on 127.0.0.1; the jump host lets the target's user key in and is known.
    std::fs::copy(target.path("user.pub"), jump.path("authorized")).unwrap();
    std::fs::write(target.path("known"), format!("[127.0.0.1]:{} {}\n", jump.port, jump.host_key())).unwrap();
    let mut ssh = target.ssh();
    ssh["jumpHosts"] = serde_json::json!([format!("{}@127.0.0.1:{}", Sshd::user(), jump.port)]);
    let transport = target.transport_to(ssh.clone(), target.options());
    transport.probe(&host(), &ProbeRequest::default()).await.unwrap();
    assert!(jump.read("sshd.log").contains("Accepted publickey"), "the way leads through the jump host");
    transport.close().await;
    std::fs::write(target.path("known"), "").unwrap();
    let transport = target.transport_to(ssh, target.options());
    let error = transport.probe(&host(), &ProbeRequest::default()).await.unwrap_err();
    assert!(matches!(error, TransportError::Connect { .. }), "{error:?}");
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_used_again_by_the_next_run() {
    let Some(sshd) = Sshd::start() else { return };
    let warm = SshOptions { reuse: true, ..sshd.options() };
    for _ in 0..3 {
        let transport = sshd.transport_to(sshd.ssh(), warm.clone());
        transport.probe(&host(), &locking("a run")).await.unwrap();
        transport.close().await;
    }
    assert_eq!(sshd.read("sshd.log").matches("Accepted publickey").count(), 1);
    // A socket whose master is gone is no obstacle.
    let socket = std::fs::read_dir(sshd.path("c"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| std::os::unix::fs::FileTypeExt::is_socket(&std::fs::symlink_metadata(path).unwrap().file_type()))
        .unwrap();
    let ended = Command::new("ssh").args(["-F", "none", "-O", "exit", "-S"]).arg(&socket).arg("x").output().unwrap();
    assert!(ended.status.success());
    eventually("the end of the master", || !socket.exists());
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let transport = sshd.transport_to(sshd.ssh(), SshOptions { idle: Duration::from_secs(1), ..warm });
    transport.probe(&host(), &ProbeRequest::default()).await.unwrap();
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_commands_at_once_are_within_the_limits_of_sshd() {
    let Some(sshd) = Sshd::start() else { return };
    let transport = sshd.transport();
    let (host, request) = (host(), ProbeRequest::default());
    let probes = (0..20).map(|_| transport.probe(&host, &request));
    for facts in futures_util::future::join_all(probes).await {
        facts.unwrap();
    }
    assert_eq!(transport.round_trips(&host), 20);
    assert_eq!(sshd.read("sshd.log").matches("Accepted publickey").count(), 1);
    transport.close().await;
}

/// A step that ends the server's side of its own connection: the sshd above its shells.
const SEVER: &str = "pid=$$; while [ \"$(cat /proc/$pid/comm)\" != sshd ]; do while read -r key value _; do [ \"$key\" != PPid: ] || pid=$value; done </proc/$pid/status; done; echo '@begin 0'; kill -9 $pid; sleep 5";

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_told_from_a_failed_step() {
    let Some(sshd) = Sshd::start() else { return };
    let transport = sshd.transport();
    let error = transport.run(&host(), &script(SEVER, 1, 30), |_| {}).await.unwrap_err();
    assert!(matches!(error, ApplyError::Transport(TransportError::Lost { .. })), "{error:?}");
    // What went on there was not seen: this run does not go on with that host.
    let error = transport.diagnose(&host(), "true").await.unwrap_err();
    assert!(matches!(error, TransportError::Lost { .. }), "{error:?}");
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_restarts_takes_its_connection_with_it_and_is_reached_again() {
    let Some(sshd) = Sshd::start() else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _gone = stream.write_all(b"hello").await;
        }
    });
    let transport = sshd.transport();
    let greeting = async || -> Option<[u8; 5]> {
        let mut stream = transport.connect(&host(), address).await.ok()?;
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.ok()?;
        Some(word)
    };
    assert_eq!(greeting().await, Some(*b"hello"));
    let done = Mutex::new(Vec::new());
    // What it says has to be on its way before its sshd is gone.
    let restart = Bundle { restarts: true, ..script(&SEVER.replace("kill -9", "sleep 1; kill -9"), 1, 30) };
    transport.run(&host(), &restart, |index| done.lock().unwrap().push(index)).await.unwrap();
    assert_eq!(*done.lock().unwrap(), [0]);
    transport.restarted(&host()).await;
    assert_eq!(greeting().await, Some(*b"hello"));
    assert_eq!(transport.diagnose(&host(), "echo well").await.unwrap(), "well");
    // A step that fails before it asks for the restart has failed.
    let refused = Bundle { restarts: true, ..script("echo '@begin 0'; exit 1", 1, 30) };
    let error = transport.run(&host(), &refused, |_| {}).await.unwrap_err();
    assert!(matches!(error, ApplyError::Script { change: Some(0), status: 1, .. }), "{error:?}");
    server.abort();
    transport.close().await;
}

/// The process id of the one ssh master of these tests' control directory, by what it says itself.
fn master(sshd: &Sshd) -> String {
    let entries = |directory: &Path| std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let below = entries(&sshd.path("c")).into_iter().filter(|path| path.is_dir()).flat_map(|path| entries(&path));
    // Sockets of forwards have a dash in their names.
    let is_master = |path: &PathBuf| {
        let kind = std::fs::symlink_metadata(path).unwrap().file_type();
        std::os::unix::fs::FileTypeExt::is_socket(&kind) && !path.file_name().unwrap().to_string_lossy().contains('-')
    };
    let sockets: Vec<PathBuf> = below.filter(is_master).collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    let check = Command::new("ssh").args(["-F", "none", "-O", "check", "-S"]).arg(&sockets[0]).arg("x").output().unwrap();
    let said = String::from_utf8(check.stderr).unwrap();
    said.split_once("pid=").unwrap().1.chars().take_while(char::is_ascii_digit).collect()
}

fn signal(signal: &str, process: &str) {
    assert!(Command::new("kill").args([signal, process]).status().unwrap().success());
}

/// A cluster whose gates never open; who waits for one is told.
#[derive(Default)]
struct Closed {
    asked: tokio::sync::Notify,
}

impl Cluster for Closed {
    async fn changes(&self, artifacts: Vec<Artifact>) -> Result<Vec<Option<Change>>, ClusterError> {
        Ok(artifacts.into_iter().map(|_| None).collect())
    }
    async fn apply(&self, _: &Change) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn wait(&self, _: &Gate, _: Duration) -> Result<(), ClusterError> {
        self.asked.notify_one();
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_waits_ends_when_the_line_to_its_host_is_cut() {
    let Some(sshd) = Sshd::start() else { return };
    let transport = sshd.transport();
    transport.probe(&host(), &locking("a run")).await.unwrap();
    let step = StepId { phase: Phase::Kubelet, target: Target::Host(host()) };
    let steps = vec![Step { changes: vec![file("/etc/a", "one")], gates: vec![Gate::KubeletHealthy(host())], ..Step::empty(step.clone()) }];
    let graph = StepGraph::assemble(Stage::Living, BTreeSet::new(), steps, []).unwrap();
    let (cluster, limits, control) = (Closed::default(), Limits::default(), Control::default());
    let execution = Execution { transport: &transport, cluster: &cluster, limits: &limits, control: &control };
    let cut = async {
        cluster.asked.notified().await;
        signal("-KILL", &master(&sshd));
    };
    let (report, ()) = tokio::join!(execute(&graph, &execution, |_| {}), cut);
    assert_eq!(std::fs::read_to_string(sshd.host_path("etc/a")).unwrap(), "one", "its changes were made");
    let Outcome::Failed(failure) = &report.steps[&step].outcome else { panic!("{report:?}") };
    assert_eq!(failure.change.as_deref(), Some("waiting for kubelet on cp-1"));
    assert_eq!(failure.message, "the connection to host cp-1 was lost, and the host's lock with it");
    assert!(failure.hint.as_ref().unwrap().contains("run the same command again"), "{failure}");

    // Nothing more is done there by this run, though the host could be reached.
    let error = transport.run(&host(), &script("echo '@begin 0'", 1, 30), |_| {}).await.unwrap_err();
    assert!(matches!(error, ApplyError::Transport(TransportError::Lost { .. })), "{error:?}");
    transport.close().await;
    let again = sshd.transport();
    // The host learns of the cut when its sshd does.
    let asked = Instant::now();
    while let Err(error) = again.probe(&host(), &locking("the next run")).await {
        assert!(matches!(error, TransportError::Locked { .. }) && asked.elapsed() < Duration::from_secs(20), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_falls_silent_is_given_up_with_what_ssh_said() {
    let Some(sshd) = Sshd::start() else { return };
    let transport = sshd.transport();
    transport.probe(&host(), &locking("a run")).await.unwrap();
    // The sshd above the shells of this connection stands still, as if the line were cut without a word.
    let text = "pid=$$; while ! grep -q '^sshd' /proc/$pid/comm; do while read -r key value _; do [ \"$key\" != PPid: ] || pid=$value; done </proc/$pid/status; done; echo $pid";
    let server = transport.diagnose(&host(), text).await.unwrap();
    signal("-STOP", server.trim());
    let said = transport.lost(&host()).await;
    signal("-KILL", server.trim());
    assert_eq!(said, "Timeout, server 127.0.0.1 not responding.");
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_that_was_asked_for_the_line_is_made_anew() {
    let Some(sshd) = Sshd::start() else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let greeting = tokio::spawn(async move {
        for _ in 0..2 {
            listener.accept().await.unwrap().0.write_all(b"hi").await.unwrap();
        }
    });
    let transport = sshd.transport();
    let greeted = async || {
        let mut word = [0; 2];
        transport.connect(&host(), address).await.unwrap().read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"hi");
    };
    transport.probe(&host(), &locking("a run")).await.unwrap();
    greeted().await;
    let first = master(&sshd);
    transport.restarted(&host()).await;
    signal("-KILL", &first);
    // Nobody may have looked after it yet.
    eventually("the end of the master", || std::fs::read_to_string(format!("/proc/{first}/stat")).map_or(true, |stat| stat.contains(") Z ")));
    greeted().await;
    assert_ne!(master(&sshd), first);
    transport.diagnose(&host(), "true").await.unwrap();
    greeting.await.unwrap();
    transport.close().await;
}

/// The most memory this process ever had, in bytes.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_never_stops_talking_takes_bounded_memory() {
    let Some(sshd) = Sshd::start() else { return };
    let transport = sshd.transport();
    let before = most_memory();
    // 100 MB each on standard output and standard error, without a line's end.
    let endless = "echo '@begin 0'; head -c 100000000 /dev/zero | tr '\\0' x & head -c 100000000 /dev/zero | tr '\\0' y >&2; wait; printf '\\n@done 0\\n'; exit 4";
    let error = transport.run(&host(), &script(endless, 1, 120), |_| {}).await.unwrap_err();
    let ApplyError::Script { change, status, stderr } = error else { panic!("{error:?}") };
    assert_eq!((change, status), (Some(0), 4));
    assert!(stderr.len() <= 20 * 4096, "{}", stderr.len());
    // Other tests of this process may take some meanwhile, but not as much as was said.
    assert!(most_memory() - before < 160 << 20, "a step's output: {} MiB", (most_memory() - before) >> 20);

    let error = transport.diagnose(&host(), "head -c 100000000 /dev/zero | tr '\\0' x").await.unwrap_err();
    // On a slow machine the host's own limit of a minute is reached before the limit of bytes.
    assert!(error.to_string().contains("too large") || error.to_string().contains("exit status 124"), "{error}");
    assert!(most_memory() - before < 320 << 20, "a diagnosis: {} MiB", (most_memory() - before) >> 20);
    transport.close().await;
}

//! An apt repository of Kubernetes' packages, as the project's own: built from the lab's programs with
//! dpkg-deb, signed with a key that is made for it, served over HTTP on the lab's bridge.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::machines::Machines;

/// Where the lab's hosts reach this machine.
const MACHINE: &str = "10.91.0.1";

/// What older packages of the kubelet do: they start it as soon as it is installed. With the drop-in of
/// kubeadm's package, it is what a user's hosts may have.
const POSTINST: &str = "#!/bin/sh\nset -e\nif [ \"$1\" = configure ]; then\n  deb-systemd-helper enable kubelet.service >/dev/null || true\n  deb-systemd-invoke restart kubelet.service >/dev/null || true\n  touch /var/lib/kubelet-was-configured\nfi\n";
const UNIT: &str = "[Service]\nExecStart=/usr/bin/kubelet\nRestart=always\n[Install]\nWantedBy=multi-user.target\n";
const DROP_IN: &str = "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet --a-flag-that-is-not-there\n";

/// A repository that is served until it is dropped.
pub struct Repository {
    directory: tempfile::TempDir,
    port: u16,
    fingerprint: String,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Repository {
    /// An empty one, with a key.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        fs::create_dir(directory.path().join("keys")).expect("a directory can be made");
        fs::set_permissions(directory.path().join("keys"), fs::Permissions::from_mode(0o700)).expect("it is ours");
        fs::create_dir_all(directory.path().join("www")).expect("a directory can be made");
        let listener = TcpListener::bind((MACHINE, 0)).expect("the bridge is there while hosts are");
        let port = listener.local_addr().expect("it is bound").port();
        let stop = Arc::new(AtomicBool::new(false));
        let (root, ended) = (directory.path().join("www"), Arc::clone(&stop));
        let server = std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let root = root.clone();
                std::thread::spawn(move || _ = serve(connection, &root));
            }
        });
        let mut repository = Self { directory, port, fingerprint: String::new(), stop, server: Some(server) };
        repository.gpg(&["--passphrase", "", "--quick-generate-key", "lab@example.test", "rsa3072", "sign", "never"]);
        let listed = repository.gpg(&["--with-colons", "--list-keys"]);
        let told = listed.lines().find_map(|line| line.strip_prefix("fpr:")).expect("gpg lists the key it made");
        repository.fingerprint = told.trim_matches(':').to_owned();
        repository
    }

    /// The repository as a plan says it.
    pub fn plan(&self) -> serde_json::Value {
        let file = self.directory.path().join("Release.key");
        fs::write(&file, self.gpg(&["--armor", "--export"])).expect("the key can be written");
        serde_json::json!({
            "repository": format!("http://{MACHINE}:{}/v{{minor}}/{{format}}/", self.port),
            "key": { "file": file, "fingerprint": self.fingerprint },
        })
    }

    /// Adds the packages of a release, and signs it all anew.
    pub fn add(&self, machines: &Machines, release: &str, revision: &str) {
        let version = format!("{}-{revision}", release.trim_start_matches('v'));
        let minor = release.rsplit_once('.').expect("a release has three numbers").0;
        let place = self.directory.path().join("www").join(minor).join("deb");
        fs::create_dir_all(&place).expect("a directory can be made");
        for name in ["kubelet", "kubectl"] {
            let root = self.directory.path().join("build").join(name);
            let put = |path: &str, mode: u32, bytes: &[u8]| {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("it has one")).expect("a directory can be made");
                fs::write(&path, bytes).expect("a file can be written");
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
            };
            let control = format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: lab <lab@example.test>\nDescription: {name}\n");
            put("DEBIAN/control", 0o644, control.as_bytes());
            put(&format!("usr/bin/{name}"), 0o755, &fs::read(machines.program_of(release, name)).expect("the lab built it"));
            if name == "kubelet" {
                put("DEBIAN/postinst", 0o755, POSTINST.as_bytes());
                put("usr/lib/systemd/system/kubelet.service", 0o644, UNIT.as_bytes());
                put("usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf", 0o644, DROP_IN.as_bytes());
            }
            run(Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "--build"]).arg(&root).arg(place.join(format!("{name}_{version}_amd64.deb"))));
        }
        let packages = run(Command::new("apt-ftparchive").args(["packages", "."]).current_dir(&place));
        fs::write(place.join("Packages"), packages).expect("an index can be written");
        let release = run(Command::new("apt-ftparchive").args(["release", "."]).current_dir(&place));
        fs::write(place.join("Release"), release).expect("an index can be written");
        let (from, to) = (place.join("Release"), place.join("InRelease"));
        self.gpg(&["--yes", "--clearsign", "--output", &to.display().to_string(), &from.display().to_string()]);
    }

    fn gpg(&self, arguments: &[&str]) -> String {
        run(Command::new("gpg").arg("--homedir").arg(self.directory.path().join("keys")).arg("--batch").args(arguments))
    }
}

impl Repository {
    /// Nobody answers any more; its key stays.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The server waits for somebody.
        drop(TcpStream::connect((MACHINE, self.port)));
        if let Some(server) = self.server.take() {
            _ = server.join();
        }
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}; `cargo xtask test` installs it"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Answers one GET with a file, or that there is none.
fn serve(mut connection: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').replace("%2b", "+");
    let file: Option<PathBuf> = (!path.contains("..")).then(|| root.join(path));
    match file.and_then(|file| fs::read(file).ok()) {
        Some(bytes) => {
            write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())?;
            connection.write_all(&bytes)
        }
        None => write!(connection, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}

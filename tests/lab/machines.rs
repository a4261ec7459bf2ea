//! Hosts of the lab that belong to one test: booted fresh, gone at its end, also when it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The lab's newest Kubernetes, built from Debian's source package.
pub const VERSION: &str = "v1.20.2";

/// What tells why a host is not as it should be.
const DIAGNOSIS: &str = "\
systemctl --failed --plain --no-legend
journalctl --no-pager -q -n 12 -o cat -u kubelet 2>/dev/null | cut -c1-250
for log in /var/log/pods/kube-system_*/*/*.log; do
    [ -e \"$log\" ] && { echo \"== ${log#/var/log/pods/}\"; tail -n 3 \"$log\" | cut -c1-250; }
done";

/// Some hosts, and the lab's files.
pub struct Machines {
    lab: PathBuf,
    names: Vec<String>,
    status: Value,
    started: Instant,
}

impl Machines {
    /// Boots these hosts with fresh disks.
    pub fn boot(names: &[&str]) -> Self {
        Self::boot_with(names, &[])
    }

    /// Boots these hosts with fresh disks, with options of `lab up`.
    pub fn boot_with(names: &[&str], options: &[&str]) -> Self {
        let lab = std::env::var_os("SLIPWAY_LAB").map(PathBuf::from);
        let lab = lab.expect("these tests are run by `cargo xtask test`, which sets SLIPWAY_LAB");
        let mut machines = Self { lab, names: Vec::new(), status: Value::Null, started: Instant::now() };
        machines.add(names, options);
        machines
    }

    /// Boots more hosts.
    pub fn add(&mut self, names: &[&str], options: &[&str]) {
        let number = |name: &str| name.rsplit_once('-').and_then(|(_, number)| number.parse::<u8>().ok());
        let reserved = |name: &str| number(name).is_some_and(|number| (30..90).contains(&number));
        assert!(names.iter().all(|name| reserved(name)), "hosts of tests have reserved numbers (docs/lab.md)");
        let names: Vec<&str> = names.to_vec();
        // Leftovers of a test that was ended from outside.
        self.lab(&[&["down"], names.as_slice()].concat());
        self.names.extend(names.iter().map(|name| (*name).to_owned()));
        self.lab(&[&["up"], options, names.as_slice()].concat());
        let status = self.lab(&["status", "--json"]);
        self.status = serde_json::from_slice(&status.stdout).expect("the lab's status is JSON");
    }

    /// Runs `lab …`, which must succeed.
    fn lab(&self, arguments: &[&str]) -> Output {
        let output = Command::new(&self.lab).arg("lab").args(arguments).stdin(Stdio::null()).output().expect("xtask runs");
        assert!(output.status.success(), "lab {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Says what comes now.
    pub fn step(&self, text: &str) {
        eprintln!("[{:6.1} s] {text}", self.started.elapsed().as_secs_f32());
    }

    /// The address of a host.
    pub fn address(&self, name: &str) -> String {
        let hosts = self.status["hosts"].as_array().expect("the status has hosts");
        let host = hosts.iter().find(|host| host["name"] == name).unwrap_or_else(|| panic!("no host {name}"));
        host["address"].as_str().expect("a host has an address").to_owned()
    }

    /// The private key that opens every host.
    pub fn identity_file(&self) -> PathBuf {
        self.path("/ssh/identity_file")
    }

    /// The host keys of all hosts.
    pub fn known_hosts(&self) -> PathBuf {
        self.path("/ssh/known_hosts")
    }

    /// A program of Kubernetes.
    pub fn program(&self, name: &str) -> PathBuf {
        self.program_of(VERSION, name)
    }

    /// A program of another release, which is built if need be.
    pub fn program_of(&self, version: &str, name: &str) -> PathBuf {
        self.path(&format!("/kubernetes/{version}/binaries")).join(name)
    }

    /// The image archives of another release.
    pub fn images_of(&self, version: &str) -> PathBuf {
        self.path(&format!("/kubernetes/{version}/images"))
    }

    /// Another release of the same source is there from now on.
    pub fn make(&mut self, version: &str) {
        self.lab(&["kubernetes", version]);
        let status = self.lab(&["status", "--json"]);
        self.status = serde_json::from_slice(&status.stdout).expect("the lab's status is JSON");
    }

    /// The image archives of Kubernetes.
    pub fn images(&self) -> PathBuf {
        self.images_of(VERSION)
    }

    fn path(&self, pointer: &str) -> PathBuf {
        let text = self.status.pointer(pointer).and_then(Value::as_str);
        PathBuf::from(text.unwrap_or_else(|| panic!("the lab's status has no {pointer}")))
    }

    /// The public key of a host, as in known-hosts files.
    pub fn host_key(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.known_hosts()).expect("known_hosts can be read");
        let line = text.lines().find(|line| line.starts_with(&format!("{name},"))).expect("the host is known");
        line.split_once(' ').expect("a line has a key").1.to_owned()
    }

    /// Pulls a host's plug.
    pub fn power_off(&self, name: &str) {
        self.lab(&["power-off", name]);
    }

    /// Switches a host on again and waits for its SSH server.
    pub fn power_on(&self, name: &str) {
        self.lab(&["power-on", name]);
    }

    /// Whether a host is off, by itself or because its plug was pulled.
    pub fn is_off(&self, name: &str) -> bool {
        let status: Value = serde_json::from_slice(&self.lab(&["status", "--json"]).stdout).expect("the lab's status is JSON");
        let hosts = status["hosts"].as_array().expect("the status has hosts");
        hosts.iter().any(|host| host["name"] == name && host["state"] == "off")
    }

    /// A host burns down, and an empty one stands in its place with the same name and address.
    pub fn lose_and_replace(&self, name: &str) {
        self.lab(&["down", name]);
        self.lab(&["up", name]);
    }

    /// Runs a script as root on a host; it must succeed.
    pub fn shell(&self, name: &str, script: &str) -> String {
        let output = self.try_shell(name, script);
        assert!(
            output.status.success(),
            "on {name}: {script}\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a script as root on a host.
    pub fn try_shell(&self, name: &str, script: &str) -> Output {
        let mut ssh = Command::new("ssh");
        // These are commands of the story, not what it tells about: on a machine that is busy a login takes its time.
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=60", "-i"]);
        ssh.arg(self.identity_file()).arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts().display()));
        ssh.args(["-o", "ServerAliveInterval=10", "--"]).arg(format!("root@{}", self.address(name))).arg(script);
        ssh.stdin(Stdio::null()).output().expect("ssh runs")
    }

    /// Puts a file of this machine onto a host.
    pub fn put(&self, name: &str, file: &Path, target: &str) {
        let mut scp = Command::new("scp");
        scp.args(["-q", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"]).arg(self.identity_file());
        scp.arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts().display()));
        let status = scp.arg(file).arg(format!("root@{}:{target}", self.address(name))).stdin(Stdio::null()).status();
        assert!(status.expect("scp runs").success(), "cannot copy {} to {name}", file.display());
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.status.is_null() {
            for name in &self.names {
                let output = self.try_shell(name, DIAGNOSIS);
                eprintln!("---- host {name}\n{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            }
        }
        if std::env::var_os("SLIPWAY_LAB_KEEP").is_some() {
            eprintln!("SLIPWAY_LAB_KEEP is set: {} stay", self.names.join(" "));
            return;
        }
        let ended = Command::new(&self.lab).args(["lab", "down"]).args(&self.names).stdin(Stdio::null()).output();
        if !ended.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("cannot take the hosts down: {ended:?}");
        }
    }
}

/// Asks until something is true, or fails with what was seen last.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(seen) if started.elapsed() > limit => panic!("{what}: not within {} s; seen last: {seen}", limit.as_secs()),
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

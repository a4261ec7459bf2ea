//! Where secrets are looked for and must not be: while slipway works, every process of this machine
//! (those of its hosts are among them) is looked at every few milliseconds; afterwards the keys are
//! read off the host and searched for in everything that was seen, said or left behind.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::cluster::Cluster;
use super::machines::{Machines, eventually};
use super::plan_file::{plan, write};
use super::slipway::{Desk, Ended};

const HOST: &str = "secrets-34";

/// Looks at arguments and environments of all processes until it is asked what it saw.
struct Watch {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<(BTreeSet<Vec<u8>>, usize)>,
}

impl Watch {
    fn begin() -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&enough);
        let thread = std::thread::spawn(move || {
            let (mut seen, mut rounds) = (BTreeSet::new(), 0);
            while !flag.load(Ordering::Relaxed) {
                let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
                for process in entries.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit()) {
                    for name in ["cmdline", "environ"] {
                        // Most have ended before they are read.
                        if let Ok(text) = std::fs::read(process.path().join(name)) {
                            seen.insert(text);
                        }
                    }
                }
                rounds += 1;
                std::thread::sleep(Duration::from_millis(3));
            }
            (seen, rounds)
        });
        Self { enough, thread }
    }

    fn end(self) -> (BTreeSet<Vec<u8>>, usize) {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().expect("looking does not fail")
    }
}

/// A piece of a secret, in one of the forms it may travel in.
struct Canary {
    of: String,
    bytes: Vec<u8>,
}

fn middle(bytes: &[u8], length: usize) -> Vec<u8> {
    let from = (bytes.len() / 2).saturating_sub(length / 2);
    bytes[from..(from + length).min(bytes.len())].to_vec()
}

/// A key file's pieces: a line of its PEM, and its raw bytes.
fn of_pem(name: &str, text: &str, canaries: &mut Vec<Canary>) {
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let line = text.lines().nth(text.lines().count() / 2).expect("a key has lines");
    canaries.push(Canary { of: format!("{name} (PEM)"), bytes: middle(line.as_bytes(), 32) });
    canaries.push(Canary { of: format!("{name} (bytes)"), bytes: middle(&STANDARD.decode(body).expect("PEM is base64"), 20) });
}

fn canaries(machines: &Machines, cluster: &Cluster) -> Vec<Canary> {
    let mut canaries = Vec::new();
    let names = machines.shell(HOST, "find /etc/kubernetes /var/lib/kubelet/pki -name '*.key'");
    for name in names.lines() {
        of_pem(name, &machines.shell(HOST, &format!("cat '{name}'")), &mut canaries);
    }
    for name in ["admin.conf", "controller-manager.conf", "scheduler.conf"] {
        let text = machines.shell(HOST, &format!("cat /etc/kubernetes/{name}"));
        let data = text.lines().find_map(|line| line.trim().strip_prefix("client-key-data: ")).expect("a kubeconfig has a key");
        canaries.push(Canary { of: format!("{name} (base64)"), bytes: middle(data.as_bytes(), 32) });
        of_pem(name, &String::from_utf8(STANDARD.decode(data).expect("it is base64")).expect("PEM is text"), &mut canaries);
    }
    let text = machines.shell(HOST, "cat /var/lib/kubelet/pki/kubelet-client-slipway.pem");
    let from = text.find("-----BEGIN EC PRIVATE").or_else(|| text.find("-----BEGIN RSA PRIVATE")).or_else(|| text.find("-----BEGIN PRIVATE"));
    let key = &text[from.expect("the kubelet has a key")..];
    let end = key.find("-----END").expect("a key ends");
    of_pem("the kubelet's key", &key[..end], &mut canaries);
    let tokens = cluster.kubectl(&["-n", "kube-system", "get", "secrets", "--field-selector", "type=bootstrap.kubernetes.io/token", "-o", "jsonpath={.items[*].data.token-secret}"]);
    for token in tokens.split_whitespace() {
        canaries.push(Canary { of: "a bootstrap token".into(), bytes: STANDARD.decode(token).expect("it is base64") });
        canaries.push(Canary { of: "a bootstrap token (base64)".into(), bytes: token.into() });
    }
    let identity = std::fs::read_to_string(machines.identity_file()).expect("the key of the lab");
    let line = identity.lines().nth(2).expect("a key has lines");
    canaries.push(Canary { of: "the ssh key".into(), bytes: middle(line.as_bytes(), 32) });
    canaries
}

fn holds(text: &[u8], canaries: &[Canary], place: &str) {
    for canary in canaries {
        let found = text.windows(canary.bytes.len()).any(|window| window == canary.bytes);
        assert!(!found, "{} is in {place}", canary.of);
    }
}

/// Files of this machine that a run may have written, but not those that were asked for.
fn local_files(directory: &Path, since: SystemTime, asked_for: &[PathBuf], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, Ok(about)) = (entry.path(), entry.path().symlink_metadata()) else { continue };
        // Below slipway's own directories everything is looked at; others may be anybody's, and the
        // disks of the lab's hosts are those hosts'.
        if about.is_dir() && path.to_string_lossy().contains("slipway") && !path.ends_with("slipway-lab") {
            local_files(&path, since, asked_for, found);
        } else if about.is_file() && about.modified().is_ok_and(|time| time >= since) && about.size() < 8 << 20 && !asked_for.contains(&path) {
            found.push(path);
        }
    }
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn secrets_are_nowhere_but_in_their_files() {
    let machines = Machines::boot(&[HOST]);
    let desk = Desk::new();
    let since = SystemTime::now();
    let good = plan(&machines, &[(HOST, &["control-plane", "worker"])]);
    let file = write(&desk, "secrets", &good);
    let watch = Watch::begin();
    let mut said: Vec<Ended> = Vec::new();

    machines.step("a run is killed while it brings keys; what it had on the host goes by itself");
    let first = desk.start(&["apply", &file, "--yes"]);
    eventually("keys are on their way", Duration::from_secs(120), || {
        if first.err().contains(" authority: ") || first.err().contains(" certificates: ") { Ok(()) } else { Err(first.err()) }
    });
    said.push(first.kill());
    eventually("nothing of the step is left", Duration::from_secs(90), || {
        let left = machines.shell(HOST, "ls -d /run/slipway/step-* /var/lib/slipway/work/step-* 2>/dev/null || :");
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    let open = machines.shell(HOST, "find /run/slipway /var/lib/slipway \\( -perm /077 -o ! -user root \\) -type d 2>/dev/null || :");
    assert_eq!(open, "", "only root may look into slipway's directories on a host");

    machines.step("a whole run, a failed one, and every command that asks");
    said.push(desk.run_for(0, &["apply", &file, "--yes"]));
    said.push(desk.run_for(0, &["apply", &file, "--yes", "--output", "json"]));
    said.push(desk.run_for(0, &["status", &file]));
    said.push(desk.run_for(0, &["status", &file, "--output", "json"]));
    let mut other = good.clone();
    other["pki"] = serde_json::json!({ "extraSans": ["other.example.test"] });
    let changed = write(&desk, "changed", &other);
    said.push(desk.run_for(0, &["diff", &changed, "--full"]));
    said.push(desk.run_for(0, &["diff", &changed, "--output", "json"]));
    machines.shell(HOST, "chattr +i /etc/kubernetes/pki/apiserver.key || mount --bind /etc/kubernetes/pki/apiserver.key /etc/kubernetes/pki/apiserver.key");
    let failed = desk.run(&["apply", &changed, "--yes"]);
    machines.shell(HOST, "chattr -i /etc/kubernetes/pki/apiserver.key 2>/dev/null; umount /etc/kubernetes/pki/apiserver.key 2>/dev/null; :");
    assert_eq!(failed.code, Some(6), "a key that cannot be written fails the step: {failed}");
    said.push(failed);
    said.push(desk.run_for(0, &["journal", &file]));
    let kept = desk.path("admin.conf");
    said.push(desk.run_for(0, &["kubeconfig", &file, "--out", kept.to_str().expect("a plain path")]));
    // It tells the token: that is what it is for.
    let token = desk.run_for(0, &["token", "create", &file]);
    let (seen, rounds) = watch.end();

    let cluster = Cluster::of(&desk, &machines, &file, HOST);
    let canaries = canaries(&machines, &cluster);
    assert!(canaries.len() > 25, "only {} pieces of secrets", canaries.len());
    machines.step(&format!("{} pieces of secrets are searched for in {} arguments and environments of {rounds} looks", canaries.len(), seen.len()));
    assert!(rounds > 100 && seen.len() > 100, "{rounds} {}", seen.len());
    seen.iter().for_each(|text| holds(text, &canaries, &format!("a process: {}", String::from_utf8_lossy(&text[..text.len().min(60)]))));
    for ended in &said {
        holds(ended.out.as_bytes(), &canaries, &format!("the output of {}", ended.line));
        holds(ended.err.as_bytes(), &canaries, &format!("the messages of {}", ended.line));
    }
    holds(token.err.as_bytes(), &canaries, "the messages of token create");

    machines.step("nor in a file on this machine");
    let mut files = Vec::new();
    let mut asked_for = vec![kept];
    // The token was asked for too, and standard output is a file on this desk.
    local_files(&desk.path(""), since, &[], &mut files);
    let tells_token = |path: &&PathBuf| std::fs::read(path).is_ok_and(|text| text == token.out.as_bytes());
    asked_for.extend(files.iter().filter(tells_token).cloned());
    asked_for.extend(files.iter().filter(|path| path.to_string_lossy().contains("kubeconfig")).cloned());
    let home = std::env::home_dir().unwrap_or_default();
    for place in [PathBuf::from("/tmp"), "/var/tmp".into(), "/var/crash".into(), "/run".into(), home.join(".cache"), home.join(".local/state")] {
        local_files(&place, since, &asked_for, &mut files);
    }
    let journals = files.iter().filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).count();
    assert!(journals >= 2, "the journals are among them: {files:?}");
    for path in files.iter().filter(|path| !asked_for.contains(path) && path.extension().is_none_or(|ending| ending != "conf")) {
        holds(&std::fs::read(path).unwrap_or_default(), &canaries, &path.display().to_string());
    }

    machines.step("nor in one on the host, but for their own");
    let places = "/tmp /var/tmp /run/slipway /var/log /var/crash /var/lib/systemd/coredump /root /home /var/lib/slipway /etc/systemd /dev/shm";
    for canary in canaries.iter().filter(|canary| canary.bytes.is_ascii()) {
        let text = String::from_utf8_lossy(&canary.bytes).into_owned();
        let found = machines.shell(HOST, &format!("grep -rlsF -- '{text}' {places}; :"));
        // The lab's own key is the host's way in.
        assert_eq!(found, "", "{} is in these files of the host", canary.of);
    }
}

//! pyinfra and Ansible, told to make the same files and services as slipway made.
//!
//! Both come from PyPI at a fixed version, into an environment in the lab's cache.
//! Both get what their own documentation recommends for speed: all hosts at once,
//! and for Ansible pipelining and connections that stay open between runs (pyinfra
//! makes its connections anew in each run).

use super::fleet::{Fleet, Made, end_connections};
use crate::error::{Error, Explain, Result};
use crate::lab::cache::{create_directory, remove_directory, write_file};
use crate::lab::command::run;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is installed.
pub const VERSIONS: [(&str, &str); 2] = [("pyinfra", "3.10.0"), ("ansible-core", "2.19.14")];

/// A task of Ansible; files come first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Task<'a> {
    File(&'a Path, &'a str),
    Unit(&'a str),
}

impl Task<'_> {
    fn to_json(&self) -> Value {
        match self {
            Self::File(path, mode) => json!({ "ansible.builtin.copy": {
                "src": format!("{{{{ copy }}}}/{}", relative(path).display()),
                "dest": path,
                "mode": mode,
                "owner": "root",
                "group": "root",
            } }),
            Self::Unit(unit) => json!({ "ansible.builtin.systemd_service": {
                "name": unit,
                "state": "started",
                "enabled": true,
            } }),
        }
    }
}

/// The two tools, with their inputs for one fleet.
pub struct Peers {
    programs: PathBuf,
    directory: PathBuf,
    hosts: usize,
}

impl Peers {
    /// Installs them where they are not, and writes their inputs.
    pub fn new(fleet: &Fleet, made: &[Made], copies: &Path) -> Result<Self> {
        let programs = install(&fleet.programs())?;
        let directory = fleet.scratch.join("peers");
        create_directory(&directory)?;
        let peers = Self { programs, directory, hosts: made.len() };
        peers.write_pyinfra(fleet, made, copies)?;
        peers.write_ansible(fleet, made, copies)?;
        Ok(peers)
    }

    /// A run of pyinfra.
    pub fn pyinfra(&self) -> Command {
        let mut command = Command::new(self.programs.join("pyinfra"));
        command
            .args(["-y", "inventory.py", "deploy.py"])
            .current_dir(&self.directory);
        command
    }

    /// Fails unless pyinfra reached all hosts and found nothing to do.
    pub fn check_pyinfra(&self, text: &str) -> Result<()> {
        // The last line of the table at the end: operations, made, failed, without a change.
        let totals = text.lines().rev().find_map(|line| line.trim().strip_prefix("Grand total"));
        let totals: Vec<&str> = totals.unwrap_or_default().split_whitespace().collect();
        match totals[..] {
            [all, "-", "-", unchanged] if all == unchanged => Ok(()),
            _ => Err(unexpected("pyinfra", text)),
        }
    }

    /// A run of Ansible.
    pub fn ansible(&self) -> Command {
        let mut command = self.of_ansible("ansible-playbook");
        command.args(["-i", "inventory.json", "playbook.json"]);
        command
    }

    /// Makes Ansible's connections, which stay open for its next run.
    pub fn connect_ansible(&self) -> Result<()> {
        let mut command = self.of_ansible("ansible");
        command.args(["-i", "inventory.json", "all", "-m", "ansible.builtin.raw", "-a", "true"]);
        run(&mut command)
    }

    fn of_ansible(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .env("ANSIBLE_CONFIG", self.directory.join("ansible.cfg"))
            .current_dir(&self.directory);
        command
    }

    /// Ends Ansible's connections, so that its next run starts without any.
    pub fn end_ansible(&self) -> Result<()> {
        end_connections(&self.sockets());
        remove_directory(&self.sockets())?;
        create_directory(&self.sockets())
    }

    /// Fails unless Ansible reached all hosts and found nothing to do.
    pub fn check_ansible(&self, text: &str) -> Result<()> {
        let good = |line: &&str| {
            ["changed=0 ", "unreachable=0 ", "failed=0 "]
                .iter()
                .all(|word| line.contains(word))
        };
        match text.lines().filter(good).count() == self.hosts {
            true => Ok(()),
            false => Err(unexpected("ansible", text)),
        }
    }

    fn sockets(&self) -> PathBuf {
        self.directory.join("cp")
    }

    fn write_pyinfra(&self, fleet: &Fleet, made: &[Made], copies: &Path) -> Result<()> {
        let (identity, known_hosts) = fleet.keys();
        let hosts: Vec<Value> = fleet
            .addresses()
            .zip(made)
            .map(|((name, address), made)| {
                let copy = |path: &Path| copies.join(name).join(relative(path));
                let files: Vec<Value> = made
                    .files
                    .iter()
                    .map(|(path, mode)| json!([copy(path), path, mode]))
                    .collect();
                json!([address, {
                    "ssh_user": "root",
                    "ssh_key": identity,
                    "ssh_known_hosts_file": known_hosts,
                    "files": files,
                    "units": made.units,
                }])
            })
            .collect();
        // JSON of texts and lists is Python too.
        let inventory = Value::from(hosts).to_string();
        write_file(
            &self.directory.join("inventory.py"),
            format!("fleet = [(name, data) for name, data in {inventory}]\n"),
        )?;
        write_file(&self.directory.join("deploy.py"), PYINFRA)
    }

    fn write_ansible(&self, fleet: &Fleet, made: &[Made], copies: &Path) -> Result<()> {
        let (identity, known_hosts) = fleet.keys();
        let hosts: serde_json::Map<String, Value> = fleet
            .addresses()
            .map(|(name, address)| {
                let copy = copies.join(name);
                (name.into(), json!({ "ansible_host": address, "copy": copy }))
            })
            .collect();
        let inventory = json!({ "all": { "hosts": hosts, "vars": {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": identity,
            "ansible_python_interpreter": "/usr/bin/python3",
        } } });
        write_file(&self.directory.join("inventory.json"), inventory.to_string())?;

        // One task for each file and unit; one play for all that the same hosts have, so that no
        // host skips tasks of others.
        let mut owners: BTreeMap<Task<'_>, Vec<&str>> = BTreeMap::new();
        for made in made {
            let files = made.files.iter().map(|(path, mode)| Task::File(path, mode));
            for task in files.chain(made.units.iter().map(|unit| Task::Unit(unit))) {
                owners.entry(task).or_default().push(&made.name);
            }
        }
        let mut plays: BTreeMap<Vec<&str>, Vec<Value>> = BTreeMap::new();
        for (task, hosts) in owners {
            plays.entry(hosts).or_default().push(task.to_json());
        }
        let playbook: Vec<Value> = plays
            .into_iter()
            .map(|(hosts, tasks)| json!({ "hosts": hosts.join(","), "gather_facts": false, "tasks": tasks }))
            .collect();
        write_file(&self.directory.join("playbook.json"), Value::from(playbook).to_string())?;
        let settings = format!(
            "[defaults]\nforks = {}\nlocal_tmp = {}\n[ssh_connection]\npipelining = True\n\
             control_path_dir = {}\n\
             ssh_args = -F none -o ControlMaster=auto -o ControlPersist=10m -o UserKnownHostsFile={} \
             -o IdentitiesOnly=yes\n",
            self.hosts,
            self.directory.join("tmp").display(),
            self.sockets().display(),
            known_hosts.display(),
        );
        write_file(&self.directory.join("ansible.cfg"), settings)?;
        self.end_ansible()
    }
}

const PYINFRA: &str = r#"from pyinfra import host
from pyinfra.operations import files, systemd

for source, path, mode in host.data.files:
    files.put(name=f"file {path}", src=source, dest=path, mode=mode, user="root", group="root")
for unit in host.data.units:
    systemd.service(name=f"unit {unit}", service=unit, running=True, enabled=True)
"#;

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn unexpected(program: &str, text: &str) -> Error {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(40)..].join("\n");
    Error::new(format!("{program} found something to do, or failed:\n{last}"))
}

/// An environment with the programs, at these versions; returns where they are.
fn install(directory: &Path) -> Result<PathBuf> {
    let wanted: Vec<String> = VERSIONS
        .iter()
        .map(|(name, version)| format!("{name}=={version}"))
        .collect();
    let noted = directory.join("installed");
    let environment = directory.join("env");
    let programs = environment.join("bin");
    if std::fs::read_to_string(&noted).is_ok_and(|text| text == wanted.join("\n")) {
        return Ok(programs);
    }
    eprintln!("bench: installing {} from PyPI", wanted.join(" and "));
    create_directory(directory)?;
    remove_directory(&environment)?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))
        .explain(|| "python3 with its module venv is needed for the other tools".into())?;
    run(Command::new(programs.join("pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(&wanted))?;
    write_file(&noted, wanted.join("\n"))?;
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Peers {
        Peers { programs: PathBuf::new(), directory: PathBuf::new(), hosts: 2 }
    }

    #[test]
    fn pyinfra_must_change_nothing() {
        let text = |totals: &str| format!("--> Results:\n    Grand total     {totals}\n\n--> Disconnecting\n");
        assert!(peers().check_pyinfra(&text("134  -  -  134")).is_ok());
        for bad in ["134  1  -  133", "134  -  2  132", "134  -  -  100", ""] {
            assert!(peers().check_pyinfra(&text(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn ansible_must_reach_every_host_and_change_none() {
        let line = |name: &str, changed: u8, failed: u8| {
            format!("{name} : ok=9 changed={changed} unreachable=0 failed={failed} skipped=0\n")
        };
        let text = line("a", 0, 0) + &line("b", 0, 0);
        assert!(peers().check_ansible(&text).is_ok());
        for bad in [line("a", 0, 0), line("a", 0, 0) + &line("b", 1, 0), line("a", 0, 1) + &line("b", 0, 0)] {
            assert!(peers().check_ansible(&bad).is_err(), "{bad}");
        }
    }
}

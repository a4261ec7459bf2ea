//! Keys, certificates and kubeconfigs of 5 control planes and 100 workers: slipway, kubeadm, and
//! openssl drawing as many keys.

use super::document::{self, Row};
use super::machine::{self, Machine};
use super::measured::{self, Cost, median};
use super::scratch::Scratch;
use super::small::{PLANNED_VERSION, plan_text};
use crate::error::{Error, Explain, Result};
use crate::lab::cache::Cache;
use crate::lab::kubernetes::SOURCE_VERSION;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const CONTROL_PLANES: usize = 5;
const WORKERS: usize = 100;

/// Measures, prints, and writes docs/benchmarks.md.
pub fn run(program: &Path, rounds: u32) -> Result<()> {
    let kubeadm = Cache::locate()?.path(format!("kubernetes/{SOURCE_VERSION}/kubeadm"));
    if !kubeadm.exists() {
        return Err(Error::new("there is no kubeadm yet: run `cargo xtask lab kubernetes v1.20.2` first"));
    }
    let scratch = Scratch::new("pki")?;
    let plan = scratch.path().join("plan.yaml");
    // The release that the lab's kubeadm makes certificates for.
    let text = plan_text(CONTROL_PLANES, WORKERS).replace(PLANNED_VERSION, SOURCE_VERSION);
    std::fs::write(&plan, text).explain(|| format!("cannot write {}", plan.display()))?;
    let log = scratch.path().join("log");
    let mut costs: [Vec<Cost>; 3] = Default::default();
    let mut loads = Vec::new();
    let mut keys = 0;
    for round in 0..rounds {
        loads.push(machine::load()?);
        let out = scratch.path().join(format!("slipway-{round}"));
        let mut command = Command::new(program);
        command.arg("render").arg(&plan).arg("--out").arg(&out);
        costs[0].push(measured::run(&mut command, &log)?.0);
        let mut drawn = BTreeSet::new();
        collect_keys(&out, &mut drawn).explain(|| format!("cannot read {}", out.display()))?;
        keys = drawn.len();
        let out = scratch.path().join(format!("kubeadm-{round}"));
        let mut command = Command::new("sh");
        command.args(["-c", &kubeadm_script()]).arg(&kubeadm).arg(&out);
        costs[1].push(measured::run(&mut command, &log)?.0);
        let script = format!("for n in $(seq {keys}); do openssl genrsa 2048 >/dev/null 2>&1 || exit 1; done");
        costs[2].push(measured::run(Command::new("sh").args(["-c", &script]), &log)?.0);
    }
    let machine = Machine::look()?;
    let results = Results { costs, keys, processors: machine.processors };
    println!("{}", results.table());
    let section = format!(
        "## Keys and certificates\n\n{}\n{keys} RSA keys of 2048 bits each time. How long one takes is chance, so \
         only several rounds say something. {}\n\n{}",
        include_str!("pki.md"),
        machine.sentence(&loads),
        results.table()
    );
    document::update(&machine, &results.row().into_iter().collect::<Vec<_>>(), "pki", &section)
}

/// As one would with kubeadm: a CA on the first control plane, copied to the others; then every
/// node's own. `$0` is kubeadm, `$1` a directory.
fn kubeadm_script() -> String {
    format!(
        r#"set -e
common="--kubernetes-version {SOURCE_VERSION} --control-plane-endpoint api.example.test:6443"
for n in $(seq {CONTROL_PLANES}); do
    mkdir -p "$1/cp-$n/etcd"
    if [ "$n" != 1 ]; then
        for f in ca.crt ca.key sa.key sa.pub front-proxy-ca.crt front-proxy-ca.key etcd/ca.crt etcd/ca.key; do
            cp "$1/cp-1/$f" "$1/cp-$n/$f"
        done
    fi
    "$0" init phase certs all $common --cert-dir "$1/cp-$n" --apiserver-advertise-address 10.64.0.$n
    "$0" init phase kubeconfig all $common --cert-dir "$1/cp-$n" --kubeconfig-dir "$1/cp-$n" \
        --apiserver-advertise-address 10.64.0.$n --node-name cp-$n
done
for n in $(seq {WORKERS}); do
    "$0" init phase kubeconfig kubelet $common --cert-dir "$1/cp-1" --kubeconfig-dir "$1/worker-$n" \
        --apiserver-advertise-address 10.64.0.1 --node-name worker-$n
done
"#
    )
}

/// Private keys below a directory, each once: as PEM files, and within kubeconfigs.
fn collect_keys(directory: &Path, found: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_keys(&path, found)?;
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        let begin = "-----BEGIN RSA PRIVATE KEY-----";
        for key in text.split(begin).skip(1) {
            found.insert(key.split("-----END").next().unwrap_or_default().to_owned());
        }
        for key in text.split("client-key-data:").skip(1) {
            found.insert(key.split_whitespace().next().unwrap_or_default().to_owned());
        }
    }
    Ok(())
}

struct Results {
    /// Of slipway, kubeadm and openssl.
    costs: [Vec<Cost>; 3],
    keys: usize,
    processors: usize,
}

impl Results {
    fn middle(&self, who: usize, value: fn(&Cost) -> f64) -> f64 {
        median(self.costs[who].iter().map(value)).unwrap_or_default()
    }

    fn elapsed(&self, who: usize) -> f64 {
        self.middle(who, |cost| cost.elapsed)
    }

    /// How many processors worked on the average.
    fn busy(&self, who: usize) -> f64 {
        self.middle(who, |cost| (cost.own + cost.children) / cost.elapsed)
    }

    fn row(&self) -> Option<Row> {
        let slipway = self.elapsed(0);
        (slipway > 0.0).then(|| Row {
            measure: "keys and certificates of 5 control planes and 100 workers",
            measured: format!(
                "{slipway:.1} s, {:.2} of {} processors busy; {:.2} of kubeadm's time, {:.2} of openssl's",
                self.busy(0),
                self.processors,
                slipway / self.elapsed(1),
                slipway / self.elapsed(2)
            ),
            reached: None,
        })
    }

    fn table(&self) -> String {
        let mut text = String::from(
            "| | seconds | median | processor time | processors busy | slipway takes |\n|---|---|---|---|---|---|\n",
        );
        let openssl = format!("openssl genrsa, {} times", self.keys);
        for (who, title) in ["slipway render", "kubeadm", &openssl].into_iter().enumerate() {
            let times: Vec<String> = self.costs[who].iter().map(|cost| format!("{:.1}", cost.elapsed)).collect();
            let ratio = match who {
                0 => String::new(),
                _ => format!("{:.2} of it", self.elapsed(0) / self.elapsed(who)),
            };
            let _ = writeln!(
                text,
                "| {title} | {} | {:.1} s | {:.1} s | {:.2} | {ratio} |",
                times.join(", "),
                self.elapsed(who),
                self.middle(who, |cost| cost.own + cost.children),
                self.busy(who),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_once_wherever_it_is() {
        let scratch = Scratch::new("pki-keys").unwrap();
        let write = |name: &str, text: &str| {
            let path = scratch.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let key = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        write("a/ca.key", key);
        write("b/ca.key", key);
        write("b/kubelet.pem", &format!("certificate\n{}", key.replace("AAAA", "BBBB")));
        write("b/admin.conf", "users:\n- user:\n    client-key-data: Q0ND\n");
        write("b/kubelet.conf", "client-key: /var/lib/kubelet/pki/x.pem\n");
        let mut found = BTreeSet::new();
        collect_keys(scratch.path(), &mut found).unwrap();
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn ratios_are_of_the_medians() {
        let cost = |elapsed: f64| Cost { elapsed, own: 2.0 * elapsed, ..Cost::default() };
        let costs = [vec![cost(1.0), cost(3.0), cost(2.0)], vec![cost(8.0)], vec![cost(4.0)]];
        let row = Results { costs, keys: 7, processors: 2 }.row().unwrap();
        assert_eq!(row.measured, "2.0 s, 2.00 of 2 processors busy; 0.25 of kubeadm's time, 0.50 of openssl's");
    }
}

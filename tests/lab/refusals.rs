//! Bad input and hosts that are not as they must be: each is told clearly, with its exit code, and
//! nothing is changed on any host.

use serde_json::{Value, json};

use super::machines::Machines;
use super::plan_file::{plan, with_local_proxy, write};
use super::slipway::{Desk, Ended};
use super::snapshot::Snapshot;

const HOSTS: [&str; 3] = ["cp-34", "cp-35", "cp-36"];
const ROLES: &[&str] = &["control-plane", "worker"];

/// Empty hosts, a good plan for them, and how they were.
struct Scene {
    machines: Machines,
    desk: Desk,
    good: Value,
    before: Snapshot,
}

impl Scene {
    /// Applies a changed plan, which must be refused like this, with all hosts as they were.
    fn refuses(&self, title: &str, code: i32, says: &[&str], change: impl FnOnce(&mut Value)) -> Ended {
        self.machines.step(title);
        let mut plan = self.good.clone();
        change(&mut plan);
        let file = write(&self.desk, "bad", &plan);
        let ended = self.desk.run_for(code, &["apply", &file, "--yes"]);
        for text in says {
            ended.says(text);
        }
        self.before.is_unchanged(&self.machines);
        ended
    }

    /// The same on hosts that a script broke; another script mends them.
    fn refuses_on_broken(&mut self, title: &str, scripts: [&str; 2], code: i32, says: &[&str], change: impl FnOnce(&mut Value)) {
        self.machines.shell("cp-35", scripts[0]);
        self.before = Snapshot::of(&self.machines, &HOSTS);
        self.refuses(title, code, says, change);
        self.machines.shell("cp-35", scripts[1]);
        self.before = Snapshot::of(&self.machines, &HOSTS);
    }
}

#[test]
#[ignore = "in the lab, with `cargo xtask test`"]
fn bad_input_is_told_and_nothing_is_changed() {
    let machines = Machines::boot(&HOSTS);
    let desk = Desk::new();
    let good = with_local_proxy(plan(&machines, &HOSTS.map(|name| (name, ROLES))));
    let before = Snapshot::of(&machines, &HOSTS);
    let mut scene = Scene { machines, desk, good, before };

    scene.refuses("an unknown key", 3, &["bad.yaml", "podCidr", "podCidrs"], |plan| {
        plan["network"] = json!({ "podCidr": ["10.244.0.0/16"] });
    });
    scene.refuses("overlapping networks, and a second problem at once", 3, &["overlap", "nodeMaskV4", "2 errors"], |plan| {
        plan["network"] = json!({ "podCidrs": ["10.244.0.0/16"], "serviceCidrs": ["10.244.128.0/20"], "nodeMaskV4": 8 });
    });
    scene.refuses("a host that is not there", 5, &["host cp-35", "10.91.0.250", "nothing was changed"], |plan| {
        plan["hosts"][1]["ssh"] = json!({ "address": "10.91.0.250" });
    });
    let other_key = scene.machines.host_key("cp-36");
    scene.refuses("a host with another key", 5, &["host cp-35", "host key"], |plan| {
        plan["hosts"][1]["ssh"] = json!({ "hostKey": other_key });
    });
    scene.refuses("a user without sudo", 5, &["host cp-35", "sudo"], |plan| {
        plan["hosts"][1]["ssh"] = json!({ "user": "nosudo" });
    });
    scene.refuses("a key that opens nothing", 5, &["host cp-35", "Permission denied"], |plan| {
        plan["hosts"][1]["ssh"] = json!({ "user": "nobody" });
    });
    scene.refuses("a program that is not on this machine", 3, &["local-file-missing", "/nowhere/kubelet"], |plan| {
        plan["binaries"]["kubelet"] = json!({ "upload": "/nowhere/kubelet" });
    });

    let mend = "mv /usr/sbin/conntrack.away /usr/sbin/conntrack";
    scene.refuses_on_broken(
        "a host without a command",
        ["mv /usr/sbin/conntrack /usr/sbin/conntrack.away", mend],
        4,
        &["host cp-35", "missing commands: conntrack", "error[commands]"],
        |_| {},
    );
    scene.refuses_on_broken(
        "a host without the command that locks",
        ["mv /usr/bin/flock /usr/bin/flock.away", "mv /usr/bin/flock.away /usr/bin/flock"],
        4,
        &["host cp-35", "flock", "nothing was changed; run the same command again when the host is ready"],
        |_| {},
    );
    scene.refuses_on_broken(
        "a full disk",
        ["mount -o remount,size=8m /run", "mount -o remount,size=20% /run"],
        4,
        &["host cp-35", "error[disk-space]", "/run"],
        |_| {},
    );
    scene.refuses_on_broken(
        "a port in use, and an address that is another host's",
        ["systemd-run -q --unit=busy systemd-socket-activate -l 2379 /bin/cat; sleep 1", "systemctl stop busy"],
        4,
        &["error[ports]", "2379", "error[address]"],
        |plan| {
            let first = plan["hosts"][0]["address"].clone();
            plan["hosts"][0]["ssh"] = json!({ "address": first });
            plan["hosts"][0]["address"] = json!("10.91.0.251");
        },
    );

    let traces = "mkdir -p /etc/kubernetes/manifests /etc/kubernetes/pki; echo x > /etc/kubernetes/pki/ca.crt; \
        echo 'apiVersion: v1' > /etc/kubernetes/manifests/kube-apiserver.yaml";
    scene.refuses_on_broken(
        "a host that carries another cluster",
        [traces, "rm -rf /etc/kubernetes"],
        4,
        &["host cp-35 carries a cluster that slipway did not make", "/etc/kubernetes/pki/ca.crt"],
        |_| {},
    );

    scene.machines.power_off("cp-36");
    scene.before = Snapshot::of(&scene.machines, &HOSTS[..2]);
    let ended = scene.refuses("one control plane is away: no second CA is made", 5, &["host cp-36", "never makes a second CA"], |_| {});
    assert!(ended.took.as_secs() < 60, "{ended}");
    for name in &HOSTS[..2] {
        scene.machines.shell(name, "[ ! -e /etc/kubernetes/pki ] && [ ! -e /var/lib/slipway ]");
    }
}

//! Everything of a host that a run might change, as lines of text that can be compared.

use super::machines::Machines;

/// Files (with size, mode, owner, time of change), links, mounts, interfaces, units, kernel
/// settings. Left out is what lives by itself: logs, caches, what a login leaves behind, and the
/// lock below /run (which goes with a reboot). /etc/hosts is the lab's own.
const LOOK: &str = r#"
cd /
find / /var/lib -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/log \
    -o -path /var/tmp -o -path /var/cache -o -path /var/lib/systemd -o -path /var/lib/containerd -o -path /var/lib/etcd \
    -o -path /var/lib/kubelet/pods -o -path /root/.bash_history -o -path /etc/hosts \) -prune -o \
    \( -type d -printf 'directory %p %m %U:%G\n' -o -printf '%y %p %m %U:%G %s %T@ %l\n' \) | sort -u
find /var/lib/etcd /run/slipway/work /tmp -maxdepth 1 2>/dev/null | grep -v systemd-private
cut -d' ' -f1-3 /proc/self/mounts | grep -v -e ' /run/user' -e '/run/credentials' | sort
ip -o link show | sed 's/^[0-9]*: //; s/ qlen.*//' | sort
ip route show
systemctl list-units --type=service --plain --no-legend --state=active | cut -d' ' -f1 | grep -v -e '^user' -e '^systemd-' -e '^session' | sort
sysctl net.ipv4.ip_forward
ctr -n k8s.io containers ls -q 2>/dev/null
"#;

/// How some hosts are.
#[derive(Debug)]
pub struct Snapshot(Vec<(String, String)>);

impl Snapshot {
    /// Looks at hosts that answer.
    pub fn of(machines: &Machines, names: &[&str]) -> Self {
        Self(names.iter().map(|name| ((*name).to_owned(), machines.shell(name, LOOK))).collect())
    }

    /// Fails with the lines that differ now.
    pub fn is_unchanged(&self, machines: &Machines) {
        for (name, before) in &self.0 {
            let after = machines.shell(name, LOOK);
            let differences: Vec<String> = similar::TextDiff::from_lines(before.as_str(), after.as_str())
                .iter_all_changes()
                .filter(|change| change.tag() != similar::ChangeTag::Equal)
                .map(|change| format!("{}{}", change.tag(), change.value()))
                .collect();
            assert!(differences.is_empty(), "host {name} was changed:\n{}", differences.concat());
        }
    }
}

# Prints a host as text, so that two moments can be compared line by line. Left out: times, what
# lives in memory only (/run, /tmp), logs and login records, and what belongs to the lab itself
# (/etc/hosts names the lab's other hosts). containerd's files are compared through containerd.
set -u
LC_ALL=C
export LC_ALL
section() { printf '== %s\n' "$1"; }

# Both the root and /var/lib, which is a file system of its own in the lab.
everything() {
  find / /var/lib -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /dev -o -path /var/log/journal \
    -o -path /var/lib/containerd -o -path /var/cache -o -path '/var/tmp/systemd-private-*' -o -path /etc/hosts \
    -o -path /var/log/wtmp -o -path /var/log/lastlog -o -path '/var/lib/systemd/*' \) -prune -o "$@"
}

section files
everything -printf '%p %y %m %U:%G %l\n' | sort -u
section content
everything -type f \( -size -2048k -o -path '/usr/local/*' \) -print0 | sort -zu | xargs -0 sha256sum
section mounts
cut -d' ' -f2,3 /proc/mounts | sort
section namespaces
ls /run/netns 2>/dev/null
section links
ip -o link | cut -d: -f2-
section addresses
# An address is tentative for a second after it is set.
ip -o addr | cut -d: -f2- | sed 's/valid_lft.*//; s/ tentative//; s/ dadfailed//'
section routes
ip -4 route
ip -6 route | grep -v '^fe80'
# The kernel keeps built-in chains once somebody has looked at them; empty and accepting they do nothing.
section rules
for program in iptables ip6tables iptables-legacy ip6tables-legacy; do
  "$program-save" 2>/dev/null | grep -v -e '^#' -e '^:[A-Z]* ACCEPT ' -e '^\*' -e '^COMMIT' | sed "s/^/$program /"
done
section units
systemctl list-units --no-legend --plain --all --type=service,socket,timer,swap,slice |
  while read -r name loaded active sub _; do printf '%s %s %s %s\n' "$name" "$loaded" "$active" "$sub"; done |
  grep -v -e ' not-found ' -e '^ssh@' -e '^session' -e '^user' -e '^systemd-' -e 'clean.*timer' | sort
systemctl list-unit-files --no-legend | while read -r name state _; do printf '%s %s\n' "$name" "$state"; done | sort
# Some count what happens, and some follow from the lab's other hosts.
section parameters
sysctl -a 2>/dev/null | grep -e '^net\.' -e '^vm\.overcommit' -e '^vm\.panic' -e '^kernel\.panic' -e '^kernel\.keys' |
  grep -v -e 'nf_conntrack_count' -e '\.neigh\.' -e 'stable_secret' -e 'nf_conntrack_buckets'
section swaps
cat /proc/swaps
section modules
[ ! -e /proc/modules ] || cut -d' ' -f1 /proc/modules | sort
section images
ctr -n k8s.io images ls -q
section containers
ctr -n k8s.io containers ls -q
ctr -n k8s.io tasks ls -q
ctr -n k8s.io snapshots ls | grep -vc Committed
ls /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes /run/containerd/io.containerd.runtime.v2.task/k8s.io 2>/dev/null | grep -v ':$' | grep .
section processes
for process in /proc/[0-9]*; do
  IFS= read -r name 2>/dev/null <"$process/comm" && case $name in containerd-shim* | kube* | etcd | pause | coredns) printf '%s\n' "$name" ;; esac
done | sort
section groups
find /sys/fs/cgroup -maxdepth 2 -name 'kubepods*'
exit 0

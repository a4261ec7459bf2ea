# What was on the host before slipway that no record is about, because Kubernetes itself will change
# or make it. `reset` compares with this note. It is written once, before anything else.

# Directories and files that the kubelet, the runtime or a network provider make.
kubernetes_paths='/run/flannel /run/xtables.lock /etc/cni/net.d/10-flannel.conflist /opt/cni/bin/flannel
/etc/cni/net.d /etc/cni /opt/cni/bin /opt/cni /opt/containerd/bin /opt/containerd/lib /opt/containerd
/usr/libexec/kubernetes/kubelet-plugins/volume/exec /usr/libexec/kubernetes/kubelet-plugins/volume
/usr/libexec/kubernetes/kubelet-plugins /usr/libexec/kubernetes /var/run/kubernetes
/var/log/pods /var/log/containers /var/lib/cni /var/lib/kubelet /var/lib/containerd
/etc/kubernetes/manifests /etc/kubernetes/pki /etc/kubernetes/tmp /etc/kubernetes'

# Parameters that the kubelet, kube-proxy and the CNI plugins set.
kubernetes_parameters='vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops
kernel/keys/root_maxkeys kernel/keys/root_maxbytes net/ipv4/ip_forward net/ipv6/conf/all/forwarding
net/ipv4/conf/all/route_localnet net/bridge/bridge-nf-call-iptables net/bridge/bridge-nf-call-ip6tables
net/netfilter/nf_conntrack_max net/netfilter/nf_conntrack_tcp_timeout_established
net/netfilter/nf_conntrack_tcp_timeout_close_wait net/ipv4/vs/conntrack net/ipv4/vs/conn_reuse_mode
net/ipv4/vs/expire_nodest_conn net/ipv4/vs/expire_quiescent_template net/ipv4/conf/all/arp_ignore
net/ipv4/conf/all/arp_announce'

# Interfaces that the network providers make.
kubernetes_interfaces='cni0 flannel.1 flannel-v6.1 kube-ipvs0'

# note_surroundings SOCKET
note_surroundings() {
  if [ -e "$lib/surroundings" ]; then return 0; fi
  # A host that an older slipway changed: what was there before can no longer be seen.
  for record in "$lib"/records/*; do if [ -e "$record" ]; then return 0; fi; done
  {
    for path in $kubernetes_paths; do
      if [ -e "$ROOT$path" ] || [ -L "$ROOT$path" ]; then printf 'path=%s\n' "$path"; fi
    done
    if [ -d "$ROOT/etc/kubernetes" ]; then
      (cd "$ROOT/etc/kubernetes" && find . -mindepth 1) | sed 's,^\.,path=/etc/kubernetes,'
    fi
    for interface in $kubernetes_interfaces; do
      if [ -e "$ROOT/sys/class/net/$interface" ]; then printf 'interface=%s\n' "$interface"; fi
    done
    for parameter in $kubernetes_parameters; do
      if [ -r "$ROOT/proc/sys/$parameter" ]; then
        printf 'parameter=%s=%s\n' "$parameter" "$(cat "$ROOT/proc/sys/$parameter")"
      fi
    done
    if ! command -v ctr >/dev/null; then
      printf 'images=known\n'
    elif timeout 10 ctr --address "$1" -n k8s.io images ls -q >"$lib/stage/images" 2>/dev/null; then
      printf 'images=known\n'
      sed 's/^/image=/' "$lib/stage/images"
    fi
  } >"$lib/stage/surroundings" || fail 'cannot write below /var/lib/slipway (disk full?)'
  durable "$lib/stage/surroundings"
  mv -f "$lib/stage/surroundings" "$lib/surroundings"
}

# noted KEY=VALUE: whether the note has it.
noted() { [ -e "$lib/surroundings" ] && grep -qxF -e "$1" "$lib/surroundings"; }

# Static pods. The kubelet needs a moment to see a new manifest; until then the old pod answers
# health questions, and would be taken for the new one.

# note_pod SOCKET NAME: remembers the running containers of the static pod.
note_pod() {
  socket=$1
  noted=
  command -v ctr >/dev/null && systemctl -q is-active kubelet.service || return 0
  filter="labels.\"io.kubernetes.pod.name\"~=\"^$2-\",labels.\"io.kubernetes.pod.namespace\"==kube-system"
  for container in $(ctr --address "$socket" -n k8s.io containers ls -q "$filter" 2>/dev/null); do
    if is_running "$container"; then noted="$noted $container"; fi
  done
}

is_running() {
  ctr --address "$socket" -n k8s.io tasks ls 2>/dev/null | grep -q "^$1 .*RUNNING"
}

# await_pod NAME: returns when none of the noted containers runs any more.
await_pod() {
  rounds=0
  for container in $noted; do
    while is_running "$container"; do
      rounds=$((rounds + 1))
      if [ "$rounds" -gt 750 ]; then fail "the kubelet did not stop the old $1 within 150 s"; fi
      sleep 0.2
    done
  done
}

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
#
# A kubelet that has not reached an API server since it began ends no pod, also if its manifest is
# gone or another one: it might not know of all pods yet. On a control plane whose API server waits
# for this very change that would be for ever. So after a minute (the kubelet gives a pod 30 s) the
# containers are ended here. Then the kubelet is begun anew: it holds a new pod back until it has
# ended the old one itself, of which it knows nothing afterwards.
await_pod() {
  rounds=0
  for container in $noted; do
    while is_running "$container"; do
      rounds=$((rounds + 1))
      case $rounds in
        300) signal_pod TERM ;;
        450) signal_pod KILL ;;
      esac
      if [ "$rounds" -gt 750 ]; then fail "the kubelet did not stop the old $1 within 150 s"; fi
      sleep 0.2
    done
  done
  if [ "$rounds" -ge 300 ]; then systemctl restart kubelet.service || fail 'kubelet.service does not start'; fi
}

signal_pod() {
  for other in $noted; do
    if is_running "$other"; then ctr --address "$socket" -n k8s.io tasks kill -s "$1" "$other" >/dev/null 2>&1 || :; fi
  done
}

# What Kubernetes runs and keeps on a host: containers, mounts, data.

# mounts_below DIRECTORY: mount points below it, inner ones first.
mounts_below() {
  while read -r _ where _; do
    case $where in
      *\\*) where=$(printf '%b' "$where") ;;
    esac
    case $where in "$1"/*) printf '%s\n' "$where" ;; esac
  done <"$ROOT/proc/mounts" | sort -r
}

# await_runtime SOCKET: at most about 30 seconds.
await_runtime() {
  tries=0
  until timeout 10 ctr --address "$1" version >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -ge 60 ]; then return 1; fi
    sleep 0.5
  done
}

# remove_pods SOCKET
remove_pods() {
  if command -v ctr >/dev/null; then
    if ! timeout 10 ctr --address "$1" version >/dev/null 2>&1; then
      # A runtime that is off may still know of containers.
      if systemctl cat containerd.service >/dev/null 2>&1 && [ -e "$ROOT/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db" ]; then
        if ! systemctl is-active --quiet containerd.service; then : >"$lib/runtime-started"; fi
        systemctl start containerd.service || fail 'containerd does not start, so its containers cannot be removed'
        await_runtime "$1" || fail "containerd does not answer on $1, so its containers cannot be removed"
        remove_containers "$1"
      fi
    else
      remove_containers "$1"
    fi
  fi
  end_shims
}

remove_containers() {
  tries=0
  while :; do
    timeout 30 ctr --address "$1" -n k8s.io containers ls -q >"$lib/stage/containers" || fail "containerd does not answer on $1"
    if [ ! -s "$lib/stage/containers" ]; then return 0; fi
    tries=$((tries + 1))
    if [ "$tries" -gt 5 ]; then
      tail -n 3 "$lib/stage/answer" >&2
      fail "containers cannot be removed: $(tr '\n' ' ' <"$lib/stage/containers")"
    fi
    timeout 30 ctr --address "$1" -n k8s.io tasks ls -q >"$lib/stage/tasks" || fail "containerd does not answer on $1"
    # What `rm -f` does, a kill of all processes in a container's group, ends none where systemd's group of it
    # is another. The end of the first process is the end of all in a namespace of processes.
    if [ "$tries" -gt 1 ]; then
      xargs -r -n 1 -P 8 timeout 30 ctr --address "$1" -n k8s.io tasks kill -s SIGKILL <"$lib/stage/tasks" >/dev/null 2>&1 || :
    fi
    # Their exit status is that of the processes they end.
    xargs -r -n 1 -P 8 timeout 30 ctr --address "$1" -n k8s.io tasks rm -f <"$lib/stage/tasks" >/dev/null 2>"$lib/stage/answer" || :
    xargs -r -n 1 -P 8 timeout 30 ctr --address "$1" -n k8s.io containers rm <"$lib/stage/containers" >/dev/null 2>>"$lib/stage/answer" || :
  done
}

# shims: processes of the runtime that keep a pod.
shims() {
  grep -lzxF -e k8s.io "$ROOT"/proc/[0-9]*/cmdline 2>/dev/null | xargs -r grep -lzF -e containerd-shim 2>/dev/null | sed 's,.*/proc/\([0-9]*\)/cmdline,\1,'
}

# end_shims: they end by themselves when their last container is gone; at most about 10 seconds.
end_shims() {
  tries=0
  while [ -n "$(shims)" ]; do
    tries=$((tries + 1))
    if [ "$tries" -ge 50 ]; then
      for shim in $(shims); do
        children=
        IFS= read -r children <"$ROOT/proc/$shim/task/$shim/children" 2>/dev/null || :
        # shellcheck disable=SC2086
        kill -9 $children "$shim" 2>/dev/null || :
      done
      if [ "$tries" -ge 75 ]; then fail 'processes of pods do not end'; fi
    fi
    sleep 0.2
  done
}

# unmount PATH: a mount whose users have just ended may be busy for a moment.
unmount() {
  tries=0
  until umount -- "$1" 2>"$lib/stage/answer"; do
    if ! mounts_below "${1%/*}" | grep -qxF -e "$1"; then return 0; fi
    tries=$((tries + 1))
    if [ "$tries" -ge 25 ]; then
      tail -n 3 "$lib/stage/answer" >&2
      fail "cannot unmount $1; nothing below /var/lib/kubelet was deleted"
    fi
    sleep 0.2
  done
}

# remove_mounts: below the real place of the kubelet's directory, which may be a link; and what the
# runtime mounted for sandboxes.
remove_mounts() {
  for directory in "$ROOT/var/lib/kubelet" "$ROOT/run/containerd/io.containerd.grpc.v1.cri" \
    "$ROOT/run/containerd/io.containerd.runtime.v2.task/k8s.io"; do
    if directory=$(cd -P "$directory" 2>/dev/null && pwd -P); then
      mounts_below "$directory" >"$lib/stage/mounts"
      while IFS= read -r place; do unmount "$place"; done <"$lib/stage/mounts"
    fi
  done
  # Named by the CRI part of the runtime; others (podman's `netns-…`) are not ours.
  for namespace in "$ROOT"/run/netns/cni-????????-????-????-????-????????????; do
    if [ -e "$namespace" ]; then
      while mounts_below "$ROOT/run/netns" | grep -qxF -e "$namespace"; do unmount "$namespace"; done
      rm -f "$namespace"
    fi
  done
}

# empty DIRECTORY: removes what is in it, but never through a mount.
empty() {
  if directory=$(cd -P "$ROOT$1" 2>/dev/null && pwd -P); then
    if [ -n "$(mounts_below "$directory")" ]; then fail "something is still mounted below $1; nothing of it was deleted"; fi
    find "$directory" -xdev -mindepth 1 -delete || fail "cannot empty $1"
  fi
}

# remove_own PATH FOREIGN: a file or directory of Kubernetes that was not there before and of which
# slipway has no record. Of a foreign cluster nothing is known, so there it goes in any case.
remove_own() {
  if [ "$2" = no ]; then
    if [ ! -e "$lib/surroundings" ] || noted "path=$1"; then return 0; fi
    read_record "$1"
    if [ -e "$record" ]; then return 0; fi
  fi
  if [ -d "$ROOT$1" ] && [ ! -L "$ROOT$1" ]; then
    rmdir "$ROOT$1" 2>/dev/null || :
  else
    rm -f "$ROOT$1" || fail "cannot remove $1"
  fi
}

# remove_data FOREIGN [ETCD]: what Kubernetes wrote. FOREIGN is `yes` or `no`.
remove_data() {
  empty /var/lib/kubelet
  # Only what etcd itself makes: the directory is a choice of the plan.
  if [ $# -gt 1 ]; then rm -rf --one-file-system "$ROOT$2/member" || fail "cannot remove $2/member"; fi
  for name in admin super-admin kubelet bootstrap-kubelet controller-manager scheduler; do
    remove_own "/etc/kubernetes/$name.conf" "$1"
  done
  for name in manifests pki tmp; do
    if [ -d "$ROOT/etc/kubernetes/$name" ]; then
      (cd "$ROOT/etc/kubernetes" && find "./$name" -depth -mindepth 1) >"$lib/stage/own"
      while IFS= read -r path; do remove_own "/etc/kubernetes/${path#./}" "$1"; done <"$lib/stage/own"
    fi
  done
  empty /var/log/pods
  if [ -d "$ROOT/var/log/containers" ]; then find "$ROOT/var/log/containers" -mindepth 1 -maxdepth 1 -type l -delete; fi
  for name in results cache networks/slipway-bridge networks/cbr0; do
    rm -rf --one-file-system "$ROOT/var/lib/cni/$name"
  done
  rmdir "$ROOT/var/lib/cni/networks" 2>/dev/null || :
  rm -rf "$ROOT/run/slipway/cni" "$ROOT/run/flannel"
}

# end_pods SOCKET: of a host whose kubelet stands still and will make them anew. Where crictl is there it
# takes their networks down properly first.
end_pods() {
  if command -v crictl >/dev/null; then
    timeout 60 crictl --runtime-endpoint "unix://$1" pods -q 2>/dev/null | xargs -r timeout 120 crictl --runtime-endpoint "unix://$1" stopp >/dev/null 2>&1 || :
  fi
  remove_pods "$1"
}

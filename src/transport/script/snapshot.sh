# Snapshots from before an upgrade: files that it replaces and, on one host, what etcd holds. All of it is
# gathered in a place that counts for nothing, and becomes a snapshot by one rename.

# take_snapshot SOCKET WAY KEEP ETCD FILE...
# WAY is FROM_to_TO. ETCD is the data directory of the member, or nothing.
take_snapshot() {
  socket=$1
  way=$2
  keep=$3
  etcd=$4
  shift 4
  snapshots=$lib/snapshots
  part=$snapshots/.part
  mkdir -p "$snapshots" || fail 'cannot write below /var/lib/slipway/snapshots (disk full?)'
  # Whatever becomes of this run: the next script of any kind clears what is named here.
  printf '%s\n' "$part" "$snapshots/.old" >>"$lib/staged-elsewhere"
  rm -rf "$part" "$snapshots/.old"
  mkdir "$part" || fail 'cannot write below /var/lib/slipway/snapshots (disk full?)'
  for path in "$@"; do
    if [ -f "$ROOT$path" ]; then
      copy=$part$path
      if ! mkdir -p "${copy%/*}" || ! cp -pL "$ROOT$path" "$copy"; then fail "cannot copy $path to /var/lib/slipway/snapshots (disk full?)"; fi
    fi
  done
  if [ -n "$etcd" ]; then save_etcd; fi
  sync -f "$part" 2>/dev/null || sync
  taken=$(date -u +%Y%m%dT%H%M%SZ)_$way
  mv -T "$part" "$snapshots/$taken" || fail "cannot make the snapshot $taken"
  sync -f "$snapshots" 2>/dev/null || sync
  prune_snapshots
}

# save_etcd: $part/etcd.db holds what the member has, checked.
save_etcd() {
  size=$(stat -L -c %s "$ROOT$etcd/member/snap/db" 2>/dev/null) || fail "there is no database of etcd below $etcd"
  # The member writes it itself, where it can: beside its own data. A member whose disk is full ends.
  need_room "$etcd" "$ROOT$etcd"
  need_room /var/lib/slipway/snapshots "$snapshots"
  find_etcd
  place=slipway-snapshot.$(date +%s).$$
  for left in "$ROOT$etcd"/slipway-snapshot.*; do rm -rf "$left"; done
  printf '%s\n' "$ROOT$etcd/$place" >>"$lib/staged-elsewhere"
  mkdir "$ROOT$etcd/$place" || fail "cannot write below $etcd"
  if ! run_in_etcd etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \
    --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt --key /etc/kubernetes/pki/etcd/healthcheck-client.key \
    snapshot save "$etcd/$place/etcd.db" </dev/null >"$lib/stage/answer" 2>&1; then
    tail -n 5 "$lib/stage/answer" >&2
    fail 'etcdctl in the container of etcd cannot save a snapshot'
  fi
  mv -f "$ROOT$etcd/$place/etcd.db" "$part/etcd.db" || fail "cannot move the snapshot of etcd to /var/lib/slipway/snapshots (disk full?)"
  rm -rf "${ROOT:-}$etcd/$place"
  chmod 0600 "$part/etcd.db"
  [ -z "$owner" ] || chown 0:0 "$part/etcd.db"
  check_snapshot "$part/etcd.db"
}

# need_room NAME DIRECTORY: for $size bytes, a tenth and 64 MiB.
need_room() {
  free=$(df -P -k "$2" | { read -r _; read -r _ _ _ free _; printf '%s' "$free"; })
  if [ "$free" -lt $((size / 1024 + size / 10240 + 65536)) ]; then
    fail "only $((free / 1024)) MiB are free on $1, too little for a snapshot of etcd's $((size / 1048576)) MiB"
  fi
}

# find_etcd: sets $container, and $client to what reaches it.
find_etcd() {
  container=
  if command -v ctr >/dev/null && timeout 10 ctr --address "$socket" version >/dev/null 2>&1; then
    client=ctr
    ctr --address "$socket" -n k8s.io tasks ls >"$lib/stage/tasks" 2>/dev/null || fail "containerd does not answer on $socket"
    for found in $(ctr --address "$socket" -n k8s.io containers ls -q 'labels."io.kubernetes.container.name"==etcd,labels."io.kubernetes.pod.namespace"==kube-system'); do
      if grep -q "^$found .*RUNNING" "$lib/stage/tasks"; then container=$found; fi
    done
  elif command -v crictl >/dev/null; then
    client=crictl
    container=$(crictl --runtime-endpoint "unix://$socket" ps -q --state running --name '^etcd$' --label io.kubernetes.pod.namespace=kube-system | head -n 1)
  else
    fail "neither ctr nor crictl reaches the containers behind $socket, so etcd cannot be asked for a snapshot"
  fi
  [ -n "$container" ] || fail 'no container of etcd runs on this host'
}

# run_in_etcd COMMAND...
run_in_etcd() {
  if [ "$client" = ctr ]; then
    ctr --address "$socket" -n k8s.io tasks exec --exec-id "slipway-$$" "$container" "$@"
  else
    crictl --runtime-endpoint "unix://$socket" exec --sync "$container" "$@"
  fi
}

# check_snapshot FILE: etcd sends the database (whole blocks of 512 bytes) and then the SHA-256 of it.
check_snapshot() {
  size=$(stat -c %s "$1")
  if [ "$size" -le 512 ] || [ $((size % 512)) != 32 ]; then fail "the snapshot of etcd is not whole: $size bytes"; fi
  is=$(head -c $((size - 32)) "$1" | sha256sum)
  said=$(tail -c 32 "$1" | od -A n -v -t x1 | tr -d ' \n')
  if [ "${is%% *}" != "$said" ]; then fail "the snapshot of etcd is damaged: its checksum is $said and should be ${is%% *}"; fi
}

# prune_snapshots: the newest $keep stay, and of this way the first. Their names begin with the time.
prune_snapshots() {
  first=
  surplus=$(list_snapshots | wc -l)
  surplus=$((surplus - keep))
  for old in $(list_snapshots); do
    if [ "$surplus" -le 0 ]; then return 0; fi
    surplus=$((surplus - 1))
    case $old in
      ????????T??????Z_"$way")
        if [ -z "$first" ]; then
          first=$old
          continue
        fi
        ;;
    esac
    # One rename, so that no half of a snapshot ever looks like one.
    mv -T "$snapshots/$old" "$snapshots/.old"
    rm -rf "$snapshots/.old"
  done
}

# list_snapshots: what slipway made, the oldest first. Other names are somebody else's.
list_snapshots() {
  find "$snapshots" -mindepth 1 -maxdepth 1 -type d -name '????????T??????Z_*_to_*' |
    sed 's,.*/,,' | grep -xE '[0-9]{8}T[0-9]{6}Z_[A-Za-z0-9.-]+_to_[A-Za-z0-9.-]+' | sort || :
}

# Images in containerd's namespace of Kubernetes.

# import_images SOCKET ARCHIVE NOTE DIGEST NAME...
# NOTE (of records::archive_note) says afterwards of which archive the images are.
# The connection keeps the archive whole, and containerd checks the digest of every layer in it.
import_images() {
  socket=$1
  note=$3
  archive=$4
  # What was there before is kept until all that is new has its record, even over the death of a run.
  if [ ! -e "$lib/images-before" ]; then
    ctr --address "$socket" -n k8s.io images ls -q >"$lib/stage/before" || fail "containerd does not answer on $socket"
    mv -f "$lib/stage/before" "$lib/images-before"
  fi
  rm -f "$ROOT$note" || fail "cannot remove $note"
  ctr --address "$socket" -n k8s.io images import "$2" >/dev/null || fail 'the image archive cannot be loaded'
  shift 4
  ctr --address "$socket" -n k8s.io images ls -q >"$lib/stage/after" || fail "containerd does not answer on $socket"
  for image in "$@"; do
    grep -qxF -e "$image" "$lib/stage/after" || fail "the image archive does not hold $image"
  done
  while IFS= read -r image; do
    grep -qxF -e "$image" "$lib/images-before" || record_image "$image"
  done <"$lib/stage/after"
  if ! mkdir -p "$lib/archives" || ! printf '%s\n' "$archive" >"$lib/stage/note"; then fail "cannot write $note (disk full?)"; fi
  durable "$lib/stage/note"
  mv -f "$lib/stage/note" "$ROOT$note"
  rm -f "$lib/images-before"
}

# pull_image SOCKET NAME
pull_image() {
  ctr --address "$1" -n k8s.io images ls -q >"$lib/stage/before" || fail "containerd does not answer on $1"
  if grep -qxF -e "$2" "$lib/stage/before"; then return 0; fi
  record_image "$2"
  if command -v crictl >/dev/null; then
    crictl --runtime-endpoint "unix://$1" pull "$2" >/dev/null || fail "cannot pull $2"
  elif [ -d "$ROOT/etc/containerd/certs.d" ]; then
    ctr --address "$1" -n k8s.io images pull --hosts-dir /etc/containerd/certs.d "$2" >/dev/null || fail "cannot pull $2"
  else
    ctr --address "$1" -n k8s.io images pull "$2" >/dev/null || fail "cannot pull $2"
  fi
}

record_image() {
  read_record "image:$1"
  [ -e "$record" ] || write_record "image=$1" kind=image before=absent
}

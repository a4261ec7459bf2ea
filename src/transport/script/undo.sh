# Takes back what slipway did. The thing comes first, then its record: a run that is cut off and
# begun again finds the record and does it once more.

# undo_path PATH
undo_path() {
  read_record "$1"
  if [ ! -e "$record" ]; then return 0; fi
  kept=$record
  case $before in
    absent)
      if [ -d "$ROOT$1" ] && [ ! -L "$ROOT$1" ]; then
        # What somebody else put into a directory of slipway's stays, and the directory with it.
        rmdir "$ROOT$1" 2>/dev/null || :
      else
        rm -f "$ROOT$1" || fail "cannot remove $1"
      fi
      ;;
    original)
      original=$lib/original$1
      if [ ! -e "$original" ] && [ ! -L "$original" ]; then
        fail "the original of $1 is no longer below /var/lib/slipway/original; remove $kept to go on without it"
      fi
      mkdir -p "$ROOT${1%/*}"
      stage_for "$1"
      cp -pP "$original" "$staged" || fail "cannot restore $1 (disk full?)"
      [ -L "$staged" ] || durable "$staged"
      mv -fT "$staged" "$ROOT$1" || fail "cannot put $1 back in its place"
      relabel "$1"
      ;;
    directory)
      if [ ! -d "$ROOT$1" ] || [ -L "$ROOT$1" ]; then
        rm -f "$ROOT$1"
        mkdir "$ROOT$1" || fail "cannot make the directory $1"
      fi
      ;;
    directory\ *)
      if [ -d "$ROOT$1" ]; then
        set -- "$1" "${before#directory }"
        chmod "${2% *}" "$ROOT$1"
        [ -z "$owner" ] || chown "${2#* }" "$ROOT$1"
      fi
      ;;
    *) fail "cannot read the record $kept" ;;
  esac
  rm -f "$kept" "$lib/programs/${kept##*/}"
  rm -f "$lib/original$1"
}

# undo_parameter KEY FILE
undo_parameter() {
  read_record "sysctl:$1"
  if [ ! -e "$record" ]; then return 0; fi
  if [ -e "$ROOT/proc/sys/$2" ]; then
    printf '%s\n' "$before" >"$ROOT/proc/sys/$2" || fail "the kernel refuses $1=$before"
  fi
  rm -f "$record"
}

# undo_module NAME: best effort, something else may use it by now.
undo_module() {
  read_record "module:$1"
  if [ ! -e "$record" ]; then return 0; fi
  modprobe -r -- "$1" 2>/dev/null || :
  rm -f "$record"
}

# undo_swap: /etc/fstab is a path of its own and back in its place by now.
undo_swap() {
  read_record swap
  if [ ! -e "$record" ]; then return 0; fi
  while IFS= read -r line; do
    case $line in unit=*) systemctl unmask -- "${line#unit=}" >/dev/null 2>&1 || : ;; esac
  done <"$record"
  systemctl daemon-reload || fail 'systemctl daemon-reload failed'
  while IFS= read -r line; do
    case $line in
      device=*)
        device=${line#device=}
        if ! grep -qF -e "$device " "$ROOT/proc/swaps" && [ -e "$ROOT$device" ]; then
          swapon "$device" || fail "cannot use $device for swap again"
        fi
        ;;
    esac
  done <"$record"
  rm -f "$record"
}

# is_new UNIT: whether there was none before slipway. Its unit's record may say otherwise: the file of
# a unit is written before the unit is looked at.
is_new() {
  for directory in /usr/lib/systemd/system /lib/systemd/system /usr/local/lib/systemd/system /run/systemd/system; do
    if [ -e "$ROOT$directory/$1" ]; then return 1; fi
  done
  read_record "/etc/systemd/system/$1"
  if [ "$before" = absent ]; then return 0; fi
  read_record "unit:$1"
  case $before in absent*) return 0 ;; *) return 1 ;; esac
}

# stop_unit NAME: stopped; and no longer started at boot if there was none before.
stop_unit() {
  if systemctl cat -- "$1" >/dev/null 2>&1; then
    systemctl stop -- "$1" || fail "cannot stop $1"
    if is_new "$1"; then systemctl disable --quiet -- "$1" 2>/dev/null || :; fi
  fi
}

# undo_unit NAME: as it was; its files are back in their places by now.
undo_unit() {
  read_record "unit:$1"
  if [ ! -e "$record" ]; then return 0; fi
  systemctl daemon-reload || fail 'systemctl daemon-reload failed'
  # Its file is gone with its own record, so there is none now if there was none before.
  if ! systemctl cat -- "$1" >/dev/null 2>&1; then
    before='absent inactive'
    systemctl stop -- "$1" 2>/dev/null || :
    for link in "$ROOT"/etc/systemd/system/*.wants/"$1"; do
      if [ -L "$link" ] && [ ! -e "$link" ]; then rm -f "$link"; fi
    done
    systemctl reset-failed -- "$1" 2>/dev/null || :
  fi
  case ${before% *} in
    enabled) systemctl enable --quiet -- "$1" || fail "cannot enable $1" ;;
    disabled) systemctl disable --quiet -- "$1" || fail "cannot disable $1" ;;
    masked) systemctl mask --quiet -- "$1" || fail "cannot mask $1" ;;
  esac
  case $before in
    absent*) ;;
    *' active' | *' activating' | *' reloading')
      if ! systemctl restart -- "$1"; then
        journalctl -u "$1" -n 10 --no-pager -o cat >&2 2>/dev/null || :
        fail "$1 does not start as it was before"
      fi
      ;;
    *) systemctl stop -- "$1" || fail "cannot stop $1" ;;
  esac
  if [ "$1" = containerd.service ]; then rm -f "$lib/runtime-started"; fi
  rm -f "$lib/stamps/$1" "$record"
}

# undo_images SOCKET NAME...: those that were not there before slipway; where that is not known,
# those that it brought.
undo_images() {
  socket=$1
  shift
  if command -v ctr >/dev/null && ctr --address "$socket" -n k8s.io images ls -q >/dev/null 2>&1; then
    : >"$lib/stage/keep"
    if noted images=known; then sed -n 's/^image=//p' "$lib/surroundings" >"$lib/stage/keep"; fi
    tries=0
    while :; do
      ctr --address "$socket" -n k8s.io images ls -q >"$lib/stage/images" || fail "containerd does not answer on $socket"
      if noted images=known; then
        grep -vxF -f "$lib/stage/keep" "$lib/stage/images" >"$lib/stage/unwanted" || :
      else
        for image in "$@"; do printf '%s\n' "$image"; done >"$lib/stage/brought"
        grep -xF -f "$lib/stage/brought" "$lib/stage/images" >"$lib/stage/unwanted" || :
      fi
      if [ ! -s "$lib/stage/unwanted" ]; then break; fi
      tries=$((tries + 1))
      if [ "$tries" -gt 5 ]; then fail "images come back in the runtime: $(head -n 1 "$lib/stage/unwanted")"; fi
      xargs timeout 120 ctr --address "$socket" -n k8s.io images rm --sync <"$lib/stage/unwanted" >/dev/null || fail 'cannot remove images'
    done
  fi
  for image in "$@"; do
    read_record "image:$image"
    rm -f "$record"
  done
}

# undo_surroundings: what Kubernetes set and made by itself.
undo_surroundings() {
  systemctl daemon-reload || fail 'systemctl daemon-reload failed'
  # Started for this reset only.
  if [ -e "$lib/runtime-started" ]; then
    systemctl stop containerd.service || fail 'cannot stop containerd.service'
    rm -f "$lib/runtime-started"
  fi
  # Pods were taken from under the runtime's CRI part, which forgets them at its start.
  for left in "$ROOT"/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/*; do
    if [ -e "$left" ] && systemctl is-active --quiet containerd.service; then
      systemctl restart containerd.service || fail 'containerd.service does not start again'
    fi
    break
  done
  if [ ! -e "$lib/surroundings" ]; then return 0; fi
  sed -n 's/^parameter=//p' "$lib/surroundings" >"$lib/stage/parameters"
  while IFS= read -r line; do
    file=$ROOT/proc/sys/${line%%=*}
    if [ -w "$file" ]; then
      if [ "$(cat "$file")" != "${line#*=}" ]; then
        # Some belong to the machine and are closed to a container: nobody changed them from here.
        (printf '%s\n' "${line#*=}" >"$file") 2>/dev/null || :
      fi
    fi
  done <"$lib/stage/parameters"
  if ! noted path=/var/lib/containerd && [ -d "$ROOT/var/lib/containerd" ]; then
    if [ -z "$(mounts_below "$ROOT/var/lib/containerd")" ]; then rm -rf --one-file-system "$ROOT/var/lib/containerd"; fi
  fi
  for path in $kubernetes_paths; do
    if noted "path=$path"; then continue; fi
    read_record "$path"
    if [ -e "$record" ]; then continue; fi
    if [ -d "$ROOT$path" ]; then
      rmdir "$ROOT$path" 2>/dev/null || :
    else
      rm -f "$ROOT$path"
    fi
  done
}

# forget: everything slipway kept, its lock too. Nothing more is done on this host by this run.
forget() {
  for record in "$lib"/records/*; do
    if [ -e "$record" ]; then fail "$record was written meanwhile; run the reset again"; fi
  done
  rm -rf "$ROOT/run/slipway/cni"
  rm -rf "$lib" || fail 'cannot remove /var/lib/slipway'
  rm -f "$ROOT/run/slipway/lock" "$ROOT/run/slipway/step.lock" "$ROOT"/run/slipway/noted-* "$ROOT"/run/slipway/version-*
}

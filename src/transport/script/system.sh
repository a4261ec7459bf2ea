# Kernel modules, kernel parameters, swap.

# load_module NAME (with _ for -) NAME
load_module() {
  if [ -d "$ROOT/sys/module/$1" ]; then return 0; fi
  read_record "module:$1"
  [ -e "$record" ] || write_record "module=$1" kind=module before=absent
  modprobe -- "$2" || fail "the kernel module $2 cannot be loaded"
}

# set_parameter KEY FILE VALUE
set_parameter() {
  read_record "sysctl:$1"
  if [ ! -e "$ROOT/proc/sys/$2" ]; then fail "this kernel has no parameter $1"; fi
  if [ ! -e "$record" ]; then
    # Not with `read`: the shell asks for one byte after another, and the kernel gives the first only.
    is=$(cat "$ROOT/proc/sys/$2")
    write_record "sysctl=$1" kind=sysctl "before=$is"
  fi
  printf '%s\n' "$3" >"$ROOT/proc/sys/$2" || fail "the kernel refuses $1=$3"
}

# swap_off: no active swap, now and after a reboot.
swap_off() {
  systemctl list-units --type=swap --state=active --no-legend --plain >"$lib/stage/units" || fail 'systemctl does not answer'
  read_record swap
  if [ ! -e "$record" ]; then
    set -- kind=swap before=active
    while read -r device _; do
      [ "$device" = Filename ] || set -- "$@" "device=$device"
    done <"$ROOT/proc/swaps"
    while read -r unit _; do set -- "$@" "unit=$unit"; done <"$lib/stage/units"
    write_record "$@"
  fi
  # A swap unit comes back at boot or by itself (zram, a GPT partition) unless it is masked.
  while read -r unit _; do
    systemctl mask -- "$unit" >/dev/null 2>&1 </dev/null || :
  done <"$lib/stage/units"
  if [ -e "$ROOT/etc/fstab" ]; then
    sed -E '/^[[:space:]]*#/!s/^([[:space:]]*[^[:space:]]+[[:space:]]+[^[:space:]]+[[:space:]]+swap([[:space:]]|$))/# slipway: \1/' "$ROOT/etc/fstab" >"$lib/stage/fstab"
    if ! cmp -s "$lib/stage/fstab" "$ROOT/etc/fstab"; then
      digest=$(sha256sum <"$lib/stage/fstab")
      install_file /etc/fstab "$(stat -c 0%a "$ROOT/etc/fstab")" "${digest%% *}" "$lib/stage/fstab"
    fi
  fi
  swapoff -a || fail 'swap cannot be turned off (too little memory?)'
}

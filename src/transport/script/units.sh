# systemd units and their stamps.

# start_unit NAME STAMP RESTART INPUT...: the stamp is written only after a start that worked.
# RESTART is `always`, or `stopped` if a unit that runs and has the stamp is left alone.
start_unit() {
  unit=$1
  stamp=$2
  restart=$3
  shift 3
  active=unknown
  enabled=
  loaded=
  reload=
  fragment=
  systemctl show -p ActiveState,UnitFileState,LoadState,NeedDaemonReload,FragmentPath -- "$unit" >"$lib/stage/unit" || fail "systemctl does not answer"
  while IFS= read -r line; do
    case $line in
      ActiveState=*) active=${line#*=} ;;
      UnitFileState=*) enabled=${line#*=} ;;
      LoadState=*) loaded=${line#*=} ;;
      NeedDaemonReload=*) reload=${line#*=} ;;
      FragmentPath=*) fragment=${line#*=} ;;
    esac
  done <"$lib/stage/unit"
  read_record "unit:$unit"
  [ -e "$record" ] || write_record "unit=$unit" kind=unit "before=${enabled:-absent} $active"
  if [ "$enabled" = masked ] || [ "$enabled" = masked-runtime ]; then systemctl unmask -- "$unit"; fi
  # systemd sees that a file it has read has changed, but not that another one stands over a package's.
  own=/etc/systemd/system/$unit
  if [ -e "$ROOT$own" ] && [ "$fragment" != "$own" ]; then reload=yes; fi
  if [ "$reload" = yes ] || [ "$loaded" != loaded ]; then
    systemctl daemon-reload || fail 'systemctl daemon-reload failed'
  fi
  case $enabled in
    enabled | static | alias | indirect | generated | transient) ;;
    *) systemctl enable --quiet -- "$unit" || fail "cannot enable $unit" ;;
  esac
  is=
  if [ -e "$lib/stamps/$unit" ]; then IFS= read -r is <"$lib/stamps/$unit" || :; fi
  if [ "$restart" = always ] || [ "$is" != "$stamp" ] || [ "$active" != active ]; then
    rm -f "$lib/stamps/$unit"
    if ! systemctl restart -- "$unit"; then
      journalctl -u "$unit" -n 10 --no-pager -o cat >&2 2>/dev/null || :
      fail "$unit does not start"
    fi
  fi
  printf '%s\n' "$stamp" >"$lib/stage/stamp"
  for input in "$@"; do printf 'input=%s\n' "$input" >>"$lib/stage/stamp"; done
}

# await_containerd SOCKET: at most about 60 seconds.
await_containerd() {
  tries=0
  until timeout 10 ctr --address "$1" version >/dev/null 2>"$lib/stage/answer"; do
    tries=$((tries + 1))
    if [ "$tries" -ge 120 ]; then
      tail -n 3 "$lib/stage/answer" >&2
      fail "containerd does not answer on $1"
    fi
    sleep 0.5
  done
}

# stamp_unit: the unit of the last start_unit came up with its inputs.
stamp_unit() {
  durable "$lib/stage/stamp"
  mv -f "$lib/stage/stamp" "$lib/stamps/$unit"
}

# halt_unit UNIT FILE...: it stands still, and what it noted for itself is gone. Its stamp goes first: it
# is started again, whatever cuts the run off.
halt_unit() {
  rm -f "$lib/stamps/$1"
  systemctl stop -- "$1" || fail "cannot stop $1"
  shift
  for file in "$@"; do
    rm -f "$ROOT$file" || fail "cannot remove $file"
  done
}

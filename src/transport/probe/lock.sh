# The host's lock, held for as long as the engine is there. The only part of a probe that writes.
umask 077

# take_lock TEXT
take_lock() {
  command -v flock >/dev/null || refuse 'the host has no command flock (package util-linux)'
  [ -d "$ROOT/run/slipway" ] || mkdir -p "$ROOT/run/slipway" || refuse 'cannot write below /run/slipway'
  exec 9>>"$ROOT/run/slipway/lock"
  if ! flock -n 9; then
    holder=
    IFS= read -r holder <"$ROOT/run/slipway/lock" || :
    say "@locked $holder"
    end_answer
    exit 0
  fi
  printf '%s\n' "$1" >"$ROOT/run/slipway/lock"
  # A step of an engine that died may still run: what it changes must not be missed by the probe. While
  # one does, it has a directory.
  for step in "$ROOT"/run/slipway/step-* "$ROOT"/var/lib/slipway/work/step-*; do
    if [ -e "$step" ]; then
      exec 8>>"$ROOT/run/slipway/step.lock"
      flock -w 30 8 || refuse 'a step of an earlier run is still at work after 30 seconds; try again when it has ended'
      exec 8>&-
      break
    fi
  done
}

# note NAME KEY TEXT: for the next probe; /run is empty after a boot.
note() {
  {
    printf '%s\n%s\n' "$2" "$3" >"$ROOT/run/slipway/noted-$1.new" &&
      mv -f "$ROOT/run/slipway/noted-$1.new" "$ROOT/run/slipway/noted-$1"
  } 2>/dev/null || :
}

refuse() {
  say "@refused $1"
  end_answer
  exit 0
}

# hold_lock: until nothing is heard of the engine: its end closes standard input at once, a cut
# line is noticed after a minute.
hold_lock() {
  while timeout 60 sh -c 'IFS= read -r _'; do :; done
}

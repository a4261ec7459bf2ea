# Records: what was on the host before slipway, and what slipway wrote. One small file each.

# read_record NAME: sets $record, $before (empty if there is no record yet) and $written.
read_record() {
  escape "$1"
  record=$lib/records/$name
  before=
  written=
  if [ -e "$record" ]; then
    while IFS= read -r line; do
      case $line in
        before=*) before=${line#before=} ;;
        written=*) written=${line#written=} ;;
      esac
    done <"$record"
  fi
}

# write_record LINE...: the record last read by read_record holds these lines, all or none.
write_record() {
  printf '%s\n' "$@" >"$lib/stage/record" || fail "cannot write $record (disk full?)"
  durable "$lib/stage/record"
  mv -f "$lib/stage/record" "$record"
}

# keep PATH: reads the record of PATH; if slipway never changed PATH, keeps what is there.
keep() {
  read_record "$1"
  [ -z "$before" ] || return 0
  if [ -L "$ROOT$1" ] || [ -f "$ROOT$1" ]; then
    original=$lib/original$1
    if ! mkdir -p "${original%/*}" || ! cp -pP "$ROOT$1" "$lib/stage/original"; then
      fail "cannot keep the original of $1 (disk full?)"
    fi
    [ -L "$lib/stage/original" ] || durable "$lib/stage/original"
    mv -fT "$lib/stage/original" "$original"
    before=original
  elif [ -d "$ROOT$1" ]; then
    before=directory
  elif [ -e "$ROOT$1" ]; then
    fail "$1 is neither a file nor a directory nor a link"
  else
    before=absent
  fi
}

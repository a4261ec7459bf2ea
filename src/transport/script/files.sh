# Directories, files and links: each change is one rename.

# make_parents DIRECTORY: makes it and what is missing above it.
make_parents() {
  if [ -z "$1" ] || [ -d "$ROOT$1" ]; then return 0; fi
  make_parents "${1%/*}"
  make_directory "$1" 0755
}

# make_directory PATH MODE
make_directory() {
  make_parents "${1%/*}"
  read_record "$1"
  if [ -d "$ROOT$1" ]; then
    is=$(stat -L -c '%a %u:%g' "$ROOT$1")
    if [ -z "$before" ]; then
      if [ "0$is" = "$2 0:0" ]; then return 0; fi
      write_record "path=$1" kind=directory "before=directory $is"
    fi
  else
    keep "$1"
    write_record "path=$1" kind=directory "before=$before"
    rm -f "$ROOT$1"
    mkdir -m "$2" "$ROOT$1" || fail "cannot make the directory $1"
    relabel "$1"
  fi
  chmod "$2" "$ROOT$1"
  [ -z "$owner" ] || chown 0:0 "$ROOT$1"
}

# stage_for PATH: sets $staged, a name on the file system of PATH, so that the last step can be
# a rename. The kubelet reads every file of a manifests directory, so nothing is staged there.
stage_for() {
  directory=$ROOT${1%/*}/.
  staged=$lib/stage/file
  device=$(stat -c %d "$directory")
  if [ "$device" != "$stage_device" ]; then
    case $1 in
      */manifests/*)
        if [ "$(stat -c %d "$directory/..")" = "$device" ]; then directory=$directory/..; fi
        ;;
    esac
    staged=$directory/.slipway.${1##*/}
    printf '%s\n' "$staged" >>"$lib/staged-elsewhere"
  fi
  rm -rf "$staged"
}

# relabel PATH: a file that was renamed into place gets the label of its place.
relabel() {
  if [ -e "$ROOT/sys/fs/selinux/enforce" ] && command -v restorecon >/dev/null; then restorecon -F "$ROOT$1" || :; fi
}

# forget_stamps PATH: units that read PATH at start have to be restarted if $staged holds something
# else, even if this run is cut off before the restart.
forget_stamps() {
  for stamp in "$lib"/stamps/*; do
    if [ -e "$stamp" ] && grep -qxF -e "input=$1" "$stamp" && ! cmp -s "$staged" "$ROOT$1"; then rm -f "$stamp"; fi
  done
}

# place PATH KIND DIGEST: puts $staged at PATH in one step, with its record. Between the two
# writes of the record, both the old and the new content count as written by slipway.
place() {
  if [ -d "$ROOT$1" ] && [ ! -L "$ROOT$1" ]; then
    rmdir "$ROOT$1" 2>/dev/null || fail "$1 is a directory that is not empty"
  fi
  if [ -n "$written" ] && [ "$written" != "$3" ]; then
    write_record "path=$1" "kind=$2" "before=$before" "written=$written" "written=$3"
  else
    write_record "path=$1" "kind=$2" "before=$before" "written=$3"
  fi
  forget_stamps "$1"
  [ -L "$staged" ] || durable "$staged"
  mv -fT "$staged" "$ROOT$1" || fail "cannot put $1 in its place"
  relabel "$1"
  if [ -n "$written" ] && [ "$written" != "$3" ]; then
    write_record "path=$1" "kind=$2" "before=$before" "written=$3"
  fi
}

# install_file PATH MODE DIGEST PAYLOAD
install_file() {
  make_parents "${1%/*}"
  keep "$1"
  stage_for "$1"
  # shellcheck disable=SC2086
  install -m "$2" $owner "$4" "$staged" || fail "cannot write $1 (disk full?)"
  place "$1" file "$3"
}

# make_link PATH TARGET DIGEST
make_link() {
  make_parents "${1%/*}"
  keep "$1"
  stage_for "$1"
  ln -s -- "$2" "$staged" || fail "cannot make the link $1"
  place "$1" link "$3"
}

# remove_file PATH: what slipway made leaves no trace, what was there before is kept.
remove_file() {
  if [ -d "$ROOT$1" ] && [ ! -L "$ROOT$1" ]; then fail "$1 shall not be there, but is a directory"; fi
  keep "$1"
  if [ "$before" = absent ]; then
    rm -f "$ROOT$1"
    rm -f "$record"
  else
    write_record "path=$1" kind=absent "before=$before"
    rm -f "$ROOT$1"
  fi
}

# check_digest DIGEST FILE WHAT
check_digest() {
  actual=$(sha256sum <"$2")
  actual=${actual%% *}
  if [ "$actual" != "$1" ]; then
    fail "wrong checksum of $3: expected $1, got $actual; nothing was installed"
  fi
}

# Programs: the checksum comes first, then the file, then the note that spares the probe from reading it.

# upload PAYLOAD: sets $source.
upload() { source=$1; }

# download ADDRESS: fetches into $source.
download() {
  source=$lib/stage/download
  rm -f "$source"
  if command -v curl >/dev/null; then
    curl -fsSL --retry 3 --connect-timeout 15 -o "$source" -- "$1" || fail "cannot download $1"
  elif command -v wget >/dev/null; then
    wget -q -T 30 -O "$source" -- "$1" || fail "cannot download $1"
  else
    fail "cannot download $1: the host has neither curl nor wget"
  fi
}

# note_program PATH DIGEST: what the probe compares with stat, so that it need not read big files.
note_program() {
  escape "$1"
  is=$(stat -L -c 'size=%s mtime=%Y' "$ROOT$1")
  printf '%s\n' "path=$1" "digest=$2" "${is% *}" "${is#* }" >"$lib/stage/note"
  durable "$lib/stage/note"
  mv -f "$lib/stage/note" "$lib/programs/$name"
}

# install_program PATH DIGEST: from $source.
install_program() {
  check_digest "$2" "$source" "$1"
  make_parents "${1%/*}"
  keep "$1"
  stage_for "$1"
  mv -f "$source" "$staged" || fail "cannot write $1 (disk full?)"
  chmod 0755 "$staged"
  [ -z "$owner" ] || chown 0:0 "$staged"
  place "$1" program "$2"
  note_program "$1" "$2"
}

# unpack_program PATH DIGEST DIRECTORY: from $source; each file of the archive has a record of its own.
unpack_program() {
  check_digest "$2" "$source" "the archive of $1"
  unpacked=$lib/stage/unpacked
  mkdir "$unpacked"
  tar -xzf "$source" --no-same-owner -C "$unpacked" || fail "cannot unpack the archive of $1 (disk full?)"
  (cd "$unpacked" && find . ! -type d) >"$lib/stage/entries"
  make_parents "$3"
  while IFS= read -r entry; do
    entry=${entry#./}
    if [ ! -f "$unpacked/$entry" ] && [ ! -L "$unpacked/$entry" ]; then
      fail "the archive of $1 holds something that is neither file nor link"
    fi
    path=$3/$entry
    make_parents "${path%/*}"
    keep "$path"
    stage_for "$path"
    [ -L "$unpacked/$entry" ] || chmod u+rw,go+r,go-w "$unpacked/$entry"
    mv -fT "$unpacked/$entry" "$staged" || fail "cannot write $path (disk full?)"
    place "$path" program "$2"
  done <"$lib/stage/entries"
  rm -rf "$unpacked"
  if [ ! -e "$ROOT$1" ]; then fail "the archive does not hold $1"; fi
  note_program "$1" "$2"
}

# The ground of every step's script: where slipway keeps its own things, and how failure is told.

set -eu
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077
ROOT=${ROOT-}
lib=$ROOT/var/lib/slipway
if [ "$(id -u)" = 0 ]; then owner='-o 0 -g 0'; else owner=; fi

fail() {
  printf 'slipway: %s\n' "$*" >&2
  exit 1
}

begin() { printf '@begin %s\n' "$1"; }
finish() { printf '@done %s\n' "$1"; }

# Removes what a run that died left half done. Nothing in stage/ is ever needed again.
clear_stage() {
  if [ -e "$lib/staged-elsewhere" ]; then
    while IFS= read -r line; do rm -rf -- "$line"; done <"$lib/staged-elsewhere"
    rm -f "$lib/staged-elsewhere"
  fi
  rm -rf "$lib/stage"
}

mkdir -p "$lib/records" "$lib/original" "$lib/stamps" "$lib/programs" || fail "cannot write below /var/lib/slipway"
clear_stage
mkdir "$lib/stage" || fail 'cannot write below /var/lib/slipway (disk full?)'
trap clear_stage EXIT
trap 'exit 143' HUP INT TERM
stage_device=$(stat -c %d "$lib/stage")

durable() { sync "$@" 2>/dev/null || sync; }

# escape TEXT: sets $name, a file name that stands for a path.
escape() {
  rest=${1#/}
  name=
  while :; do
    case $rest in
      *[%/]*)
        head=${rest%%[%/]*}
        rest=${rest#"$head"}
        case $rest in %*) name=$name$head%25 ;; *) name=$name$head%2F ;; esac
        rest=${rest#?}
        ;;
      *) break ;;
    esac
  done
  name=$name$rest
  if [ ${#name} -gt 200 ]; then
    name=$(printf '%s' "$1" | sha256sum)
    name=sha256-${name%% *}
  fi
}

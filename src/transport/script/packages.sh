# Packages of the operating system, through apt or dnf. Whoever else holds their lock is waited for.

# apt WORD...: apt-get, which asks nothing and keeps configuration files as they are.
apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold "$@" >"$lib/stage/answer" 2>&1
}

# refuse WHAT: fails with what the package manager said.
refuse() {
  if grep -q -e 'Could not get lock' -e 'Unable to acquire the dpkg' "$lib/stage/answer"; then
    fail "$1: another program has held the lock of apt for two minutes; run again when it has ended"
  fi
  tail -n 6 "$lib/stage/answer" >&2
  fail "$1"
}

# record_package NAME: what is there before slipway changes it.
record_package() {
  read_record "package:$1"
  if [ -e "$record" ]; then return 0; fi
  is=$(installed_package "$1")
  write_record "package=$1" kind=package "before=${is:-absent}"
}

# installed_package NAME: its version and, for dpkg, `hold` or `install`; nothing if it is not installed.
installed_package() {
  if command -v apt-get >/dev/null; then
    # shellcheck disable=SC2016
    dpkg-query -W -f '${db:Status-Status} ${Version} ${db:Status-Want}\n' -- "$1" 2>/dev/null | sed -n 's/^installed //p'
  else
    rpm -q --qf '%{VERSION}-%{RELEASE} install\n' -- "$1" 2>/dev/null | sed -n '/ install$/p'
  fi
}

# is_version INSTALLED WANTED: the same, or any revision of it; nothing wanted is any version.
is_version() {
  case $1 in
    '') return 1 ;;
    "$2" | "$2"-*) return 0 ;;
  esac
  [ -z "$2" ]
}

# quiet_units: packages must not start or stop the kubelet: that is a change of its own, with its order.
# What a run that is cut off leaves of this is removed by the next one, as all that is staged elsewhere.
quiet_units() {
  policy=$ROOT/usr/sbin/policy-rc.d
  if [ -e "$policy" ] || [ ! -d "$ROOT/usr/sbin" ]; then return 0; fi
  printf '%s\n' "$policy" >>"$lib/staged-elsewhere"
  printf '#!/bin/sh\n# Written by slipway for the time of one installation.\ncase $1 in kubelet*) exit 101 ;; esac\nexit 0\n' >"$policy"
  chmod 0755 "$policy"
}

# install_package NAME VERSION HELD PROGRAM: VERSION and PROGRAM may be empty; HELD is yes or no.
install_package() {
  record_package "$1"
  is=$(installed_package "$1")
  if ! is_version "${is% *}" "$2"; then
    # Units that read the program have to be restarted, also if this run is cut off before that.
    for stamp in "$lib"/stamps/*; do
      if [ -n "$4" ] && [ -e "$stamp" ] && grep -qxF -e "input=$4" "$stamp"; then rm -f "$stamp"; fi
    done
    if command -v apt-get >/dev/null; then install_deb "$1" "$2"; else install_rpm "$1" "$2"; fi
    is=$(installed_package "$1")
    if ! is_version "${is% *}" "$2"; then fail "$1 is ${is:-not installed} after it was installed as $2"; fi
  fi
  if [ "$3" = yes ] && [ "${is##* }" != hold ]; then
    apt-mark hold "$1" >"$lib/stage/answer" 2>&1 || refuse "cannot hold $1"
  fi
}

# refresh_lists: once in a step. Those of Kubernetes alone are a round trip, all of them may be minutes.
refreshed=
refresh_lists() {
  if [ "$refreshed" = yes ]; then return 0; fi
  source=/etc/apt/sources.list.d/slipway-kubernetes.list
  if [ -e "$ROOT$source" ]; then
    apt update -o "Dir::Etc::sourcelist=$source" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 \
      -o APT::Update::Error-Mode=any || refuse 'cannot read the repository of Kubernetes'
  fi
  refreshed=yes
}

# find_deb NAME VERSION: sets $version, the newest revision there is.
find_deb() {
  version=
  apt-cache madison -- "$1" >"$lib/stage/versions" 2>/dev/null || :
  while read -r _ _ found _; do
    if is_version "$found" "$2"; then
      version=$found
      break
    fi
  done <"$lib/stage/versions"
}

# install_deb NAME VERSION
install_deb() {
  refresh_lists
  find_deb "$1" "$2"
  if [ -z "$version" ]; then
    # Packages of the operating system itself.
    apt update || refuse "cannot read the repositories for $1"
    find_deb "$1" "$2"
  fi
  if [ -z "$version" ]; then fail "no repository of this host has the package $1 ${2:+in version $2}"; fi
  set -- "$1" "$1=$version"
  if ! apt install --no-install-recommends --allow-downgrades --allow-change-held-packages -s "$2"; then
    apt update || refuse "cannot read the repositories for $1"
    apt install --no-install-recommends --allow-downgrades --allow-change-held-packages -s "$2" || refuse "cannot install $2"
  fi
  # What comes with it is recorded first, so that a reset knows of it.
  sed -n 's/^Inst \([^ ]*\) (.*/\1/p' "$lib/stage/answer" >"$lib/stage/new"
  while IFS= read -r new; do record_package "$new"; done <"$lib/stage/new"
  quiet_units
  apt install --no-install-recommends --allow-downgrades --allow-change-held-packages "$2" || refuse "cannot install $2"
}

# install_rpm NAME VERSION
install_rpm() {
  quiet_units
  dnf -q -y --disableexcludes=slipway-kubernetes install "$1${2:+-$2}" >"$lib/stage/answer" 2>&1 || refuse "cannot install $1 $2"
}

# undo_package NAME: gone if it was not there before; otherwise it stays in its version, held or not as before.
undo_package() {
  read_record "package:$1"
  if [ ! -e "$record" ]; then return 0; fi
  is=$(installed_package "$1")
  if [ "$before" = absent ] && [ -n "$is" ]; then
    # Something else may need it by now; then it stays.
    if command -v apt-get >/dev/null; then
      apt-mark unhold "$1" >/dev/null 2>&1 || :
      dpkg --purge "$1" >/dev/null 2>&1 || printf 'the package %s stays: something else needs it\n' "$1" >&2
    else
      rpm -e "$1" >/dev/null 2>&1 || printf 'the package %s stays: something else needs it\n' "$1" >&2
    fi
  elif [ -n "$is" ] && command -v apt-mark >/dev/null; then
    case $before in
      *' hold') apt-mark hold "$1" >/dev/null 2>&1 || : ;;
      *) apt-mark unhold "$1" >/dev/null 2>&1 || : ;;
    esac
  fi
  rm -f "$record"
}

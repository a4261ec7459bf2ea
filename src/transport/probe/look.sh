# Read-only: nothing here writes a file. Values are read with the shell's own means where that
# works, because a process costs a hundred times as much as a `read`.
set -u
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
ROOT=${ROOT-}
kernel=
containerd=
kubelet=
ctr=
now=0
newline='
'

cd "${ROOT:-/}" || exit 1

section() { printf '@%s\n' "$1"; }

# show KEY FILE: the first line of a file.
show() {
  if [ -r "$2" ]; then
    line=
    IFS= read -r line <"$2" || :
    printf '%s=%s\n' "$1" "$line"
  fi
}

# lines FILE: a whole file.
lines() {
  if [ -r "$1" ]; then
    while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done <"$1"
  fi
}

# find_command NAME: sets $found.
find_command() {
  found=
  IFS=:
  for directory in $PATH; do
    if [ -f "$directory/$1" ] && [ -x "$directory/$1" ]; then
      found=$directory/$1
      break
    fi
  done
  unset IFS
}

look_system() {
  section system
  show hostname "$ROOT/proc/sys/kernel/hostname"
  show kernel "$ROOT/proc/sys/kernel/osrelease"
  IFS= read -r kernel <"$ROOT/proc/sys/kernel/osrelease" || :
  if [ -r "$ROOT/proc/sys/kernel/arch" ]; then
    show machine "$ROOT/proc/sys/kernel/arch"
  else
    printf 'machine=%s\n' "$(uname -m)"
  fi
  show machine_id "$ROOT/etc/machine-id"
  show init "$ROOT/proc/1/comm"
  while read -r key value _; do
    case $key in
      MemTotal:)
        printf 'memory=%s\n' "$value"
        break
        ;;
    esac
  done <"$ROOT/proc/meminfo"
  while read -r key value _; do
    case $key in
      Uid:) printf 'uid=%s\n' "$value" ;;
      Cpus_allowed_list:) printf 'cpus=%s\n' "$value" ;;
    esac
  done </proc/self/status
  if [ -e "$ROOT/sys/fs/cgroup/cgroup.controllers" ]; then printf 'cgroup=2\n'; else printf 'cgroup=1\n'; fi
  if [ -e "$ROOT/run/systemd/resolve/resolv.conf" ]; then printf 'resolved=yes\n'; fi
  for directory in /opt/cni/bin /usr/lib/cni /usr/libexec/cni; do
    if [ -x "$ROOT$directory/bridge" ]; then
      printf 'cni=%s\n' "$directory"
      break
    fi
  done
  for directory in /etc/pki /etc/pki/ca-trust /etc/pki/tls/certs /usr/share/ca-certificates /usr/local/share/ca-certificates /etc/ca-certificates; do
    if [ -d "$ROOT$directory" ]; then printf 'ca=%s\n' "$directory"; fi
  done
  show uptime "$ROOT/proc/uptime"
  section os
  if [ -r "$ROOT/etc/os-release" ]; then lines "$ROOT/etc/os-release"; else lines "$ROOT/usr/lib/os-release"; fi
  section swap
  lines "$ROOT/proc/swaps"
  section addresses
  if ! ip -o addr show 2>/dev/null; then
    section fib
    lines "$ROOT/proc/net/fib_trie"
    section inet6
    lines "$ROOT/proc/net/if_inet6"
  fi
  section free
  # The last may be missing: then there is no row for it.
  df -P -k "$ROOT/var/lib" "$ROOT/etc" "$ROOT/run" "$ROOT/usr/local/bin" 2>/dev/null
}

look_commands() {
  section commands
  for wanted in "$@"; do
    find_command "$wanted"
    if [ -n "$found" ]; then printf '%s=%s\n' "$wanted" "$found"; fi
    case $wanted in
      containerd) containerd=$found ;;
      kubelet) kubelet=$found ;;
      ctr) ctr=$found ;;
    esac
  done
}

# containerd's own records, images among them, at their usual place.
database=var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db

# look_stat SOCKET FILE...: what is told of files without reading them, links followed if they lead anywhere:
# size, mode, device and inode, when the content and anything changed, name. One process for all of them, and for
# the clock: what the kernel tells of the process that asks is as new as that process.
look_stat() {
  section stat
  socket=$1
  shift
  # Where systemd finds units, and what wants them.
  for directory in etc run usr/local/lib usr/lib lib; do
    if [ "$directory" = lib ] && [ -L lib ]; then break; fi
    set -- "$@" "$directory/systemd/system" "$directory"/systemd/system/*.wants "$directory"/systemd/system/*.requires
  done
  set -- "$@" etc/systemd/system.control run/systemd/system.control run/systemd/transient run/systemd/generator*
  stats=$(find -L /proc/self "$containerd" "$kubelet" "$database" "$ROOT$socket" "$@" -maxdepth 0 -printf '%s %m %D:%i %T@ %C@ %p\n' 2>/dev/null)$newline
  printf '%s' "$stats"
  stat_of /proc/self
  now=${told#* * * }
  now=${now%%.*}
}

# stat_of NAME: sets $told to what look_stat was told of a file, or to nothing.
stat_of() {
  case $newline$stats in
    *" $1$newline"*)
      told=${stats%%" $1$newline"*}
      told=${told##*"$newline"}
      ;;
    *) told= ;;
  esac
}

# note NAME KEY TEXT: only a probe with the lock writes; see lock.sh.
note() { :; }

# noted NAME KEY: sets $text to what was noted, if it was noted for the same key.
noted() {
  text=
  if [ -z "$2" ] || ! [ -r "$ROOT/run/slipway/$1" ]; then return 1; fi
  {
    IFS= read -r line && [ "$line" = "$2" ] || return 1
    while IFS= read -r line; do text=$text$line$newline; done
  } <"$ROOT/run/slipway/$1"
}

# look_version NAME PROGRAM: what a program says of itself. Starting a kubelet for that costs a tenth of a
# second of processor time, more than everything else here, so what a probe with the lock was told
# is believed for as long as the very same file is there. Not of small files: what those start can
# change while they stay.
look_version() {
  if [ -z "$2" ]; then return; fi
  section "$1"
  stat_of "$2"
  if [ "${told%% *}" -gt 4000000 ] 2>/dev/null; then key="$2 $told"; else key=; fi
  if ! noted "version-$1" "$key"; then
    text=$(timeout 10 "$2" --version 2>/dev/null) || text=
    if [ -n "$key" ] && [ -n "$text" ]; then note "version-$1" "$key" "$text"; fi
  fi
  printf '%s\n' "$text"
}

# look_modules NAME...: loaded, or built into the kernel, whose list has names with - or _.
look_modules() {
  section modules
  count=$#
  for wanted in "$@"; do
    if [ -d "$ROOT/sys/module/$wanted" ]; then
      printf '%s\n' "$wanted"
    else
      pattern=
      rest=$wanted
      while :; do
        case $rest in
          *_*)
            pattern="$pattern${rest%%_*}[-_]"
            rest=${rest#*_}
            ;;
          *) break ;;
        esac
      done
      set -- "$@" -e "/$pattern$rest\\.ko"
    fi
  done
  shift "$count"
  if [ $# -gt 0 ]; then grep -o "$@" "$ROOT/lib/modules/$kernel/modules.builtin" 2>/dev/null; fi
}

# look_kernel FILE...: parameters, whose lines do not begin with a space, and sockets that are listened on.
# Not with `show`: the shell's `read` asks for one byte after another, and of a number the kernel
# gives the first only. One process for all of them.
look_kernel() {
  section kernel
  grep -s -e '^[^ ]' -e '^$' -e ' 0A ' -- "$@" proc/net/tcp proc/net/tcp6
}

look_stamps() {
  section stamps
  for wanted in "$@"; do show "$wanted" "$ROOT/var/lib/slipway/stamps/$wanted"; done
}

# units_key UNIT...: sets $key to words that stay the same for as long as nothing happened to these units.
# systemd has a link for a unit from when it starts, a new one each time, until it is inactive or has failed;
# what else it says is in the directories. Nothing if something happened so lately that more of it can have the
# same time.
units_key() {
  key=$*
  set -f
  IFS=$newline
  for line in $stats; do
    case $line in
      */systemd/*)
        changed=${line#* * * * }
        name=${changed##*/}
        changed=${changed%% *}
        if [ $((now - ${changed%%.*})) -lt 2 ]; then
          key=
          break
        fi
        key="$key $changed $name"
        ;;
    esac
  done
  unset IFS
  set +f
}

# are_settled UNIT...: whether all that $text says of them can be seen from outside too: they are active, or not
# there at all.
are_settled() {
  rest=$text$newline$newline
  for unit in "$@"; do
    block=$newline${rest%%"$newline$newline"*}$newline
    rest=${rest#*"$newline$newline"}
    active=${block#*"${newline}ActiveState="}
    loaded=${block#*"${newline}LoadState="}
    stat_of "run/systemd/units/invocation:$unit"
    case ${active%%"$newline"*}/${loaded%%"$newline"*}/$told in
      active/*/?* | inactive/not-found/) ;;
      *) return 1 ;;
    esac
  done
}

# look_units UNIT...: what a probe with the lock was told by systemd, which takes longest of all, is believed
# for as long as nothing happened to the units.
look_units() {
  look_stamps "$@"
  section units
  # Of most hosts nothing needs to be known of it.
  if [ -e "$ROOT/run/systemd/resolve/resolv.conf" ]; then set -- "$@" systemd-resolved.service; fi
  units_key "$@"
  if ! noted units "$key"; then
    # Times are told in the zone of whoever asks.
    text=$(TZ=UTC SYSTEMD_BUS_TIMEOUT=10s systemctl show -p ActiveState,UnitFileState,LoadState,ExecMainStartTimestamp,ExecMainStartTimestampMonotonic -- "$@" 2>/dev/null)
    if [ -n "$key" ] && are_settled "$@"; then note units "$key" "$text"; fi
  fi
  printf '%s\n' "$text"
}

# database_key SOCKET: sets $key to words that stay the same for as long as the very same containerd has its
# usual database open, listens at the socket, and wrote nothing into it. Nothing if that cannot be told:
# nobody has that database open, or it was written so lately that a second write can have the same time.
database_key() {
  key=
  stat_of "$ROOT$1"
  listens=$told
  stat_of "$database"
  if [ -z "$listens" ] || [ -z "$told" ]; then return; fi
  file=${told#* * }
  written=${file#* }
  file=${file%% *}
  if [ $((now - ${written%%.*})) -lt 2 ]; then return; fi
  device=${file%:*}
  # Major and minor number, as the kernel has them in one.
  device=$((device / 256 % 4096)):$((device % 256 + device / 1048576 * 256))
  while read -r _ kind _ access process locked _; do
    case $kind$access:$locked in
      FLOCKWRITE:*:*:"${file#*:}")
        locked=${locked%:*}
        if [ "$((0x${locked%:*})):$((0x${locked#*:}))" = "$device" ]; then key="$process, $listens, $told"; fi
        ;;
    esac
  done <"$ROOT/proc/locks"
}

# look_images SOCKET: starting `ctr` takes longer than anything else here, so what a probe with the lock was
# told is believed for as long as containerd wrote nothing.
look_images() {
  database_key "$1"
  if ! noted images "$key"; then
    text=$("$ctr" --connect-timeout 10s --timeout 10s --address "$1" -n k8s.io images ls -q 2>/dev/null) || return
    if [ -n "$key" ]; then note images "$key" "$text"; fi
  fi
  section images
  printf '%s\n' "$text"
  section runtime
  printf 'answers\n'
}

# look_tasks: the containers with a process. containerd keeps a directory for each below its usual
# place; where that is not used, it is asked.
look_tasks() {
  section tasks
  tasks=$ROOT/run/containerd/io.containerd.runtime.v2.task
  if [ ! -d "$tasks" ]; then
    timeout 10 "$ctr" --address "$1" -n k8s.io tasks ls 2>/dev/null
    return
  fi
  for task in "$tasks"/k8s.io/*/init.pid; do
    if [ -r "$task" ]; then
      pid=
      IFS= read -r pid <"$task" || :
      if [ -n "$pid" ] && [ -d "$ROOT/proc/$pid" ]; then printf 'task %s RUNNING\n' "$pid"; fi
    fi
  done
}

# look_runtime SOCKET
look_runtime() {
  section runtime
  if [ -e "$ROOT$1" ]; then
    printf 'socket\n'
    if [ -n "$ctr" ]; then
      printf 'ctr\n'
      look_images "$1"
      look_tasks "$1"
    fi
  fi
}

# look_etcd DIRECTORY
look_etcd() {
  section etcd
  for entry in "$ROOT$1"/member/*; do
    if [ -e "$entry" ]; then
      printf 'member\n'
      stat -L -c 'size=%s' "$ROOT$1/member/snap/db" 2>/dev/null
      df -P -k "$ROOT$1" 2>/dev/null | sed -n '2s/^/free=/p'
      break
    fi
  done
}

look_snapshots() {
  section snapshots
  for entry in "$ROOT"/var/lib/slipway/snapshots/*_to_*; do
    if [ -s "$entry/etcd.db" ]; then
      printf 'etcd %s\n' "${entry##*/}"
    elif [ -d "$entry" ]; then
      printf 'files %s\n' "${entry##*/}"
    fi
  done
}

# look_notes: of programs that slipway put there.
look_notes() {
  section notes
  for note in var/lib/slipway/programs/*; do
    if [ -e "$note" ]; then lines "$note"; fi
  done
}

# look_packages NAME...: what is installed of them; rpm has no holds of its own.
look_packages() {
  section packages
  find_command dpkg-query
  if [ -n "$found" ]; then
    # shellcheck disable=SC2016
    timeout 10 "$found" -W -f '${Package} ${Version} ${db:Status-Want} ${db:Status-Status}\n' -- "$@" 2>/dev/null
    return
  fi
  find_command rpm
  if [ -n "$found" ]; then timeout 10 "$found" -q --qf '%{NAME} %{VERSION}-%{RELEASE} install installed\n' -- "$@" 2>/dev/null; fi
}

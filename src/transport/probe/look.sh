# Read-only: nothing here writes a file. Values are read with the shell's own means where that
# works, because a process costs a hundred times as much as a `read`.
set -u
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
ROOT=${ROOT-}
answer=
said=
end=
found=
kernel=
containerd=
containerd_file=
kubelet=
kubelet_file=
ctr=
database_file=
modules_file=
socket=
socket_file=
starts=' '
unit_directories=0
seconds=0
fractions=0
newest=0
now=0
newline='
'

cd "${ROOT:-/}" || exit 1

# begin_answer MARK: before it there may be noise of the login shell's start files.
begin_answer() {
  end=$1
  say ''
  say @slipway-begin
}

# say LINE: what is said is sent at once, because a packet for each line would cost more than all that is looked
# at. The shell copies a text whenever it grows, so sections grow on their own.
say() { said=$said$1$newline; }

send() {
  printf '%s' "$answer$said"
  answer=
  said=
}

# What was sent may have ended with any byte.
end_answer() {
  say ''
  say "$end"
  send
}

section() {
  answer=$answer$said
  said=@$1$newline
}

# show KEY FILE: the first line of a file.
show() {
  if [ -r "$2" ]; then
    line=
    IFS= read -r line <"$2" || :
    say "$1=$line"
  fi
}

# lines FILE: a whole file.
lines() {
  if [ -r "$1" ]; then
    while IFS= read -r line || [ -n "$line" ]; do say "$line"; done <"$1"
  fi
}

# find_command NAME: sets $command.
find_command() {
  command=
  IFS=:
  for directory in $PATH; do
    if [ -f "$directory/$1" ] && [ -x "$directory/$1" ]; then
      command=$directory/$1
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
    say "machine=$(uname -m)"
  fi
  show machine_id "$ROOT/etc/machine-id"
  show init "$ROOT/proc/1/comm"
  while read -r key value _; do
    case $key in
      MemTotal:)
        say "memory=$value"
        break
        ;;
    esac
  done <"$ROOT/proc/meminfo"
  if [ -e "$ROOT/sys/fs/cgroup/cgroup.controllers" ]; then say 'cgroup=2'; else say 'cgroup=1'; fi
  if [ -e "$ROOT/run/systemd/resolve/resolv.conf" ]; then say 'resolved=yes'; fi
  for directory in /opt/cni/bin /usr/lib/cni /usr/libexec/cni; do
    if [ -x "$ROOT$directory/bridge" ]; then
      say "cni=$directory"
      break
    fi
  done
  for directory in /etc/pki /etc/pki/ca-trust /etc/pki/tls/certs /usr/share/ca-certificates /usr/local/share/ca-certificates /etc/ca-certificates; do
    if [ -d "$ROOT$directory" ]; then say "ca=$directory"; fi
  done
  show uptime "$ROOT/proc/uptime"
  section os
  if [ -r "$ROOT/etc/os-release" ]; then lines "$ROOT/etc/os-release"; else lines "$ROOT/usr/lib/os-release"; fi
  section swap
  lines "$ROOT/proc/swaps"
  section free
  # The last may be missing: then there is no row for it.
  say "$(df -P -k "$ROOT/var/lib" "$ROOT/etc" "$ROOT/run" "$ROOT/usr/local/bin" 2>/dev/null)"
}

# look_interfaces: the addresses of the host, with their interfaces. Where only the addresses count, the kernel
# tells them without a process more.
look_interfaces() {
  section addresses
  say "$(ip -o addr show 2>/dev/null)"
}

look_commands() {
  section commands
  for wanted in "$@"; do
    find_command "$wanted"
    if [ -n "$command" ]; then say "$wanted=$command"; fi
    case $wanted in
      containerd) containerd=$command ;;
      kubelet) kubelet=$command ;;
      ctr) ctr=$command ;;
    esac
  done
}

# look_files: sorts what `find` found, which is in $found. Of files at /… and ./… a line
# `/SIZE MODE DEVICE:INODE WRITTEN CHANGED NAME`, links followed if they lead anywhere; of files whose content is
# not told a line `//MODE UID GID NAME`; of everything else the name, which is for `tell_names`. One process for all
# of them, and for the clock: what the kernel tells of the process that asks is as new as that process.
look_files() {
  section files
  set -f
  IFS=$newline
  for line in $found; do
    case $line in
      //*) say "$line" ;;
      /*)
        say "$line"
        unset IFS
        # shellcheck disable=SC2086
        sort_file "$line" $line
        ;;
    esac
  done
  unset IFS
  set +f
}

# tell_names: of what is packed, a line for each. Kept in a text they would be copied for every name more.
tell_names() {
  set -f
  IFS=$newline
  for line in $found; do
    case $line in
      /*) ;;
      *) printf '%s\n' "$line" ;;
    esac
  done
  unset IFS
  set +f
}

# sort_file LINE SIZE MODE FILE WRITTEN CHANGED NAME: keeps what a note may depend on.
sort_file() {
  case ${7-} in
    /proc/self) now=${5%%.*} ;;
    "$containerd") containerd_file=$1 ;;
    "$kubelet") kubelet_file=$1 ;;
    "$database") database_file=$1 ;;
    "./lib/modules/$kernel/modules.builtin") modules_file=$1 ;;
    "$socket") socket_file=$1 ;;
    */systemd/*)
      case $7 in
        */invocation:*) starts="$starts${7##*:} $6 " ;;
        *)
          unit_directories=$((unit_directories + 1))
          seconds=$((seconds + ${6%%.*}))
          fractions=$((fractions + 1${6#*.}))
          ;;
      esac
      if [ "${6%%.*}" -gt "$newest" ]; then newest=${6%%.*}; fi
      ;;
  esac
}

# at_socket SOCKET: where the runtime listens.
at_socket() { socket=$ROOT$1; }

# note NAME KEY TEXT: only a probe with the lock writes; see lock.sh.
note() { :; }

# noted NAME KEY: sets $text to what was noted, if it was noted for the same key.
noted() {
  text=
  if [ -z "$2" ] || ! [ -r "$ROOT/run/slipway/noted-$1" ]; then return 1; fi
  {
    IFS= read -r line && [ "$line" = "$2" ] || return 1
    while IFS= read -r line; do text=$text$line$newline; done
  } <"$ROOT/run/slipway/noted-$1"
}

# look_version NAME PROGRAM FILE: what a program says of itself. Starting a kubelet for that costs a tenth of a
# second of processor time, more than everything else here, so what a probe with the lock was told
# is believed for as long as the very same file is there. Not of small files: what those start can
# change while they stay.
look_version() {
  if [ -z "$2" ]; then return; fi
  section "$1"
  size=${3%% *}
  if [ "${size#/}" -gt 4000000 ] 2>/dev/null; then key=$3; else key=; fi
  if ! noted "version-$1" "$key"; then
    text=$(timeout 10 "$2" --version 2>/dev/null) || text=
    if [ -n "$key" ] && [ -n "$text" ]; then note "version-$1" "$key" "$text"; fi
  fi
  say "$text"
}

# look_modules NAME...: loaded, or built into the kernel, whose list has names with - or _.
look_modules() {
  section modules
  count=$#
  for wanted in "$@"; do
    if [ -d "$ROOT/sys/module/$wanted" ]; then
      say "$wanted"
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
  if [ $# -eq 0 ]; then return; fi
  if [ -z "$modules_file" ]; then return; fi
  key="$modules_file, $*"
  if ! noted modules "$key"; then
    text=$(grep -o "$@" "lib/modules/$kernel/modules.builtin" 2>/dev/null)
    note modules "$key" "$text"
  fi
  say "$text"
}

# look_kernel FILE...: parameters, whose lines do not begin with a space, addresses, and what the kernel says of a
# process here. Not with `show`: the shell's `read` asks for one byte after another, and of a number the kernel
# gives the first only.
look_kernel() {
  section kernel
  say "$(grep -s -e '^[^ ]' -e '^$' -e ' |-- ' -e 'host LOCAL' -- "$@" proc/net/fib_trie proc/net/if_inet6 /proc/self/status)"
}

# look_ports: what is listened on. The kernel's own files also walk through all connections there are.
look_ports() {
  section listening
  say "$(ss -H -l -t -n 2>/dev/null || grep -s -h ' 0A ' proc/net/tcp proc/net/tcp6)"
}

look_stamps() {
  section stamps
  for wanted in "$@"; do show "$wanted" "$ROOT/var/lib/slipway/stamps/$wanted"; done
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
    case $starts in
      *" $unit "*) started=started ;;
      *) started= ;;
    esac
    case ${active%%"$newline"*}/${loaded%%"$newline"*}/$started in
      active/*/started | inactive/not-found/) ;;
      *) return 1 ;;
    esac
  done
}

# look_units UNIT...: systemd takes longest of all to answer, so what a probe with the lock was told is believed
# for as long as nothing happened to the units. systemd has a link for a unit from when it starts, a new one
# each time, until it is inactive or has failed; what else it says of units is in its directories, whose times are
# added up. Nothing is noted if something happened so lately that more of it can have the same time.
look_units() {
  look_stamps "$@"
  section units
  # Of most hosts nothing needs to be known of it.
  if [ -e "$ROOT/run/systemd/resolve/resolv.conf" ]; then set -- "$@" systemd-resolved.service; fi
  if [ $((now - newest)) -lt 2 ]; then key=; else key="$*,$starts,$unit_directories $seconds $fractions"; fi
  if ! noted units "$key"; then
    # Times are told in the zone of whoever asks.
    text=$(TZ=UTC SYSTEMD_BUS_TIMEOUT=10s systemctl show -p ActiveState,UnitFileState,LoadState,ExecMainStartTimestamp,ExecMainStartTimestampMonotonic -- "$@" 2>/dev/null)
    if [ -n "$key" ] && are_settled "$@"; then note units "$key" "$text"; fi
  fi
  say "$text"
}

# containerd's own records, images among them, at their usual place.
database=./var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db

# database_key: sets $key to words that stay the same for as long as the very same containerd has its usual
# database open, listens at the socket, and wrote nothing into it. Nothing if that cannot be told:
# nobody has that database open, or it was written so lately that a second write can have the same time.
database_key() {
  key=
  if [ -z "$socket_file" ] || [ -z "$database_file" ]; then return; fi
  written=${database_file#* * * }
  if [ $((now - ${written%%.*})) -lt 2 ]; then return; fi
  file=${database_file#* * }
  file=${file%% *}
  device=${file%:*}
  # Major and minor number, as the kernel has them in one.
  device=$((device / 256 % 4096)):$((device % 256 + (device - device % 1048576) / 4096))
  while read -r _ kind _ access process locked _; do
    case $kind$access:$locked in
      FLOCKWRITE:*:*:"${file#*:}")
        locked=${locked%:*}
        if [ "$((0x${locked%:*})):$((0x${locked#*:}))" = "$device" ]; then key="$process, $socket_file, $database_file"; fi
        ;;
    esac
  done <"$ROOT/proc/locks"
}

# look_images SOCKET: starting `ctr` takes longer than anything else here, so what a probe with the lock was
# told is believed for as long as containerd wrote nothing.
look_images() {
  database_key
  if ! noted images "$key"; then
    text=$("$ctr" --connect-timeout 10s --timeout 10s --address "$1" -n k8s.io images ls -q 2>/dev/null) || return
    if [ -n "$key" ]; then note images "$key" "$text"; fi
  fi
  section images
  say "$text"
  section runtime
  say 'answers'
}

# look_tasks: the containers with a process. containerd keeps a directory for each below its usual
# place; where that is not used, it is asked.
look_tasks() {
  section tasks
  tasks=$ROOT/run/containerd/io.containerd.runtime.v2.task
  if [ ! -d "$tasks" ]; then
    say "$(timeout 10 "$ctr" --address "$1" -n k8s.io tasks ls 2>/dev/null)"
    return
  fi
  for task in "$tasks"/k8s.io/*/init.pid; do
    if [ -r "$task" ]; then
      pid=
      IFS= read -r pid <"$task" || :
      if [ -n "$pid" ] && [ -d "$ROOT/proc/$pid" ]; then say "task $pid RUNNING"; fi
    fi
  done
}

# look_runtime SOCKET
look_runtime() {
  section runtime
  if [ -e "$ROOT$1" ]; then
    say 'socket'
    if [ -n "$ctr" ]; then
      say 'ctr'
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
      say 'member'
      say "$(stat -L -c 'size=%s' "$ROOT$1/member/snap/db" 2>/dev/null)"
      say "$(df -P -k "$ROOT$1" 2>/dev/null | sed -n '2s/^/free=/p')"
      break
    fi
  done
}

look_snapshots() {
  section snapshots
  for entry in "$ROOT"/var/lib/slipway/snapshots/*_to_*; do
    if [ -s "$entry/etcd.db" ]; then
      say "etcd ${entry##*/}"
    elif [ -d "$entry" ]; then
      say "files ${entry##*/}"
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
  if [ -n "$command" ]; then
    say "$(timeout 10 "$command" -W -f "\${Package} \${Version} \${db:Status-Want} \${db:Status-Status}\n" -- "$@" 2>/dev/null)"
    return
  fi
  find_command rpm
  if [ -n "$command" ]; then say "$(timeout 10 "$command" -q --qf '%{NAME} %{VERSION}-%{RELEASE} install installed\n' -- "$@" 2>/dev/null)"; fi
}

# Read-only: nothing here writes a file. Values are read with the shell's own means where that
# works, because a process costs a hundred times as much as a `read`.
set -u
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
ROOT=${ROOT-}
kernel=

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
  printf 'clock=%s\n' "$(date +%s.%N)"
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
  done
}

# note_version NAME PROGRAM ANSWER: only a probe with the lock writes; see lock.sh.
note_version() { :; }

# look_versions NAME...
look_versions() {
  for wanted in "$@"; do
    shift
    find_command "$wanted"
    if [ -n "$found" ]; then set -- "$@" "$found"; fi
  done
  programs=
  if [ $# -gt 0 ]; then programs=$(stat -c '|%n %s %d:%i %y %z |' -- "$@" 2>/dev/null); fi
  for found in "$@"; do look_version "${found##*/}"; done
}

# look_version NAME: what the program $found says of itself. Starting a kubelet for that costs a tenth of a
# second of processor time, more than everything else here, so what a probe with the lock was told
# is believed for as long as the very same file is there. Not of links and small files: behind
# those the program can change while they stay.
look_version() {
  section "$1"
  program=${programs#*"|$found "}
  program=${program%% |*}
  # A link has the size of its target's name.
  if [ "${program%% *}" -gt 4000000 ] 2>/dev/null; then program="$found $program"; else program=; fi
  if [ -n "$program" ] && [ -r "$ROOT/run/slipway/version-$1" ]; then
    noted=
    answer=
    { IFS= read -r noted && IFS= read -r answer; } <"$ROOT/run/slipway/version-$1" || :
    if [ "$noted" = "$program" ] && [ -n "$answer" ]; then
      printf '%s\n' "$answer"
      return
    fi
  fi
  answer=$(timeout 10 "$found" --version 2>/dev/null) || answer=
  printf '%s\n' "$answer"
  if [ -n "$program" ] && [ -n "$answer" ]; then note_version "$1" "$program" "$answer"; fi
}

# look_modules NAME...: loaded, or built into the kernel.
look_modules() {
  section modules
  for wanted in "$@"; do
    if [ -d "$ROOT/sys/module/$wanted" ]; then
      printf '%s\n' "$wanted"
    elif [ -r "$ROOT/lib/modules/$kernel/modules.builtin" ]; then
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
      if grep -q "/$pattern$rest\\.ko" "$ROOT/lib/modules/$kernel/modules.builtin"; then printf '%s\n' "$wanted"; fi
    fi
  done
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

look_units() {
  look_stamps "$@"
  section units
  # Of most hosts nothing needs to be known of it.
  if [ -e "$ROOT/run/systemd/resolve/resolv.conf" ]; then set -- "$@" systemd-resolved.service; fi
  # Times are told in the zone of whoever asks.
  TZ=UTC timeout 10 systemctl show -p ActiveState,UnitFileState,LoadState,ExecMainStartTimestamp,ExecMainStartTimestampMonotonic -- "$@" 2>/dev/null
}

# look_tasks: the containers with a process. containerd keeps a directory for each below its usual
# place; where that is not used, it is asked.
look_tasks() {
  section tasks
  tasks=$ROOT/run/containerd/io.containerd.runtime.v2.task
  if [ ! -d "$tasks" ]; then
    timeout 10 "$found" --address "$1" -n k8s.io tasks ls 2>/dev/null
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
    find_command ctr
    if [ -n "$found" ]; then
      printf 'ctr\n'
      section images
      "$found" --connect-timeout 10s --timeout 10s --address "$1" -n k8s.io images ls -q 2>/dev/null && section runtime && printf 'answers\n'
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

look_programs() {
  section programs
  stat -L -c '%s %Y %a %n' -- "$@" 2>/dev/null
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

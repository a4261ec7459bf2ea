# Interfaces, routes, packet filter rules and control groups of pods and services.

# undo_route FAMILY NETWORK GATEWAY
undo_route() { ip "$1" route del "$2" via "$3" 2>/dev/null || :; }

# remove_network
remove_network() {
  if [ -e "$ROOT/sys/class/net/kube-ipvs0" ] && command -v ipvsadm >/dev/null; then ipvsadm -C || :; fi
  for interface in $kubernetes_interfaces; do
    if noted "interface=$interface"; then continue; fi
    for port in "$ROOT/sys/class/net/$interface/brif"/*; do
      if [ -e "$port" ]; then ip link delete "${port##*/}" 2>/dev/null || :; fi
    done
    if [ -e "$ROOT/sys/class/net/$interface" ]; then ip link delete "$interface" || fail "cannot delete the interface $interface"; fi
  done
  for family in iptables ip6tables; do
    remove_rules "$family"
    remove_rules "$family-nft"
    # Asking for tables of the old kind makes the kernel set them up.
    if grep -q . "$ROOT/proc/net/${family%tables}_tables_names" 2>/dev/null; then
      remove_rules "$family-legacy"
    fi
  done
  if command -v nft >/dev/null; then
    for family in ip ip6; do
      if nft list table "$family" kube-proxy >/dev/null 2>&1; then nft delete table "$family" kube-proxy; fi
    done
  fi
  if command -v ipset >/dev/null; then
    ipset list -n 2>/dev/null | while IFS= read -r set; do
      case $set in KUBE-*) ipset destroy "$set" || : ;; esac
    done
  fi
  remove_groups
}

# ours CHAIN: whether kube-proxy, the kubelet, portmap or flannel made it.
ours() {
  case $1 in
    KUBE-* | FLANNEL-*) return 0 ;;
    # The network of podman uses the same plugin.
    CNI-HOSTPORT-* | CNI-DN-*) [ ! -e "$ROOT/sys/class/net/cni-podman0" ] ;;
    *) return 1 ;;
  esac
}

# remove_rules PROGRAM: one transaction per table that touches no rule of anybody else.
remove_rules() {
  if ! command -v "$1-save" >/dev/null || ! "$1-save" >"$lib/stage/rules" 2>/dev/null; then return 0; fi
  : >"$lib/stage/transaction"
  while IFS= read -r line; do
    case $line in
      \**)
        printf '%s\n' "$line"
        : >"$lib/stage/chains"
        ;;
      :*)
        chain=${line#:}
        chain=${chain%% *}
        if ours "$chain"; then
          printf ':%s - [0:0]\n' "$chain"
          printf -- '-X %s\n' "$chain" >>"$lib/stage/chains"
        fi
        ;;
      -A*)
        chain=${line#-A }
        chain=${chain%% *}
        target=
        case $line in
          *' -j '*)
            target=${line##* -j }
            target=${target%% *}
            ;;
        esac
        if ! ours "$chain"; then
          if ours "$target"; then
            printf -- '-D %s\n' "${line#-A }"
          else
            case $line in *' --comment slipway-masquerade '*) printf -- '-D %s\n' "${line#-A }" ;; esac
          fi
        fi
        ;;
      COMMIT)
        cat "$lib/stage/chains"
        printf 'COMMIT\n'
        ;;
    esac
  done <"$lib/stage/rules" >"$lib/stage/transaction"
  if grep -q '^[-:]' "$lib/stage/transaction"; then
    "$1-restore" --noflush -w 10 <"$lib/stage/transaction" || fail "cannot remove the rules of Kubernetes with $1-restore"
  fi
}

# remove_groups: control groups of pods, which are empty by now.
remove_groups() {
  systemctl list-units --type=slice --all --no-legend --plain 'kubepods*' 2>/dev/null | while read -r unit _; do
    systemctl stop -- "$unit" 2>/dev/null || :
  done
  tries=0
  while [ "$tries" -lt 10 ]; do
    find "$ROOT/sys/fs/cgroup" -maxdepth 2 -type d -name 'kubepods*' 2>/dev/null >"$lib/stage/groups" || :
    if [ ! -s "$lib/stage/groups" ]; then return 0; fi
    while IFS= read -r group; do
      find "$group" -depth -type d -exec rmdir '{}' ';' 2>/dev/null || :
    done <"$lib/stage/groups"
    tries=$((tries + 1))
    if [ -s "$lib/stage/groups" ] && [ "$tries" -gt 1 ]; then sleep 0.2; fi
  done
}

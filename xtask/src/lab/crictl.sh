#!/bin/sh
# The few crictl commands kubeadm needs, done with containerd's own ctr.
#
# Debian 12 has no crictl package, and kubeadm v1.20 refuses to work without.
# Only hosts that get kubeadm (`lab up --binaries`) have this.
set -eu

containerd() {
    ctr --namespace k8s.io "$@"
}

if [ "${1:-}" = "-r" ]; then
    shift 2
fi
command=${1:-}
for last in "$@"; do :; done

case $command in
    info) ctr version ;;
    pull) echo "crictl: this host reaches no registry" >&2; exit 1 ;;
    inspecti) containerd images list -q | grep -Fxq -- "$last" ;;
    pods | ps) containerd containers list -q ;;
    stopp) containerd tasks kill --signal KILL "$last" 2>/dev/null || true ;;
    rmp)
        containerd tasks delete --force "$last" >/dev/null 2>&1 || true
        containerd containers delete "$last"
        ;;
    *) echo "crictl: the lab's stand-in knows no '$command'" >&2; exit 1 ;;
esac

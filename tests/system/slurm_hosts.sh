#!/bin/bash
# Three hosts on this machine, each with processes, a network and a /tmp/ray of its own: Slurm's controller, and two
# nodes. To be called as the first process of a process namespace, in a network of its own; all ends with it.
# Argument: a folder with munge.key, hosts and slurm.conf.
set -euo pipefail
cd "$1"

hostname controller
mount --bind hosts /etc/hosts
ip link set lo up
ip link add switch type bridge
ip addr add 10.77.0.254/24 dev switch
ip link set switch up
munged --foreground --force --socket="$PWD/munge.socket" --key-file="$PWD/munge.key" --seed-file="$PWD/munge.seed" \
  --pid-file="$PWD/munged.pid" --log-file="$PWD/munged.log" &
until [ -S munge.socket ]; do sleep 0.1; done
slurmctld -D -f "$PWD/slurm.conf" >slurmctld.log 2>&1 &

for node in n1 n2; do
  mkdir -p "$node/spool" "$node/ray"
  unshare --net --pid --mount --uts --fork --kill-child --mount-proc bash -euc '
    hostname "$1"
    mkdir -p /tmp/ray
    mount --bind "$1/ray" /tmp/ray
    ip link set lo up
    until ip link show "eth-$1" >/dev/null 2>&1; do sleep 0.1; done
    ip addr add "10.77.0.${1#n}/24" dev "eth-$1"
    ip link set "eth-$1" up
    ip route add default via 10.77.0.254
    slurmd -D -f "$0/slurm.conf" -N "$1"; exit # not exec: the first process has to reap what others leave
  ' "$PWD" "$node" >"$node/slurmd.log" 2>&1 &
  until [ "$(readlink "/proc/$!/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
  ip link add "to-$node" type veth peer name "eth-$node"
  ip link set "eth-$node" netns "$!"
  ip link set "to-$node" master switch up
done
wait

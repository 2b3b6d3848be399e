#!/bin/sh
# Two other machines, office and elsewhere, as namespaces that are linked to this one, and a server of this machine's own
# at port 9000. down.sh removes them.
set -eu
machine() { # NAME OUR-ADDRESS ITS-ADDRESS
    ip netns add "$1"
    ip link add "to-$1" type veth peer name eth0 netns "$1"
    ip address add "$2/24" dev "to-$1"
    ip link set "to-$1" up
    ip -n "$1" address add "$3/24" dev eth0
    ip -n "$1" link set eth0 up
}
machine office 192.0.2.1 192.0.2.10
machine elsewhere 198.51.100.1 198.51.100.7
timeout 600 python3 -m http.server 9000 --directory /run/netns > /dev/null 2>&1 &
echo $! > server.pid
until curl --silent --output /dev/null --max-time 1 http://192.0.2.1:9000/; do sleep 0.1; done

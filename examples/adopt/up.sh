#!/bin/sh
# Three workloads that run already, without any policy, as a container engine makes them: namespaces whose links lead to
# one bridge. Customers and the office are behind it. Nothing is added to the machine's own network. down.sh ends them, or
# time, after ten minutes.
set -eu
ip netns add engine
ip -n engine link set lo up
ip -n engine link add bridge up type bridge
ip -n engine address add 10.20.0.1/16 dev bridge
ip -n engine address add 192.0.2.10/32 dev bridge
for number in $(seq 20); do ip -n engine address add "198.51.100.$number/32" dev bridge; done
for each in web:11 db:21 batch:31; do
    name=${each%:*} number=${each#*:}
    ip netns add "$name"
    ip -n engine link add "$name" type veth peer name eth0 address "02:00:0a:14:01:$number" netns "$name"
    ip -n engine link set "$name" master bridge up
    ip -n "$name" address add "10.20.1.$number/16" dev eth0
    ip -n "$name" link set lo up
    ip -n "$name" link set eth0 up
    ip -n "$name" route add default via 10.20.0.1
done
serve() {
    ip netns exec "$1" setpriv --bounding-set=-net_admin --inh-caps=-net_admin \
        timeout 600 python3 -m http.server "$2" --directory /run/netns > /dev/null 2>&1 &
    until ip netns exec "$1" curl --silent --output /dev/null --max-time 1 "http://10.20.1.$3:$2/"; do sleep 0.1; done
}
serve web 443 11
serve db 5432 21
serve db 22 21

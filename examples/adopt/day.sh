#!/bin/sh
# A day of these workloads in a few seconds: customers ask web, web asks db, the office looks at db, and batch makes a
# report from db. Prints who got no answer.
connect() { # FROM TO PORT [ADDRESS]
    ip netns exec "$1" curl --silent --output /dev/null --max-time 2 ${4:+--interface "$4"} "http://$2:$3/" ||
        echo "$1: no answer from $2 port $3"
}
# What follows comes in another second, so that lists by time have the same order each day.
next_second() {
    now=$(date +%s)
    while [ "$(date +%s)" = "$now" ]; do sleep 0.05; done
}
for number in $(seq 20); do connect engine 10.20.1.11 443 "198.51.100.$number"; done
for _ in 1 2 3 4 5; do connect web 10.20.1.21 5432; done
next_second
connect engine 10.20.1.21 22 192.0.2.10
next_second
connect batch 10.20.1.21 5432
connect batch 10.20.1.21 5432

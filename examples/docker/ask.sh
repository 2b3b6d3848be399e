#!/bin/sh
# Asks a port of this machine from another one: ask.sh office|elsewhere PORT.
case $1 in
    office) address=192.0.2.1 ;;
    *) address=198.51.100.1 ;;
esac
if ip netns exec "$1" curl --silent --output /dev/null --max-time 2 "http://$address:$2/"; then
    echo "$1: an answer from port $2"
else
    echo "$1: no answer from port $2"
fi

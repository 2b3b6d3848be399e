#!/bin/sh
# Removes what up.sh has made.
kill "$(cat server.pid)" && rm server.pid
for each in office elsewhere; do
    ip netns delete "$each"
done

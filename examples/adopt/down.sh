#!/bin/sh
# Ends what up.sh has made.
for each in web db batch engine; do
    kill $(ip netns pids "$each") 2> /dev/null
    ip netns delete "$each"
done

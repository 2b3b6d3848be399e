#!/bin/sh
# Runs a command of this repository in a Debian 12 userland (nft 1.0.6, Python 3.11): the oldest one that is supported.
# The tree is made once and kept; what is tried is the last commit, in a clone inside the tree.
#
#   tools/debian12.sh                 make test
#   tools/debian12.sh COMMAND...      any other command, in the clone
#   SGDP_DEBIAN12=DIR                 where the tree is (default /var/tmp/sgdataplane-debian12)
set -eu
cd "$(dirname "$0")/.."
tree=${SGDP_DEBIAN12:-/var/tmp/sgdataplane-debian12}

if [ "$(id -u)" -ne 0 ]; then
    echo "tools/debian12.sh needs root (mmdebstrap, chroot). Run: sudo make test-debian12" >&2
    exit 4
fi

[ -x "$tree/usr/bin/make" ] || tools/vm/tree.sh bookworm "$tree"
tools/vm/checkout.sh "$tree"
[ $# -gt 0 ] || set -- make test
exec tools/vm/chroot.sh "$tree" sh -c 'cd /src && exec "$@"' sh "$@"

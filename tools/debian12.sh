#!/bin/sh
# Runs a command of this repository in a Debian 12 userland (nft 1.0.6, Python 3.11): the oldest one that is supported.
# The tree is made once by debootstrap and kept; what is tried is the last commit, in a clone inside the tree.
#
#   tools/debian12.sh                 make test
#   tools/debian12.sh COMMAND...      any other command, in the clone
#   SGDP_DEBIAN12=DIR                 where the tree is (default /var/tmp/sgdataplane-debian12)
set -eu

repository=$(cd "$(dirname "$0")/.." && pwd)
tree=${SGDP_DEBIAN12:-/var/tmp/sgdataplane-debian12}

if [ "$(id -u)" -ne 0 ]; then
    echo "tools/debian12.sh needs root (debootstrap, chroot). Run: sudo make test-debian12" >&2
    exit 4
fi

# All mounts are made in a mount namespace of our own, so none outlives this script, however it ends.
if [ "${SGDP_DEBIAN12_PRIVATE:-}" != yes ]; then
    SGDP_DEBIAN12_PRIVATE=yes exec unshare --mount --propagation private "$0" "$@"
fi

make_tree() {
    command -v debootstrap >/dev/null || apt-get install --yes --no-install-recommends debootstrap
    debootstrap --variant=minbase --include=ca-certificates,git,make bookworm "$tree"
}

# The network is the host's, so its names and its certificate authorities are needed too.
share_network_settings() {
    cp /etc/resolv.conf /etc/hosts "$tree/etc/"
    if ls /usr/local/share/ca-certificates/*.crt >/dev/null 2>&1; then
        cp /usr/local/share/ca-certificates/*.crt "$tree/usr/local/share/ca-certificates/"
        chroot "$tree" update-ca-certificates >/dev/null 2>&1
    fi
}

# The tree itself becomes a mount point, since tests remount "/" of a mount namespace of their own.
mount_kernel_filesystems() {
    mount --bind "$tree" "$tree"
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mount --rbind /dev "$tree/dev"
    mount -t tmpfs tmpfs "$tree/run"
}

# Files that git ignores stay, the virtual environment among them.
check_out_last_commit() {
    [ -d "$tree/src/.git" ] || git init --quiet "$tree/src"
    git -C "$tree/src" fetch --quiet --depth 1 "file://$repository" HEAD
    git -C "$tree/src" checkout --quiet --force --detach FETCH_HEAD
    git -C "$tree/src" clean --quiet --force -d
}

[ -x "$tree/usr/bin/make" ] || make_tree
share_network_settings
mount_kernel_filesystems
check_out_last_commit
[ $# -gt 0 ] || set -- make test
exec env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" CI="${CI:-}" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$tree" sh -c 'cd /src && exec "$@"' sh "$@"

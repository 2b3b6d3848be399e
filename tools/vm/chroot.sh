#!/bin/sh
# Runs a command as root in a Debian tree, with this machine's network and the kernel's file systems.
#
#   tools/vm/chroot.sh TREE COMMAND...
#   SGDP_BIND=FOLDER            appears in the tree as /mnt
set -eu

# All mounts are made in a mount namespace of our own, so none outlives this script, however it ends.
if [ "${SGDP_CHROOT_PRIVATE:-}" != yes ]; then
    SGDP_CHROOT_PRIVATE=yes exec unshare --mount --propagation private "$0" "$@"
fi

tree=$1
shift

# The network is the host's, so its names and its certificate authorities are needed too. Several may use a tree at once:
# one after the other writes these.
share_network_settings() {
    exec 9<"$tree"
    flock 9
    cp --remove-destination /etc/resolv.conf /etc/hosts "$tree/etc/"
    if ls /usr/local/share/ca-certificates/*.crt >/dev/null 2>&1; then
        cp /usr/local/share/ca-certificates/*.crt "$tree/usr/local/share/ca-certificates/"
        chroot "$tree" update-ca-certificates >/dev/null 2>&1
    fi
    exec 9<&-
}

# The tree itself becomes a mount point, since tests remount "/" of a mount namespace of their own.
mount_kernel_filesystems() {
    mount --bind "$tree" "$tree"
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mount --rbind /dev "$tree/dev"
    mount -t tmpfs tmpfs "$tree/run"
    [ -z "${SGDP_BIND:-}" ] || mount --bind "$SGDP_BIND" "$tree/mnt"
}

share_network_settings
mount_kernel_filesystems
exec env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" CI="${CI:-}" DEBIAN_FRONTEND=noninteractive \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot "$tree" "$@"

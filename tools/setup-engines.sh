#!/bin/sh
# Gets ready what only tests of containers need: docker, containerd, podman, libvirt and an image's busybox, as the files of
# Debian's packages in a folder. They aren't installed: no service comes with them, and an engine that this machine has
# stays as it is (Debian's containerd and Docker's own would exclude each other). Tests lay the files over /usr and /etc in
# a mount namespace of their own (tests/support/servers/engines.py). Made once and kept; to have newer ones, remove the folder.
# Without a network it says so and ends well: the tests skip, which `.ci/run` doesn't let pass.
#
#   tools/setup-engines.sh FOLDER [PACKAGE...]     those packages, too
set -eu
cd "$(dirname "$0")/.."

folder=$1
shift
packages="docker.io docker-cli containerd runc crun podman netavark containernetworking-plugins busybox-static
    libvirt-daemon-driver-lxc libvirt-clients iptables $*"

has_all() {
    [ -r "$folder/unpacked" ] || return
    for package in $packages; do
        grep --quiet --line-regexp --fixed-strings "$package" "$folder/unpacked" || return
    done
}

# Not every release has all of them; what needs one that isn't there skips.
available() {
    for package in $packages; do
        ! apt-cache show --no-all-versions "$package" >/dev/null 2>&1 || echo "$package"
    done
}

# What apt would install on this machine, fetched into a place of its own.
fetch() {
    rm -rf --one-file-system "$folder.new" && mkdir -p "$folder.new/debs/partial" "$folder.new/tree" || return
    apt-get --quiet --quiet update || return
    # shellcheck disable=SC2046  # one word a package
    apt-get --quiet --quiet -o DPkg::Lock::Timeout=300 -o Dir::Cache::archives="$folder.new/debs" install --yes \
        --reinstall --no-install-recommends --download-only $(available) >/dev/null
}

# Where this machine has them, and with the names that an installation would give to alternatives.
unpack() {
    for package in "$folder.new"/debs/*.deb; do
        dpkg-deb --extract "$package" "$folder.new/tree" || return
    done
    for name in bin sbin lib; do
        [ ! -d "$folder.new/tree/$name" ] || cp -a "$folder.new/tree/$name" "$folder.new/tree/usr/" || return
    done
    for name in iptables ip6tables; do
        ln -sf "$name-nft" "$folder.new/tree/usr/sbin/$name" || return
    done
    rm -r "$folder.new/debs"
    printf '%s\n' $packages >"$folder.new/unpacked"
    rm -rf --one-file-system "$folder"
    mv "$folder.new" "$folder"
}

# Two `make` at a time must not both write; the second finds everything done.
exec 9<tools/setup-engines.sh
flock 9
! has_all || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "the container engines for tests aren't here, and to get them needs root; tests that need them skip" >&2
    exit 0
fi
echo "unpacking container engines into $folder (400 MB; nothing is installed)"
export DEBIAN_FRONTEND=noninteractive
{ fetch && unpack; } || echo "  this failed; tests that need them will skip" >&2

#!/bin/sh
# Makes a Debian tree for a virtual machine: systemd, Debian's cloud kernel, and all that tools/setup.sh asks for.
# Needs root. The package sources are this machine's own mirrors, with the release's name put in.
#
#   tools/vm/tree.sh RELEASE TREE          RELEASE: trixie or bookworm
set -eu
cd "$(dirname "$0")/../.."

release=$1
tree=$2
# What boots, what the tests look at the kernel with, and what builds a kernel (tools/vm/kernel.sh).
packages="systemd systemd-sysv dbus udev kmod initramfs-tools linux-image-cloud-amd64
    procps iputils-ping ethtool netcat-openbsd git make ca-certificates less
    gcc libc6-dev flex bison bc xz-utils"

# The address of a repository that this machine's apt knows, by its label.
mirror_of() {
    apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' | sort --unique |
        sed --quiet "s/^$1|//p" | head --lines 1
}

# What this machine's apt is told to let pass (an old list, a wrong clock), the one in the tree may do, too.
apt_options() {
    for option in Acquire::Check-Valid-Until Acquire::Check-Date; do
        apt-config dump --format '%f "%v";%n' "$option" | sed 's/^/--aptopt=/'
    done
}

export DEBIAN_FRONTEND=noninteractive
command -v mmdebstrap >/dev/null || {
    apt-get --quiet --quiet update
    apt-get --quiet --quiet -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends mmdebstrap >/dev/null
}
main=$(mirror_of Debian)
security=$(mirror_of Debian-Security)
if [ -z "$main" ]; then
    echo "no package source of Debian is set up here: apt-get indextargets names none" >&2
    exit 3
fi
asked=$(tools/setup.sh packages)
include=$(printf '%s ' $packages $asked | tr --squeeze-repeats ' \n' ',' | sed 's/,$//')

rm -rf --one-file-system "$tree.new"
apt_options | tr '\n' '\0' | xargs --null sh -c 'exec mmdebstrap "$@"' sh --quiet --mode=root --variant=minbase \
    --include="$include" --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$release" "$tree.new" \
    "deb $main $release main" "deb $main $release-updates main" ${security:+"deb $security $release-security main"}
mv "$tree.new" "$tree"

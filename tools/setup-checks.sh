#!/bin/sh
# Gets ready what judges a package and its files by the rules of others: lintian, promtool, mandoc, zsh and fish, in a Debian
# tree of this machine's release. Nothing is installed on the machine. Made once and kept; to have newer ones, remove the tree.
# tests/packages skips what needs it while it isn't there.
#
#   tools/setup-checks.sh             SGDP_CHECKS=DIR    where the tree is (default /var/tmp/sgdataplane-checks)
set -eu
cd "$(dirname "$0")/.."

tree=${SGDP_CHECKS:-/var/tmp/sgdataplane-checks}
packages=lintian,prometheus,mandoc,zsh,fish,bash-completion

if [ "$(id -u)" -ne 0 ]; then
    echo "tools/setup-checks.sh needs root (mmdebstrap, chroot)" >&2
    exit 4
fi

# The package sources are this machine's own.
make_tree() {
    export DEBIAN_FRONTEND=noninteractive
    command -v mmdebstrap >/dev/null || {
        apt-get --quiet --quiet update
        apt-get --quiet --quiet -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends mmdebstrap >/dev/null
    }
    echo "making $tree with $packages (a minute or two)"
    rm -rf --one-file-system "$tree.new"
    # shellcheck disable=SC2046  # one word a file
    mmdebstrap --quiet --variant=essential --include="$packages" "$(. /etc/os-release && echo "$VERSION_CODENAME")" \
        "$tree.new" $(find /etc/apt/sources.list /etc/apt/sources.list.d -type f -size +0 \
            \( -name '*.list' -o -name '*.sources' \) 2>/dev/null)
    mv "$tree.new" "$tree"
}

# Two at a time must not both write; the second finds everything done.
exec 9<tools/setup-checks.sh
flock 9
[ -d "$tree" ] || make_tree

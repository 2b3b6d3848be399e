#!/bin/sh
# Gets ready what only the benchmark needs: matplotlib in .venv, and a tree with the filters that it compares with.
# They are Debian's packages of this machine's release, but not installed on it: some of them would start at once, and
# again at every boot. Made once and kept; to have newer ones, remove the tree.
#
#   tools/setup-bench.sh [TREE]      without a tree: matplotlib alone, which is all that `make bench-scale` needs
set -eu
cd "$(dirname "$0")/.."

tree=${1:-}
peers="nftables iptables ipset firewalld foomuuri ufw dbus"

if [ "$(id -u)" -ne 0 ]; then
    echo "the benchmark needs root, for network namespaces. Run: sudo make bench" >&2
    exit 4
fi

# Not every release has all of them; what is not there is reported as not run.
available_peers() {
    for package in $peers; do
        ! apt-cache show --no-all-versions "$package" >/dev/null 2>&1 || echo "$package"
    done
}

# The package sources are this machine's own.
make_tree() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get --quiet --quiet update
    command -v mmdebstrap >/dev/null || apt-get --quiet --quiet -o DPkg::Lock::Timeout=300 install --yes \
        --no-install-recommends mmdebstrap >/dev/null
    include=$(available_peers | paste --serial --delimiters ,)
    echo "making $tree with $include (a minute or two)"
    rm -rf --one-file-system "$tree.new"
    # shellcheck disable=SC2046  # one word a file
    mmdebstrap --quiet --variant=essential --include="$include" "$(. /etc/os-release && echo "$VERSION_CODENAME")" \
        "$tree.new" $(find /etc/apt/sources.list /etc/apt/sources.list.d -type f -size +0 \
            \( -name '*.list' -o -name '*.sources' \) 2>/dev/null)
    mv "$tree.new" "$tree"
}

# Two `make` at a time must not both write; the second finds everything done.
exec 9<tools/setup-bench.sh
flock 9
[ -z "$tree" ] || [ -d "$tree" ] || make_tree
env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip --quiet install --no-deps --require-hashes \
    --only-binary :all: --requirement requirements-bench.lock

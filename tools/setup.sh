#!/bin/sh
# Makes this clone ready to run: Debian's packages, then .venv with the versions of requirements.lock.
# Does only what is missing; with nothing missing it takes a second. Root is needed only where packages are missing.
#
#   tools/setup.sh
#   tools/setup.sh packages      prints the names of Debian's packages, and does nothing
set -eu
cd "$(dirname "$0")/.."

# libnftables and its binding (and the virtual environment sees Debian's site-packages because of it), then what people
# and tests look at the kernel with, then what `make deb` builds with and tests hold the units against, then what tests
# look at pages with, then the store of the control plane, which tests start themselves, and what its installed API needs.
packages="nftables python3-nftables python3-venv conntrack iproute2 tcpdump debhelper dh-python systemd chromium netbase
    etcd-server etcd-client python3-cryptography"
if [ "${1:-}" = packages ]; then
    echo $packages
    exit
fi
# Debian's Python, whatever `python3` on PATH is: the binding belongs to it.
python=/usr/bin/python3

missing_packages() {
    for package in $packages; do
        [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# A server that comes for the tests alone must not run on this machine, neither now nor after a boot. One that is there
# already is left alone.
keep_off() {
    [ -e "/lib/systemd/system/$1" ] && return
    mkdir -p /etc/systemd/system
    [ -e "/etc/systemd/system/$1" ] || ln -s /dev/null "/etc/systemd/system/$1"
}

install_packages() {
    if [ "$(id -u)" -ne 0 ]; then
        printf 'Debian packages are missing: %s\n  to install them, run as root: make setup\n' "$*" >&2
        exit 4
    fi
    echo "installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1  # where services are started without systemd, this one isn't
    case " $* " in *" etcd-server "*) keep_off etcd.service ;; esac
    apt-get --quiet --quiet update
    apt-get --quiet --quiet -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@" >/dev/null
}

# 0 complete, 1 packages to install, 2 to be made anew
check_environment() {
    [ -x .venv/bin/python ] || return 2
    .venv/bin/python -I tools/check_venv.py
}

make_environment() {
    echo "making .venv on $($python --version)"
    $python -m venv --clear --system-site-packages .venv
}

# Wheels only and every one by its hash; the project itself is built by the locked hatchling, so nothing else is fetched.
install_requirements() {
    echo "installing the versions of requirements.lock"
    pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip --quiet"
    $pip install --no-deps --require-hashes --only-binary :all: --requirement requirements.lock
    $pip install --no-deps --no-build-isolation --editable .
}

# Two `make` at a time must not both write; the second finds everything done.
exec 9<tools/setup.sh
flock 9

missing=$(missing_packages)
# shellcheck disable=SC2086  # one word a package
[ -z "$missing" ] || install_packages $missing

state=0
check_environment >/dev/null 2>&1 || state=$?
[ "$state" -eq 0 ] && exit 0
[ "$state" -eq 1 ] || make_environment
install_requirements
check_environment || { echo "set-up is not complete: see above" >&2; exit 1; }

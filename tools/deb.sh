#!/bin/sh
# Builds the Debian packages of this folder, for the release that this runs on, into build/. Nothing is fetched when they
# are installed: they hold the locked packages. Their version names the release, so that an upgrade of Debian upgrades
# them, too.
# `make deb`
set -eu
cd "$(dirname "$0")/.."

rm -rf build/deb build/sgdataplane_* build/sgdataplane-api_* build/sgdataplane-hosts_*
mkdir -p build/deb
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from - | tar --extract --directory build/deb
ln -s "$(realpath .venv)" build/deb/.venv
cd build/deb
sed -i "1s/)/+deb$(. /etc/os-release && echo "$VERSION_ID"))/" debian/changelog
dpkg-buildpackage --build=binary --no-sign --no-check-builddeps > ../deb.log 2>&1 || { tail -n 40 ../deb.log >&2; exit 1; }
cd ..
ls sgdataplane_*.deb
ls sgdataplane-api_*.deb
ls sgdataplane-hosts_*.deb

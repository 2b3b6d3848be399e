#!/bin/sh
# Builds the Debian packages of this folder, for the release that this runs on. Nothing is fetched when they are installed:
# they hold the locked packages. Their version names the release, so that an upgrade of Debian upgrades them, too.
# `make deb`
#
#   tools/deb.sh [FOLDER]     where they come, by default build/; each build that runs needs another one
set -eu
cd "$(dirname "$0")/.."

folder=${1:-build}
rm -rf "$folder/deb" "$folder"/sgdataplane_* "$folder"/sgdataplane-api_* "$folder"/sgdataplane-hosts_*
mkdir -p "$folder/deb"
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from - |
    tar --extract --directory "$folder/deb"
ln -s "$(realpath .venv)" "$folder/deb/.venv"
cd "$folder/deb"
sed -i "1s/)/+deb$(. /etc/os-release && echo "$VERSION_ID"))/" debian/changelog
dpkg-buildpackage --build=binary --no-sign --no-check-builddeps > ../deb.log 2>&1 || { tail -n 40 ../deb.log >&2; exit 1; }
cd ..
ls sgdataplane_*.deb
ls sgdataplane-api_*.deb
ls sgdataplane-hosts_*.deb

#!/bin/sh
# Builds the Debian package of this folder, for the release that this runs on, into build/. Nothing is fetched when it is
# installed: it holds the locked packages. `make deb`
set -eu
cd "$(dirname "$0")/.."

rm -rf build/deb build/sgdataplane_*
mkdir -p build/deb
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from - | tar --extract --directory build/deb
ln -s ../../.venv build/deb/.venv
cd build/deb
dpkg-buildpackage --build=binary --no-sign --no-check-builddeps > ../deb.log 2>&1 || { tail -n 40 ../deb.log >&2; exit 1; }
cd ..
ls sgdataplane_*.deb

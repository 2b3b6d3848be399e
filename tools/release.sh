#!/bin/sh
# Makes all that a release consists of, in dist/: sdist, wheel, Debian packages, checksums. `make release`
# What is built is the last commit, so nothing may be uncommitted. Publishes nothing.
#
#   TWINE=COMMAND                     in place of the locked twine, which is installed below build/
set -eu
cd "$(dirname "$0")/.."

refuse() {
    echo "no release: $*" >&2
    exit 1
}

# The locked twine, in an environment of its own: it needs two dozen packages that nothing else needs.
twine() {
    if [ -n "${TWINE:-}" ]; then
        $TWINE "$@"
        return
    fi
    [ -x build/twine/bin/twine ] || {
        .venv/bin/python -m venv build/twine
        PIP_DISABLE_PIP_VERSION_CHECK=1 build/twine/bin/pip --quiet install --no-deps --require-hashes \
            --only-binary :all: --requirement requirements-release.lock
    }
    build/twine/bin/twine "$@"
}

check_versions() {
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' sgdataplane/__init__.py)
    [ "$(sed -n '1s/^sgdataplane (\(.*\)) .*/\1/p' debian/changelog)" = "$version" ] ||
        refuse "debian/changelog isn't about $version"
    grep -q "^## \[$version\]" CHANGELOG.md || echo "a trial: CHANGELOG.md has no section for $version yet"
    ! grep -q example.org pyproject.toml || echo "a trial: pyproject.toml has no real addresses of the project yet"
}

[ -z "$(git status --porcelain)" ] || refuse "there are uncommitted changes"
check_versions
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf dist
.venv/bin/python -m build --no-isolation --outdir dist . >build/release.log 2>&1 || { tail -n 40 build/release.log >&2; exit 1; }
twine check --strict dist/*
unset SOURCE_DATE_EPOCH # dpkg-buildpackage takes it from debian/changelog
packages=$(tools/deb.sh)
for package in $packages; do
    mv "build/$package" dist/
done
(cd dist && sha256sum -- sgdataplane* >SHA256SUMS)
ls -l dist

#!/bin/sh
# Installs this folder's product as files: the locked versions, the command, its man pages and completions, the units, the
# documents. `make install`, and the Debian package.
#
#   DESTDIR=DIR   below which all of it is put        PREFIX=DIR   default /usr/local
#   UNITDIR=DIR   default PREFIX/lib/systemd/system
#   tools/install.sh [install | uninstall]
#
# Not a virtual environment but a folder of packages, which the command puts on its path: so it is the same in DESTDIR as in
# place, and each file is one that a package manager can know.
set -eu
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
units=${UNITDIR:-$prefix/lib/systemd/system}
root=${DESTDIR:-}
library=$root$prefix/lib/sgdataplane
share=$root$prefix/share
documents=$share/doc/sgdataplane
# Where zsh looks: a package's completions are apart from those that an administrator installed.
if [ "$prefix" = /usr ]; then zsh=vendor-completions; else zsh=site-functions; fi
python=/usr/bin/python3

install_packages() {
    rm -rf "$library"
    .venv/bin/python -I tools/vendor.py "$library"
    # A package's manager compiles for itself. The agent can't: to it all of this is read-only.
    [ -n "$root" ] || $python -m compileall -q "$library"
}

install_command() {
    install -d "$root$prefix/bin" "$root$prefix/lib/cni"
    install -m 755 tools/sgdp tools/sgdataplane-cni tools/sgdataplane-oci "$root$prefix/bin"
    ln -sf ../../bin/sgdataplane-cni "$root$prefix/lib/cni/sgdataplane"  # where Debian's engines look for plugins
    .venv/bin/python -I tools/manuals.py "$share" "$zsh"
}

# At the places that they have in the repository, so that their links lead somewhere; and what is there to be copied, as examples.
install_documents() {
    rm -rf "$documents"
    for file in README.md CHANGELOG.md SECURITY.md docs/*.md docs/*/*.md docs/pictures/*.svg systemd/README.md; do
        install -D -m 644 "$file" "$documents/$file"
    done
    (cd examples && find . -type f -exec install -D -m 644 '{}' "$documents/examples/{}" ';')
    (cd netns-lab/scenarios && find . -type f -exec install -D -m 644 '{}' "$documents/examples/scenarios/{}" ';')
    install -D -m 644 -t "$documents/examples" systemd/agent.toml
}

# Podman and CRI-O run these hooks for containers with their annotation.
install_hooks() {
    hooks=$root$prefix/share/containers/oci/hooks.d
    install -d "$hooks"
    for step in bind unbind; do
        sed "s,/usr/bin/,$prefix/bin/," "containers/sgdataplane-$step.json" > "$hooks/sgdataplane-$step.json"
    done
    chmod 644 "$hooks"/sgdataplane-*.json
}

install_units() {
    install -d "$root$units" "$root$prefix/lib/tmpfiles.d" "$root$prefix/lib/modules-load.d" \
        "$root$prefix/lib/sysctl.d"
    for unit in sgdataplane sgdataplane-boot; do
        sed "s,/usr/bin/sgdp,$prefix/bin/sgdp,; s,/usr/share/doc,$prefix/share/doc," "systemd/$unit.service" \
            > "$root$units/$unit.service"
    done
    install -m 644 systemd/sgdataplane.conf "$root$prefix/lib/tmpfiles.d/sgdataplane.conf"
    install -m 644 systemd/modules-load.conf "$root$prefix/lib/modules-load.d/sgdataplane.conf"
    install -m 644 systemd/sysctl.conf "$root$prefix/lib/sysctl.d/sgdataplane.conf"
    chmod 644 "$root$units"/sgdataplane*.service
    install -d "$root/etc/sgdataplane"
    [ -e "$root/etc/sgdataplane/agent.toml" ] || install -m 644 systemd/agent.toml "$root/etc/sgdataplane/agent.toml"
}

# Configuration, policies and what is in force stay.
uninstall() {
    rm -rf "$library" "$documents"
    rm -f "$root$prefix/bin/sgdp" "$root$prefix/bin/sgdataplane-cni" "$root$prefix/lib/cni/sgdataplane" \
        "$share/man/man1/sgdp.1" "$share/man/man1"/sgdp-*.1 "$share/man/man1"/sgdataplane-*.1 \
        "$share/bash-completion/completions/sgdp" "$share/zsh/$zsh/_sgdp" "$share/fish/vendor_completions.d/sgdp.fish" \
        "$root$prefix/bin/sgdataplane-oci" "$root$prefix/share/containers/oci/hooks.d"/sgdataplane-*.json \
        "$root$prefix/lib/tmpfiles.d/sgdataplane.conf" "$root$prefix/lib/modules-load.d/sgdataplane.conf" \
        "$root$prefix/lib/sysctl.d/sgdataplane.conf" \
        "$root$units/sgdataplane.service" "$root$units/sgdataplane-boot.service"
}

# Where systemd runs, and what is installed is this machine's own.
reload_systemd() {
    [ -n "$root" ] || [ ! -d /run/systemd/system ] || systemctl daemon-reload
}

case ${1:-install} in
    install) install_packages; install_command; install_documents; install_hooks; install_units ;;
    uninstall) uninstall ;;
    *) echo "usage: tools/install.sh [install | uninstall]" >&2; exit 2 ;;
esac
reload_systemd

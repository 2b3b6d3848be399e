#!/bin/sh
# Installs this folder's product as files: the locked versions, the command, its man pages and completions, the units, the
# documents; and, each apart from that, what only `sgdp api`, or `sgdp relay` and `sgdp sync` need. `make install`, and the
# Debian packages.
#
#   DESTDIR=DIR   below which all of it is put        PREFIX=DIR   default /usr/local
#   UNITDIR=DIR   default PREFIX/lib/systemd/system
#   tools/install.sh [install | uninstall] [agent | api | hosts]      default: all
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

# Into a folder: the product and its packages, or those of an extra. A package's manager compiles for itself. The agent
# can't: to it all of this is read-only.
install_packages() {
    rm -rf "$1"
    .venv/bin/python -I tools/vendor.py "$@"
    [ -n "$root" ] || $python -m compileall -q "$1"
}

install_command() {
    install -d "$root$prefix/bin" "$root$prefix/lib/cni"
    install -m 755 tools/sgdp tools/sgdataplane-cni tools/sgdataplane-oci tools/sgdataplane-runc "$root$prefix/bin"
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

# Of the given names; their commands and documents are below this prefix.
install_units() {
    install -d "$root$units"
    for unit in "$@"; do
        sed "s,/usr/bin/sgdp,$prefix/bin/sgdp,; s,/usr/share/doc,$prefix/share/doc," "systemd/$unit.service" \
            > "$root$units/$unit.service"
        chmod 644 "$root$units/$unit.service"
    done
}

# A file of systemd/, and where it goes.
install_file() { install -D -m 644 "systemd/$1" "$root$2"; }

# What people change stays.
install_configuration() {
    [ -e "$root/etc/sgdataplane/$1" ] || install_file "$1" "/etc/sgdataplane/$1"
}

install_agent() {
    install_packages "$library"
    install_command
    install_documents
    install_hooks
    install_units sgdataplane sgdataplane-boot
    install_file sgdataplane.conf "$prefix/lib/tmpfiles.d/sgdataplane.conf"
    install_file modules-load.conf "$prefix/lib/modules-load.d/sgdataplane.conf"
    install_file sysctl.conf "$prefix/lib/sysctl.d/sgdataplane.conf"
    install_configuration agent.toml
}

# Of a part: its users, its folders, and where the agent's status_socket may be.
install_users() {
    install_file "$1-door.conf" "$units/sgdataplane.service.d/sgdataplane-$1.conf"
    install_file "$1-users.conf" "$prefix/lib/sysusers.d/sgdataplane-$1.conf"
    install_file "$1-folders.conf" "$prefix/lib/tmpfiles.d/sgdataplane-$1.conf"
    if [ -z "$root" ] && [ -d /run/systemd/system ]; then
        systemd-sysusers "$prefix/lib/sysusers.d/sgdataplane-$1.conf"
        systemd-tmpfiles --create "$prefix/lib/tmpfiles.d/sgdataplane-$1.conf"
    fi
}

install_api() {
    install_packages "$library-api" api
    install_units sgdataplane-api
    install_configuration api.toml
    install_users api
}

install_hosts() {
    install_packages "$library-hosts" relay
    install_units sgdataplane-relay sgdataplane-sync
    install_configuration relay.toml
    install_configuration sync.toml
    install_users hosts
}

# Configuration, policies and what is in force stay.
uninstall_agent() {
    rm -rf "$library" "$documents"
    rm -f "$root$prefix/bin/sgdp" "$root$prefix/bin/sgdataplane-cni" "$root$prefix/lib/cni/sgdataplane" \
        "$share/man/man1/sgdp.1" "$share/man/man1"/sgdp-*.1 "$share/man/man1"/sgdataplane-*.1 \
        "$share/bash-completion/completions/sgdp" "$share/zsh/$zsh/_sgdp" "$share/fish/vendor_completions.d/sgdp.fish" \
        "$root$prefix/bin/sgdataplane-oci" "$root$prefix/bin/sgdataplane-runc" \
        "$root$prefix/share/containers/oci/hooks.d"/sgdataplane-*.json \
        "$root$prefix/lib/tmpfiles.d/sgdataplane.conf" "$root$prefix/lib/modules-load.d/sgdataplane.conf" \
        "$root$prefix/lib/sysctl.d/sgdataplane.conf" \
        "$root$units/sgdataplane.service" "$root$units/sgdataplane-boot.service"
}

# What a part has written, and its users, stay, too.
uninstall_part() {
    rm -rf "$library-$1"
    rm -f "$root$units/sgdataplane.service.d/sgdataplane-$1.conf" "$root$prefix/lib/sysusers.d/sgdataplane-$1.conf" \
        "$root$prefix/lib/tmpfiles.d/sgdataplane-$1.conf"
    rmdir "$root$units/sgdataplane.service.d" 2>/dev/null || true
}

uninstall_api() {
    rm -f "$root$units/sgdataplane-api.service"
    uninstall_part api
}

uninstall_hosts() {
    rm -f "$root$units/sgdataplane-relay.service" "$root$units/sgdataplane-sync.service"
    uninstall_part hosts
}

# Where systemd runs, and what is installed is this machine's own.
reload_systemd() {
    [ -n "$root" ] || [ ! -d /run/systemd/system ] || systemctl daemon-reload
}

action=${1:-install}
part=${2:-all}
case $action-$part in
    install-all | uninstall-all)
        "${action}_agent"
        "${action}_api"
        "${action}_hosts"
        ;;
    install-agent | uninstall-agent | install-api | uninstall-api | install-hosts | uninstall-hosts) "${action}_$part" ;;
    *) echo "usage: tools/install.sh [install | uninstall] [agent | api | hosts]" >&2; exit 2 ;;
esac
reload_systemd

#!/bin/sh
# Gets ready what only tests of the API need: the cloud's official SDKs, in a folder outside of this tree. The Python ones
# are in an environment of their own, as their many packages are nobody else's; those for Node come only where npm is, and
# the one for Go, in a program that uses it, only where Go is.
# Does only what is missing. Without a network it says so and ends well: the tests that need an SDK skip.
#
#   tools/setup-sdks.sh FOLDER
set -eu
cd "$(dirname "$0")/.."

folder=$1
clients=tests/http/clients

# Packages by their hashes. Some come as sources only, and are built. The copy of the lock says that all is there.
install_python() {
    /usr/bin/python3 -m venv --clear "$folder/python" &&
        env PIP_DISABLE_PIP_VERSION_CHECK=1 "$folder/python/bin/python" -m pip --quiet --retries 1 install --no-deps \
            --require-hashes --use-pep517 --requirement requirements-sdks.lock &&
        cp requirements-sdks.lock "$folder/python/installed.lock"
}

install_node() {
    rm -rf "$folder/node" && mkdir "$folder/node" && cp "$clients"/package*.json "$folder/node" &&
        npm --prefix "$folder/node" ci --ignore-scripts --no-audit --no-fund --silent --fetch-retries 1 &&
        cp "$clients/package-lock.json" "$folder/node/installed.lock"
}

# Go fetches the SDK, unless a folder `vendor` is there that has it.
install_go() {
    mkdir -p "$folder/go" && cp "$clients"/go/* "$folder/go" &&
        (cd "$folder/go" && env GOTOOLCHAIN=local go build -o drive .) &&
        cat "$clients"/go/* >"$folder/go/installed.lock"
}

install() { # NAME COMMAND
    echo "installing the cloud's SDKs for $1 into $folder"
    "$2" || echo "  this failed; tests that need them will skip" >&2
}

# Two `make` at a time must not both write; the second finds everything done.
exec 9<tools/setup-sdks.sh
flock 9
mkdir -p "$folder"
cmp --silent requirements-sdks.lock "$folder/python/installed.lock" || install Python install_python
if command -v npm >/dev/null; then
    cmp --silent "$clients/package-lock.json" "$folder/node/installed.lock" || install Node install_node
fi
if command -v go >/dev/null; then
    cat "$clients"/go/* | cmp --silent - "$folder/go/installed.lock" || install Go install_go
fi

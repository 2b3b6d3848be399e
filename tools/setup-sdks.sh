#!/bin/sh
# Gets ready what only tests of the API need: the cloud's official SDKs, in a folder outside of this tree. The Python ones
# are in an environment of their own, as their many packages are nobody else's; those for Node come only where npm is, and
# the one for Go, in a program that uses it, only where Go is. Slow tests need two more clients: Ansible with its modules for
# the cloud, and the cloud's command line, if somebody has put its release into the folder (tests/README.md).
# Does only what is missing. Without a network it says so and ends well: the tests that need an SDK or a client skip.
#
#   tools/setup-sdks.sh FOLDER [CLIENT...]     those clients, too: ansible, aliyun
set -eu
cd "$(dirname "$0")/.."

folder=$1
shift
clients=tests/http/clients
checksum=$clients/aliyun.sha256

# Packages by their hashes. Some come as sources only, and are built.
pip_install() { # ENVIRONMENT OPTION...
    python=$1/bin/python
    shift
    env PIP_DISABLE_PIP_VERSION_CHECK=1 "$python" -m pip --quiet --retries 1 install --no-deps --require-hashes --use-pep517 "$@"
}

# The copy of the lock says that all is there.
install_python() {
    /usr/bin/python3 -m venv --clear "$folder/python" &&
        pip_install "$folder/python" --requirement requirements-sdks.lock &&
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

# The modules are apart, because their package has files that are Ansible's own.
install_ansible() {
    /usr/bin/python3 -m venv --clear "$folder/ansible" &&
        pip_install "$folder/ansible" --requirement requirements-ansible.lock &&
        pip_install "$folder/ansible" --target "$folder/ansible/site" --requirement requirements-ansible-modules.lock &&
        cat requirements-ansible*.lock >"$folder/ansible/installed.lock"
}

# No package holds this program, so its release is unpacked if somebody has fetched it.
unpack_aliyun() {
    release=$(cut -d ' ' -f 3 "$checksum")
    if [ ! -r "$folder/$release" ]; then
        echo "  $release isn't there; tests/README.md says where to get it" >&2
        return 1
    fi
    (cd "$folder" && sha256sum --check --quiet --strict) <"$checksum" && rm -rf "$folder/aliyun" &&
        mkdir "$folder/aliyun" && tar -xzf "$folder/$release" -C "$folder/aliyun" aliyun &&
        cp "$checksum" "$folder/aliyun/installed.lock"
}

install() { # NAME COMMAND
    echo "installing $1 into $folder"
    "$2" || echo "  this failed; tests that need them will skip" >&2
}

# Two `make` at a time must not both write; the second finds everything done.
exec 9<tools/setup-sdks.sh
flock 9
mkdir -p "$folder"
cmp --silent requirements-sdks.lock "$folder/python/installed.lock" || install "SDKs for Python" install_python
if command -v npm >/dev/null; then
    cmp --silent "$clients/package-lock.json" "$folder/node/installed.lock" || install "SDKs for Node" install_node
fi
if command -v go >/dev/null; then
    cat "$clients"/go/* | cmp --silent - "$folder/go/installed.lock" || install "the SDK for Go" install_go
fi
for client; do
    case $client in
        ansible)
            cat requirements-ansible*.lock | cmp --silent - "$folder/ansible/installed.lock" ||
                install Ansible install_ansible
            ;;
        aliyun) cmp --silent "$checksum" "$folder/aliyun/installed.lock" || install aliyun unpack_aliyun ;;
        *) echo "tools/setup-sdks.sh knows no client $client" >&2 && exit 4 ;;
    esac
done

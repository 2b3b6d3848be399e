#!/bin/sh
# Serves the API with a lab behind it, lets examples/api/tutorial.py use it through the cloud's own SDK, and removes all.
#
#   tools/demo-api.sh PYTHON    one that has the SDK (`make sdks`)
set -eu
cd "$(dirname "$0")/.."

python=$1
sgdp=$PWD/.venv/bin/sgdp
folder=$(mktemp -d)
lab=${SGDP_LAB:-demo-api}

finish() {
    kill "$api" 2>/dev/null && wait "$api" || true
    "$sgdp" lab down --name "$lab" >/dev/null || true
    rm -r "$folder"
}
trap finish EXIT

[ -x "$python" ] || { echo "the cloud's SDK isn't there: make sdks" >&2; exit 1; }
"$sgdp" api keys create --store "$folder/store" --json >"$folder/key" 2>/dev/null
"$sgdp" api --store "$folder/store" --lab "$lab" --listen 127.0.0.1:0 >/dev/null 2>"$folder/said" &
api=$!
: >>"$folder/said"  # the shell that starts the API makes it, but maybe later
for _ in $(seq 100); do
    grep -q 'serving at' "$folder/said" && break
    kill -0 "$api" 2>/dev/null || { cat "$folder/said" >&2; exit 1; }
    sleep 0.1
done
said() { sed -n "s,.*\"$1\": \"\([^\"]*\)\".*,\1,p" "$folder/key"; }
endpoint=$(sed -n 's,.*serving at http://\([^;]*\);.*,\1,p' "$folder/said")
env PATH="$PWD/.venv/bin:$PATH" SGDP_LAB="$lab" ECS_ENDPOINT="$endpoint" ECS_KEY="$(said access_key_id)" \
    ECS_SECRET="$(said access_key_secret)" "$python" -I examples/api/tutorial.py

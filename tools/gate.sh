#!/usr/bin/env bash
# What action.yml runs in a checkout of the pull request: check, test, and diff against the base. Everything runs, also if
# one of them fails; the exit code is 1 if any did. It fails closed: every input must be set, and a word that it doesn't
# know, or something that it can't compare, is a failure.
#
#   STATE          a file or folder in the checkout
#   EXPECTATIONS   files for `sgdp test`, separated by spaces; none if empty
#   BASE           the commit to compare with; may be empty if FAIL_ON_OPEN is false
#   PROFILE        seed, 2026 or unlimited
#   FAIL_ON        fail on findings of this severity or a higher one: info, warning, high; none: on no finding
#   STRICT         true: the same as FAIL_ON=info
#   INEXACT        what to do with rules of AWS or OpenStack that can't be said exactly: refuse, widen or narrow
#   FAIL_ON_OPEN   true: fail if a port opens to the internet; any: if any traffic opens; false: never
#
# It writes files into RUNNER_TEMP, or else into a new folder.
set -euo pipefail

failed=0

complain() { echo "gate.sh: $*" >&2; failed=1; }

# one_of NAME WORD...: the variable must be one of these words
one_of() {
    local name=$1 value=${!1} word
    shift
    for word in "$@"; do [ "$value" != "$word" ] || return 0; done
    complain "$name is '$value'; expected one of: $*"
}

for name in STATE EXPECTATIONS BASE PROFILE INEXACT FAIL_ON STRICT FAIL_ON_OPEN; do
    [ -n "${!name+set}" ] || complain "$name is not set; the head of this file says what it means"
done
[ "$failed" = 0 ] || exit 1
one_of INEXACT refuse widen narrow
one_of PROFILE seed 2026 unlimited
one_of FAIL_ON info warning high none
one_of STRICT true false
one_of FAIL_ON_OPEN true any false
[ -e "$STATE" ] || complain "STATE is '$STATE', which isn't there"
for path in "$STATE" $EXPECTATIONS "$BASE"; do
    case $path in -*) complain "'$path' begins with a dash, so it would be read as an option" ;; esac
done
case $STATE in /* | ../* | */../*) complain "STATE is '$STATE'; expected a path inside the repository" ;; esac
if [ -z "$BASE" ] && [ "$FAIL_ON_OPEN" != false ]; then
    complain "BASE is empty, so nothing can be compared; name a commit, or set FAIL_ON_OPEN=false"
fi
[ "$failed" = 0 ] || exit 1

out=${RUNNER_TEMP:-$(mktemp -d)}

# output NAME VALUE: for the steps that come later
output() { [ -z "${GITHUB_OUTPUT:-}" ] || echo "$1=$2" >>"$GITHUB_OUTPUT"; }

checks=(--profile "$PROFILE" --inexact "$INEXACT")
[ "$FAIL_ON" = none ] || checks+=(--fail-on "$FAIL_ON")
[ "$STRICT" = false ] || checks+=(--strict)
sgdp check "$STATE" "${checks[@]}" || failed=1

if [ -n "$EXPECTATIONS" ]; then
    # shellcheck disable=SC2086  # files, separated by spaces
    sgdp test $EXPECTATIONS --state "$STATE" --profile "$PROFILE" --inexact "$INEXACT" --junit "$out/junit.xml" || failed=1
    [ ! -e "$out/junit.xml" ] || output junit "$out/junit.xml"
fi

if [ -n "$BASE" ]; then
    git cat-file -e "$BASE^{commit}" 2>/dev/null || git fetch --quiet --depth 1 origin "$BASE"
    base=$out/base
    git worktree add --quiet --force --detach "$base" "$BASE"
    trap 'git worktree remove --force "$base"' EXIT
    old=$base/$STATE
    if [ ! -e "$old" ]; then
        # a new state is compared with nothing, so that all it accepts opens
        old=$out/nothing.yaml
        echo "version: 1" >"$old"
        echo "$STATE isn't in $BASE, so it is compared with an empty state" >&2
    fi
    diffs=(--profile "$PROFILE" --inexact "$INEXACT" --markdown)
    case $FAIL_ON_OPEN in true) diffs+=(--fail-on-open) ;; any) diffs+=(--fail-on-any-open) ;; esac
    sgdp diff "$old" "$STATE" "${diffs[@]}" >"$out/diff.md" || failed=1
    if [ -s "$out/diff.md" ]; then
        output markdown "$out/diff.md"
        cat "$out/diff.md" >>"${GITHUB_STEP_SUMMARY:-/dev/stdout}"
    fi
fi
exit "$failed"

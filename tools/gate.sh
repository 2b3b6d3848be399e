#!/usr/bin/env bash
# What action.yml runs in a checkout of the pull request: check, test, and diff against the base. Everything runs, also if
# one of them fails; the exit code is 1 if any did. Takes its inputs as variables (STATE, EXPECTATIONS, BASE, PROFILE, STRICT,
# FAIL_ON_OPEN), and writes files into RUNNER_TEMP.
set -euo pipefail

out=${RUNNER_TEMP:-$(mktemp -d)}
failed=0

# option WORD NAME: NAME if WORD is true
option() { [ "$1" != true ] || echo "$2"; }

# output NAME VALUE: for the steps that come later
output() { [ -z "${GITHUB_OUTPUT:-}" ] || echo "$1=$2" >>"$GITHUB_OUTPUT"; }

# shellcheck disable=SC2046  # an option or nothing
sgdp check "$STATE" --profile "$PROFILE" $(option "$STRICT" --strict) || failed=1

if [ -n "${EXPECTATIONS:-}" ]; then
    # shellcheck disable=SC2086  # files, separated by spaces
    sgdp test $EXPECTATIONS --state "$STATE" --profile "$PROFILE" --junit "$out/junit.xml" || failed=1
    [ ! -e "$out/junit.xml" ] || output junit "$out/junit.xml"
fi

if [ -n "${BASE:-}" ]; then
    git cat-file -e "$BASE^{commit}" 2>/dev/null || git fetch --quiet --depth 1 origin "$BASE"
    base=$out/base
    git worktree add --quiet --force --detach "$base" "$BASE"
    trap 'git worktree remove --force "$base"' EXIT
    if [ -e "$base/$STATE" ]; then
        # shellcheck disable=SC2046
        sgdp diff "$base/$STATE" "$STATE" --profile "$PROFILE" --markdown $(option "$FAIL_ON_OPEN" --fail-on-open) \
            >"$out/diff.md" || failed=1
    else
        echo "### $STATE is new: there is nothing to compare it with" >"$out/diff.md"
    fi
    if [ -s "$out/diff.md" ]; then
        output markdown "$out/diff.md"
        cat "$out/diff.md" >>"${GITHUB_STEP_SUMMARY:-/dev/stdout}"
    fi
fi
exit "$failed"

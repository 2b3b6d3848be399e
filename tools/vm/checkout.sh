#!/bin/sh
# Puts the last commit of this repository into /src of a Debian tree. Files that git ignores stay there, the virtual
# environment among them.
#
#   tools/vm/checkout.sh TREE
set -eu
repository=$(cd "$(dirname "$0")/../.." && pwd)
source=$1/src

[ -d "$source/.git" ] || git init --quiet "$source"
git -C "$source" fetch --quiet --depth 1 "file://$repository" HEAD
git -C "$source" checkout --quiet --force --detach FETCH_HEAD
git -C "$source" clean --quiet --force -d

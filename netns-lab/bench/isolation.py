"""A command's own namespaces: network, mount and process. Nothing of it is left however it ends, and no machine is
touched.

Owns how they are made. Must not know what runs in them.
"""

from __future__ import annotations

import os
import sys

ISOLATED = "SGDP_BENCH_ISOLATED"
# /run/netns is ours alone, so that no name is left in the machine's.
ENTER = 'mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && exec "$@"'
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", ENTER, "sh")


def isolate(module: str) -> None:
    """Start the program anew, as `python -m MODULE` with the same arguments, in namespaces of its own; unless it is in
    them already."""
    if os.environ.get(ISOLATED) != "yes":
        command = (*UNSHARE, sys.executable, "-m", module, *sys.argv[1:])
        os.execvpe("unshare", command, {**os.environ, ISOLATED: "yes"})


def outside() -> dict[str, str]:
    """The environment for a program that is to make its own namespaces, although this one is in some."""
    return {name: value for name, value in os.environ.items() if name != ISOLATED}

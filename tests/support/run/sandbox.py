"""The limits of the shipped unit, as far as they take no systemd: files that can't be written, capabilities.

Owns the command that a process is run by. Must not know what runs.
"""

from __future__ import annotations

import re
from pathlib import Path

UNIT = Path(__file__).resolve().parents[3] / "systemd" / "sgdataplane.service"
# $1 is the folder that stands for those which the unit may write to; settings in /proc/sys/net it may write, too.
READ_ONLY = r"""
mount --bind "$1" "$1"
cut -d ' ' -f 5 /proc/self/mountinfo | while read -r place; do mount -o remount,bind,ro "$place" 2> /dev/null; done
mount -o remount,bind,rw "$1" && mount -o remount,bind,rw /proc || exit
bounds=$2; shift 2
exec setpriv --bounding-set "$bounds" --no-new-privs "$@"
"""


def capabilities() -> set[str]:
    """As setpriv(1) has them."""
    found = re.search(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
    assert found
    return {name.removeprefix("CAP_").lower() for name in found[1].split()}


def bounds_of(allowed: set[str]) -> str:
    return ",".join(["-all", *(f"+{name}" for name in sorted(allowed))])


def kept_in(folder: Path) -> tuple[str, ...]:
    """To stand before a command, which can write below that folder only."""
    return "unshare", "--mount", "sh", "-c", READ_ONLY, "kept-in", str(folder), bounds_of(capabilities())

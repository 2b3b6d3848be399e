"""Where and when a run was made, so that readers can compare its figures with others.

Owns how this is found out. Must not know the figures.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
from pathlib import Path

RESULTS, UNKNOWN = "netns-lab/bench/results", "unknown"


def facts() -> dict[str, str]:
    """The facts by name."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} of them",
        "kernel": os.uname().release,
        "Debian": Path("/etc/debian_version").read_text(encoding="utf-8").strip(),
        "nftables": _output("nft", "--version"),
        "commit": _commit(),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else os.uname().machine


def _commit() -> str:
    """The last commit, with "-dirty" if a tracked file differs from it, other than results, which runs write."""
    commit = _output("git", "describe", "--always", "--abbrev=10")
    differs = ("git", "status", "--porcelain", "--untracked-files=no", "--", ":/", f":!/{RESULTS}")
    return f"{commit}-dirty" if _output(*differs) not in ("", UNKNOWN) else commit


def _output(*command: str) -> str:
    """The output of a command, or "unknown" if the machine hasn't got it."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN

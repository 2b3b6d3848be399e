"""The capture of docs/replay.md: its script makes it, and replaying it prints what the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CAPTURE = "netns-lab/captures/shop.pcap"


def test_the_script_makes_the_same_octets(tmp_path: Path) -> None:
    made = tmp_path / "shop.pcap"
    subprocess.run([sys.executable, ROOT / "tools/capture.py", made], check=True)
    assert made.read_bytes() == (ROOT / CAPTURE).read_bytes()


@pytest.mark.replay
def test_the_page_shows_what_is_printed(tmp_path: Path) -> None:
    page = (ROOT / "docs/replay.md").read_text("utf-8")
    block = re.search(r"^```\n(# cp .*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block is not None
    copy, change, replay, *shown = block[1].splitlines()
    (tmp_path / "netns-lab").symlink_to(ROOT / "netns-lab")
    commands = f"set -e\n{copy[2:]}\n{change[2:]}\n{replay[2:].replace('sgdp', f'{sys.executable} -m sgdataplane', 1)}"
    done = subprocess.run(
        ["sh", "-c", commands], cwd=tmp_path, env={"PATH": "/usr/sbin:/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        check=True, timeout=120, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert timeless(done.stdout) == timeless("\n".join(shown) + "\n")


def timeless(text: str) -> str:
    return re.sub(r"in [0-9.]+ s", "in S s", text)

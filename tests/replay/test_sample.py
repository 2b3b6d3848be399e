"""The capture of docs/replay.md is the one that its script makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_script_makes_the_same_octets(tmp_path: Path) -> None:
    made = tmp_path / "shop.pcap"
    subprocess.run([sys.executable, ROOT / "tools/capture.py", made], check=True)
    assert made.read_bytes() == (ROOT / "examples/shop.pcap").read_bytes()

"""The captures of examples/ are those that their script makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_script_makes_the_same_octets(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools/capture.py", tmp_path], check=True)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["shop-day.pcap", "shop.pcap"]
    for name in made:
        assert (tmp_path / name).read_bytes() == (ROOT / "examples" / name).read_bytes(), name

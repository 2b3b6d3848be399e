"""Runs every verb that only reads a state, in a copy of examples/: `python -m tools.anywhere`, with sgdataplane there.

CI does that on macOS and Windows (.github/workflows/ci.yml). tests/unit/test_anywhere.py runs the same commands on
Linux, without what only Linux has.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Name -> the words after `sgdp`, and the exit code.
READING: dict[str, tuple[tuple[str, ...], int]] = {
    "check": (("check", "shop.yaml"), 0),
    "check json": (("check", "aws-plan.json", "--json"), 0),
    "check sarif": (("check", "web.yaml", "--sarif"), 0),
    "diff": (("diff", "shop.yaml", "shop-moved.yaml", "--fail-on-open"), 1),
    "diff plan": (("diff", "plan.json", "--markdown"), 0),
    "explain": (("explain", "shop.yaml", "web1", "db1", "tcp/5432"), 0),
    "test": (("test", "shop-expectations.txt", "--state", "shop.yaml", "--junit", "out.xml"), 0),
    "report": (("report", "shop.yaml", "--html", "out.html"), 0),
    "suggest": (("suggest", "shop.yaml", "--capture", "shop-day.pcap", "-o", "suggested"), 0),
    "import": (("import", "aws", "--from", "aws", "--inexact", "widen", "-o", "out.yaml"), 0),
    "import to stdout": (("import", "openstack"), 0),
    "export": (("export", "shop.yaml", "--to", "ecs", "-o", "out"), 0),
    "compile": (("compile", "shop.yaml", "--eni", "web1", "--prove"), 0),
    "schema": (("schema",), 0),
    "init": (("init", "new.yaml"), 0),
    "completion": (("completion", "bash"), 0),
    "help": (("--help",), 0),
    "help of another verb": (("apply", "--help"), 0),
}
PYTHON = """
import sgdataplane as s
state = s.load("shop.yaml")
assert s.decide(state, "web1", "db1", "tcp/5432").verdict.value == "accept"
s.expect(state, "web1 -> db1 tcp/5432 accept")
assert s.explain(state, "web1", "db1", "tcp/5432") and s.diff(state, "shop-moved.yaml")
assert s.compile(state, "web1") and s.load("aws", inexact="widen").security_groups
"""


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        examples = Path(folder) / "examples"
        shutil.copytree(ROOT / "examples", examples)
        for name, (words, code) in READING.items():
            failed += not is_as_expected(name, (sys.executable, "-m", "sgdataplane", *words), examples, code)
        failed += not is_as_expected("the Python API", (sys.executable, "-c", PYTHON), examples, 0)
    return 1 if failed else 0


def is_as_expected(name: str, command: tuple[str, ...], folder: Path, code: int) -> bool:
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=300)
    is_well = done.returncode == code and b"Traceback" not in done.stderr
    print(f"{'ok    ' if is_well else 'FAILED'} {name}")
    if not is_well:
        print(f"       exit code {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return is_well


if __name__ == "__main__":
    sys.exit(main())

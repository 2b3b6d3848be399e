"""Alert rules and dashboards, as promtool plays them: what every test of such files needs.

Owns how promtool is asked. Is given rules and series. Must not know whose they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.checkers import checker

MONITORING = Path(__file__).resolve().parents[2] / "examples" / "monitoring"
LABEL = re.compile(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"")
BY = re.compile(r"\bby \(([\w, ]+)\)")
OF_PROMETHEUS = {"instance", "job", "le"}


def judge(folder: Path, rules: Path, tests: list[dict[str, Any]]) -> None:
    """`promtool test` passes with these rules, in a folder of its own."""
    (folder / rules.name).write_bytes(rules.read_bytes())
    document = {"rule_files": [rules.name], "evaluation_interval": "1m", "tests": tests}
    (folder / "test.yml").write_text(yaml.safe_dump(document), "utf-8")
    done = checker(folder, "promtool", "test", "rules", "/mnt/test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def series(well: Mapping[str, str], changed: Mapping[str, str]) -> list[dict[str, str]]:
    """Those of a site where all is well, but for those whose names have these parts."""
    for part in changed:
        assert sum(part in name for name in well) == 1, part
    return [
        {"series": name, "values": next((new for part, new in changed.items() if part in name), values)}
        for name, values in well.items()
    ]


def at_4h(query: str, found: Mapping[str, int]) -> dict[str, Any]:
    samples = [{"labels": labels, "value": value} for labels, value in found.items()]
    return {"expr": query, "eval_time": "4h", "exp_samples": samples}

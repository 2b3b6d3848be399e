"""Alert rules and dashboards, as promtool plays them: what every test of such files needs.

Owns how promtool is asked. Is given rules and series. Must not know whose they are.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
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


def each_fires_alone(folder: Path, rules: Path, well: Mapping[str, str], ill: Mapping[str, Mapping[str, str]]) -> None:
    """Each alert fires where its own series are changed so, and no other does; none where all is well."""
    assert ill.keys() == {alert["alert"] for alert in alerts_of(rules)}
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    cases: dict[str, Mapping[str, str]] = {"": {}, **ill}
    tests = [
        {
            "interval": "1m",
            "name": alert or "well",
            "input_series": series(well, changed),
            "promql_expr_test": [at_4h(firing, {f'{{alertname="{alert}"}}': 1} if alert else {})],
        }
        for alert, changed in cases.items()
    ]
    judge(folder, rules, tests)


def alerts_of(rules: Path) -> list[dict[str, Any]]:
    found = yaml.safe_load(rules.read_text("utf-8"))["groups"][0]["rules"]
    assert isinstance(found, list)
    return found


def layout_faults(board: Mapping[str, Any]) -> list[str]:
    """Titles of panels without a number or a place of their own, without a description, or with a fixed datasource."""
    panels, faults = board["panels"], []
    numbers = Counter(panel["id"] for panel in panels)
    taken = Counter(cell for panel in panels for cell in _cells(panel["gridPos"]))
    for panel in panels:
        is_alone = numbers[panel["id"]] == 1 and all(taken[x, y] == 1 and x < 24 for x, y in _cells(panel["gridPos"]))
        is_row = panel["type"] == "row"
        if not is_alone or not (is_row or (panel["description"] and panel["datasource"]["uid"] == "${datasource}")):
            faults.append(panel["title"])
    return faults


def _cells(box: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    return itertools.product(range(box["x"], box["x"] + box["w"]), range(box["y"], box["y"] + box["h"]))

"""Alert rules and dashboards, as promtool plays them: what every test of such files needs.

Owns how promtool is asked. Is given rules and series. Must not know whose they are.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.documents.checkers import checker

MONITORING = Path(__file__).resolve().parents[3] / "examples" / "monitoring"
LABEL = re.compile(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"")
BY = re.compile(r"\bby \(([\w, ]+)\)")
OF_PROMETHEUS = {"instance", "job", "le"}


def judge(folder: Path, rules: Path, tests: list[dict[str, Any]], each: str = "1m") -> None:
    """`promtool test` passes with these rules, in a folder of its own. `each`: how often rules are evaluated."""
    (folder / rules.name).write_bytes(rules.read_bytes())
    document = {"rule_files": [rules.name], "evaluation_interval": each, "tests": tests}
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


def at_4h(query: str, found: Mapping[str, int], time: str = "4h") -> dict[str, Any]:
    samples = [{"labels": labels, "value": value} for labels, value in found.items()]
    return {"expr": query, "eval_time": time, "exp_samples": samples}


def each_fires_alone(
    folder: Path,
    rules: Path,
    well: Mapping[str, str],
    ill: Mapping[str, Mapping[str, str]],
    late: Collection[str] = (),
) -> None:
    """Each alert fires where its own series are changed so, and no other does; none where all is well. `late`: those
    that take a week, whose series have a value an hour. Each case is an instance of its own, so that all rules are
    evaluated once for all of them."""
    assert ill.keys() == {alert["alert"] for alert in alerts_of(rules)}
    firing = 'count by (alertname, instance) (ALERTS{alertstate="firing"})'

    def test_of(names: Collection[str], interval: str, time: str) -> dict[str, Any]:
        cases: dict[str, Mapping[str, str]] = {"well": {}, **{name: ill[name] for name in names}}
        found = {f'{{alertname="{name}", instance="{name}"}}': 1 for name in names}
        return {
            "interval": interval,
            "input_series": [
                {**one, "series": one["series"].replace('instance="h"', f'instance="{case}"')}
                for case, changed in cases.items()
                for one in series(well, changed)
            ],
            "promql_expr_test": [at_4h(firing, found, time)],
        }

    judge(folder, rules, [test_of([name for name in ill if name not in late], "1m", "4h")])
    if late:
        judge(folder, rules, [test_of(late, "1h", "170h")], "1h")


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

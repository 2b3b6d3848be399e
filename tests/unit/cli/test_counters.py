"""What `sgdp counters --unused` says when there is nothing to list."""

from __future__ import annotations

import pytest

from sgdataplane.cli import counters, main

RULE = {"kind": "rule", "counter": "rule.sg-a.sgr-1", "in_force": True, "packets": 7, "since": "", "last_hit": None}
DEFAULT = {**RULE, "kind": "default", "counter": "default.ingress.drop"}
OLD = {**RULE, "in_force": False}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "nothing is counted: no ENI is enforced"),
        ([[OLD]], "nothing is counted: no ENI is enforced"),
        ([[DEFAULT]], "no rule is in force: the defaults decide"),
        ([[DEFAULT, RULE]], "every rule in force has decided about a packet"),
    ],
    ids=["nothing is attached", "no longer enforced", "no rules", "all used"],
)
def test_it_says_why_no_rule_is_listed(
    rows: list[list[dict[str, object]]],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scopes = [{"namespace": "n", "enis": ["eni-a"], "at": "", "counters": some} for some in rows]
    monkeypatch.setattr(counters, "require_root", lambda _: None)
    monkeypatch.setattr(counters, "ask_agent", lambda *_, **__: {"counters": {"error": None, "scopes": scopes}})
    assert main.main(["counters", "--unused"]) == 0
    assert capsys.readouterr().out == f"{said}\n"

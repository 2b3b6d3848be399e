"""A trial that nobody has run, for pages and texts that show one.

Owns what it has seen. Must not know how a trial is shown.
"""

from __future__ import annotations

from dataclasses import replace

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.cli.trialtext import ShownTrial, owners_of
from sgdataplane.net.values import TCP, Address, Direction, PortRange
from sgdataplane.observe.sessions import Session
from sgdataplane.trial.lines import lines_at
from sgdataplane.trial.record import TrialRecord
from sgdataplane.trial.report import SeenLine, TrialReport
from sgdataplane.trial.trial import DoneLine
from tests.support.inputs.pages import three_tier

SINCE = 1_780_000_000.0
FIRST, LAST, APPLIED = "2026-05-28T20:30:00Z", "2026-05-28T21:59:59Z", "2026-05-28T21:00:00Z"


def shown_trial(text: str = "") -> ShownTrial:
    """Return a trial in which the database's rules become one for port 9.

    Args:
        text: What others may have written, for the name of the state and for all that they name in it.
    """
    before = three_tier()
    group = before.group["sg-db"]
    others = tuple(each for each in before.security_groups if each is not group)
    named = tuple(replace(rule, security_group_rule_id=text + rule.security_group_rule_id) for rule in group.rules)
    nine = replace(named[0], security_group_rule_id=f"{text}sgr-nine", port_range=PortRange.parse("9/9"))
    old = replace(before, security_groups=(*others, replace(group, rules=named)))
    new = replace(before, security_groups=(*others, replace(group, rules=(nine,))))
    lines = lines_at(StateDiff(old, new), [eni.network_interface_id for eni in old.network_interfaces]).lines
    seen = tuple(
        SeenLine(line, line.counter, 617 * number, first=FIRST, last=LAST, ends=("10.20.2.11", "192.0.2.7"))
        if number % 3
        else SeenLine(line, line.counter, 0)
        for number, line in enumerate(lines)
    )
    closing = next(line for line in lines if not line.change.is_opening)
    record = TrialRecord("tighter", f"{text}new.yaml", (), SINCE, SINCE + 86_400)
    report = TrialReport(record, "", seen[1:], (DoneLine(lines[0], 7, APPLIED),), (f"netns {text}db1: no room",))
    return ShownTrial(report, ((_session(text), closing),), owners_of(old), SINCE + 7_200)


def _session(text: str) -> Session:
    near, far = Address.parse("10.20.3.21"), Address.parse("10.20.2.11")
    ends = far, 40_000, near, 5_432
    return Session(
        "db1", f"{text}eni-db1", "eth0", Direction.INGRESS, TCP, *ends, None, "ESTABLISHED", 900, None, None, True, None
    )

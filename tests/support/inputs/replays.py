"""Reports of replays that never happened, to make pages of.

Owns which flows they have. Must not know how pages look.
"""

from __future__ import annotations

from sgdataplane.lab.expect import Expectation
from sgdataplane.lab.replay.flows import Delivery, ReplayedFlow, Report
from sgdataplane.lab.replay.page import replay_page
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import TCP, Address, Direction, Verdict
from sgdataplane.report.render import render_page


def report_of(flows: int, *, wrong: int = 0, verdict: str = "accept", name: str = "i-web1") -> Report:
    """A report with `flows` flows of two packets each. The last `wrong` don't do what the policy says. `name`: of the
    node, the group and the rule."""
    report = Report(read=2 * flows + 3, sent=2 * flows, outside=3, seconds=flows / 7)
    passes = verdict == "accept"
    where = "" if passes else "ingress"
    expected = Expectation(Decision(Direction.INGRESS, Verdict(verdict), "rule", name, name, 1), where)
    server = Address.parse("10.0.0.11")
    for number in range(flows):
        client = Address.parse(f"198.51.{number // 250}.{number % 250}")
        flow = ReplayedFlow((TCP, client, 40000, server, 443), 2 * number + 1, "ext-198.51.100.7", name, expected)
        problem = f"not as it should be: {name}" if number >= flows - wrong else ""
        flow.add(expected, Delivery(passes is not bool(problem), problem), flow.first, 2)
        report.add(flow)
        report.mapped[str(client)] = (name, str(client))
    for number in range(3):
        report.leave_out(f"no IP: {name}", 2 * flows + number + 1)
    return report


def replay_text(before: Report, after: Report | None = None, *, name: str = "state.yaml") -> str:
    """The page. `name`: of the capture and of the states."""
    reports = [before] if after is None else [before, after]
    return render_page(replay_page(name, [(name, report) for report in reports]))

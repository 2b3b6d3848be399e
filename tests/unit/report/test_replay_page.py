"""What the page of a replay shows, and that it is bounded, escaped, and the same for the same report."""

from __future__ import annotations

from sgdataplane.lab.replay.flows import MAX_FLOWS, Delivery
from sgdataplane.lab.replay.page import MAX_ADDRESSES, MAX_CHANGES, MAX_ROWS, replay_page
from tests.support.inputs.pages import HOSTILE
from tests.support.inputs.replays import replay_text, report_of


def test_disagreements_come_first_in_words() -> None:
    (run,) = replay_page("c.pcap", [("state.yaml", report_of(9, wrong=2))]).runs
    assert [bool(row.problem) for row in run.rows] == [True, True] + 7 * [False]
    assert (run.rows[0].packets, run.rows[0].fate.delivered, run.rows[0].expected) == (2, 0, 2)
    assert run.summary == "9 flows, 2 disagree with the policy."
    text = replay_text(report_of(9, wrong=2))
    assert text.count("! disagrees") == 2
    assert text.index("! disagrees") < text.index("as expected</td>")


def test_what_is_no_flow_of_its_own_is_told() -> None:
    report = report_of(1)
    report.strangers = 2
    report.cut = "packet 9: the file ends within it"
    report.rest.add(next(iter(report.flows.values())).expectation, Delivery(False, "lost"), 7, 5)
    (run,) = replay_page("c.pcap", [("state.yaml", report)]).runs
    assert run.problems == (
        "2 packets delivered that differ from all sent",
        "5 packets of flows that are reported together: packet 7: lost",
    )
    assert any("the file ends within it" in note for note in run.notes)
    assert any("5 packets, 0 delivered, 5 expected" in note for note in run.notes)


def test_changes_stand_before_and_after() -> None:
    before, after = report_of(3), report_of(2, verdict="drop")
    page = replay_page("c.pcap", [("old.yaml", before), ("new.yaml", after)])
    assert page.changes is not None
    fates = [(row.before and row.before.verdict, row.after and row.after.verdict) for row in page.changes.rows]
    assert fates == [("accept", "drop"), ("accept", "drop"), ("accept", None)]
    assert ("Flows treated differently", "3") in page.facts
    assert [run.policy for run in page.runs] == ["old.yaml", "new.yaml"]
    assert "No flow is treated differently." in replay_text(before, report_of(3))
    assert replay_page("c.pcap", [("old.yaml", before)]).changes is None


def test_the_size_is_bounded_and_what_is_left_out_is_said() -> None:
    count = 3 * MAX_ROWS
    before, after = report_of(count, wrong=1), report_of(count, verdict="drop")
    before.rest.packets = 1
    page = replay_page("c.pcap", [("old.yaml", before), ("new.yaml", after)])
    assert page.changes is not None
    run = page.runs[0]
    assert (len(run.rows), len(run.addresses), len(page.changes.rows)) == (MAX_ROWS, MAX_ADDRESSES, MAX_CHANGES)
    assert run.rows[0].problem
    assert "1,500 flows are too many for a page: it shows 500, those that disagree first." in run.notes
    assert "1,500 addresses are too many for a page: it shows 200." in run.addresses_notes
    assert page.changes.notes == (
        "1,500 flows are too many for a page: it shows 500.",
        f"Flows beyond the first {MAX_FLOWS:,} are not compared.",
    )
    assert len(replay_text(before, after)) < 1_000_000


def test_names_are_never_markup() -> None:
    text = replay_text(report_of(2, wrong=1, name=HOSTILE), report_of(2, verdict="drop", name=HOSTILE), name=HOSTILE)
    assert "<script" not in text
    assert "<img" not in text
    assert text.count("{{7*7}}") > 20


def test_the_same_report_gives_the_same_bytes_however_long_it_took() -> None:
    report, other = report_of(5, wrong=1), report_of(5, wrong=1)
    other.seconds = 99.0
    assert replay_text(report) == replay_text(other)


def test_an_empty_capture_has_a_page() -> None:
    report = report_of(0)
    report.left_out.clear()
    text = replay_text(report)
    assert "Nothing was replayed." in text
    assert "every packet was sent" in text

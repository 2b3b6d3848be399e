"""What follows from what relays say of their hosts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdataplane.control.hosts.status import HostBoard, HostStanding, standing_of, words_in
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Body, Json
from tests.support.inputs.summaries import host, summary
from tests.support.run.memorystore import MemoryStore

NOW = 1_000_000.0
SEVEN = Version(0, 7)
NOTHING: dict[str, Json] = {}


def standing(said: dict[str, Json], version: Version = SEVEN, more: dict[str, Json] = NOTHING) -> str:
    """Of the host `a`, by one relay's word. `more`: fields of the summary."""
    words = words_in({"r": {**summary(10, {"a": said}, time=NOW), **more}}, NOW)
    return standing_of(words.get("a"), version, NOW).value


FAILED: list[Json] = [{"eni": "eni-1", "why": "refused"}]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(host(7), "Enforced", id="it-enforces-it"),
        pytest.param(host(9), "Enforced", id="it-enforces-a-later-one"),
        pytest.param(host(5), "Enforced", id="nothing-after-5-concerned-it"),
        pytest.param(host(5, needed=6), "Lagging", id="the-6th-concerned-it"),
        pytest.param(host(5, needed=9), "Lagging", id="the-9th-did-and-perhaps-an-earlier-one"),
        pytest.param(host(8, needed=9), "Enforced", id="a-later-one-is-under-way"),
        pytest.param(host(5, needed=6, error="disk full"), "Failed", id="it-can't"),
        pytest.param(host(5, needed=6, failed=FAILED), "Failed", id="an-eni-can't"),
        pytest.param(host(7, failed=FAILED), "Failed", id="an-eni-doesn't-obey-any-more"),
        pytest.param(host(8, needed=9, failed=FAILED), "Enforced", id="a-later-one-fails"),
        pytest.param(host(7, error="no relay answers"), "Enforced", id="it-is-done-and-complains"),
        pytest.param(host(7, connected=False, age=14.0), "Enforced", id="it-was-heard-14-s-ago"),
        pytest.param(host(7, connected=False, age=16.0), "Unknown", id="it-was-heard-16-s-ago"),
        pytest.param(host(5, connected=False, age=1.0), "Lagging", id="nobody-knows-what-concerned-it-since"),
        pytest.param(host(5, needed=5, age=None), "Enforced", id="it-has-just-come"),
        pytest.param(host(7, age=16.0), "Enforced", id="its-stream-lives"),
        pytest.param({**host(0), "enforced": None}, "Lagging", id="it-enforces-nothing"),
    ],
)
def test_a_host_that_is_heard(said: dict[str, Json], expected: str) -> None:
    assert standing(said) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param({"time": NOW - 14}, "Enforced", id="a-relay-14-s-ago"),
        pytest.param({"time": NOW - 16}, "Unknown", id="a-relay-16-s-ago"),
        pytest.param({"time": NOW + 16}, "Unknown", id="a-relay-with-another-clock"),
        pytest.param({"seen": 6}, "Lagging", id="a-relay-that-hasn't-seen-it"),
        pytest.param({"seen": 7}, "Enforced", id="a-relay-that-has-just-seen-it"),
        pytest.param({"epoch": 3}, "Lagging", id="a-relay-in-another-epoch"),
    ],
)
def test_a_relay_s_word_counts(more: dict[str, Json], expected: str) -> None:
    assert standing(host(5), more=more) == expected


def test_a_failure_of_a_revision_before_isn_t_one_of_this_revision() -> None:
    said = host(5, needed=6, error="disk full")
    assert standing(said, more={"seen": 6}) == "Lagging"
    assert standing(said, Version(0, 6), {"seen": 6}) == "Failed"


def test_nothing_is_in_force_after_a_restore_that_was_before_it() -> None:
    said = host(9)
    at: dict[str, Json] = {"epoch": 4, "seen": 3}
    assert standing(said, Version(4, 3), at) == "Lagging"
    assert standing({**said, "enforced": [4, 3], "needed": 3}, Version(4, 3), at) == "Enforced"


def test_a_host_that_nobody_has_heard_is_unknown() -> None:
    assert standing_of(None, SEVEN, NOW) is HostStanding.UNKNOWN


def test_the_newest_word_about_a_host_counts() -> None:
    said = {
        "r1": summary(9, {"a": host(5, since=1.0), "b": host(5, since=5.0), "c": host(5)}, time=NOW - 60),
        "r2": summary(9, {"a": host(6, since=2.0), "b": host(6, connected=False, age=3.0)}, time=NOW),
        "r3": summary(9, {"a": host(7, connected=False, age=1.0), "b": host(7, connected=False, age=2.0)}, time=NOW),
    }
    words = words_in(said, NOW)
    assert {name: (word.relay, word.enforced.revision) for name, word in words.items()} == {
        "a": ("r2", 6),  # it is connected there
        "b": ("r3", 7),  # r1 is silent, so nothing is connected there
        "c": ("r1", 5),
    }
    assert not words["c"].is_connected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
ODD_HOST = st.fixed_dictionaries({}, optional=dict.fromkeys(host(1), JSON))
ODD = st.fixed_dictionaries(
    {}, optional={"time": JSON, "epoch": JSON, "seen": JSON, "hosts": JSON | st.dictionaries(st.just("a"), ODD_HOST)}
)


@given(ODD)
def test_an_odd_summary_breaks_nothing_and_says_that_nothing_is_done(odd: Body) -> None:
    word = words_in({"r": odd}, NOW).get("a")
    assert standing_of(word, Version(1 << 70, 0), NOW) in (HostStanding.UNKNOWN, HostStanding.LAGGING)
    good = words_in({"r": odd, "s": summary(10, {"a": host(7)}, time=NOW)}, NOW)
    assert "a" in good, "a control: another relay's word is there"


def test_what_is_wrong_is_told_in_a_line() -> None:
    many: list[Json] = [{"eni": f"eni-{number}", "why": "refused"} for number in range(5)]
    word = words_in({"r": summary(1, {"a": host(1, error="full", failed=many)}, time=NOW)}, NOW)["a"]
    assert word.why == "full; eni-0: refused; eni-1: refused; eni-2: refused; and 2 more"


def test_a_board_remembers_a_host_that_its_relay_has_forgotten() -> None:
    store = MemoryStore()
    at = [time.time()]
    board = HostBoard(store, lambda: at[0])
    store.put_summary("r", summary(7, {"a": host(7)}))
    assert standing_of(board.look()["a"], SEVEN, board.now) is HostStanding.ENFORCED
    store.put_summary("r", summary(7, {}))
    assert standing_of(board.look()["a"], SEVEN, board.now) is HostStanding.ENFORCED, "it was heard just now"
    at[0] += 16
    store.put_summary("r", summary(7, {}, time=at[0]))
    assert standing_of(board.look()["a"], SEVEN, board.now) is HostStanding.UNKNOWN


def test_a_board_goes_on_with_what_it_knows_while_the_store_is_away() -> None:
    store = MemoryStore()
    at = [time.time()]
    board = HostBoard(store, lambda: at[0])
    store.put_summary("r", summary(7, {"a": host(7)}))
    board.look()
    store.close()
    assert standing_of(board.look()["a"], SEVEN, board.now) is HostStanding.ENFORCED
    at[0] += 16
    assert standing_of(board.look()["a"], SEVEN, board.now) is HostStanding.UNKNOWN

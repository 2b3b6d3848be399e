"""Where somebody has a flowtable, what a change refuses is forgotten. This kernel may have none, so one is claimed;
that sessions are really carried, and stop, is for tests/features/test_flowtable.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sgdataplane.enforce import Desired, Settings, sessions
from sgdataplane.host import netns
from sgdataplane.host.conntrack import list_tracked
from sgdataplane.observe.others import Flowtable
from tests.support.inputs.building import enforce
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.scenes.pair import Pair, Session, desired_at, made_pair

pytestmark = pytest.mark.kernel
THEIRS = Flowtable("inet", "theirs", "f", ("out", "eni-a"), is_in_hardware=False)
QUICK = Settings(adoption_window=0)


@pytest.fixture
def pair(make_lab_name: Callable[[], str]) -> Iterator[Pair]:
    with made_pair(make_lab_name, "host") as pair:
        yield pair


def known(pair: Pair) -> set[int]:
    """The ports of the sessions that the router knows."""
    with netns.inside(pair["policy"]):
        return {entry.original.port for entry in list_tracked()} & {WEB, DNS}


def revoke_web(pair: Pair, settings: Settings = QUICK) -> tuple[Flowtable, ...]:
    """While a session to each port runs; the flowtables that are reported."""
    before: Desired = desired_at(pair, state_of(WEB, DNS))
    enforce(pair["policy"], before, None, QUICK)
    with Session(pair, WEB) as web, Session(pair, DNS) as dns:
        for session in (web, dns):
            session.must_pass()
        assert known(pair) == {WEB, DNS}
        return enforce(pair["policy"], desired_at(pair, state_of(DNS)), before, settings).flowtables


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "read_flowtables", lambda: (THEIRS,))


def test_without_a_flowtable_the_kernel_knows_on_what_is_refused(pair: Pair) -> None:
    assert revoke_web(pair) == ()
    assert known(pair) == {WEB, DNS}


@pytest.mark.usefixtures("theirs")
def test_with_one_what_is_refused_is_forgotten(pair: Pair) -> None:
    assert revoke_web(pair) == (THEIRS,)
    assert known(pair) == {DNS}


@pytest.mark.usefixtures("theirs")
def test_what_is_to_be_kept_is_kept(pair: Pair) -> None:
    assert revoke_web(pair, Settings(adoption_window=0, on_change="keep")) == (THEIRS,)
    assert known(pair) == {WEB, DNS}

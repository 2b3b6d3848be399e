"""`on_change: keep` leaves running sessions alone whatever the rules say now, and lets no new one in; a later change
without it ends them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from sgdataplane.enforce import Settings
from tests.sessions.causes import CAUSES, Way
from tests.sessions.speaking import each_speaks, opened, those_who_pass
from tests.support.events.talks import (
    KEYS,
    Key,
    name_of,
    protocol_of,
    watches,
)
from tests.support.probes.flood import wait_until
from tests.support.probes.witness import Witness, grown
from tests.support.scenes.sessionlab import SessionLab, session_lab

pytestmark = pytest.mark.traffic

KEEP = Settings(on_change="keep")
DELETED = CAUSES[0]
FIRST_PORTS = {Way.INGRESS: 20000, Way.EGRESS: 21000}


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str], placement: str) -> Iterator[SessionLab]:
    with session_lab(make_lab_name(), placement) as lab:
        lab.site.witness(watches()).load()
        yield lab


@pytest.mark.parametrize("way", Way, ids=[way.value for way in Way])
def test_kept_sessions_live_on_until_a_change_that_revokes(lab: SessionLab, way: Way) -> None:
    witness = lab.site.witness(watches())
    epoch = lab.apply(DELETED.allowing(way)).epoch
    talks = opened(lab, way, FIRST_PORTS[way])
    with ExitStack() as stack:
        for talk in talks.values():
            stack.callback(talk.close)
            talk.open()
        for settings in (KEEP, Settings(on_change="keep", resync=True)):
            report = lab.apply(DELETED.refusing(way), settings)
            assert (report.epoch, report.is_full_resync) == (epoch, settings.resync)
            each_speaks(talks)
        assert newcomers_that_pass(lab, witness, way, 1) == []
        assert lab.apply(DELETED.allowing(way)).epoch == epoch + 1
        assert newcomers_that_pass(lab, witness, way, 2) == [name_of(key) for key in KEYS if has_ports(key)]
        each_speaks(talks)
        assert lab.apply(DELETED.refusing(way)).epoch == epoch + 2
        assert those_who_pass(witness, way, talks) == []


def has_ports(key: Key) -> bool:
    return protocol_of(key) != "icmp"


def newcomers_that_pass(lab: SessionLab, witness: Witness, way: Way, number: int) -> list[str]:
    """Opening packets of new sessions come before our hooks; those that come behind them. `number` is the time."""
    before, place = witness.counts(), "in" if way is Way.INGRESS else "out"
    first_port = FIRST_PORTS[way] + 100 * number
    news = {key: talk for key, talk in opened(lab, way, first_port).items() if has_ports(key)}
    with ExitStack() as stack:
        for talk in news.values():
            stack.callback(talk.close)
            talk.begin()
        wait_until(lambda: all(grown(before, witness.counts())[f"{place}_before", name_of(key)] for key in news))
        new = grown(before, witness.counts())
    return [name_of(key) for key in news if new[f"{place}_after", name_of(key)]]

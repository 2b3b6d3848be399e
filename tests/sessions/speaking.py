"""Sessions of every kind in a session lab, in a chosen direction, and who of them is heard.

Owns what the tests of this folder share. Must not know why a session is allowed or refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from sgdataplane.net.values import Family
from tests.sessions.causes import CONTROL_IN, CONTROL_OUT, Way
from tests.support.events.talks import KEYS, Key, Side, Talk, all_arrive, make_talks, name_of, speakers_of
from tests.support.probes.flood import wait_until
from tests.support.probes.streams import Route
from tests.support.probes.witness import Witness, grown
from tests.support.scenes.sessionlab import SessionLab


def opened(lab: SessionLab, way: Way, first_port: int) -> dict[Key, Talk]:
    """One of each kind, between the neighbour and the protected instance; not begun yet."""
    client, server = (lab.far, lab.near) if way is Way.INGRESS else (lab.near, lab.far)
    return make_talks(client, server, first_port)


def each_speaks(talks: Mapping[Key, Talk]) -> None:
    """All ends of all sessions are heard, and nothing is on its way any more."""
    for turn in (0, 1):
        all_arrive((talks[key], speakers_of(key)[turn]) for key in KEYS if len(speakers_of(key)) > turn)
    wait_until(lambda: all(talk.is_still() for talk in talks.values()))


def control_routes(lab: SessionLab) -> list[Route]:
    """From the host outside and to it, one in each family."""
    return [
        Route(lab.outside.netns, lab.near.netns, lab.near.address(Family.IPV4), CONTROL_IN),
        Route(lab.near.netns, lab.outside.netns, lab.outside.address(Family.IPV6), CONTROL_OUT),
    ]


def those_who_pass(witness: Witness, way: Way, talks: Mapping[Key, Talk]) -> list[str]:
    """All first speakers speak, and come before our hooks; who comes behind them."""
    before = witness.counts()
    places = {key: place_of(way, speakers_of(key)[0]) for key in KEYS}
    for key, talk in talks.items():
        talk.say(speakers_of(key)[0])
    wait_until(lambda: all(grown(before, witness.counts())[f"{places[key]}_before", name_of(key)] for key in KEYS))
    new = grown(before, witness.counts())
    return [name_of(key) for key in KEYS if new[f"{places[key]}_after", name_of(key)]]


def place_of(way: Way, side: Side) -> str:
    """Which of our hooks that end's packets meet."""
    return "in" if (way is Way.INGRESS) is (side is Side.CLIENT) else "out"

"""Every cause that takes a session's permission away, for every kind of session, in both directions and families.

When `apply` has returned, the first packet of either end is refused, and every one after it; once it is allowed again,
the same socket goes on. Beside it, checked streams of an allowed peer lose nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import pytest

from tests.sessions.causes import CAUSES, Cause, Way
from tests.sessions.speaking import control_routes, opened
from tests.support.events.talks import (
    KEYS,
    Key,
    Side,
    Talk,
    all_arrive,
    name_of,
    protocol_of,
    speakers_of,
    watches,
)
from tests.support.probes.flood import wait_until
from tests.support.probes.streams import Streams
from tests.support.probes.witness import OUTSIDE, Counts, Witness, grown
from tests.support.scenes.sessionlab import SessionLab, session_lab

pytestmark = pytest.mark.traffic


@dataclass(frozen=True, slots=True)
class Evidence:
    """Packets of one end of a session: counted just before our hook, just behind it, and on the neighbour's side."""

    reached: int
    passed: int
    at_far: int


@dataclass
class Scene:
    """The lab, its witnesses, the streams beside all trials, and the source ports that are still unused."""

    lab: SessionLab
    witnesses: tuple[Witness, Witness]
    streams: Streams
    ports: Iterator[int]

    def counts(self) -> Counts:
        near, far = (witness.counts() for witness in self.witnesses)
        return {**near, **far}

    def heard(self) -> tuple[int, ...]:
        """What each end of the streams has received, once something has come that was sent after the call."""
        self.streams.wait_for_more()
        return self.streams.received()


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of the sessions of one cause: (session, end) -> evidence, before and after; who resumed. `heard`:
    bytes that each end of the streams had received before it, once it was refused, and at the end."""

    cause: Cause
    way: Way
    allowed: Mapping[tuple[Key, Side], Evidence]
    refused: Mapping[tuple[Key, Side], Evidence]
    resumed: frozenset[tuple[Key, Side]]
    heard: tuple[tuple[int, ...], ...]

    def is_spared(self, key: Key) -> bool:
        return self.cause.is_spared(self.way, protocol_of(key))


@pytest.fixture(scope="module")
def scene(
    make_lab_name: Callable[[], str], placement: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    with session_lab(make_lab_name(), placement) as lab:
        witnesses = (
            lab.site.witness(watches()),
            Witness(lab.far.netns, OUTSIDE, watches()),
        )
        for witness in witnesses:
            witness.load()
        lab.apply(CAUSES[0].allowing(Way.INGRESS))
        with Streams(tmp_path_factory.mktemp("streams"), control_routes(lab)) as streams:
            yield Scene(lab, witnesses, streams, itertools.count(20000, 100))
        streams.check()


@pytest.fixture(scope="module")
def trial(scene: Scene, request: pytest.FixtureRequest) -> Trial:
    cause, way = request.param
    talks = opened(scene.lab, way, next(scene.ports))
    scene.lab.apply(cause.allowing(way))
    heard = [scene.streams.received()]
    try:
        for talk in talks.values():
            talk.open()
        run = Run(scene, cause, way, talks)
        allowed = run.speak_allowed()
        scene.lab.apply(cause.refusing(way))
        refused = run.speak_refused()
        heard.append(scene.heard())
        scene.lab.apply(cause.allowing(way))
        resumed = run.speak_again()
        heard.append(scene.heard())
    finally:
        for talk in talks.values():
            talk.close()
    return Trial(cause, way, allowed, refused, resumed, tuple(heard))


Turn = list[tuple[Key, Side]]
TURNS: tuple[Turn, Turn] = (
    [(key, speakers_of(key)[0]) for key in KEYS],
    [(key, speakers_of(key)[1]) for key in KEYS if len(speakers_of(key)) > 1],
)


@dataclass
class Run:
    """The steps of a trial. In each, all sessions' first speakers speak at once, then the others."""

    scene: Scene
    cause: Cause
    way: Way
    talks: Mapping[Key, Talk]

    def speak_allowed(self) -> dict[tuple[Key, Side], Evidence]:
        found: dict[tuple[Key, Side], Evidence] = {}
        for turn in TURNS:
            before = self.scene.counts()
            all_arrive((self.talks[key], side) for key, side in turn)
            found |= self._evidence(turn, before)
        return found

    def speak_refused(self) -> dict[tuple[Key, Side], Evidence]:
        found: dict[tuple[Key, Side], Evidence] = {}
        for turn in TURNS:
            before = self.scene.counts()
            for key, side in turn:
                self.talks[key].say(side)
            spared = [(key, side) for key, side in turn if self.is_spared(key)]
            wait_until(lambda: all(self.talks[key].has_arrived(side) for key, side in spared), must=False)  # noqa: B023
            wait_until(lambda: all(e.reached for e in self._evidence(turn, before).values()), must=False)  # noqa: B023
            found |= self._evidence(turn, before)
        return found

    def speak_again(self) -> frozenset[tuple[Key, Side]]:
        """Those who are heard again."""
        found: set[tuple[Key, Side]] = set()
        for turn in TURNS:
            for key, side in turn:
                self.talks[key].say(side)
            wait_until(lambda: self._heard(turn) == set(turn), must=False)  # noqa: B023  (called here only)
            found |= self._heard(turn)
        return frozenset(found)

    def is_spared(self, key: Key) -> bool:
        return self.cause.is_spared(self.way, protocol_of(key))

    def _heard(self, turn: Turn) -> set[tuple[Key, Side]]:
        return {(key, side) for key, side in turn if self.talks[key].has_arrived(side)}

    def _evidence(self, turn: Turn, before: Counts) -> dict[tuple[Key, Side], Evidence]:
        new = grown(before, self.scene.counts())
        return {(key, side): self._evidence_of(name_of(key), side, new) for key, side in turn}

    def _evidence_of(self, name: str, side: Side, new: Counts) -> Evidence:
        if is_near(self.way, side):
            return Evidence(new["out_before", name], new["out_after", name], new["in", name])
        return Evidence(new["in_before", name], new["in_after", name], new["out", name])


def is_near(way: Way, side: Side) -> bool:
    """Whether that end is the protected one."""
    return side is (Side.SERVER if way is Way.INGRESS else Side.CLIENT)


TRIALS = [pytest.param((cause, way), id=f"{way.value}, {cause.name}") for cause in CAUSES for way in Way]
IDS = [f"{name}, {family.value}" for name, family in KEYS]


@pytest.mark.parametrize("key", KEYS, ids=IDS)
@pytest.mark.parametrize("trial", TRIALS, indirect=True)
def test_session_is_refused_at_its_next_packet_and_resumes(trial: Trial, key: Key) -> None:
    for side in speakers_of(key):
        allowed, refused = trial.allowed[key, side], trial.refused[key, side]
        assert min(allowed.reached, allowed.passed, allowed.at_far) > 0
        assert refused.reached > 0
        if trial.is_spared(key):
            assert refused.passed > 0
        else:
            assert refused.passed == 0
            assert (refused.at_far > 0) is not is_near(trial.way, side), "sent by the far end, or come to it"
        assert (key, side) in trial.resumed


@pytest.mark.parametrize("trial", TRIALS, indirect=True)
def test_session_that_stays_allowed_loses_nothing(trial: Trial) -> None:
    """An end that gets a wrong byte, or a reset, hears nothing more. What the last one gets is checked at the end."""
    for before, after in pairwise(trial.heard):
        assert all(now > then for then, now in zip(before, after, strict=True))

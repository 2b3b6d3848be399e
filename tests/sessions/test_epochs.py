"""Epochs come round after so many changes as the mark has room for: running sessions live through that, and a session
that was last judged a whole round ago isn't taken for one that the present policy accepted.

A test that begins near the end of the round writes the table with that epoch itself; everything after that is
`enforce`. One slow test goes all the way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import pytest

from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.enforce import Epochs, Settings, remove
from sgdataplane.enforce.epochs import NextEpoch
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Family
from sgdataplane.nft.snapshot import Inventory
from tests.sessions.causes import CAUSES, Way
from tests.sessions.speaking import control_routes, each_speaks, opened, those_who_pass
from tests.support.events.crowd import Crowd, crowd_scene, tracked, with_long_sessions
from tests.support.events.talks import KEYS, Ends, Key, Side, Talk, TcpTalk, name_of, watches
from tests.support.inputs.builders import make_rule
from tests.support.probes.flood import wait_until
from tests.support.probes.streams import Streams
from tests.support.probes.witness import Watch, Witness, grown
from tests.support.scenes.sessionlab import SessionLab, session_lab

pytestmark = pytest.mark.traffic

DELETED = CAUSES[0]


@dataclass(frozen=True, slots=True)
class Turn:
    """The last epoch of a half, the first one of the next, and one of those that the next half then uses anew."""

    last: int
    first: int
    later: int


@pytest.fixture(params=["end of the round", "middle of the round"])
def turn(request: pytest.FixtureRequest, lab: SessionLab) -> Turn:
    last = lab.site.last_epoch
    middle = Epochs(last).second_half
    return Turn(last, 1, 5) if request.param.startswith("end") else Turn(middle - 1, middle, middle + 5)


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str], placement: str) -> Iterator[SessionLab]:
    with session_lab(make_lab_name(), placement) as lab:
        lab.site.witness(watches()).load()
        yield lab


def jump(lab: SessionLab, state: CloudState, epoch: int) -> None:
    """Write the table with that epoch, as if so many changes had been made, and let no session know."""

    def chosen(epochs: Epochs, inventory: Inventory, *_: object) -> NextEpoch:
        return NextEpoch(epochs.usable(inventory.stamp), epoch)

    with mock.patch.object(Epochs, "next", chosen):
        assert lab.apply(state, Settings(resync=True)).epoch == epoch


@contextmanager
def running(lab: SessionLab, way: Way, first_port: int) -> Iterator[Mapping[Key, Talk]]:
    talks = opened(lab, way, first_port)
    with ExitStack() as stack:
        for talk in talks.values():
            stack.callback(talk.close)
            talk.open()
        yield talks


def at_step(state: CloudState, step: int) -> CloudState:
    """The state with one more rule, which is another at each step and lets in a stranger."""
    more = make_rule(f"ingress tcp {step + 1}/{step + 1} from 192.0.2.0/24")
    groups = [
        replace(group, rules=(*group.rules, more)) if group.security_group_id == "sg-near" else group
        for group in state.security_groups
    ]
    return replace(state, security_groups=tuple(groups))


@pytest.mark.parametrize("way", Way, ids=[way.value for way in Way])
def test_busy_sessions_live_through_the_turn(lab: SessionLab, tmp_path: Path, way: Way, turn: Turn) -> None:
    witness = lab.site.witness(watches())
    jump(lab, DELETED.allowing(way), turn.last - 3)
    with running(lab, way, 20000 + turn.first) as talks, Streams(tmp_path, control_routes(lab)) as streams:
        epochs = []
        for step in range(turn.later - turn.first + 3):
            epochs.append(lab.apply(at_step(DELETED.allowing(way), step)).epoch)
            each_speaks(talks)
        assert epochs == [*range(turn.last - 2, turn.last + 1), *range(turn.first, turn.later)]
        assert lab.apply(DELETED.refusing(way)).epoch == turn.later
        assert those_who_pass(witness, way, talks) == []
        streams.wait_for_more()
    streams.check()


@pytest.mark.parametrize("way", Way, ids=[way.value for way in Way])
def test_session_of_a_round_ago_is_judged(lab: SessionLab, way: Way, turn: Turn) -> None:
    witness, refusing = lab.site.witness(watches()), DELETED.refusing(way)
    jump(lab, DELETED.allowing(way), turn.later)
    with running(lab, way, 30000 + turn.first) as talks:
        jump(lab, refusing, turn.later)
        everybody = [name_of(key) for key in KEYS]
        assert those_who_pass(witness, way, talks) == everybody, "the mark alone decides: that is the danger"
        jump(lab, refusing, turn.last)
        assert lab.apply(at_step(refusing, 0)).epoch == turn.first
        jump(lab, refusing, turn.later)
        assert those_who_pass(witness, way, talks) == []
        lab.apply(DELETED.allowing(way))
        each_speaks(talks)


@pytest.mark.parametrize("way", Way, ids=[way.value for way in Way])
def test_marks_of_an_earlier_table_mean_nothing(lab: SessionLab, way: Way) -> None:
    """The table is removed, and a new one made, which begins with the first epoch again."""
    witness = lab.site.witness(watches())
    remove(lab.site.netns)
    assert lab.apply(DELETED.allowing(way)).epoch == FIRST_EPOCH
    with running(lab, way, 40000) as talks:
        remove(lab.site.netns)
        assert those_who_pass(witness, way, talks) == [name_of(key) for key in KEYS]
        assert lab.apply(DELETED.refusing(way)).epoch == FIRST_EPOCH
        assert those_who_pass(witness, way, talks) == []
        lab.apply(DELETED.allowing(way))
        each_speaks(talks)


@pytest.mark.parametrize("many", [2000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_turn_with_many_sessions(make_lab_name: Callable[[], str], placement: str, many: int) -> None:
    allowing, refusing = DELETED.allowing(Way.INGRESS), DELETED.refusing(Way.INGRESS)
    with crowd_scene(make_lab_name(), placement) as scene, ExitStack() as stack:
        jump(scene.lab, with_long_sessions(allowing), 5)
        crowd = Crowd(scene.lab, stack, many)
        scene.check_sample(crowd, passes=True)
        jump(scene.lab, with_long_sessions(refusing), scene.lab.site.last_epoch)
        report = scene.lab.apply(at_step(with_long_sessions(refusing), 0))
        assert report.epoch == 1
        jump(scene.lab, with_long_sessions(refusing), 5)
        assert tracked(scene.lab) >= many
        scene.check_sample(crowd, passes=False)
        scene.lab.apply(with_long_sessions(allowing))
        scene.check_sample(crowd, passes=True)
    print(f"the change at the turn, with {many} sessions: {report.seconds:.2f} s")


@pytest.mark.slow
def test_whole_round(make_lab_name: Callable[[], str], placement: str, tmp_path: Path) -> None:
    """Real changes; sessions that were accepted in the first epochs are idle meanwhile and refused since."""
    numbers = range(5100, 5112)
    watched = tuple(Watch(f"p{number}", (f"tcp dport {number}",)) for number in numbers)
    with session_lab(make_lab_name(), placement) as lab, ExitStack() as stack:
        witness = lab.site.witness(watched)
        witness.load()
        allowing, refusing = DELETED.allowing(Way.INGRESS), DELETED.refusing(Way.INGRESS)
        lab.apply(allowing)
        streams = stack.enter_context(Streams(tmp_path, control_routes(lab)))
        talks = {}
        for number in numbers:
            epoch = lab.apply(at_step(allowing, number)).epoch
            talks[epoch] = TcpTalk(Ends(Family.IPV4, lab.far, lab.near, number, 20000 + number))
            stack.callback(talks[epoch].close)
            talks[epoch].open()
        for step in range(lab.site.last_epoch):
            epoch = lab.apply(at_step(refusing, step)).epoch
            if step > Epochs(lab.site.last_epoch).second_half and epoch in talks:
                check_refused(witness, talks.pop(epoch))
        assert not talks
        streams.wait_for_more()
        assert max(report.seconds for report in lab.reports) < 60
        assert {report.is_full_resync for report in lab.reports[1:]} == {False}
    streams.check()


def check_refused(witness: Witness, talk: TcpTalk) -> None:
    before, name = witness.counts(), f"p{talk.ends.number}"
    talk.say(Side.CLIENT)
    wait_until(lambda: grown(before, witness.counts())["in_before", name] > 0)
    assert grown(before, witness.counts())["in_after", name] == 0

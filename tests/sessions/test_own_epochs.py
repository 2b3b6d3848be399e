"""A change judges again the sessions of ENIs of which it may refuse something, and lets all others be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from sgdataplane.enforce import ApplyReport, Desired
from sgdataplane.host import netns
from sgdataplane.host.conntrack import list_tracked
from sgdataplane.model.state import SecurityGroup
from sgdataplane.net.values import Direction
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.scenes.pair import HERE, Pair, Session, desired_at, made_pair

pytestmark = pytest.mark.traffic

WEB, DNS, MORE = 8080, 5353, 9090


def open_at(name: str, ports: Sequence[int]) -> SecurityGroup:
    return make_group(name, [f"ingress udp {port}/{port} from 0.0.0.0/0" for port in ports])


class Enforced:
    """A policy at the pair's instance, and at `others` more ENIs, whose interfaces aren't there, in another group."""

    def __init__(self, pair: Pair, others: int) -> None:
        self._pair, self._others = pair, others
        self._before: Desired | None = None

    def apply(self, ports: Sequence[int], ports_of_others: Sequence[int]) -> ApplyReport:
        enis = [make_eni(f"eni-x{n}", f"10.0.9.{n}", "sg-others") for n in range(self._others)]
        own = make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")
        state = make_state([open_at("sg-a", ports), open_at("sg-others", ports_of_others)], [own, *enis])
        desired = desired_at(self._pair, state)
        absent = {f"eni-x{n}": f"eth{n + 1}" for n in range(self._others)}
        desired = replace(desired, interfaces={**desired.interfaces, **absent})
        report = enforce(self._pair["policy"], desired, self._before)
        self._before = desired
        return report

    def epochs(self) -> dict[int, int]:
        """The epoch in which the instance's policy has accepted each session, by port; 0: it hasn't."""
        assert self._before is not None
        marks = self._before.site.marks
        with netns.inside(self._pair["policy"]):
            entries = list_tracked()
        return {e.original.port: marks.parts(Direction.INGRESS, e.mark)[0] for e in entries}


@pytest.mark.parametrize("others", [1, 3])
def test_only_sessions_of_narrowed_enis_are_judged_again(
    make_lab_name: Callable[[], str], placement: str, others: int
) -> None:
    with made_pair(make_lab_name, placement) as pair:
        enforced = Enforced(pair, others)
        enforced.apply((WEB, DNS), (22, 23))
        with Session(pair, WEB) as web, Session(pair, DNS) as dns:
            web.must_pass()
            dns.must_pass()
            assert enforced.epochs() == {WEB: 1, DNS: 1}
            assert enforced.apply((WEB, DNS), (22,)).epoch == 2  # another ENI is narrowed
            web.must_pass()
            assert enforced.epochs() == {WEB: 1, DNS: 1}
            assert enforced.apply((WEB, DNS, MORE), (22,)).epoch == 3  # its own policy is widened
            web.must_pass()
            assert enforced.epochs() == {WEB: 1, DNS: 1}
            assert enforced.apply((WEB, MORE), (22,)).epoch == 4
            assert not dns.passes(beside=web)
            assert enforced.epochs() == {WEB: 4, DNS: 0}
            assert enforced.apply((WEB, DNS, MORE), (22,)).epoch == 5
            dns.must_pass()
            assert enforced.epochs() == {WEB: 4, DNS: 4}


@pytest.mark.parametrize("others", [1, 3])
def test_a_change_of_one_eni_writes_nothing_of_the_others(
    make_lab_name: Callable[[], str], placement: str, others: int
) -> None:
    """So its cost doesn't depend on how many there are."""
    with made_pair(make_lab_name, placement) as pair:
        enforced = Enforced(pair, others)
        enforced.apply((WEB, DNS), (22, 23))
        widened = enforced.apply((WEB, DNS, MORE), (22, 23))
        narrowed = enforced.apply((WEB, DNS), (22, 23))
        all_narrowed = enforced.apply((WEB,), (22,))
        print(widened.switched, narrowed.switched, all_narrowed.switched)
        assert widened.switched < narrowed.switched < all_narrowed.switched

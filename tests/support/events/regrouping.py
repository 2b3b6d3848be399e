"""A scene for floods: all members of groups change these at once, and what is flooded is judged the same before and
after. Only a look-up that misses a member judges it otherwise: an allowed packet is lost, a denied one gets through.

Owns the states. Must not know how a change is made.
"""

from __future__ import annotations

from pathlib import Path

from sgdataplane.enforce import Desired
from sgdataplane.model.state import CloudState, Eni
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.probes.flood import DenseFlood
from tests.support.scenes.pair import HERE, Pair, desired_at

ALLOWED, DENIED = 5000, 6000
MEMBERS = 2000
RULES = [
    f"ingress udp {ALLOWED}/{ALLOWED} from sg-x",
    f"ingress udp {DENIED}/{DENIED} from sg-x drop 1",
    f"ingress udp {DENIED}/{DENIED} from 0.0.0.0/0 50",
]
# The groups in turn. The peer sends the flood.
GROUP_SETS = ("sg-x", "sg-x sg-z")


def regrouped(turn: int, members: int = MEMBERS) -> CloudState:
    """The state in which all members are in the groups of that turn."""
    groups = [make_group("sg-web", RULES), make_group("sg-x", []), make_group("sg-z", [])]
    mine = make_eni("eni-a", HERE["instance"][0], "sg-web")
    return make_state(groups, [mine, make_eni("eni-peer", HERE["peer"][0], GROUP_SETS[turn]), *_others(turn, members)])


def _others(turn: int, members: int) -> list[Eni]:
    return [make_eni(f"eni-{n}", f"10.9.{n >> 8}.{n & 255}", GROUP_SETS[turn]) for n in range(1, members)]


def both_turns(pair: Pair, members: int = MEMBERS) -> tuple[Desired, Desired]:
    """The same two objects serve all changes, so that each is built once."""
    first, second = (desired_at(pair, regrouped(turn, members)) for turn in range(len(GROUP_SETS)))
    return first, second


def flood_at(pair: Pair, folder: Path) -> DenseFlood:
    """Both kinds as fast as can be; a rule behind ours drops what arrives, so that each packet opens a session anew."""
    here = HERE["instance"][0]
    return DenseFlood(folder, pair["peer"], pair["instance"], [(here, ALLOWED)], [(here, DENIED)])

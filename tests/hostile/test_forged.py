"""A workload's own rules log to our group, in our words: none of that is told as denied, and what is denied still is.

Before, every such packet was told as one that the policy had denied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from sgdataplane.contract.counters import LOG_GROUP
from sgdataplane.enforce import remove
from sgdataplane.observe.denied import Denied, EnforcedPlace, Forged, Listener, Unlogged
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel import rawnft
from tests.support.kernel.nft import nft
from tests.support.kernel.rawnft import In
from tests.support.probes.flood import wait_until
from tests.support.scenes.pair import HERE, Pair, Session, bound, desired_at, made_pair

pytestmark = pytest.mark.kernel
OPEN, FORGING, REFUSED, BY_DEFAULT, LATER = 5000, 5001, 6000, 7000, 8000
RULES = [
    make_rule(f"ingress udp {OPEN}/{FORGING} from 0.0.0.0/0", "sgr-open"),
    make_rule(f"ingress udp {REFUSED}/{REFUSED} from 0.0.0.0/0 drop", "sgr-no"),
]
ENIS = [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")]
STATE = make_state([make_group("sg-a", RULES)], ENIS)
DEFAULT = "default.ingress.drop"


@pytest.fixture
def pair(make_lab_name: Callable[[], str]) -> Iterator[Pair]:
    with made_pair(make_lab_name, "instance") as pair:
        enforce(pair["policy"], desired_at(pair, STATE))
        yield pair


@pytest.fixture
def heard(pair: Pair) -> Iterator[Heard]:
    desired = desired_at(pair, STATE)
    listener = Listener(EnforcedPlace(pair["policy"], desired.interfaces, desired.placement, STATE))
    yield Heard(listener)
    listener.close()


class Heard:
    """All that was told so far."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.entries: list[Denied | Unlogged | Forged] = []

    def all(self) -> list[Denied | Unlogged | Forged]:
        self.entries += [*self._listener.read(), *self._listener.tick()]
        return self.entries

    @property
    def ports(self) -> Counter[int | None]:
        return Counter(entry.headers.port for entry in self.entries if isinstance(entry, Denied))

    @property
    def unlogged(self) -> int:
        return sum(entry.packets for entry in self.entries if isinstance(entry, Unlogged))

    @property
    def forged(self) -> int:
        return sum(entry.packets for entry in self.entries if isinstance(entry, Forged))


def forge(pair: Pair, *names: bytes) -> None:
    """What comes to the port FORGING is logged as if these counters had counted it; it passes."""
    theirs, rules = In(b"theirs"), 'add rule inet theirs in udp dport {} log prefix "{}" group {}'
    hooked = theirs.base_chain(b"in", 1, 0)  # input, behind the policy
    rawnft.must_send(pair["policy"], rawnft.table(b"theirs"), hooked)
    nft(pair["policy"], *(rules.format(FORGING, f"sgdp {name.decode()}", LOG_GROUP) for name in names))


def send(pair: Pair, *ports: int) -> None:
    with bound(pair, "peer", 0) as sender:
        for port in ports:
            with suppress(OSError):
                sender.sendto(b"x", (HERE["instance"][0], port))


def test_what_our_rules_did_not_log_is_not_told(pair: Pair, heard: Heard) -> None:
    forge(pair, DEFAULT.encode(), b"rule.sg-a.sgr-no", b"ingress.spoofed", b"fence.other")
    with Session(pair, OPEN) as allowed:
        allowed.must_pass()
        send(pair, BY_DEFAULT, *[FORGING] * 5)
        wait_until(lambda: bool(heard.all()) and heard.forged >= 20)
        send(pair, REFUSED)
        wait_until(lambda: bool(heard.all()) and heard.ports[REFUSED] == 1)
    heard.all()
    assert FORGING not in heard.ports
    assert sum(heard.ports.values()) + heard.unlogged == 2
    assert heard.forged == 20


def test_a_rule_that_accepts_denies_nothing(pair: Pair, heard: Heard) -> None:
    """Its counter has counted these packets, indeed."""
    forge(pair, b"rule.sg-a.sgr-open", b"ingress.always", b"nobody-knows-it", b"dropped.ingress.eth0")
    send(pair, *[FORGING] * 5, REFUSED)
    wait_until(lambda: bool(heard.all()) and heard.forged >= 20 and heard.ports[REFUSED] == 1)
    assert (heard.ports, heard.unlogged, heard.forged) == (Counter({REFUSED: 1}), 0, 20)


def test_none_is_told_in_place_of_a_real_one(pair: Pair, heard: Heard) -> None:
    """They come between real ones, in the name of the same counter; it is listened to all the time."""
    forge(pair, DEFAULT.encode())
    for _ in range(40):
        send(pair, FORGING, BY_DEFAULT, FORGING)
        heard.all()
    send(pair, REFUSED)
    wait_until(lambda: bool(heard.all()) and heard.forged >= 80 and heard.ports[REFUSED] == 1)
    heard.all()
    assert FORGING not in heard.ports
    assert heard.ports[BY_DEFAULT] + heard.unlogged == 40
    assert heard.forged == 80


def test_what_a_new_rule_denies_is_told(pair: Pair, heard: Heard) -> None:
    rules = [*RULES, make_rule(f"ingress udp {LATER}/{LATER} from 0.0.0.0/0 drop", "sgr-later")]
    enforce(pair["policy"], desired_at(pair, make_state([make_group("sg-a", rules)], ENIS)), desired_at(pair, STATE))
    send(pair, LATER)
    wait_until(lambda: bool(heard.all()) and heard.ports[LATER] == 1)
    assert (heard.unlogged, heard.forged) == (0, 0)


def test_a_table_that_was_made_anew_is_believed(pair: Pair, heard: Heard) -> None:
    send(pair, REFUSED)
    wait_until(lambda: bool(heard.all()) and heard.ports[REFUSED] == 1)
    remove(pair["policy"])
    enforce(pair["policy"], desired_at(pair, STATE))
    heard.all()
    send(pair, REFUSED)
    wait_until(lambda: bool(heard.all()) and heard.ports[REFUSED] == 2)
    assert (heard.unlogged, heard.forged) == (0, 0)


def test_no_more_can_be_forged_than_was_denied_and_not_logged(pair: Pair, heard: Heard) -> None:
    """What SECURITY.md says stays possible: behind a flood of denied packets, which are not all logged."""
    forge(pair, DEFAULT.encode())
    flood = 2000
    send(pair, *[BY_DEFAULT] * flood, *[FORGING] * 50)
    wait_until(lambda: bool(heard.all()) and sum(heard.ports.values()) + heard.unlogged >= flood)
    for _ in range(3):
        heard.all()
    assert heard.unlogged + heard.ports[FORGING] > 0, "they came too slowly to show anything"
    assert heard.ports[BY_DEFAULT] + heard.ports[FORGING] + heard.unlogged == flood

"""The packets that a namespace has dropped, in which direction and why.

Owns which of the tables' named counters count drops. Is given a state and a namespace. Must not know who asks.

Drops are counted twice: by cause, for all ENIs of a namespace together; and by ENI and direction, for all causes
together. Packets dropped at an interface that carries no ENI are counted by cause only.

    cause               direction          what was dropped
    default             ingress, egress    no rule decided
    rule                ingress, egress    a rule refused; all such rules together
    spoofed, ...        ingress, egress    dropped before any rule is asked: docs/reference/causes.md
    fence.tagged, ...   egress             dropped at the fence: the same page
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sgdataplane.contract.counters import counter_name, eni_counter, name_fenced_counter
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.host import netns
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.model.decision import DEFAULT, RULE, Decision
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.counters import read_packets
from sgdataplane.observe import hits


class Reason(NamedTuple):
    """A direction and a cause for which packets were dropped."""

    direction: str
    cause: str

    @classmethod
    def of(cls, decision: Decision) -> Reason:
        """Return the reason of a decision."""
        return cls(decision.direction.value, decision.cause)


class WouldDrop(NamedTuple):
    """An ENI in audit mode, a direction, and the rule that would have dropped the packets that passed."""

    eni: str
    direction: str
    group: str
    """Empty if the default would drop them."""
    rule: str
    """Empty if the default would drop them."""


class OfEni(NamedTuple):
    """The ENI whose packets were dropped, and in which direction."""

    eni: str
    direction: str


FIXED: Mapping[str, Decision] = {  # counter -> what it counts, whatever the policy
    **{name: decision for name, decision in hits.FIXED.items() if decision.verdict is Verdict.DROP},
    **{counter_name(last): last for last in (Decision(side, Verdict.DROP, DEFAULT) for side in Direction)},
}
NONE: Mapping[str, OfEni] = {}
NOT_AUDITED: Mapping[str, WouldDrop] = {}
REASONS = (*map(Reason.of, FIXED.values()), *(Reason(direction.value, RULE) for direction in Direction))


def of_rules(state: CloudState, eni_ids: Iterable[str]) -> dict[str, Reason]:
    """Return the counters of the refusing rules in these ENIs' groups, with their reason."""
    found = hits.rules(state, eni_ids).items()
    return {name: Reason.of(decision) for name, decision in found if decision.verdict is Verdict.DROP}


def of_enis(interfaces: Mapping[str, str]) -> dict[str, OfEni]:
    """Return the counters of everything dropped at each of these ENIs' interfaces.

    The fence's own counters are included.
    """
    found = {}
    for eni_id, ifname in interfaces.items():
        for side in Direction:
            found[eni_counter(side, ifname)] = OfEni(eni_id, side.value)
        found[name_fenced_counter(ifname)] = OfEni(eni_id, Direction.EGRESS.value)
    return found


def of_audited(state: CloudState, interfaces: Mapping[str, str]) -> dict[str, WouldDrop]:
    """Return the counters of what passes at these ENIs only because they are in audit mode."""
    found = {}
    for name, (eni_id, decision) in hits.audits(state, interfaces).items():
        would = decision.enforced
        found[name] = WouldDrop(eni_id, would.direction.value, would.security_group_id, would.security_group_rule_id)
    return found


def read_counters(namespace: str) -> dict[str, int]:
    """Read all counters in sgdataplane's tables there: name -> packets.

    Raises:
        HostError: There is no such namespace.
        OSError: The kernel refuses.
    """
    with netns.inside(namespace), Nfnetlink() as netlink:
        return read_packets(netlink, TABLE) | read_packets(netlink, TABLE, NETDEV)


@dataclass(slots=True)
class Tally:
    """The sums of one namespace's drops.

    They only grow, although counters come and go with their rules, and begin anew when somebody deletes a table.
    """

    packets: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    """Dropped packets by reason."""
    of_enis: dict[OfEni, int] = field(default_factory=dict)
    """Dropped packets by ENI and direction."""
    audited: dict[WouldDrop, int] = field(default_factory=dict)
    """Packets that would have been dropped at ENIs in audit mode."""
    _last: dict[str, int] = field(default_factory=dict)

    def note(
        self,
        found: Mapping[str, int],
        rules: Mapping[str, Reason],
        enis: Mapping[str, OfEni] = NONE,
        audited: Mapping[str, WouldDrop] = NOT_AUDITED,
    ) -> None:
        """Add what counters have counted since the last call.

        A rule's counter that is read for the first time adds nothing, because its rule may have accepted until then.

        Args:
            found: The counters' values.
            rules: The counters of refusing rules.
            enis: The counters of ENIs; other ENIs are forgotten.
            audited: The counters of ENIs in audit mode; others are forgotten.
        """
        previous, self._last = self._last, {}
        self.of_enis = {of_eni: self.of_enis.get(of_eni, 0) for of_eni in enis.values()}
        fixed = ((name, Reason.of(decision)) for name, decision in FIXED.items())
        for name, reason in (*fixed, *rules.items()):
            self.packets[reason] += self._measure_growth(name, found, previous.get(name, None if name in rules else 0))
        for name, of_eni in enis.items():
            self.of_enis[of_eni] += self._measure_growth(name, found, previous.get(name, 0))
        self.audited = {would: self.audited.get(would, 0) for would in audited.values()}
        for name, would in audited.items():
            self.audited[would] += self._measure_growth(name, found, previous.get(name, 0))

    def _measure_growth(self, name: str, found: Mapping[str, int], previous: int | None) -> int:
        """Return what a counter has counted since `previous`: all, if it began anew; nothing, if that is None."""
        self._last[name] = now = found.get(name, 0)
        if previous is None:
            return 0
        return now - previous if now >= previous else now

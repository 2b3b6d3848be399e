"""Sessions that a flowtable of others carries past our hooks, or may come to carry: those that are refused are ended.

Owns which sessions these are. Is given what is in force. Must not know how sessions are ended.

To a flowtable a session is accepted for good. And in host placement `flow add` comes before our postrouting hook, so
that it takes over a session whose packet is about to be refused there. So it doesn't do to judge again: the session has
to go. The kernel asks at each packet whether it is still there, and takes over none that isn't. In an instance the
policy and the fence stop all that isn't carried already.
"""

from __future__ import annotations

from collections.abc import Callable

from sgdataplane.enforce.desired import Desired
from sgdataplane.host import netns
from sgdataplane.host.conntrack import Tracked, end_tracked
from sgdataplane.model.options import Placement
from sgdataplane.net.values import GRE, TCP, UDP, Verdict
from sgdataplane.nft.kernel import Kernel
from sgdataplane.observe.decisions import Decider
from sgdataplane.observe.others import Flowtable, read_flowtables
from sgdataplane.observe.sessions import Owners, opening_packet

CARRIED = (TCP, UDP, GRE)  # what flowtables know


def end_refused(
    kernel: Kernel, namespace: str, desired: Desired, epoch: int, *, is_asked: bool
) -> tuple[Flowtable, ...]:
    """The namespace's flowtables. If there are any, and it is asked, no session is left that `desired`, which is in
    force, refuses."""
    with netns.inside(namespace):
        found = read_flowtables()
    if found and is_asked:
        kernel.settle()  # a packet that the rules before have accepted may still be on its way to `flow add`
        with netns.inside(namespace):
            end_tracked(_refused(desired, epoch))
    return found


def _refused(desired: Desired, epoch: int) -> Callable[[Tracked], bool]:
    owners = Owners(desired.state, desired.interfaces, epoch, desired.site)
    decider = Decider(desired.state, desired.options)

    def is_refused(entry: Tracked) -> bool:
        if entry.original.protocol not in CARRIED:
            return False
        if desired.placement is Placement.INSTANCE and not entry.is_carried:
            return False
        packets = (opening_packet(entry, owner, desired.site) for owner in owners.of(entry) if not owner.is_judged)
        return any(decider.decide(packet).verdict is Verdict.DROP for packet in packets)

    return is_refused

"""Make the kernel's namespaces, links, addresses, routes and rules equal to a topology, or remove them all.

Owns every change the lab makes to the kernel, except policy, and the signals that end what runs in its namespaces. It
is given a Topology and asks the kernel what exists, so it can continue wherever an earlier run was stopped. Must not
know policy: a callback puts that in force, at the one moment when everything that goes is gone and everything that
comes exists, but is still down.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sgdataplane.contract.fields import Field, Hook
from sgdataplane.errors import HostError
from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import InterfaceAddress, Link, Links, create_marked, sync
from sgdataplane.host.neighbours import Neighbour, introduce
from sgdataplane.host.routing import FORWARDING, QUIET, ROUTER
from sgdataplane.lab.parts import MARK, NetnsPlan, Veth, lab_of_mark
from sgdataplane.lab.patience import patient
from sgdataplane.lab.topology import FIRST_MARK, Topology
from sgdataplane.net.values import Address, Prefix, link_local
from sgdataplane.nft.ir import Chain, Match, Range, SetPacketMark, Table, rule
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

READY_DEADLINE_S = patient(10.0)
POLL_S = 0.002
VETH = "veth"
LINK_GROUP = 71  # of all finished links: the kernel deletes a group as fast as one link
LINK_LOCAL = Prefix.parse("fe80::/10")

SYSCTLS = {
    "instance": QUIET,
    "external": QUIET,
    # replies, the kernel's own included, leave by the interface that the session came in by
    "marked_external": QUIET | {"ipv4/fwmark_reflect": "1", "ipv4/tcp_fwmark_accept": "1", "ipv6/fwmark_reflect": "1"},
    "router": ROUTER | FORWARDING,
}


@dataclass(frozen=True, slots=True)
class BuildReport:
    """How much `reconcile` had to change: namespaces, links, and addresses with routes and rules."""

    namespaces: int
    links: int
    entries: int


def reconcile(topology: Topology, former: Iterable[str], put_policy_in_force: Callable[[], None]) -> BuildReport:
    """Make what exists equal to the topology. `former`: namespaces this lab may still have from before.

    Returns when every interface is up and usable. HostError if the kernel refuses; what was done so far stays, to be
    continued by the next call or removed by `remove`.
    """
    surplus = tuple(name for name in former if name not in topology.netns_names and netns.exists(name))
    remove(surplus)
    created = tuple(plan for plan in topology.plans if not netns.is_bound(plan.netns))
    for plan in created:
        create_marked(plan.netns, plan.mark)
    with ExitStack() as stack:
        door = {plan.netns: stack.enter_context(Links(plan.netns)) for plan in topology.plans}
        removed, missing = _remove_stale_links(topology, door)
        entries = sum(_trim(plan, door[plan.netns]) for plan in topology.plans)
        for plan in topology.plans:
            _set_up(plan)
        for veth in missing:
            _add_veth(veth, door)
        put_policy_in_force()
        entries += sum(_fill(plan, door[plan.netns]) for plan in topology.plans)
        _wait_ready(door.values())
        entries += _introduce(topology, door)
        entries += sum(_add_routes(plan, door[plan.netns]) for plan in reversed(topology.plans))
    return BuildReport(len(surplus) + len(created), removed + len(missing), entries)


def remove(names_to_remove: Iterable[str]) -> None:
    """Remove namespaces, the processes in them and their links. No error for those that are gone.

    Links go first: a namespace lives on while anything holds it, a deleted link doesn't.
    """
    existing = tuple(name for name in names_to_remove if netns.exists(name))
    end_processes(existing)
    for name in existing:
        if netns.is_bound(name):
            with Links(name) as door:
                door.delete_group(LINK_GROUP)
                for link in door.links():
                    if link.kind == VETH:  # unfinished: not in the group yet
                        door.delete_link(link.ifname)
    for name in existing:
        netns.remove(name)


def marked_namespaces(lab: str) -> tuple[str, ...]:
    """Namespaces whose mark says that they are this lab's: how a lab without its record is found."""
    return tuple(name for name in netns.list_names() if lab_of(name) == lab)


def lab_of(name: str) -> str | None:
    """Which lab a namespace belongs to by its mark; None if it has none."""
    if not netns.NAME.fullmatch(name) or not netns.is_bound(name):
        return None
    with Links(name) as door:
        loopback = next((link for link in door.links() if link.ifname == "lo"), None)
    return lab_of_mark(loopback.alias) if loopback else None


def _set_up(plan: NetnsPlan) -> None:
    """Settings before links: interfaces take the defaults that they find when they come."""
    with netns.inside(plan.netns):
        sysctl.write_all(SYSCTLS[plan.role])
    if plan.role == "marked_external":
        mark_arrivals(plan.netns, sorted({entry.ifname for entry in plan.addresses}))


def _remove_stale_links(topology: Topology, door: dict[str, Links]) -> tuple[int, tuple[Veth, ...]]:
    """Delete links that are unfinished, of others than wanted, or unwanted; the number, and the veths to make."""
    ends = {(name, link.ifname): link for name, links in door.items() for link in links.links()}

    def is_intact(veth: Veth) -> bool:
        near, far = (ends.get(end) for end in veth.ends)
        return bool(near and far and near.alias == far.alias == veth.mark and veth.mac in ("", far.mac))

    intact = {veth: is_intact(veth) for veth in topology.veths}
    wanted = {end for veth in topology.veths if intact[veth] for end in veth.ends}
    routers = {router.netns for router in topology.routers}
    stale = [key for key, link in ends.items() if key[0] in routers and link.kind == VETH and key not in wanted]
    for name, ifname in stale:
        door[name].delete_link(ifname)
    return len(stale), tuple(veth for veth in topology.veths if not intact[veth])


def _trim(plan: NetnsPlan, door: Links) -> int:
    """Take away what isn't wanted any more, and add nothing."""
    rules, routes, addresses = door.rules() - plan.rules, door.routes() - plan.routes, _ours(plan, door)
    surplus = addresses - plan.addresses
    sync(rules, (), door.add_rule, door.delete_rule)
    sync(routes, (), door.add_route, door.delete_route)
    sync(surplus, (), door.add_address, door.delete_address)
    return len(rules) + len(routes) + len(surplus)


def _fill(plan: NetnsPlan, door: Links) -> int:
    """Add the addresses that are missing, then take links up."""
    count = sync(_ours(plan, door) & plan.addresses, plan.addresses, door.add_address, door.delete_address)
    for link in door.links():
        if _is_marked(link) and not link.is_up:
            door.set_up(link.ifname)
    return count


def _add_routes(plan: NetnsPlan, door: Links) -> int:
    """Add the routes and rules that are missing, once links have their carriers, and those of routers last: what is
    sent by a link without one asks for its neighbour in vain, and again only after a second."""
    count = sync(door.routes() & plan.routes, plan.routes, door.add_route, door.delete_route)
    return count + sync(door.rules() & plan.rules, plan.rules, door.add_rule, door.delete_rule)


def _introduce(topology: Topology, door: dict[str, Links]) -> int:
    """Tell both ends of each link the other one's addresses, so that nobody asks: the kernel's tables of neighbours are
    the machine's, and a few labs would fill them."""
    macs = {(name, link.ifname): link.mac for name, links in door.items() for link in links.links()}
    addresses: dict[tuple[str, str], list[Address]] = {}
    for plan in topology.plans:
        for entry in plan.addresses:
            addresses.setdefault((plan.netns, entry.ifname), []).append(entry.address)
    wanted: dict[str, list[Neighbour]] = {name: [] for name in door}
    for veth in topology.veths:
        for (name, ifname), far in (veth.ends, veth.ends[::-1]):
            known = (*addresses.get(far, ()), link_local(macs[far]))
            wanted[name] += [Neighbour(ifname, address, macs[far]) for address in known]
    return sum(introduce(name, found) for name, found in wanted.items())


def _ours(plan: NetnsPlan, door: Links) -> frozenset[InterfaceAddress]:
    """The addresses there, less loopback's and those an interface gave itself."""
    found = (entry for entry in door.addresses() if entry.ifname != "lo")
    return frozenset(e for e in found if e in plan.addresses or e.address not in LINK_LOCAL)


def _is_marked(link: Link) -> bool:
    """Whether it is a finished link of a lab: a namespace may hold others, as gre0 or what a user made there."""
    return link.kind == VETH and link.alias.startswith(MARK)


def _add_veth(veth: Veth, door: dict[str, Links]) -> None:
    """Both ends down; the mark comes last, so that a link without one is known to be unfinished."""
    near, far = door[veth.router_netns], door[veth.node_netns]
    near.add_veth(veth.router_ifname, veth.node_netns, veth.node_ifname, veth.mac)
    near.without_own_link_local(veth.router_ifname)
    far.mark_link(veth.node_ifname, LINK_GROUP, veth.mark)
    near.mark_link(veth.router_ifname, LINK_GROUP, veth.mark)


def _wait_ready(doors: Iterable[Links]) -> None:
    """Until every interface has its carrier: before that the kernel drops what is sent."""
    deadline = time.monotonic() + READY_DEADLINE_S
    for door in doors:
        while waiting := [link.ifname for link in door.links() if _is_marked(link) and link.operstate != "UP"]:
            if time.monotonic() > deadline:
                raise HostError(
                    f"namespace {door.name}", f"{', '.join(waiting)} did not come up in {READY_DEADLINE_S:g} s"
                )
            time.sleep(POLL_S)


TERM_S, KILL_S = 2.0, 5.0


def end_processes(names: Iterable[str]) -> int:
    """End all processes in these namespaces: asked first, then killed. The number; HostError if one won't go."""
    handles = _open_all(tuple(names))
    try:
        left = _signal_and_wait(handles, signal.SIGTERM, TERM_S)
        left = _signal_and_wait(left, signal.SIGKILL, KILL_S)
        if left:
            raise HostError("processes", f"{len(left)} in the lab's namespaces did not end when killed")
    finally:
        for handle in handles:
            os.close(handle)
    return len(handles)


def _open_all(names: tuple[str, ...]) -> list[int]:
    """Handles that stay with their process even if its number is used again; checked again after opening."""
    opened = {}
    for pid in netns.pids_in(names):
        with contextlib.suppress(ProcessLookupError):
            opened[pid] = os.pidfd_open(pid)
    still = netns.pids_in(names) if opened else ()
    for pid, handle in opened.items():
        if pid not in still:
            os.close(handle)
    return [handle for pid, handle in opened.items() if pid in still]


def _signal_and_wait(handles: list[int], number: signal.Signals, seconds: float) -> list[int]:
    """The handles of those that are still there after that time."""
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
    deadline = time.monotonic() + seconds
    left = list(handles)
    while left and (rest := deadline - time.monotonic()) > 0:
        ended, _, _ = select.select(left, [], [], rest)
        left = [handle for handle in left if handle not in ended]
    return left


TABLE = Table("sgdp_lab")


def mark_arrivals(netns: str, ifnames: Sequence[str]) -> None:
    """Mark what comes in by the k-th of these interfaces with FIRST_MARK + k. KernelError if refused."""
    rules = (
        rule(Match(Field.IIFNAME, (Range.of(ifname),)), SetPacketMark(FIRST_MARK + index))
        for index, ifname in enumerate(ifnames)
    )
    chain = Chain("arrive", tuple(rules), Hook("prerouting", -300))
    anew = [Operation(verb, Kind.TABLE, TABLE) for verb in (Verb.ADD, Verb.DELETE, Verb.ADD)]
    filled = [Operation(Verb.ADD, kind, chain) for kind in (Kind.CHAIN, Kind.RULES)]
    with NetlinkKernel(netns) as kernel:
        kernel.run(Transaction.of(TABLE, [*anew, *filled]))

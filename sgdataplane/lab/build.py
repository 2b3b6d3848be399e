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

from sgdataplane.contract.fields import Field, Hook
from sgdataplane.errors import HostError
from sgdataplane.host import netns, sysctl
from sgdataplane.host.linkentry import Link
from sgdataplane.host.links import InterfaceAddress, Links, create_marked, sync
from sgdataplane.host.neighbours import Neighbour, introduce
from sgdataplane.host.routing import FORWARDING, QUIET, ROUTER
from sgdataplane.lab.parts import MARK, NetnsPlan, Veth, lab_of_mark
from sgdataplane.lab.topology import FIRST_MARK, Topology
from sgdataplane.lab.waiting import scale_timeout
from sgdataplane.net.values import Address, Prefix, link_local
from sgdataplane.nft.ir import Chain, Match, Range, SetPacketMark, Table, rule
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

READY_DEADLINE_S = scale_timeout(30.0)  # a carrier comes at once, but on a machine with far more work than processors
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


def reconcile(topology: Topology, owned: Iterable[str], put_policy_in_force: Callable[[], None]) -> int:
    """Make what exists equal to the topology, and return the number of changes.

    When this returns, every interface is up and usable. What was done before an error stays: the next call continues
    from there, or `remove` removes it.

    Args:
        topology: The plan of the lab.
        owned: Namespaces that this lab may already have.
        put_policy_in_force: Is called once, when everything surplus is gone and everything new exists, but is down.

    Raises:
        HostError: The kernel refuses.
    """
    surplus = tuple(name for name in owned if name not in topology.netns_names and netns.exists(name))
    remove(surplus)
    created = tuple(plan for plan in topology.plans if not netns.is_bound(plan.netns))
    for plan in created:
        create_marked(plan.netns, plan.mark)
    with ExitStack() as stack:
        links_of = {plan.netns: stack.enter_context(Links(plan.netns)) for plan in topology.plans}
        removed, missing = _remove_stale_links(topology, links_of)
        changes = len(surplus) + len(created) + removed + len(missing)
        changes += sum(_trim(plan, links_of[plan.netns]) for plan in topology.plans)
        for plan in topology.plans:
            _set_up(plan)
        for veth in missing:
            _add_veth(veth, links_of)
        put_policy_in_force()
        changes += sum(_fill(plan, links_of[plan.netns]) for plan in topology.plans)
        _wait_ready(links_of.values())
        changes += _introduce(topology, links_of)
        changes += sum(_add_routes(plan, links_of[plan.netns]) for plan in reversed(topology.plans))
    return changes


def remove(names_to_remove: Iterable[str]) -> None:
    """Remove namespaces, the processes in them and their links.

    It is no error if some are gone already. Links go first: a namespace lives on while anything holds it, but a deleted
    link doesn't.
    """
    existing = tuple(name for name in names_to_remove if netns.exists(name))
    end_processes(existing)
    for name in existing:
        if netns.is_bound(name):
            with Links(name) as links:
                links.delete_group(LINK_GROUP)
                for link in links.links():
                    if link.kind == VETH:  # it is unfinished, so not in the group yet
                        links.delete_link(link.ifname)
    for name in existing:
        netns.remove(name)


def find_marked_namespaces(lab: str) -> tuple[str, ...]:
    """Return the namespaces whose mark names this lab, which finds a lab even if its record is lost."""
    return tuple(name for name in netns.list_names() if lab_of(name) == lab)


def lab_of(name: str) -> str | None:
    """Return the lab that a namespace's mark names; None if it has no mark."""
    if not netns.NAME.fullmatch(name) or not netns.is_bound(name):
        return None
    with Links(name) as links:
        loopback = next((link for link in links.links() if link.ifname == "lo"), None)
    return lab_of_mark(loopback.alias) if loopback else None


def _set_up(plan: NetnsPlan) -> None:
    """Write a namespace's sysctls.

    This comes before its links, because a new interface takes the defaults that it finds.
    """
    with netns.inside(plan.netns):
        sysctl.write_all(SYSCTLS[plan.role])
    if plan.role == "marked_external":
        mark_arrivals(plan.netns, sorted({entry.ifname for entry in plan.addresses}))


def _remove_stale_links(topology: Topology, links_of: dict[str, Links]) -> tuple[int, tuple[Veth, ...]]:
    """Delete links that are unfinished, unwanted or not as planned.

    Returns:
        How many links were deleted, and the veths that have to be made.
    """
    ends = {(name, link.ifname): link for name, found in links_of.items() for link in found.links()}

    def is_intact(veth: Veth) -> bool:
        near, far = (ends.get(end) for end in veth.ends)
        return bool(near and far and near.alias == far.alias == veth.mark and veth.mac in ("", far.mac))

    intact = {veth: is_intact(veth) for veth in topology.veths}
    wanted = {end for veth in topology.veths if intact[veth] for end in veth.ends}
    routers = {router.netns for router in topology.routers}
    stale = [key for key, link in ends.items() if key[0] in routers and link.kind == VETH and key not in wanted]
    for name, ifname in stale:
        links_of[name].delete_link(ifname)
    return len(stale), tuple(veth for veth in topology.veths if not intact[veth])


def _trim(plan: NetnsPlan, links: Links) -> int:
    """Remove surplus rules, routes and addresses, and add nothing; return how many were removed."""
    rules, routes, addresses = links.rules() - plan.rules, links.routes() - plan.routes, _ours(plan, links)
    surplus = addresses - plan.addresses
    sync(rules, (), links.add_rule, links.delete_rule)
    sync(routes, (), links.add_route, links.delete_route)
    sync(surplus, (), links.add_address, links.delete_address)
    return len(rules) + len(routes) + len(surplus)


def _fill(plan: NetnsPlan, links: Links) -> int:
    """Add the missing addresses, then set the lab's links up; return how many addresses were added."""
    count = sync(_ours(plan, links) & plan.addresses, plan.addresses, links.add_address, links.delete_address)
    for link in links.links():
        if _is_marked(link) and not link.is_up:
            links.set_up(link.ifname)
    return count


def _add_routes(plan: NetnsPlan, links: Links) -> int:
    """Add the missing routes and rules; return how many were added.

    Links must have a carrier by then, and routers come last. A packet that is sent over a link without a carrier asks
    for its neighbour in vain, and the kernel asks again only after a second.
    """
    count = sync(links.routes() & plan.routes, plan.routes, links.add_route, links.delete_route)
    return count + sync(links.rules() & plan.rules, plan.rules, links.add_rule, links.delete_rule)


def _introduce(topology: Topology, links_of: dict[str, Links]) -> int:
    """Enter each link's far addresses in the neighbour tables of both ends; return how many were added.

    So nobody sends ARP or neighbour discovery. All namespaces share the size of the kernel's neighbour tables, and a
    few labs would fill them.
    """
    macs = {(name, link.ifname): link.mac for name, found in links_of.items() for link in found.links()}
    addresses: dict[tuple[str, str], list[Address]] = {}
    for plan in topology.plans:
        for entry in plan.addresses:
            addresses.setdefault((plan.netns, entry.ifname), []).append(entry.address)
    wanted: dict[str, list[Neighbour]] = {name: [] for name in links_of}
    for veth in topology.veths:
        for (name, ifname), far in (veth.ends, veth.ends[::-1]):
            known = (*addresses.get(far, ()), link_local(macs[far]))
            wanted[name] += [Neighbour(ifname, address, macs[far]) for address in known]
    return sum(introduce(name, found) for name, found in wanted.items())


def _ours(plan: NetnsPlan, links: Links) -> frozenset[InterfaceAddress]:
    """Return a namespace's addresses, except loopback's and those that an interface gave itself."""
    found = (entry for entry in links.addresses() if entry.ifname != "lo")
    return frozenset(e for e in found if e in plan.addresses or e.address not in LINK_LOCAL)


def _is_marked(link: Link) -> bool:
    """Return whether it is a finished link of a lab.

    A namespace may have other links, such as gre0 or what a user made.
    """
    return link.kind == VETH and link.alias.startswith(MARK)


def _add_veth(veth: Veth, links_of: dict[str, Links]) -> None:
    """Make a link with both ends down.

    The mark comes last, so a link without a mark is unfinished.
    """
    near, far = links_of[veth.router_netns], links_of[veth.node_netns]
    near.add_veth(veth.router_ifname, veth.node_netns, veth.node_ifname, veth.mac)
    near.without_own_link_local(veth.router_ifname)
    far.mark_link(veth.node_ifname, LINK_GROUP, veth.mark)
    near.mark_link(veth.router_ifname, LINK_GROUP, veth.mark)


def _wait_ready(all_links: Iterable[Links]) -> None:
    """Wait until every interface has a carrier, because the kernel drops what is sent before that.

    Raises:
        HostError: An interface has none after READY_DEADLINE_S.
    """
    deadline = time.monotonic() + READY_DEADLINE_S
    for links in all_links:
        while waiting := [link.ifname for link in links.links() if _is_marked(link) and link.operstate != "UP"]:
            if time.monotonic() > deadline:
                what = f"{', '.join(waiting)} did not come up in {READY_DEADLINE_S:g} s"
                raise HostError(f"namespace {links.name}", what)
            time.sleep(POLL_S)


TERM_S, KILL_S = 2.0, 5.0


def end_processes(names: Iterable[str]) -> None:
    """End all processes in these namespaces by SIGTERM, then by SIGKILL.

    Raises:
        HostError: A process survives both.
    """
    handles = _open_all(tuple(names))
    try:
        left = _signal_and_wait(handles, signal.SIGTERM, TERM_S)
        left = _signal_and_wait(left, signal.SIGKILL, KILL_S)
        if left:
            raise HostError("processes", f"{len(left)} in the lab's namespaces did not end when killed")
    finally:
        for handle in handles:
            os.close(handle)


def _open_all(names: tuple[str, ...]) -> list[int]:
    """Open a pidfd for each process in these namespaces.

    A pidfd stays with its process even if the pid is used again. So the processes are listed once more after opening,
    and those that are no longer there are left out.
    """
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
    """Signal processes, wait at most `seconds`, and return the pidfds of those that are still alive."""
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
    """Mark packets that come in by the k-th of these interfaces with FIRST_MARK + k.

    So a host outside answers by the VPC that asked, even if two VPCs use one address. The kernel copies the mark to its
    own replies and to accepted TCP connections (fwmark_reflect, tcp_fwmark_accept), and routing rules choose the
    interface by it. Must not be used where policy is enforced.

    Raises:
        KernelError: The kernel refuses the table.
    """
    rules = (
        rule(Match(Field.IIFNAME, (Range.of(ifname),)), SetPacketMark(FIRST_MARK + index))
        for index, ifname in enumerate(ifnames)
    )
    chain = Chain("arrive", tuple(rules), Hook("prerouting", -300))
    anew = [Operation(verb, Kind.TABLE, TABLE) for verb in (Verb.ADD, Verb.DELETE, Verb.ADD)]
    filled = [Operation(Verb.ADD, kind, chain) for kind in (Kind.CHAIN, Kind.RULES)]
    with NetlinkKernel(netns) as kernel:
        kernel.run(Transaction.of(TABLE, [*anew, *filled]))

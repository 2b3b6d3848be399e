"""Workloads on the hosts of a lab: a namespace for each, and an interface for each ENI.

Owns how one is made and removed. They are bound by `sgdp attach`, as any workload is. Must not know where the ENI comes
from, or policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.attach.router import PREFIX
from sgdataplane.errors import HostError
from sgdataplane.host.links import Links
from sgdataplane.host.routing import router_ifname
from sgdataplane.lab.build import VETH
from sgdataplane.lab.hosts import wires
from sgdataplane.lab.hosts.components import wait_for
from sgdataplane.lab.hosts.hostslab import Host
from sgdataplane.lab.hosts.sandbox import Sandbox, sgdp
from sgdataplane.lab.hosts.wires import Plug

OBEYS = ("in force", "auditing", "closed")


@dataclass(frozen=True)
class Guest:
    """An ENI at a workload."""

    name: str
    """The name of the workload's namespace on its host."""
    host: Host
    eni_id: str
    plug: Plug
    vpc_id: str
    segment: int = 1
    """The number of its VPC, which names the bridge."""

    @property
    def netns(self) -> str:
        """The path of its namespace, from outside."""
        return self.host.namespace.get_namespace_path(self.name)

    @property
    def port(self) -> str:
        """The other end of its link, on its host; in host placement, in the router once the agent knows it."""
        return router_ifname(self.eni_id)

    @property
    def router(self) -> str:
        """The path of its VPC's router on its host, in host placement, from outside."""
        return self.host.namespace.get_namespace_path(f"{PREFIX}{self.vpc_id}")


def start_all(sandbox: Sandbox, found: Iterable[Guest]) -> None:
    """Make workloads and bind them, on all hosts at once.

    No packet reaches one before the agent says that its policy is in force.

    Raises:
        HostError: The kernel refuses, or an agent doesn't say so in time.
    """
    of_host: dict[str, list[Guest]] = {}
    for guest in found:
        of_host.setdefault(guest.host.name, []).append(guest)
        _make(sandbox, guest)

    def bind_all(on_one: list[Guest]) -> None:
        for guest in on_one:
            _bind(sandbox, guest)

    with ThreadPoolExecutor() as pool:
        list(pool.map(bind_all, of_host.values()))


def _make(sandbox: Sandbox, guest: Guest) -> None:
    """Make the workload's namespace, if it is the first ENI there, and its link."""
    namespace = guest.host.namespace
    if not Path(guest.netns).exists():
        sandbox.run(["ip", "netns", "add", guest.name], namespace)
    bridge = 0 if guest.host.placement.is_outside else guest.segment
    wires.plug_in(namespace, guest.netns, guest.plug, bridge, guest.port)


def _bind(sandbox: Sandbox, guest: Guest) -> None:
    """Bind a workload, and set its link up only once the agent enforces its policy.

    That policy lets nothing pass (closed) while the host doesn't know the ENI. In host placement, the agent itself sets
    the link up.
    """
    named = ("--netns", guest.name, "--ifname", guest.plug.ifname)
    sandbox.run(sgdp("attach", "--eni", guest.eni_id, *named), guest.host.namespace)
    said = f"the agent doesn't say that its policy is in force: {guest.host.agent.name}.log"
    wait_for(lambda: guest.host.outcomes().get(guest.eni_id) in OBEYS, lambda: HostError(guest.eni_id, said))
    if not guest.host.placement.is_outside:
        with Links(guest.host.namespace.netns) as links:
            links.set_up(guest.port)


def end(sandbox: Sandbox, guest: Guest) -> None:
    """Unbind a workload, and remove it with its link; the namespace, too, with its last ENI."""
    with Links(guest.netns) as links:
        links.delete_link(guest.plug.ifname)
    sandbox.run(sgdp("detach", "--eni", guest.eni_id), guest.host.namespace)
    with Links(guest.netns) as links:
        is_last = not any(link.kind == VETH for link in links.links())
    if is_last:
        sandbox.run(["ip", "netns", "delete", guest.name], guest.host.namespace)


def discard(sandbox: Sandbox, guest: Guest) -> None:
    """Remove what there is of a workload that couldn't be made."""
    for namespace, ifname in ((guest.netns, guest.plug.ifname), (guest.host.namespace.netns, guest.port)):
        with suppress(HostError), Links(namespace) as links:
            links.delete_link(ifname)
    with suppress(HostError):
        sandbox.run(sgdp("detach", "--eni", guest.eni_id), guest.host.namespace)

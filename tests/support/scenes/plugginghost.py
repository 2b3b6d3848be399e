"""Many workloads that come and go, as plugging.py has them, for host placement: the host ends of their links are in one
namespace, which stands for the machine's own, and they reach each other by their VPC's router only.

Owns making and ending them, and the one that sends to all others. Must not know what is expected of them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.model.state import CloudState, Eni
from tests.support.inputs.builders import make_eni, make_group
from tests.support.scenes.attachhost import set_up
from tests.support.scenes.plugging import PORTS, SO_RCVBUFFORCE, Plugged, eni_of
from tests.support.scenes.plugging import state_of as state_of_others

SENDER = make_eni("eni-sender", "10.7.0.1", "sg-sender")


def state_of(count: int, step: int) -> CloudState:
    """With the sender's ENI, too."""
    state = state_of_others(count, step)
    groups = (*state.security_groups, make_group("sg-sender"))
    enis = (*state.network_interfaces, replace(SENDER, instance_id=""))
    return replace(state, security_groups=groups, network_interfaces=enis)


class HostPeer:
    """The sender, which has to be attached as the others are, by `name` and its interface eth0."""

    def __init__(self, name: str, home: str) -> None:
        self.name, self._home = name, home
        self._link(SENDER, name)
        with netns.inside(name):
            self._outbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._outbox.bind((str(SENDER.addresses[0]), 0))

    def close(self) -> None:
        self._outbox.close()

    def send(self, to: Plugged, port: int) -> None:
        self._outbox.sendto(to.mark, (to.address, port))
        to.sent[port] += 1

    def plug(self, name: str, number: int) -> Plugged:
        """Nobody has attached it, and the other end of its link is up."""
        plugged = Plugged(number, name, "eth0")
        netns.create(name)
        plugged.stack.callback(netns.remove, name)
        self._link(eni_of(number), name)
        with netns.inside(name):
            for port in PORTS:
                inbox = plugged.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                inbox.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
                inbox.bind((plugged.address, port))
                inbox.setblocking(False)
                plugged.inboxes[port] = inbox
        return plugged

    def unplug(self, plugged: Plugged) -> None:
        """It goes, and with it its link, wherever the other end is."""
        with Links(plugged.name) as links:
            links.delete_link(plugged.ifname)
        plugged.stack.close()

    def _link(self, eni: Eni, name: str) -> None:
        ifname = "v" + eni.network_interface_id.removeprefix("eni-")
        with Links(self._home) as links:
            links.add_veth(ifname, name, "eth0", eni.mac_address)
            links.set_up(ifname)
        set_up(name, (str(eni.addresses[0]),))


@contextmanager
def host_peer_in(name: str, home: str) -> Iterator[HostPeer]:
    for made in (home, name):
        netns.create(made)
    peer = HostPeer(name, home)
    try:
        yield peer
    finally:
        peer.close()
        for made in (name, home):
            netns.remove(made)

"""The conntrack table when it is full: what is in it goes on, what is new is refused, and one is told so.

The limit is the machine's (262,144 by default) and not for a namespace to set, so the whole of it is filled here, in a
namespace that is gone afterwards.
"""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from sgdataplane.host import netns
from sgdataplane.host.conntrack import SessionTuple
from sgdataplane.net.values import TCP, Address, Family
from sgdataplane.observe.conntrack import TableUse, read_table_use
from tests.edges.scene import FAMILIES, Scene, is_refused, until
from tests.edges.scene import scene as running_scene
from tests.support.conntrack import fill

pytestmark = pytest.mark.traffic

ROOT = Path(__file__).parents[2]
MOST = 1 << 19  # a machine with more room than that is none to fill


def use_of(scene: Scene) -> TableUse:
    with netns.inside(scene.near.netns):
        return read_table_use()


def strangers() -> Iterator[SessionTuple]:
    """Sessions of hosts that aren't here."""
    near = Address.parse("10.0.0.1")
    for number in range(MOST):
        host, port = divmod(number, 60_000)
        yield SessionTuple(TCP, Address(32, (192 << 24) + host), near, 1024 + port, 80)


def status_errors(lab: str) -> str:
    """What `sgdp lab status` says on stderr."""
    command = [sys.executable, "-m", "sgdataplane", "lab", "status", "--name", lab]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stderr


def test_counts_are_those_of_the_namespace(scene: Scene) -> None:
    scene.enforce("ingress tcp 80/80 from any")
    scene.forget_all()
    before = use_of(scene)
    fill(scene.near.netns, islice(strangers(), 1000))
    after = use_of(scene)
    assert (after.entries - before.entries, after.limit, after.complaint) == (1000, before.limit, "")
    with netns.inside(scene.outside.netns):
        assert read_table_use().entries < 1000


@pytest.mark.slow
def test_a_full_table_refuses_new_sessions_and_keeps_old_ones(make_lab_name: Callable[[], str]) -> None:
    with running_scene(make_lab_name()) as made, ExitStack() as stack:
        scene = replace(made, stack=stack)
        scene.enforce("ingress tcp 80/80 from any", "egress udp 53/53 to any")
        old = [scene.connect(scene.outside, scene.near, family, 80) for family in FAMILIES]
        limit = use_of(scene).limit
        if not 0 < limit <= MOST:
            pytest.fail(f"the machine's limit of {limit} sessions is more than this test may fill")
        fill(scene.near.netns, islice(strangers(), limit - use_of(scene).entries))
        until(lambda: use_of(scene).is_full, "a full table")
        opener = scene.open(scene.outside, Family.IPV4, socket.SOCK_STREAM)
        opener.setblocking(False)
        scene.listen(scene.near, Family.IPV4, 80)
        before = use_of(scene)
        opener.connect_ex((scene.near.addresses[0], 80))
        until(lambda: use_of(scene).dropped > before.dropped, "refusal of what comes in")
        client = scene.udp(scene.near, Family.IPV4)
        assert is_refused(lambda: client.sendto(b"?", (scene.outside.addresses[0], 53)), errno.EPERM)
        for outside, near in old:
            for sender, receiver in ((outside, near), (near, outside)):
                sender.send(b".")
                assert receiver.recv(1) == b"."
        assert use_of(scene).complaint.startswith(f"the conntrack table is full ({limit} of {limit} sessions)")
        assert "warning: i-a: the conntrack table is full" in status_errors(scene.near.netns.removesuffix("-i-a"))
        scene.forget_all()
        server = scene.udp(scene.outside, Family.IPV4, 53)
        client.sendto(b"?", server.getsockname()[:2])
        assert server.recv(1) == b"?"
        assert use_of(scene).complaint.startswith("the conntrack table has been full")

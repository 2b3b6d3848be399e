"""The conntrack table when it is full: what is in it goes on, what is new is refused, and one is told so.

The limit is the machine's (262,144 by default) and not for a namespace to set, so the whole of it is filled here, in a
namespace that is gone afterwards.
"""

from __future__ import annotations

import errno
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from sgdataplane.host import netns
from sgdataplane.host.conntrack import SessionTuple, track_established
from sgdataplane.net.values import TCP, Address, Family
from sgdataplane.observe.capacity import TableUse, UseLog, read_table_use
from tests.edges.scene import FAMILIES, Scene, is_refused, until
from tests.edges.scene import scene as running_scene
from tests.support.kernel.conntrack import fill, tuple_of
from tests.support.run.forked import run_forked_sgdp

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


def sgdp(scene: Scene, *verb: str) -> subprocess.CompletedProcess[str]:
    """What a verb says of the scene's lab."""
    lab = scene.near.netns.removesuffix("-i-a")
    done = run_forked_sgdp(*verb, "--name", lab, "--json", cwd=ROOT)
    done.check_returncode()
    return done


def told(scene: Scene) -> tuple[str, dict[str, int]]:
    """What `sgdp lab status` warns of, and its numbers for `near`."""
    said = sgdp(scene, "lab", "status")
    return said.stderr, json.loads(said.stdout)["nodes"]["i-a"]["conntrack"]


def logged(scene: Scene, log: UseLog, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines that are new."""
    caplog.clear()
    log.note("near", use_of(scene))
    return caplog.messages


def test_counts_are_those_of_the_namespace(scene: Scene) -> None:
    scene.enforce("ingress tcp 80/80 from any")
    scene.forget_all()
    before = use_of(scene)
    fill(scene.near.netns, islice(strangers(), 1000))
    after = use_of(scene)
    assert (after.entries - before.entries, after.limit, after.warning) == (1000, before.limit, "")
    with netns.inside(scene.outside.netns):
        assert read_table_use().entries < 1000


@pytest.mark.slow
def test_a_full_table_refuses_new_sessions_keeps_old_ones_and_says_so(
    make_lab_name: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    with running_scene(make_lab_name()) as made, ExitStack() as stack:
        scene, log = replace(made, stack=stack), UseLog()
        scene.enforce("ingress tcp 80/80 from any", "egress udp 53/53 to any")
        old = [scene.connect(scene.outside, scene.near, family, 80) for family in FAMILIES]
        limit = use_of(scene).limit
        if not 0 < limit <= MOST:
            pytest.fail(f"the machine's limit of {limit} sessions is more than this test may fill")
        assert logged(scene, log, caplog) == []
        room, fillers = limit - use_of(scene).entries, strangers()
        fill(scene.near.netns, islice(fillers, room - limit // 20))
        (line,) = logged(scene, log, caplog)
        assert line.startswith("conntrack-table where=near condition=nearly-full entries=")
        fill(scene.near.netns, islice(fillers, limit // 20))
        until(lambda: use_of(scene).is_full, "a full table")
        refuses_new_sessions(scene)
        for outside, near in old:
            for sender, receiver in ((outside, near), (near, outside)):
                sender.send(b".")
                assert receiver.recv(1) == b"."
        says_that_it_is_full(scene, limit)
        use = use_of(scene)
        numbers = f"dropped={use.dropped} evicted={use.evicted} insert_failed={use.insert_failed}"
        full = f"conntrack-table where=near condition=full entries={limit} limit={limit} {numbers}"
        assert (logged(scene, log, caplog), logged(scene, log, caplog)) == ([full], [])
        scene.forget_all()
        client, server = scene.udp(scene.near, Family.IPV4), scene.udp(scene.outside, Family.IPV4, 53)
        client.sendto(b"?", server.getsockname()[:2])
        assert server.recv(1) == b"?"
        assert use_of(scene).warning.startswith("the conntrack table has been full")
        (line,) = logged(scene, log, caplog)
        assert f"condition=has-been-full entries={use_of(scene).entries} limit={limit} {numbers}" in line


def refuses_new_sessions(scene: Scene) -> None:
    """From outside, from within, and those that it is asked to make."""
    opener = scene.open(scene.outside, Family.IPV4, socket.SOCK_STREAM)
    opener.setblocking(False)
    scene.listen(scene.near, Family.IPV4, 80)
    before = use_of(scene)
    opener.connect_ex((scene.near.addresses[0], 80))
    until(lambda: use_of(scene).dropped > before.dropped, "refusal of what comes in")
    opener.close()  # else it tries again, while the numbers are read
    client = scene.udp(scene.near, Family.IPV4)
    assert is_refused(lambda: client.sendto(b"?", (scene.outside.addresses[0], 53)), errno.EPERM)
    with netns.inside(scene.near.netns):
        assert track_established([tuple_of("10.0.0.1/1 8.8.8.8/443"), tuple_of("10.0.0.1/2 8.8.8.8/443")], 900) == 0


def says_that_it_is_full(scene: Scene, limit: int) -> None:
    sentence = f"the conntrack table is full ({limit} of {limit} sessions)"
    assert use_of(scene).warning.startswith(sentence)
    warnings, numbers = told(scene)
    assert f"warning: i-a: {sentence}" in warnings
    use = use_of(scene)
    assert numbers == {
        "entries": limit,
        "limit": limit,
        "dropped": use.dropped,
        "evicted": use.evicted,
        "insert_failed": use.insert_failed,
    }
    assert numbers["dropped"] > 0
    assert f"warning: i-a: {sentence}" in sgdp(scene, "sessions", "--limit", "1").stderr

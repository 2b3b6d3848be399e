"""The processes that a lab's probes run in its namespaces: they end with whoever asked for them, however that ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sgdataplane.host import netns
from sgdataplane.lab import manage
from sgdataplane.lab.fleet import run_fleet
from sgdataplane.lab.watch import PASSED
from tests.support.probes.flood import DEADLINE
from tests.support.scenes import labs
from tests.traffic.test_life import STATE

pytestmark = pytest.mark.traffic


@pytest.fixture
def name(lab_name: str) -> Iterator[str]:
    """A name whose lab is gone after the test."""
    yield lab_name
    manage.down(lab_name)
    labs.assert_gone(lab_name)


def test_agents_end_with_the_one_that_asked_and_leave_nothing(name: str, placement: str) -> None:
    lab = manage.up(labs.record_of(name, placement), STATE, labs.no_policy)
    assert labs.unlike(labs.matrix(lab, "tcp/22"), "accept") == []
    assert netns.pids_in(lab.topology.netns_names) == ()
    assert {labs.run_in(entry.netns, "nft", "list", "tables") for entry in lab.enforced} == {""}


def test_two_can_watch_the_same_router(name: str) -> None:
    async def watched_twice() -> None:
        async with run_fleet((), lab.topology.routers) as one, run_fleet((), lab.topology.routers) as other:
            for fleet in (one, other):
                found = await fleet.call("router vpc-a", "watched", place=PASSED, key="none", seconds=0.0)
                assert found == {"seen": False, "control": ""}

    lab = manage.up(labs.record_of(name, "host"), STATE, labs.no_policy)
    asyncio.run(watched_twice())


def test_agents_end_when_the_one_that_asked_is_killed(name: str) -> None:
    lab = manage.up(labs.record_of(name), STATE, labs.no_policy)
    script = (
        "import asyncio, sys\n"
        "from sgdataplane.lab import manage\n"
        "from sgdataplane.lab.fleet import run_fleet\n"
        "async def main():\n"
        "    async with run_fleet(manage.look(sys.argv[1]).topology.nodes):\n"
        "        print(flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script, name], cwd=root, stdout=subprocess.PIPE) as asker:
        assert asker.stdout is not None
        asker.stdout.readline()
        pids = netns.pids_in(lab.topology.netns_names)
        assert len(pids) == 3
        handles = [os.pidfd_open(pid) for pid in pids]
        asker.kill()
    for handle in handles:
        with suppress(ProcessLookupError):
            assert labs.wait_ended(handle, DEADLINE)
        os.close(handle)

"""Outside the machine's own network namespace conntrack's settings are read-only, for root, too: that is told, and
stops nothing. (tests/vm/test_conntracksize.py raises them on a machine of its own.)"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sgdataplane.attach.report import HostReport
from sgdataplane.daemon.sessioncapacity import SessionCapacity
from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.conntracksize import BUCKETS, FOLDER, LIMIT, raise_size, read_size
from sgdataplane.host.modules import TRACKING, require
from tests.unit.daemon.test_sessioncapacity import host

pytestmark = pytest.mark.kernel
REFUSED = "(Operation not permitted|Permission denied)"


@pytest.fixture
def routers() -> HostReport:
    """A router whose ENIs may hold more sessions than any kernel tracks."""
    return host({"sgdp-vpc-a": 9}, limit=1 << 30)


def raw(name: str) -> str:
    return Path(FOLDER, name).read_text("ascii")


def test_there_the_kernel_refuses_to_raise_them(namespace: str) -> None:
    require(TRACKING)
    with netns.inside(namespace):
        before = read_size()
        assert before is not None
        assert (before.limit, before.buckets) == (int(raw(LIMIT)), int(raw(BUCKETS)))
        assert before.buckets > 0
        with pytest.raises(HostError, match=f"{BUCKETS}={before.buckets + 1}: {REFUSED}"):
            raise_size(before.buckets + 1)
        assert read_size() == before


def test_there_the_agent_says_so_once_and_which_router_it_concerns(
    namespace: str, routers: HostReport, caplog: pytest.LogCaptureFixture
) -> None:
    require(TRACKING)
    capacity = SessionCapacity()
    with netns.inside(namespace):
        before = read_size()
        for _ in range(2):
            (line,) = capacity.follow(routers, "auto")
            assert line.startswith("sgdp-vpc-a: its ENIs may hold")
        assert read_size() == before
    (said,) = [record.getMessage() for record in caplog.records if "conntrack-" in record.getMessage()]
    assert said.startswith("conntrack-not-raised")
    assert re.search(REFUSED, said)

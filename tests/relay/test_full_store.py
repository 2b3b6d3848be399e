"""A store that one relay has filled: relays and the API say so once, an operator sees who it was, and all goes on."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.store import EtcdStore
from sgdataplane.store.interface import FullError
from tests.control.test_served import Service
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import WEB, state_of
from tests.support.servers.etcdserver import FAST, Members, running
from tests.support.servers.relaying import Plant, RawHost, url_of, write_state
from tests.support.servers.scraping import scrape

QUOTA = ("--quota-backend-bytes", str(8 << 20))
PAGE = Path(__file__).resolve().parents[2] / "docs" / "etcd.md"
MARK = "<!-- not run: tests/relay/test_full_store.py runs it"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Members]:
    with running(tmp_path / "etcd", flags=(*FAST, *QUOTA)) as members:
        yield members


@pytest.fixture
def etcd_store(etcd: Members) -> Iterator[EtcdStore]:
    with closing(EtcdStore(EtcdAccess.of(etcd.store))) as made:
        yield made


def fill(store: EtcdStore, relay: str) -> int:
    """Say much of one relay, again and again, until the store takes no more; how often that was."""
    for number in count():
        try:
            store.put_summary(relay, {"text": random.Random(number).randbytes(200_000).hex()})
        except FullError:
            return number
    raise AssertionError


def commands() -> list[str]:
    """What the page tells an operator to run: to look who has filled it, and to make space."""
    blocks = PAGE.read_text("utf-8").split(MARK)[1:]
    found = [re.findall(r"^[#>] (.*)$", block.split("```")[1], re.MULTILINE) for block in blocks]
    return ["\n".join(lines) for lines in found]


def run(etcd: Members, script: str) -> list[str]:
    environment = {**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": etcd.all[0].address}
    command = ("bash", "-euo", "pipefail", "-c", script)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_relay_says_once_that_its_store_is_full_and_that_it_is_not_any_more(
    etcd: Members, etcd_store: EtcdStore, plant: Plant
) -> None:
    """Meanwhile it goes on, also for hosts that come."""
    write_state(etcd_store, state_of(WEB), {"eni-a": "host-1"})
    port, options = plant.measured()
    relay = plant.relay(etcd.store, 0, "--name", "relay-1", *options)
    url = url_of(relay)
    wait_until(lambda: etcd_store.summary("relay-1") is not None)
    assert relay.found("nobody hears|is written again") is None, "a control: as long as there is space"
    assert scrape(port).value("relay_store_full") == 0
    fill(etcd_store, "relay-2")
    with RawHost(plant, url, "host-1") as host:
        assert host.greet().puts
        at = etcd.all[0].address
        relay.wait_for(
            f"the hosts' reports can't be stored: the store is full: etcd at {at} has no space left; look who has"
        )
        wait_until(lambda: scrape(port).value("relay_errors_total", kind="summary") >= 4)
        assert scrape(port).value("relay_store_full") == 1
        _, make_space = commands()
        run(etcd, make_space)
        relay.wait_for("the store can be written again: it has the hosts' reports")
        wait_until(lambda: "host-1" in str(etcd_store.summary("relay-1")))
        wait_until(lambda: scrape(port).value("relay_store_full") == 0)
    said = [line for line in relay.said if "reports can't be stored" in line or "written again" in line]
    assert len(said) == 2, "each once, however often it tried"


def test_the_api_says_that_its_store_is_full_and_goes_on_once_it_is_not(etcd: Members, etcd_store: EtcdStore) -> None:
    client = Client(Engine(etcd_store, "seed", counted_ids()))
    vpc = client.text("CreateVpc", "VpcId", CidrBlock="10.0.0.0/8")
    fill(etcd_store, "relay-2")
    with pytest.raises(
        ApiError, match=r"ServiceUnavailable: The store is full: etcd at 127\.0\.0\.1:\d+ has no space left"
    ):
        client.ask("CreateVpc", CidrBlock="10.0.0.0/8")
    assert vpc in str(client("DescribeVpcs")), "it can be read"
    run(etcd, commands()[1])
    assert client.text("CreateVpc", "VpcId", CidrBlock="10.0.0.0/8") != vpc


def test_a_metric_of_the_api_says_that_its_store_is_full_until_it_has_written_again(
    etcd: Members, etcd_store: EtcdStore, tmp_path: Path
) -> None:
    service = Service(etcd.store, tmp_path / "key", ("full",))
    port = urlsplit(service.url).port
    assert port is not None

    def written_and_told() -> tuple[int, float]:
        status = service.ask("CreateVpc", CidrBlock="10.0.0.0/8").status
        return status, scrape(port).value("api_store_full")

    try:
        assert written_and_told() == (200, 0)
        fill(etcd_store, "relay-2")
        assert written_and_told() == (503, 1)
        run(etcd, commands()[1])
        assert written_and_told() == (200, 0)
    finally:
        service.stop(kill=True)


def test_an_operator_sees_which_relay_has_filled_it(etcd: Members, etcd_store: EtcdStore) -> None:
    write_state(etcd_store, state_of(WEB), {"eni-a": "host-1"})
    etcd_store.put_summary("relay-1", {"hosts": {}})
    times = fill(etcd_store, "relay-2")
    look, _ = commands()
    *parts, most, least = run(etcd, look)
    assert parts[0].endswith(" bytes in sgdp/summary")
    assert {"sgdp/doc", "sgdp/log", "sgdp/audit"} <= {line.split()[-1] for line in parts}
    found = re.fullmatch(r"(\d+) bytes: (\d+), (\d+) times, of sgdp/summary/relay-2", most)
    assert found is not None, most
    written, size, puts = map(int, found.groups())
    assert (puts - times) in (0, 1), "what crosses the quota may be written"
    assert written == size * puts > 4 << 20
    assert least.endswith(" 1 times, of sgdp/summary/relay-1")

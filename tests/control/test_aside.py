"""Heavy answers from other processes are those of this one, and whatever becomes of such a process hurts nobody."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import cast

import pytest

from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.service import aside as module
from sgdataplane.control.service.analysis import HeavyAnswers
from sgdataplane.control.service.aside import Aside
from sgdataplane.control.service.heavy import Computer
from sgdataplane.control.service.jobs import read_job, write_job
from sgdataplane.control.service.parts import part_for
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents, ResourceKind, native
from sgdataplane.store.interface import Body, Json, Revision
from tests.support.inputs.controlling import Client, Randomly
from tests.support.probes.flood import wait_until
from tests.support.run.processes import is_running, list_running_children
from tests.support.variants.slowforks import (
    BREAKS,
    HUNGRY,
    KILLED,
    SECRET,
    SPINS,
    TALKS,
)

ROOT = Path(__file__).resolve().parents[2]
NEVER = threading.Event()


class Bench:
    """An API with one ENI, and the processes that answer beside it."""

    def __init__(self, aside: Aside) -> None:
        self.aside, self.client = aside, Client()
        vpc, switch = self.client.network()
        asked: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": self.client.group(vpc)}
        self.eni = self.client.text("CreateNetworkInterface", "NetworkInterfaceId", **asked)

    @property
    def documents(self) -> Documents:
        return self.client.engine.documents

    def explain(self, eni: str = "", is_ended: threading.Event = NEVER) -> Body:
        return self.aside.compute(self.documents, explaining(eni or self.eni), is_ended)

    def refused(self, eni: str, is_ended: threading.Event = NEVER) -> ApiError:
        with pytest.raises(ApiError) as raised:
            self.explain(eni, is_ended)
        return raised.value

    def forks(self) -> list[int]:
        return list_running_children(cast(int, self.aside.pid))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))


def explaining(eni: str) -> Call:
    asked: dict[str, Json] = {"NetworkInterfaceId": eni, "SourceIp": "192.0.2.7", "IpProtocol": "tcp", "Port": 22}
    return Call("SgdpExplain", asked, "request-1", "LTAI-test", "127.0.0.1", time.time())


def differing(group: str) -> Call:
    rule: Json = [{"IpProtocol": "TCP", "PortRange": "22/22", "SourceCidrIp": "0.0.0.0/0"}]
    asked: dict[str, Json] = {"SecurityGroupId": group, "Permissions": rule}
    return Call("SgdpDiff", asked, "request-1", "LTAI-test", "127.0.0.1", time.time())


@pytest.fixture
def aside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aside]:
    monkeypatch.setattr(module, "MODULE", "tests.support.variants.slowforks")
    with Aside("seed") as made:
        yield made


@pytest.fixture
def bench(aside: Aside) -> Bench:
    return Bench(aside)


def test_an_answer_is_the_one_of_this_process_after_any_changes() -> None:
    """With the product's own fork server."""
    chance = random.Random(int(os.environ.get("SGDP_TEST_SEED", "1")))
    anything = Randomly(Client(), chance)
    here, answered = HeavyAnswers("seed"), 0
    with Aside("seed") as aside:
        for _ in range(25):
            for _ in range(8):
                anything.step()
            documents = anything.client.engine.documents
            for kind, call in ((ResourceKind.ENI, explaining), (ResourceKind.GROUP, differing)):
                name = anything.any(kind)
                part = part_for(documents, call(name))
                told = outcome(aside, part, call(name))
                assert told == outcome(here, part, call(name))
                answered += isinstance(told, dict)
    assert answered > 20


def outcome(computer: Computer, documents: Documents, call: Call) -> object:
    try:
        return computer.compute(documents, call, NEVER)
    except ApiError as error:
        return error.code, error.message, error.status, error.extra


@pytest.mark.parametrize(("eni", "words"), [(KILLED, "ended before it was done"), (HUNGRY, "64 MB of memory")])
def test_a_process_that_dies_or_takes_too_much_memory_is_an_error(bench: Bench, eni: str, words: str) -> None:
    error = bench.refused(eni)
    assert (error.code, error.status) == ("ServiceUnavailable", 503)
    assert words in error.message
    assert bench.explain()["Passes"] is False  # control
    wait_until(lambda: bench.forks() == [])


def test_a_bug_is_told_to_us(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match=SECRET):
        bench.explain(BREAKS)
    assert bench.explain()["Passes"] is False


def test_a_long_answer_comes_whole(bench: Bench) -> None:
    """It doesn't fit into the socket: room that the reader makes there must not be taken for its end."""
    assert len(cast(str, bench.explain(TALKS)["Text"])) == 4 << 20


def test_an_answer_that_nobody_wants_any_more_ends_its_process_and_no_other(bench: Bench) -> None:
    endings = [threading.Event() for _ in range(2)]
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(bench.refused, SPINS, ending) for ending in endings]
        wait_until(lambda: bench.aside.pid is not None and len(bench.forks()) == 2)
        assert bench.explain()["Passes"] is False  # control: others are answered beside them
        endings[0].set()
        wait_until(lambda: len(bench.forks()) == 1)
        assert "cancelled" in waiting[0].result(30).message
        assert not waiting[1].done()
        endings[1].set()
        wait_until(lambda: bench.forks() == [])


def test_a_client_that_goes_while_its_call_waits_is_told_at_once_and_those_behind_it_are_answered(bench: Bench) -> None:
    """The fork server stands still meanwhile."""
    bench.explain()
    gone = threading.Event()
    gone.set()
    os.kill(cast(int, bench.aside.pid), signal.SIGSTOP)
    with ThreadPoolExecutor() as threads:
        assert "cancelled" in bench.refused(SPINS, gone).message
        last = threads.submit(bench.explain)
        os.kill(cast(int, bench.aside.pid), signal.SIGCONT)
        assert last.result(30)["Passes"] is False
    wait_until(lambda: bench.forks() == [])


def test_a_fork_server_that_was_killed_is_started_again(bench: Bench) -> None:
    bench.explain()
    former = cast(int, bench.aside.pid)
    kill(former)
    assert bench.explain()["Passes"] is False
    assert bench.aside.pid != former


def test_a_fork_that_computes_outlives_its_fork_server_and_is_ended_all_the_same(bench: Bench) -> None:
    ending = threading.Event()
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(bench.refused, SPINS, ending)
        wait_until(lambda: bench.aside.pid is not None and len(bench.forks()) == 1)
        (fork,) = bench.forks()
        kill(cast(int, bench.aside.pid))
        assert bench.explain()["Passes"] is False
        assert is_running(fork)
        ending.set()
        wait_until(lambda: not is_running(fork))
        assert "cancelled" in waiting.result(30).message


def test_leaving_ends_the_fork_server_and_nothing_is_computed_any_more(bench: Bench, aside: Aside) -> None:
    bench.explain()
    server = cast(int, aside.pid)
    aside.__exit__(None, None, None)
    assert not is_running(server)
    assert "cancelled" in bench.refused(bench.eni).message


OWNER = """
import threading
from sgdataplane.control.service import aside
from tests.control.test_aside import Bench, NEVER
from tests.support.probes.flood import wait_until
from tests.support.variants.slowforks import SPINS
aside.MODULE = "tests.support.variants.slowforks"
bench = Bench(aside.Aside("seed"))
threading.Thread(target=bench.explain, args=(SPINS, NEVER)).start()
wait_until(lambda: bench.aside.pid is not None and len(bench.forks()) == 1)
print(bench.aside.pid, *bench.forks(), flush=True)
"""


def test_all_end_with_an_api_that_is_killed() -> None:
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = list(map(int, owner.stdout.readline().split()))
        assert len(pids) == 2
        assert all(map(is_running, pids))
        owner.kill()
    wait_until(lambda: not any(map(is_running, pids)))


def test_a_job_has_what_the_answer_follows_from_and_no_secret_of_keys(bench: Bench) -> None:
    """Documents of other kinds stay here, even if a part had them."""
    secret = {f"{ResourceKind.ACCESS_KEY}/LTAI": {"about": {"sealed": SECRET}}}
    whole = bench.documents.after(Revision(bench.documents.revision + 1, secret, frozenset(), frozenset()))
    call = explaining(bench.eni)
    with BytesIO() as file:
        write_job(file, whole, call)
        assert SECRET.encode() not in file.getvalue()
        told, again = read_job(file)
    assert (native(told.bodies()), again) == (native(bench.documents.bodies()), call)
    assert told.revision == whole.revision

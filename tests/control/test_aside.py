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
from pathlib import Path
from typing import cast

import pytest

from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.service import aside as module
from sgdataplane.control.service.aside import Aside, changes
from sgdataplane.control.service.heavy import Computer, HeavyAnswers
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents, ResourceKind, native
from sgdataplane.store.interface import Body, Json
from tests.support.inputs.controlling import Client, Randomly
from tests.support.probes.flood import wait_until
from tests.support.variants.slowforks import (
    BREAKS,
    FOLDER,
    HUNGRY,
    KILLED,
    SECRET,
    SPINS,
    TALKS,
    Gate,
    children,
    is_running,
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
        return children(cast(int, self.aside.pid))


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
    """With the product's own fork server, which hears only of what has changed since the last answer."""
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
                told = outcome(aside, documents, call(name))
                assert told == outcome(here, documents, call(name))
                answered += isinstance(told, dict)
    assert answered > 20


def outcome(computer: Computer, documents: Documents, call: Call) -> object:
    try:
        return computer.compute(documents, call, NEVER)
    except ApiError as error:
        return error.code, error.message, error.status, error.extra


def test_what_has_changed_is_told_and_nothing_else() -> None:
    client = Client()
    vpc, _ = client.network()
    gone = client.group(vpc)
    before = client.engine.documents
    made = client.group(vpc)
    client("DeleteSecurityGroup", SecurityGroupId=gone)
    found = changes(before, client.engine.documents)
    assert (list(found.puts), found.deletes) == ([f"security_group/{made}"], frozenset((f"security_group/{gone}",)))
    whole = Documents().after(changes(Documents(), client.engine.documents))
    assert native(whole.bodies()) == native(client.engine.documents.bodies())
    assert whole.version == client.engine.version


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


def test_a_client_that_goes_while_its_call_waits_costs_no_state_and_those_behind_it_do_not_wait(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks about another revision; those before and behind the ones that go away stay, and are answered."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    gate, gone = Gate(tmp_path), threading.Event()
    gone.set()
    with ThreadPoolExecutor() as threads:
        first, wanted = threads.submit(bench.explain), [bench.documents.revision]
        wait_until(lambda: gate.states() == wanted)
        for _ in range(2):
            bench.client.network()
            assert "cancelled" in bench.refused(bench.eni, gone).message
        bench.client.network()
        last = threads.submit(bench.explain)
        wanted.append(bench.documents.revision)
        gate.open()
        assert first.result(30)["Passes"] is last.result(30)["Passes"] is False
    assert gate.states() == wanted


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


def test_no_secret_of_keys_is_told_aside() -> None:
    documents = Documents()
    for kind in (ResourceKind.ACCESS_KEY, ResourceKind.HOST, ResourceKind.REFUSAL):
        assert documents.of_kind[kind] is not None
        assert kind not in module.KINDS

"""The folder of the bindings can't be written to: full, read-only, over its quota, or its disk is broken. Only the ENIs
whose binding would change are refused, with words; others are enforced as usual, and so is what starts again, as it
would be open otherwise."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.model.state import CloudState
from tests.features.probes import FUSE, require
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.run.failingfs import CHANGES, WRITE, Disk, failing
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.pair import HERE, join

pytestmark = [pytest.mark.daemon]


class Memory:
    """A small folder in memory, which is full, or read-only."""

    def __init__(self, folder: Path, error: int) -> None:
        self._folder, self._error = folder, error

    def spoil(self) -> None:
        if self._error == errno.EROFS:
            subprocess.run(["mount", "-o", "remount,ro", self._folder], check=True)
            return
        with suppress(OSError), open(self._filling, "wb", buffering=0) as file:
            while True:
                file.write(bytes(512))

    def mend(self) -> None:
        if self._error == errno.EROFS:
            subprocess.run(["mount", "-o", "remount,rw", self._folder], check=True)
        else:
            self._filling.unlink()

    @property
    def _filling(self) -> Path:
        return self._folder / ".bindings.json.filling"


class Elsewhere:
    """A folder of another machine, say, which knows quotas and can break."""

    def __init__(self, disk: Disk, error: int) -> None:
        self._disk, self._error = disk, error

    def spoil(self) -> None:
        self._disk.fail(self._error, (WRITE,) if self._error == errno.EDQUOT else CHANGES)

    def mend(self) -> None:
        self._disk.fail(0, ())


@contextmanager
def in_memory(folder: Path, error: int) -> Iterator[Memory]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "record", folder], check=True)
    try:
        yield Memory(folder, error)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def elsewhere(folder: Path, error: int) -> Iterator[Elsewhere]:
    require(FUSE)
    with failing(folder) as disk:
        yield Elsewhere(disk, error)


Place = Memory | Elsewhere
PLACES: list[tuple[str, int, Callable[[Path, int], AbstractContextManager[Place]]]] = [
    ("full", errno.ENOSPC, in_memory),
    ("read-only", errno.EROFS, in_memory),
    ("over-quota", errno.EDQUOT, elsewhere),
    ("broken", errno.EIO, elsewhere),
]


def state_of(port: int) -> CloudState:
    rule = make_rule(f"ingress udp {port}/{port} from 0.0.0.0/0", f"sgr-{port}")
    enis = [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a"), make_eni("eni-b", "10.0.1.2", "sg-a")]
    return make_state([make_group("sg-a", [rule])], enis)


@dataclass
class Scene:
    """`a` is joined to a peer; `b` is a namespace that is made anew. `words`: of the error that `place` gives."""

    agent: AgentBench
    bench: Bench
    place: Place
    words: str
    a: str
    b: str

    def plug_b(self) -> None:
        netns.create(self.b)
        with Links(self.a) as links:
            links.add_veth("tob", self.b, "eth0", "")


@pytest.fixture(
    params=[pytest.param(each, id=each[0], marks=[pytest.mark.optional] * (each[2] is elsewhere)) for each in PLACES]
)
def scene(
    tmp_path: Path,
    make_lab_name: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Iterator[Scene]:
    _, error, placed = request.param
    peer, a, b = (make_lab_name() for _ in range(3))
    folder = tmp_path / "attached"
    folder.mkdir(mode=0o700)
    with ExitStack() as stack:
        place = stack.enter_context(placed(folder, error))
        for name in (peer, a):
            netns.create(name)
            stack.callback(netns.remove, name)
        pair = {"peer": peer, "instance": a}
        join(pair)
        agent = stack.enter_context(agent_in(tmp_path))
        agent.write(state_of(WEB))
        scene = Scene(agent, Bench(pair, 0, tmp_path, lambda: capsys.readouterr().out), place, os.strerror(error), a, b)
        scene.plug_b()
        stack.callback(netns.remove, b)
        assert scene.bench.attach("--netns", a) == 0
        assert scene.bench.attach("--netns", b, eni="eni-b") == 0
        yield scene


def test_only_what_would_be_recorded_is_refused_and_that_is_closed(scene: Scene) -> None:
    agent, words = scene.agent, scene.words
    agent.start()
    assert agent.outcomes() == {"eni-a": "in force", "eni-b": "in force"}
    scene.place.spoil()
    netns.remove(scene.b)
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force", "eni-b": "gone"})
    scene.plug_b()
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force", "eni-b": "refused"})
    status = agent.status()
    (b,) = (eni for eni in status["enis"] if eni["eni"] == "eni-b")
    assert (status["healthy"], words in b["error"], "bindings.json" in b["error"]) == (False, True, True)
    assert words in status["cycle"]["error"]
    agent.wait_for_event("bindings-not-recorded", 1)
    assert (words in agent.events("bindings-not-recorded")[0], agent.events("cycle-incomplete")) == (True, [])
    assert str(WEB) in nft(scene.b, "list ruleset")  # it obeys all the same
    agent.write(state_of(DNS))
    wait_until(lambda: str(DNS) in nft(scene.a, "list ruleset"))
    wait_until(lambda: str(DNS) in nft(scene.b, "list ruleset"))
    scene.place.mend()
    wait_until(lambda: bool(agent.status()["healthy"]))  # by itself
    assert agent.outcomes() == {"eni-a": "in force", "eni-b": "in force"}


def test_commands_say_what_is_wrong_and_change_nothing(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    words, before = scene.words, scene.bench.registry.load()
    scene.place.spoil()
    with Links(scene.a) as links:
        macs = {link.ifname: link.mac for link in links.links()}
    code = scene.bench.attach("--netns", scene.a, "--state", scene.agent.state, "--set-mac", eni="eni-b", ifname="tob")
    assert code == 5  # it is bound elsewhere; the control of the next one
    capsys.readouterr()
    assert scene.bench.sgdp("detach", "--eni", "eni-b") == 3
    said = capsys.readouterr().err
    assert ("internal error" in said, words in said, "bindings.json" in said) == (False, True, True)
    assert scene.bench.registry.load() == before
    with Links(scene.a) as links:
        assert {link.ifname: link.mac for link in links.links()} == macs
    scene.place.mend()
    assert scene.bench.sgdp("detach", "--eni", "eni-b") == 0
    scene.place.spoil()
    arguments = ("--netns", scene.b, "--state", scene.agent.state, "--set-mac")
    with Links(scene.b) as links:
        macs = {link.ifname: link.mac for link in links.links()}
    capsys.readouterr()
    assert scene.bench.attach(*arguments, eni="eni-b") == 3
    said = capsys.readouterr().err
    assert ("internal error" in said, words in said) == (False, True)
    with Links(scene.b) as links:
        assert {link.ifname: link.mac for link in links.links()} == macs
    scene.place.mend()
    assert scene.bench.attach(*arguments, eni="eni-b") == 0

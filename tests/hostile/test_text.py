"""Names are written for a terminal by whoever may choose them: the state's author, and root of a workload's namespace.
Root of the machine reads them at a real one, in a log, in JSON and on a page; none of them does anything there.
"""

from __future__ import annotations

import ctypes
import json
import os
import pty
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from sgdataplane.cli.main import main
from sgdataplane.host.links import Links
from sgdataplane.host.netlink import attribute, nest
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native
from tests.hostile.scene import OURS
from tests.support.inputs.builders import mac_of, make_eni, make_group, make_rule, make_state
from tests.support.kernel import rawnft
from tests.support.kernel.rawnft import In
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import WEB, Bench
from tests.support.scenes.attachhost import state_of

pytestmark = pytest.mark.kernel

CLIPBOARD = "\x1b]52;c;cm0=\x07"  # a terminal puts that into the clipboard
HOSTILE = f"x{CLIPBOARD}\rhealthy\x1b[2K\x08\nerror: forged\u202egnp\u2066\x9b31m\u200b"
COMM = b"\x1b]52;c;aQ==\x07"  # 15 octets are all that a process's name has
TABLE, CHAIN = b"\x1b[2Jx", b"\rhealthy\x1b[K\xff\xe2\x80\xae"
CONNTRACK_MARK, REGISTER = 3, 8
PR_SET_NAME, POSTROUTING = 15, 4
# What `sgdp` itself has a terminal do: colours, and a line of progress. A pty shows each line's end as two characters.
OURS_TO_SAY = re.compile(r"\x1b\[(0|1|2|31|32|33)m|\r\x1b\[K|\r\n")
FORGED = b"\r\nerror: forged"
HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def harm(said: bytes) -> set[str]:
    text = OURS_TO_SAY.sub("", said.decode(errors="surrogateescape"))
    return {char for char in text if unicodedata.category(char) in HARMFUL}


def at_a_terminal(*argv: object) -> bytes:
    """What `sgdp` writes there, to either stream, in a process of its own."""
    child, terminal = pty.fork()
    if child == 0:
        _become_sgdp(*map(str, argv))
    said = b"".join(_read_all(terminal))
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 1, 5), said
    return said


def _become_sgdp(*argv: str) -> NoReturn:
    code = 70
    try:
        os.environ["TERM"] = "xterm"
        os.environ.pop("NO_COLOR", None)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        code = main(argv)
        sys.stdout.flush()
    finally:
        os._exit(code)


def _read_all(terminal: int) -> Iterator[bytes]:
    with suppress(OSError):  # EIO: nobody is at the other end any more
        while part := os.read(terminal, 1 << 16):
            yield part


def must_be_harmless(said: bytes, *, shows: str = "") -> bytes:
    assert harm(said) == set(), said
    assert FORGED not in said
    assert shows in said.decode(errors="replace"), said
    return said


@pytest.fixture(scope="module")
def state() -> CloudState:
    """All of its texts are hostile."""
    rules = [replace(make_rule("ingress tcp 22/22 from 0.0.0.0/0", "sgr-1"), description=HOSTILE)]
    groups = [replace(make_group("sg-a", rules), security_group_name=HOSTILE)]
    enis = [make_eni("eni-a", "10.0.0.2", "sg-a"), make_eni("eni-b", "10.0.0.3", "sg-a")]
    made = make_state(groups, enis)
    return replace(made, instances=tuple(replace(one, instance_name=HOSTILE) for one in made.instances))


@pytest.fixture(scope="module")
def file(state: CloudState, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the state is; that path is hostile, too."""
    folder = tmp_path_factory.mktemp("text") / HOSTILE.replace("/", "")
    folder.mkdir()
    path = folder / "state.yaml"
    path.write_text(dump_native(state), encoding="utf-8")
    return path


FLOW = ("--eni", "eni-a", "--direction", "ingress", "--protocol", "tcp", "--remote", "192.0.2.1", "--port", "22")
READERS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "check": lambda file: ("check", file),
    "check-json": lambda file: ("check", file, "--json"),
    "check-refused": lambda file: ("check", file.parent),
    "compile-policy": lambda file: ("compile", file, "--stage", "policy"),
    "compile-text": lambda file: ("compile", file, "--eni", "eni-a"),
    "compile-refused": lambda file: ("compile", file),
    "compile-files": lambda file: ("compile", file, "-o", file.parent / "rules"),
    "init-refused": lambda file: ("init", file),
    "explain": lambda file: ("explain", file, *FLOW),
    "explain-json": lambda file: ("explain", file, *FLOW, "--json"),
    "diff": lambda file: ("diff", file, file.parent / "other.yaml"),
    "diff-json": lambda file: ("diff", file, file.parent / "other.yaml", "--json"),
    "export": lambda file: ("export", file, "--to", "native"),
    "report": lambda file: ("report", file, "--html", "/dev/stdout"),
}


@pytest.mark.parametrize("columns", ["200", "50"])  # in so few, rich lays the tables out
@pytest.mark.parametrize("verb", READERS)
def test_a_state_is_read(
    file: Path, state: CloudState, verb: str, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shutil.rmtree(file.parent / "rules", ignore_errors=True)
    other = replace(state.security_groups[0], rules=())
    (file.parent / "other.yaml").write_text(dump_native(replace(state, security_groups=(other,))), encoding="utf-8")
    if verb == "check-refused":
        (file.parent / "other.yaml").write_text(f"{json.dumps(HOSTILE)}: [", encoding="utf-8")
    said = at_a_terminal(*READERS[verb](file))
    must_be_harmless(said.replace(FORGED, b"") if verb == "report" else said)  # in HTML a line break is a space


def test_a_lab_has_such_names(file: Path, lab_name: str) -> None:
    name = ("--name", lab_name)
    try:
        must_be_harmless(at_a_terminal("lab", "up", file, *name), shows="healthy")
        must_be_harmless(at_a_terminal("lab", "matrix", *name, "--ports", "tcp/22"), shows="everything")
        _use_marks(f"{lab_name}-i-a")
        must_be_harmless(at_a_terminal("lab", "status", *name), shows="sets the conntrack mark")
        said = must_be_harmless(at_a_terminal("lab", "status", *name, "--json"), shows=f"{lab_name}-i-b")
        assert b"\\\\rhealthy\\\\x1b[K\\\\xff\\\\u202e" in said
        said = at_a_terminal("lab", "exec", "i-a", *name, "--", "printf", "\\033]0;mine\\007")
        assert said == b"\x1b]0;mine\x07"  # a command's own words are its own
    finally:
        must_be_harmless(at_a_terminal("lab", "down", *name))


@pytest.fixture
def agent(bench: Bench) -> Iterator[AgentBench]:
    with agent_in(bench.folder) as agent:
        agent.state = bench.folder / f"{HOSTILE}.yaml"
        agent.configure()
        agent.write(state_of(WEB))
        agent.start()
        yield agent


def test_the_agent_tells_of_what_root_of_a_workload_names(bench: Bench, agent: AgentBench) -> None:
    """The name of a process that changes our rules, and of a chain that it makes; and the state has such a path."""
    _change_rules(bench.place)
    wait_until(lambda: bool(agent.status()["drift"]["last"]))
    socket = ("--config", agent.config)
    said = must_be_harmless(at_a_terminal("status", *socket), shows="]52;c;aQ==\\x07")
    assert b"\\rhealthy\\x1b[K\\xff\\u202e" in said
    document = must_be_harmless(at_a_terminal("status", *socket, "--json")).replace(b"\r\n", b"\n")
    assert COMM.decode() not in json.loads(document)["drift"]["last"]["by"]
    log = agent.log.read_bytes()
    assert b"aQ==" in log
    assert harm(log.replace(b"\n", b"")) == set()


def _use_marks(place: str) -> None:
    theirs = In(TABLE)
    value = rawnft.word(1, REGISTER) + nest(2, [attribute(1, b"\0\0\0\5")])
    marked = rawnft.word(2, CONNTRACK_MARK) + rawnft.word(4, REGISTER)
    rule = [rawnft.expression(b"immediate", value), rawnft.expression(b"ct", marked)]
    rawnft.must_send(place, rawnft.table(TABLE), theirs.base_chain(CHAIN, POSTROUTING, 7), theirs.rule(CHAIN, rule))


def _change_rules(place: str) -> None:
    """By a process of such a name."""
    child = os.fork()
    if child == 0:
        try:
            ctypes.CDLL(None).prctl(PR_SET_NAME, COMM, 0, 0, 0)
            rawnft.must_send(place, In(OURS).chain(CHAIN))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_interface_that_no_policy_knows_is_named(bench: Bench) -> None:
    with Links(bench.pair["peer"]) as links:
        links.add_veth("more", bench.place, "e\x1b[2J\x08\x7f", mac_of("eni-x"))
    with Links(bench.place) as links:
        links.set_up("e\x1b[2J\x08\x7f")
    path = bench.write(state_of(WEB))
    said = at_a_terminal("apply", path, "--bindings", bench.folder / "attached")
    must_be_harmless(said, shows="e\\x1b[2J\\x08\\x7f of")

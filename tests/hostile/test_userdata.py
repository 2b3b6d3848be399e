"""What objects note for user space: the kernel keeps any bytes there. libnftables reads them of every set in the
namespace before it does anything, and uses numbers in them as indices: it crashes, and who has loaded it, too.

So policy is put in force by a process of its own here, that one may see it end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sgdataplane.host.netlink import attribute
from tests.hostile.scene import OURS, must_obey, policy
from tests.support.kernel import rawnft
from tests.support.kernel.nft import nft
from tests.support.kernel.rawnft import In
from tests.support.probes.flood import DEADLINE
from tests.support.run.warminterpreter import WarmInterpreter, warm_interpreter

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).parents[2]
USERDATA, KEY_TYPEOF, EXPRESSION, DATA = 13, 3, 0, 1  # NFTA_SET_USERDATA, NFTNL_UDATA_SET_*
META, SOCKET, HASH, FIB = 9, 10, 22, 25  # nft's numbers of expressions
FAR = 0x7FFFFFF0
APPLYING = "tests.hostile.applying"


def note(number: int, data: bytes) -> bytes:
    return bytes([number, len(data)]) + data


def type_of(kind: int, key: int) -> bytes:
    """A set's keys are what that expression gives."""
    said = note(EXPRESSION, struct.pack("=I", kind)) + note(DATA, note(0, struct.pack("=I", key)))
    return note(KEY_TYPEOF, said)


NOTES: Mapping[str, bytes] = {
    "meta-key": type_of(META, FAR),
    "socket-key": type_of(SOCKET, FAR),
    "hash-key": type_of(HASH, FAR),
    "fib-key": type_of(FIB, FAR),
    "no-end": b"\3\xff",
    "no-notes": bytes(range(1, 256)),
    "nothing": b"\0",
}
CRASHING = ("meta-key", "socket-key", "hash-key", "fib-key")


@pytest.fixture(scope="module")
def interpreter() -> Iterator[WarmInterpreter]:
    with warm_interpreter(ROOT, "tests.hostile.scene", "tests.support.inputs.building") as interpreter:
        yield interpreter


@pytest.fixture
def applied(interpreter: WarmInterpreter, tmp_path: Path) -> Callable[[str], str]:
    """What came of it, in a process that knows nothing of before."""

    def applied(namespace: str) -> str:
        log = tmp_path / "applied"
        log.write_bytes(b"")
        code = interpreter.start(APPLYING, [namespace], log).wait(DEADLINE)
        said = log.read_text("utf-8").strip()
        return said if code == 0 else f"exit code {code}: {said[-300:]}"

    return applied


@pytest.mark.parametrize("table", [OURS, b"other"], ids=["in-our-table", "elsewhere"])
@pytest.mark.parametrize("name", NOTES)
def test_notes_of_a_set_harm_nothing(applied: Callable[[str], str], namespace: str, name: str, table: bytes) -> None:
    assert applied(namespace) == "done"
    more = attribute(USERDATA, NOTES[name])
    rawnft.must_send(namespace, rawnft.table(table), In(table).set(b"plain", rawnft.KEYS["ifname"], more=more))
    assert applied(namespace) == "done"
    must_obey(namespace, policy())


@pytest.mark.optional  # a program may come that isn't harmed, and an older one is by other notes
@pytest.mark.parametrize("name", CRASHING)
def test_the_nft_program_is_harmed(namespace: str, name: str) -> None:
    """Else this module would show nothing."""
    more = attribute(USERDATA, NOTES[name])
    rawnft.must_send(namespace, rawnft.table(b"other"), In(b"other").set(b"a", rawnft.KEYS["ifname"], more=more))
    nft(namespace, "add table inet mine", "add chain inet mine c")
    try:
        nft(namespace, "add rule inet mine c accept")
    except AssertionError:
        return
    pytest.skip("this nft program isn't harmed by that")


@pytest.mark.parametrize("kind", ["chain", "rule", "counter", "map"])
def test_notes_of_other_objects_harm_nothing(applied: Callable[[str], str], namespace: str, kind: str) -> None:
    ours = In(OURS)
    assert applied(namespace) == "done"
    notes = NOTES["no-notes"]
    rawnft.must_send(
        namespace,
        {
            "chain": ours.chain(b"theirs", attribute(12, notes)),
            "rule": ours.rule(b"ingress", [rawnft.immediate(1)], notes),
            "counter": ours.object(b"theirs", rawnft.COUNTER, more=attribute(8, notes)),
            "map": ours.verdict_map(b"theirs", rawnft.KEYS["ipv4"], more=attribute(USERDATA, notes)),
        }[kind],
    )
    assert applied(namespace) == "done"
    must_obey(namespace, policy())

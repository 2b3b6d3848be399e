"""Lists and batches, where the kernel answers."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from sgdataplane.host import netns
from sgdataplane.host.netlink import attribute, text_of
from sgdataplane.host.nfnetlink import BatchError, BatchMessage, Nfnetlink, message_kind
from sgdataplane.nft.ir import Counter, Table
from sgdataplane.nft.messages import Writer
from sgdataplane.nft.uapi import GETCHAIN, GETGEN, SUBSYSTEM
from tests.support.kernel.nft import nft

pytestmark = pytest.mark.kernel
NEWTABLE, DELTABLE = message_kind(SUBSYSTEM, 0), message_kind(SUBSYSTEM, 2)
INET, GEN_ID = 1, 1


@pytest.fixture
def door(namespace: str) -> Iterator[Nfnetlink]:
    with netns.inside(namespace), Nfnetlink() as door:
        yield door


def table(name: str, kind: int = NEWTABLE) -> BatchMessage:
    return BatchMessage(kind, INET, attribute(1, name.encode() + b"\0"))


def generation(door: Nfnetlink) -> int:
    return int.from_bytes(door.ask(message_kind(SUBSYSTEM, GETGEN))[GEN_ID], "big")


def test_who_leaves_a_list_early_may_ask_on(namespace: str, door: Nfnetlink) -> None:
    nft(namespace, "add table inet t", *(f"add chain inet t c{number}" for number in range(2000)))
    entries = door.entries(message_kind(SUBSYSTEM, GETCHAIN), INET)
    next(entries)
    entries.close()
    found = {text_of(entry[3]) for _, entry in door.dump(message_kind(SUBSYSTEM, GETCHAIN), INET)}
    assert len(found) == 2000  # of the same namespace
    door.commit(SUBSYSTEM, [table("t", DELTABLE)])
    assert nft(namespace, "list tables") == ""


def test_a_batch_is_taken_whole_or_not_at_all(namespace: str, door: Nfnetlink) -> None:
    before = generation(door)
    with pytest.raises(BatchError) as caught:
        door.commit(SUBSYSTEM, [table("a"), table("missing", DELTABLE), table("b"), table("gone", DELTABLE)])
    assert (caught.value.errno, caught.value.index) == (errno.ENOENT, 1)
    assert (nft(namespace, "list tables"), generation(door)) == ("", before)
    door.commit(SUBSYSTEM, [table("a"), table("b")])
    assert (nft(namespace, "list tables").split(), generation(door)) == (
        ["table", "inet", "a", "table", "inet", "b"],
        before + 1,
    )


def test_an_error_is_about_the_place_that_a_message_has_in_its_batch(namespace: str, door: Nfnetlink) -> None:
    one, other, missing = table("a"), table("b"), table("missing", DELTABLE)
    for number, batch in enumerate(([missing, one, other], [one, missing, other], [one, other, missing])):
        with pytest.raises(BatchError) as caught:
            door.commit(SUBSYSTEM, batch)
        assert (caught.value.errno, caught.value.index) == (errno.ENOENT, number)
    door.commit(SUBSYSTEM, [one, other])
    assert nft(namespace, "list tables").split()[2::3] == ["a", "b"]


def test_a_batch_is_of_its_generation(namespace: str, door: Nfnetlink) -> None:
    before = generation(door)
    nft(namespace, "add table inet other")
    with pytest.raises(BatchError) as caught:
        door.commit(SUBSYSTEM, [table("a")], before)
    assert (caught.value.errno, caught.value.index) == (errno.ERESTART, -1)
    door.commit(SUBSYSTEM, [table("a")], generation(door))
    assert "table inet a" in nft(namespace, "list tables")


def test_a_trial_changes_nothing(namespace: str, door: Nfnetlink) -> None:
    before = generation(door)
    door.commit(SUBSYSTEM, [table("a")], is_trial=True)
    with pytest.raises(BatchError):
        door.commit(SUBSYSTEM, [table("a"), table("missing", DELTABLE)], is_trial=True)
    assert (nft(namespace, "list tables"), generation(door)) == ("", before)


def test_a_batch_may_be_larger_than_a_socket_has_room_for(namespace: str, door: Nfnetlink) -> None:
    writer, there = Writer(), Table("t")
    counters = (writer.add_counter(there, Counter(f"c{number}" + "x" * 100)) for number in range(5_000))
    door.commit(SUBSYSTEM, [message for part in (writer.add_table(there), *counters) for message in part])
    assert nft(namespace, "list counters").count("counter c") == 5_000


def test_of_very_many_errors_the_first_is_told(namespace: str, door: Nfnetlink) -> None:
    with pytest.raises(BatchError) as caught:
        door.commit(SUBSYSTEM, [table("a"), *(table(f"missing{number}", DELTABLE) for number in range(5_000))])
    assert (caught.value.errno, caught.value.index) == (errno.ENOENT, 1)
    door.commit(SUBSYSTEM, [table("a")])
    assert nft(namespace, "list tables") == "table inet a\n"

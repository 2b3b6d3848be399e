"""Messages about commits are put together into commits, one namespace apart from another."""

from __future__ import annotations

import struct

import pytest

from sgdataplane.host.netlink import attribute, parse_attributes
from sgdataplane.host.nfnetlink import GENMSG
from sgdataplane.nft import commits as module
from sgdataplane.nft.commits import MAX_KINDS, Commit, CommitReader

INET, NETDEV, IP = 1, 5, 2
NEWTABLE, DELTABLE, NEWCHAIN, DELRULE, NEWGEN = 0, 2, 3, 8, 15


def message(kind: int, *names: tuple[int, str], family: int = INET, table: str = "ours") -> tuple[int, bytes]:
    texts = ((1, table), *names)
    return 10 << 8 | kind, GENMSG.pack(family, 0, 0) + b"".join(attribute(k, f"{v}\0".encode()) for k, v in texts)


def end(process: int = 7) -> tuple[int, bytes]:
    numbers = attribute(1, struct.pack("!I", 3)) + attribute(2, struct.pack("!I", process))
    return 10 << 8 | NEWGEN, GENMSG.pack(0, 0, 0) + numbers + attribute(3, b"nft\0")


def commits(*messages: tuple[int, bytes]) -> list[Commit]:
    reader = CommitReader("ours")
    return [commit for kind, payload in messages for commit in reader.read(0, kind, payload)]


def test_a_commit_is_told_at_its_end_with_what_it_changed() -> None:
    rule = message(DELRULE, (2, "egress"))
    (found,) = commits(message(NEWCHAIN, (3, "mine")), rule, rule, end())
    assert found == Commit(0, 7, "nft", (("chain added: mine", 1), ("rule deleted: egress", 2)), 3)
    assert found.summary == "chain added: mine, rule deleted: egress (2x)"


def test_other_tables_are_no_change_of_ours() -> None:
    assert commits(message(NEWTABLE, table="other"), message(NEWTABLE, family=IP), end()) == []
    assert len(commits(message(NEWTABLE, family=NETDEV), end())) == 1


def test_each_commit_is_told_by_itself() -> None:
    found = commits(message(NEWTABLE), end(7), end(8), message(DELTABLE), end(9))
    assert [(commit.process, commit.changes) for commit in found] == [
        (7, (("table added", 1),)),
        (9, (("table deleted", 1),)),
    ]


def test_own_commits_are_neither_told_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, read = CommitReader("ours", own={7}), list[bytes]()

    def noted(data: bytes) -> dict[int, bytes]:
        read.append(data)
        return parse_attributes(data)

    monkeypatch.setattr(module, "parse_attributes", noted)
    for owner, told in ((7, 0), (8, 1)):
        read.clear()
        messages = message(NEWTABLE), message(NEWCHAIN, (3, "mine")), end(owner)
        found = [commit for kind, payload in messages for commit in reader.read(0, kind, payload)]
        assert (len(found), len(read)) == (told, 1 + 2 * told)


def test_very_large_commit_is_counted_as_it_comes_and_told_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNREAD", 1000)
    reader = CommitReader("ours")
    for _ in range(300):
        assert list(reader.read(0, *message(DELRULE, (2, "egress")))) == []
        assert reader._open[0].size <= 1000
    (found,) = reader.read(0, *end())
    assert found.changes == (("rule deleted: egress", 300),)


def test_namespaces_do_not_mix() -> None:
    reader = CommitReader("ours")
    assert list(reader.read(0, *message(NEWTABLE))) == []
    assert list(reader.read(1, *end())) == []
    assert [commit.number for commit in reader.read(0, *end())] == [0]


def test_what_was_lost_in_part_is_dropped() -> None:
    reader = CommitReader("ours")
    list(reader.read(0, *message(NEWTABLE)))
    reader.forget()
    assert list(reader.read(0, *end())) == []


def test_a_large_commit_is_bounded_and_a_deleted_table_is_told_alone() -> None:
    many = [message(NEWCHAIN, (3, str(number))) for number in range(3 * MAX_KINDS)]
    (found,) = commits(*many, end())
    assert len(found.changes) == MAX_KINDS
    assert found.summary.endswith(f"and {MAX_KINDS - 6} more kinds")
    (found,) = commits(*many, message(DELTABLE), end())
    assert found.summary == "table deleted"

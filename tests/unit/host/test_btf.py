"""What a kernel says of its structs, read from BTF that is made here, cut off, or damaged."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from sgdataplane.host import btf
from sgdataplane.nft.kernel import NetlinkKernel

INT, POINTER, STRUCT, TYPEDEF, FUNC_PROTO, DATASEC, ENUM64 = 1, 2, 4, 8, 13, 15, 19


class Names:
    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, name: str) -> int:
        self.data += name.encode() + b"\0"
        return len(self.data) - len(name) - 1


def made(structs: Mapping[str, tuple[str, ...]], magic: int = btf.MAGIC) -> bytes:
    """BTF with types of several kinds before each struct."""
    names, types = Names(), b""
    for name, members in structs.items():
        types += struct.pack("=IIII", names.add("int"), INT << 24, 4, 32)
        types += struct.pack("=III", 0, POINTER << 24, 1)
        types += struct.pack("=III", names.add(f"{name}_t"), TYPEDEF << 24, 1)
        types += struct.pack("=III", 0, FUNC_PROTO << 24 | 2, 1) + struct.pack("=II", 0, 1) * 2
        types += struct.pack("=III", names.add(".data"), DATASEC << 24 | 1, 4) + struct.pack("=III", 1, 0, 4)
        types += struct.pack("=III", names.add("e"), ENUM64 << 24 | 1, 8) + struct.pack("=III", names.add("ONE"), 1, 0)
        types += struct.pack("=III", names.add(name), STRUCT << 24 | len(members), 8)
        types += b"".join(struct.pack("=III", names.add(member), 1, 0) for member in members)
    header = btf.HEADER.pack(magic, 1, 0, btf.HEADER.size, 0, len(types), len(types), len(names.data))
    return header + types + names.data


OLD, NEW = {"other": ("base_seq",), "netns_nftables": ("gencursor",)}, {"netns_nftables": ("gencursor", "base_seq")}


def written(folder: Path, data: bytes) -> Path:
    path = folder / f"vmlinux-{len(list(folder.iterdir()))}"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("structs", [OLD, NEW])
def test_members_are_those_of_that_struct(tmp_path: Path, structs: dict[str, tuple[str, ...]]) -> None:
    path = written(tmp_path, made(structs))
    assert btf.members("netns_nftables", path) == frozenset(structs["netns_nftables"])
    assert btf.members("gone", path) is None


def test_a_kernel_that_says_nothing_is_unknown(tmp_path: Path) -> None:
    other_order = struct.pack(">H", btf.MAGIC) + made(NEW)[2:]
    for path in (tmp_path / "none", written(tmp_path, b""), written(tmp_path, other_order)):
        assert btf.members("netns_nftables", path) is None


def test_cut_off_or_damaged_data_says_nothing_else(tmp_path: Path) -> None:
    """Never an exception, and never more than the file says."""
    whole, chance = made(NEW), random.Random("damage")
    cut = [whole[:size] for size in range(0, len(whole), 7)]
    damaged = [bytes(chance.randrange(256) if chance.random() < 0.05 else byte for byte in whole) for _ in range(200)]
    for data in (*cut, *damaged):
        btf.members("netns_nftables", written(tmp_path, data))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param(frozenset({"gencursor", "base_seq"}), False, id="it-looks-again"),
        pytest.param(frozenset({"gencursor"}), True, id="it-misses"),
        pytest.param(None, True, id="unknown"),
    ],
)
def test_look_ups_may_miss_unless_the_kernel_is_known_to_look_again(
    monkeypatch: pytest.MonkeyPatch, known: frozenset[str] | None, expected: bool
) -> None:
    monkeypatch.setattr("sgdataplane.host.btf.members", {"netns_nftables": known}.get)
    assert NetlinkKernel.may_miss(NetlinkKernel.__new__(NetlinkKernel)) is expected


@pytest.mark.skipif(not btf.VMLINUX.exists(), reason="this kernel has no BTF")
def test_this_kernel_says_what_every_kernel_has() -> None:
    assert "gencursor" in (btf.members("netns_nftables") or ())

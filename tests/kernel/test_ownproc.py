"""Settings are read and written through a mount of our own, in the calling thread's namespace, or through the machine's
where none is allowed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.errors import HostError
from sgdataplane.host import netns, ownproc, sysctl

pytestmark = pytest.mark.kernel
LIMIT = "ipv4/ipfrag_high_thresh"  # each namespace has its own


@pytest.fixture
def names(lab_name: str) -> Iterator[tuple[str, str]]:
    made = (f"{lab_name}a", f"{lab_name}b")
    for name in made:
        netns.create(name)
    yield made
    for name in made:
        netns.remove(name)


@pytest.fixture(params=["ours", "machine's"])
def is_ours(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether this kernel lets us mount a /proc."""
    monkeypatch.setattr(ownproc, "_MOUNT", ownproc._Mount())
    if request.param == "ours":
        return True

    def refuse() -> int:
        raise PermissionError

    monkeypatch.setattr(ownproc, "_mount", refuse)
    return False


def read_by_machine(name: str) -> str:
    with netns.inside(name):
        return Path("/proc/sys/net", LIMIT).read_text("ascii").strip()


def test_each_namespace_has_its_own_value(names: tuple[str, str], is_ours: bool) -> None:
    for number, name in enumerate(names):
        with netns.inside(name):
            sysctl.write(LIMIT, str(5_000_000 + number))
    for number, name in enumerate(names):
        with netns.inside(name):
            assert sysctl.read_number(LIMIT) == 5_000_000 + number
        assert read_by_machine(name) == str(5_000_000 + number)
    assert is_ours == (os.fstat(_folder()).st_dev != os.stat("/proc").st_dev)


def _folder() -> int:
    found = ownproc._MOUNT._fd
    assert found is not None
    return found


@pytest.mark.usefixtures("is_ours")
def test_mounts_are_replaced_and_nothing_stays_open(names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownproc, "FILES", 3)
    with netns.inside(names[0]):
        sysctl.write(LIMIT, "5000000")
        before = len(os.listdir("/proc/self/fd"))
        assert {sysctl.read(LIMIT) for _ in range(20)} == {"5000000"}
        assert len(os.listdir("/proc/self/fd")) <= before  # sockets of an earlier test may be closed meanwhile


@pytest.mark.usefixtures("is_ours")
def test_what_is_not_there_is_told(names: tuple[str, str]) -> None:
    with netns.inside(names[0]):
        assert sysctl.number_if_there("ipv4/no_such_setting") is None
        assert sysctl.number_if_there(LIMIT) is not None
        with pytest.raises(HostError, match="sysctl net/ipv4/no_such_setting"):
            sysctl.read("ipv4/no_such_setting")
        with pytest.raises(HostError, match=f"sysctl net/{LIMIT}=many"):
            sysctl.write(LIMIT, "many")

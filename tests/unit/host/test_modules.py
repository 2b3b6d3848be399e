"""A fake kernel whose connection tracking is a module: a question loads it, or fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from sgdataplane.errors import HostError, KernelError, PrivilegeError, UnsupportedError
from sgdataplane.host import conntrack, marks, modules, sysctl
from sgdataplane.host.modules import COUNT, NFTABLES, TRACKING
from sgdataplane.host.timeouts import set_timeouts
from sgdataplane.observe.capacity import TableUse, read_table_use
from tests.support.kernel.conntrack import tuple_of
from tests.support.models.trackers import LINUX_6_12

NOTHING = TableUse(entries=0, limit=0, dropped=0, evicted=0, insert_failed=0)


class ModularKernel:
    """Answers only what it was asked before everything else. `refusal`: the error number of its answer; 0: it loads the
    module."""

    def __init__(self, settings: Path, refusal: int) -> None:
        self._settings, self._refusal = settings, refusal
        self.asked: list[int] = []

    def __call__(self) -> ModularKernel:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass

    def ask(self, kind: int) -> dict[int, bytes]:
        self.asked.append(kind)
        if self._refusal:
            raise OSError(self._refusal, os.strerror(self._refusal))
        self._settings.mkdir()
        for name, seconds in LINUX_6_12.items():
            (self._settings / name).write_text(f"{seconds}\n", "ascii")
        return {}


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has asked for no module yet."""
    monkeypatch.setattr(modules, "_ANSWERED", set())


@pytest.fixture
def make_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], ModularKernel]:
    """Makes a kernel without modules, and so without their settings."""

    def make(refusal: int = 0) -> ModularKernel:
        kernel = ModularKernel(tmp_path / "netfilter", refusal)
        monkeypatch.setattr(sysctl, "ROOT", str(tmp_path))
        for module in ("host.modules", "host.conntrack", "host.marks", "observe.capacity"):
            monkeypatch.setattr(f"sgdataplane.{module}.Nfnetlink", kernel)
        return kernel

    return make


def test_timeouts_are_set_once_the_kernel_was_asked_for_the_module(
    make_kernel: Callable[..., ModularKernel],
) -> None:
    kernel = make_kernel()
    set_timeouts()
    assert kernel.asked == [TRACKING.question]
    assert sysctl.read("netfilter/nf_conntrack_tcp_timeout_established") == "910"


@pytest.mark.parametrize("subsystem", [TRACKING, NFTABLES], ids=lambda found: found.module)
def test_a_module_that_does_not_come_is_named_with_what_loads_it(
    make_kernel: Callable[[int], ModularKernel], subsystem: modules.Subsystem
) -> None:
    make_kernel(errno.EINVAL)
    with pytest.raises(UnsupportedError) as found:
        modules.require(subsystem)
    for part in (subsystem.feature, f"`modprobe {subsystem.module}`", "/usr/lib/modules-load.d/sgdataplane.conf"):
        assert part in str(found.value)


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        pytest.param(errno.EPERM, PrivilegeError, "CAP_NET_ADMIN", id="may-not-ask"),
        pytest.param(errno.ENOMEM, HostError, "connection tracking: Cannot allocate memory", id="no-memory"),
    ],
)
def test_another_refusal_is_told_as_what_it_is(
    make_kernel: Callable[[int], ModularKernel], refusal: int, kind: type[Exception], words: str
) -> None:
    make_kernel(refusal)
    with pytest.raises(kind, match=words):
        set_timeouts()


READERS: dict[str, tuple[Callable[[], object], object]] = {
    "sessions": (conntrack.list_tracked, []),
    "table": (read_table_use, NOTHING),
    "marks": (lambda: marks.clear_mark_fields((0xFF,), range(9)), 0),
    "forgotten": (lambda: conntrack.forget(tuple_of("10.0.0.1/1 10.0.0.2/2")), None),
}


@pytest.mark.parametrize("reader", READERS)
def test_where_nothing_is_tracked_there_are_no_sessions(
    make_kernel: Callable[[int], ModularKernel], reader: str
) -> None:
    kernel = make_kernel(errno.EINVAL)
    read, nothing = READERS[reader]
    assert read() == nothing
    assert kernel.asked == [TRACKING.question]


@pytest.mark.parametrize("reader", READERS)
def test_that_what_is_tracked_cannot_be_read_is_an_error(
    make_kernel: Callable[[int], ModularKernel], tmp_path: Path, reader: str
) -> None:
    """nf_conntrack is loaded, since nftables needed it, and nf_conntrack_netlink is missing."""
    make_kernel(errno.EINVAL)
    (tmp_path / COUNT).parent.mkdir()
    (tmp_path / COUNT).write_text("7\n", "ascii")
    with pytest.raises(KernelError, match="nf_conntrack_netlink"):
        READERS[reader][0]()


def test_a_kernel_without_any_of_it_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

    monkeypatch.setattr("sgdataplane.host.nfnetlink.socket.socket", refuse)
    with pytest.raises(UnsupportedError, match="`modprobe nfnetlink`"):
        modules.require(TRACKING)

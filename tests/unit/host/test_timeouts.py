"""Each state of each tracker gets the timeout in the specification, on the kernels that users have."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.errors import HostError
from sgdataplane.host import sysctl, timeouts
from sgdataplane.host.timeouts import (
    KERNELS_OWN,
    SPECIFIED,
    Trackers,
    describe_unknown_timeouts,
    list_wanted,
    set_timeouts,
)
from tests.support.models.trackers import BESIDE, KERNELS, LINUX_6_1, LINUX_6_12, LINUX_6_18

# semantics.md, section 4, written down once more: what each is after an apply, where the kernel has it.
TCP = {
    "nf_conntrack_tcp_timeout_established": 910,
    "nf_conntrack_tcp_timeout_close": 3,
    "nf_conntrack_tcp_timeout_time_wait": 3,
    "nf_conntrack_tcp_timeout_syn_sent": 120,
    "nf_conntrack_tcp_timeout_syn_recv": 60,
    "nf_conntrack_tcp_timeout_fin_wait": 120,
    "nf_conntrack_tcp_timeout_close_wait": 60,
    "nf_conntrack_tcp_timeout_last_ack": 30,
    "nf_conntrack_tcp_timeout_max_retrans": 300,
    "nf_conntrack_tcp_timeout_unacknowledged": 300,
}
SHORT_SCTP = {
    "nf_conntrack_sctp_timeout_closed": 10,
    "nf_conntrack_sctp_timeout_cookie_wait": 3,
    "nf_conntrack_sctp_timeout_cookie_echoed": 3,
    "nf_conntrack_sctp_timeout_shutdown_ack_sent": 3,
}
SHUTDOWN = ("nf_conntrack_sctp_timeout_shutdown_sent", "nf_conntrack_sctp_timeout_shutdown_recd")
NOT_A_TRACKER, STRANGE = "nf_conntrack_frag6_timeout", "nf_conntrack_quic_timeout_open"


def trackers_of(kernel: dict[str, int]) -> dict[str, int]:
    return {name: seconds for name, seconds in kernel.items() if name not in BESIDE}


@pytest.mark.parametrize("release", KERNELS)
def test_each_state_gets_its_protocols_timeout(release: str) -> None:
    found = trackers_of(dict(KERNELS[release]))
    short = TCP | SHORT_SCTP | {name: found[name] for name in SHUTDOWN}
    assert list_wanted(found) == {name: short.get(name, 30) for name in found}


@pytest.mark.parametrize(("release", "untracked"), [("6.1", ()), ("6.12", ()), ("6.18", ("dccp",))])
def test_kernels_have_no_tracker_that_we_do_not_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, release: str, untracked: tuple[str, ...]
) -> None:
    imitate(monkeypatch, tmp_path, dict(KERNELS[release]))
    assert set_timeouts() == Trackers(untracked, ())
    assert sysctl.read_number(f"netfilter/{NOT_A_TRACKER}") == 60


def test_each_name_that_we_know_is_some_kernels() -> None:
    assert SPECIFIED.keys() | KERNELS_OWN.keys() == trackers_of({**LINUX_6_18, **LINUX_6_12, **LINUX_6_1}).keys()


@pytest.mark.parametrize("scale", [0.001, 0.1, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("release", KERNELS)
def test_no_state_outlives_the_longest_and_twice_is_once(release: str, scale: float) -> None:
    found = trackers_of(dict(KERNELS[release]) | {STRANGE: 432000})
    once = list_wanted(found, scale)
    assert max(once.values()) == max(1, round(910 * scale))
    assert max(seconds for name, seconds in once.items() if "_tcp_" not in name) == max(1, round(30 * scale))
    assert list_wanted(once, scale) == once


@pytest.mark.parametrize(
    ("name", "scale", "seconds"),
    [
        ("nf_conntrack_tcp_timeout_syn_sent", 0.1, 12),
        ("nf_conntrack_tcp_timeout_syn_sent", 2.0, 240),
        ("nf_conntrack_sctp_timeout_cookie_wait", 2.0, 6),
        ("nf_conntrack_sctp_timeout_established", 2.0, 60),
        ("nf_conntrack_dccp_timeout_request", 0.1, 3),
        ("nf_conntrack_dccp_timeout_closing", 2.0, 60),
        ("nf_conntrack_udp_timeout_stream", 0.01, 1),
    ],
)
def test_all_timeouts_are_scaled(name: str, scale: float, seconds: int) -> None:
    assert list_wanted({name: LINUX_6_12[name]}, scale) == {name: seconds}


@pytest.mark.parametrize(
    ("name", "found", "seconds"),
    [
        pytest.param("nf_conntrack_tcp_timeout_syn_sent", 20, 20, id="an-opening-one-that-is-shorter-stays"),
        pytest.param("nf_conntrack_tcp_timeout_syn_sent", 5000, 910, id="one-that-is-longer-is-lowered"),
        pytest.param("nf_conntrack_sctp_timeout_cookie_wait", 5000, 30, id="to-its-own-protocols-limit"),
        pytest.param("nf_conntrack_tcp_timeout_established", 20, 910, id="a-session-has-what-is-specified"),
        pytest.param(STRANGE, 5000, 30, id="an-unknown-one-is-bounded"),
        pytest.param(STRANGE, 20, 20, id="and-never-raised"),
        pytest.param("nf_conntrack_tcp_timeout_odd", 5000, 30, id="so-is-an-unknown-state-of-a-known-one"),
    ],
)
def test_what_is_lowered_and_what_is_set(name: str, found: int, seconds: int) -> None:
    assert list_wanted({name: found}) == {name: seconds}


def imitate(monkeypatch: pytest.MonkeyPatch, root: Path, settings: dict[str, int]) -> None:
    """A kernel with these settings and all modules loaded."""
    (root / "netfilter").mkdir()
    for name, seconds in settings.items():
        (root / "netfilter" / name).write_text(f"{seconds}\n", "ascii")
    monkeypatch.setattr(sysctl, "ROOT", str(root))
    monkeypatch.setattr(timeouts, "require", lambda _: None)


@pytest.mark.parametrize(("scale", "tcp", "udp"), [(1.0, 30, 10), (0.1, 30, 1), (0.01, 3, 1)])
def test_a_session_that_a_flowtable_gives_back_has_time_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scale: float, tcp: int, udp: int
) -> None:
    """A flowtable's own timeout is at most a third of the session's; the kernel counts in whole seconds."""
    imitate(monkeypatch, tmp_path, dict(LINUX_6_18))
    set_timeouts(scale)
    found = [sysctl.read_number(f"netfilter/nf_flowtable_{kind}_timeout") for kind in ("tcp", "udp")]
    assert found == [tcp, udp]


def test_an_unknown_tracker_is_bounded_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = (STRANGE, "nf_conntrack_two_words_timeout")
    imitate(monkeypatch, tmp_path, {**LINUX_6_18, **dict.fromkeys(names, 5000)})
    assert set_timeouts(0.1) == Trackers(("dccp",), names)
    assert [sysctl.read_number(f"netfilter/{name}") for name in names] == [3, 3]
    words = "this kernel has conntrack timeouts that sgdp doesn't know, limited to 3 s: "
    assert describe_unknown_timeouts(names, 0.1) == words + ", ".join(names)
    assert describe_unknown_timeouts(()) == ""


def test_a_timeout_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    imitate(monkeypatch, tmp_path, dict(LINUX_6_18))
    (tmp_path / "netfilter" / STRANGE).write_text("1 2 3\n", "ascii")
    with pytest.raises(HostError, match=rf"{STRANGE}: expected a whole number, found '1 2 3'"):
        set_timeouts()

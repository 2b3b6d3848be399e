"""Conntrack follows the router that needs most; what is too small is told, and what was done is logged once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sgdataplane.attach.report import HostReport, NamespaceReport
from sgdataplane.daemon.sessioncapacity import SessionCapacity, sessions_of
from sgdataplane.enforce import Desired, Proven, build
from sgdataplane.host.conntracksize import BUCKETS, LIMIT, affordable
from sgdataplane.model.options import Options, Placement
from tests.support.inputs.builders import make_eni, make_group, make_state

GIB = 1 << 30
PER_ENI = 300  # of a limit of 100


def proven(enis: int, limit: int, placement: Placement = Placement.HOST) -> Proven:
    ids = [f"eni-{number}" for number in range(enis)]
    state = make_state([make_group("sg-0", [])], [make_eni(i, f"10.0.0.{n + 1}", "sg-0") for n, i in enumerate(ids)])
    interfaces = {eni_id: f"h{number}" for number, eni_id in enumerate(ids)}
    return build(Desired(state, interfaces, Options(sessions_per_eni=limit), placement))


def host(routers: Mapping[str, int], limit: int = 100, placement: Placement = Placement.HOST) -> HostReport:
    """These routers, each with so many ENIs."""
    found = [NamespaceReport(name, (), proven(enis, limit, placement)) for name, enis in routers.items()]
    return HostReport(tuple(found))


class Machine:
    """Its settings, in a folder."""

    def __init__(self, folder: Path, limit: int, memory: int = GIB) -> None:
        self.folder = folder
        for name in (LIMIT, BUCKETS):
            (folder / name).write_text(f"{limit}\n", "ascii")
        self.capacity = SessionCapacity(folder, lambda: memory)

    @property
    def sizes(self) -> tuple[int, int]:
        limit, buckets = (int((self.folder / name).read_text("ascii")) for name in (LIMIT, BUCKETS))
        return limit, buckets


@pytest.fixture
def machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Machine:
    caplog.set_level("INFO", "sgdataplane")
    return Machine(tmp_path, 512)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "conntrack-" in record.getMessage()]


def test_an_eni_may_hold_half_as_many_more_as_both_its_limits_say() -> None:
    assert sessions_of(1, 32_768) == 98_304
    assert sessions_of(3, 100) == 3 * PER_ENI


def test_the_fullest_router_decides_and_it_is_logged_once(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    routers = host({"sgdp-vpc-a": 1, "sgdp-vpc-b": 3})
    for _ in range(3):
        assert machine.capacity.follow(routers, "auto") == ()
    assert machine.sizes == (1024, 1024)  # 900, and not 1,200
    assert lines(caplog) == ["conntrack-raised max_before=512 buckets_before=512 max=1024 buckets=1024"]


def test_it_is_never_lowered(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.capacity.follow(host({"sgdp-vpc-a": 3}), "auto")
    machine.capacity.follow(host({"sgdp-vpc-a": 1}), "auto")
    machine.capacity.follow(host({}), "auto")
    assert machine.sizes == (1024, 1024)
    assert len(lines(caplog)) == 1


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(None, id="a-cycle-that-failed"),
        pytest.param(host({"sgdp-vpc-a": 9}, limit=0), id="no-limit"),
        pytest.param(host({"container w": 9}, placement=Placement.INSTANCE), id="instance-placement"),
        pytest.param(host({"sgdp-vpc-a": 0}), id="no-eni"),
        pytest.param(HostReport((NamespaceReport("sgdp-vpc-a", ()),)), id="nothing-in-force"),
        pytest.param(host({"sgdp-vpc-a": 1}), id="enough"),
    ],
)
def test_nothing_is_raised_without_need(
    machine: Machine, report: HostReport | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert machine.capacity.follow(report, "auto") == ()
    assert (machine.sizes, lines(caplog)) == ((512, 512), [])


def test_kept_it_stays_and_the_router_that_needs_more_is_told(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    (line,) = machine.capacity.follow(host({"sgdp-vpc-a": 1, "sgdp-vpc-b": 3}), "keep")
    assert line == (
        "sgdp-vpc-b: its ENIs may hold 900 sessions together, and conntrack takes 512 of them: raise "
        "net.netfilter.nf_conntrack_max, or lower sessions_per_eni"
    )
    assert (machine.sizes, lines(caplog)) == ((512, 512), [])


def test_memory_bounds_it_and_what_does_not_fit_is_told(tmp_path: Path) -> None:
    memory = 16 << 20
    machine = Machine(tmp_path, 512, memory)
    (line,) = machine.capacity.follow(host({"sgdp-vpc-a": 30}), "auto")
    most = affordable(memory)
    assert 512 < most < 30 * PER_ENI
    assert f"may hold 9,000 sessions together, and conntrack takes {most:,} of them" in line
    assert machine.sizes == (most, most)


def test_a_refusal_is_told_once_and_stops_nothing(
    machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "write_text", refused)
    for _ in range(3):
        (line,) = machine.capacity.follow(host({"sgdp-vpc-a": 3}), "auto")
        assert "takes 512 of them" in line
    (said,) = lines(caplog)
    assert said.startswith("conntrack-not-raised error=")
    assert "Operation not permitted" in said
    monkeypatch.undo()
    assert machine.capacity.follow(host({"sgdp-vpc-a": 3}), "auto") == ()
    assert machine.sizes == (1024, 1024)


def test_where_the_kernel_tracks_nothing_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert SessionCapacity(tmp_path).follow(host({"sgdp-vpc-a": 3}), "auto") == ()
    assert lines(caplog) == []

"""`sgdp sessions` of a lab whose timeouts are scaled, and of very many sessions."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import pytest

from sgdataplane.contract.sites import SITES
from sgdataplane.host.conntrack import SessionTuple
from sgdataplane.lab import manage
from sgdataplane.lab.manage import enforce_policy
from sgdataplane.net.values import TCP, Address, Direction
from tests.support import labs
from tests.support.conntrack import fill
from tests.support.ends import Ends
from tests.traffic.test_sessions import STATE, A, port_of, said, sessions

pytestmark = pytest.mark.traffic


def test_a_scaled_lab_says_so(lab_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    record = replace(labs.record_of(lab_name), time_scale=0.1)
    manage.up(record, STATE, enforce_policy)
    try:
        ends = Ends(lab_name, ExitStack())
        with ends.stack:
            ends.tcp("ext-198.51.100.7", A, 22, ends.listen("i-a", A, 22))
            (session,) = sessions(capsys, lab_name)
            assert session["time_scale"] == 0.1
            assert 60 < session["seconds_left"] <= 91
            assert said(capsys, lab_name).splitlines()[0] == "timeouts times 0.1"
    finally:
        manage.down(lab_name)


@pytest.mark.parametrize(
    ("count", "seconds"),
    [pytest.param(2_000, 5.0, id="2000"), pytest.param(100_000, 20.0, marks=pytest.mark.slow, id="100000")],
)
def test_many_sessions_are_printed_in_seconds(
    lab_name: str, capsys: pytest.CaptureFixture[str], placement: str, count: int, seconds: float
) -> None:
    """Two thirds of the sessions have a remote of their own, a third is revoked. (4 s for 100,000 on two busy
    cores.)"""
    local, first = Address.parse(A), Address.parse("100.64.0.0").value
    ports = (22, 8080, 23)
    with labs.running(lab_name, STATE, enforce_policy, placement=placement) as running:
        (entry,) = (entry for entry in running.enforced if "eni-a" in entry.desired.interfaces)
        many = (SessionTuple(TCP, Address(32, first + n), local, 1024 + n % 60000, ports[n % 3]) for n in range(count))
        marks, ifnames = SITES[entry.desired.placement].marks, entry.desired.interfaces
        fill(entry.netns, many, marks.accepted(Direction.INGRESS, 1, marks.slots(ifnames.values())[ifnames["eni-a"]]))
        spent = [time.monotonic()]
        table = said(capsys, lab_name)
        spent.append(time.monotonic())
        found = sessions(capsys, lab_name)
        spent.append(time.monotonic())
    assert max(after - before for before, after in pairwise(spent)) < seconds, spent
    assert len(table.splitlines()) == count + 2
    assert len({session["remote"] for session in found}) == count
    assert {(port_of(session), session["security_group_rule_id"], session["verdict"]) for session in found} == {
        (22, "sgr-ssh", "accept"),
        (8080, "sgr-alt", "accept"),
        (23, None, "drop"),
    }

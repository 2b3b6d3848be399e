"""`sgdp sessions` of a lab whose timeouts are scaled, and of very many sessions."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace

import pytest

from sgdataplane.contract.sites import SITES
from sgdataplane.host.conntrack import SessionTuple
from sgdataplane.lab import manage
from sgdataplane.net.values import TCP, Address, Direction
from tests.support.kernel.conntrack import fill
from tests.support.probes.ends import Ends
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy
from tests.traffic.test_sessions import STATE, A, port_of, said, sessions

pytestmark = pytest.mark.traffic

BUSY = 3  # so much longer may the same work take in processor time while others use the machine
ALL = ("--limit", "1000000")  # people get fifty, unless they ask for more


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


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_ten_times_as_many_sessions_take_ten_times_as_long(
    lab_name: str, capsys: pytest.CaptureFixture[str], placement: str, count: int
) -> None:
    """Two thirds of the sessions have a remote of their own, a third is revoked."""
    local, first = Address.parse(A), Address.parse("100.64.0.0").value
    ports = (22, 8080, 23)
    with labs.running(lab_name, STATE, enforce_policy, placement=placement) as running:
        (entry,) = (entry for entry in running.enforced if "eni-a" in entry.desired.interfaces)
        many = [SessionTuple(TCP, Address(32, first + n), local, 1024 + n % 60000, ports[n % 3]) for n in range(count)]
        marks, ifnames = SITES[entry.desired.placement].marks, entry.desired.interfaces
        mark = marks.encode_acceptance(Direction.INGRESS, 1, marks.slots(ifnames.values())[ifnames["eni-a"]])
        fill(entry.netns, many[: count // 10], mark)
        begin = time.process_time()
        said(capsys, lab_name, *ALL), sessions(capsys, lab_name)
        few = time.process_time() - begin
        fill(entry.netns, many[count // 10 :], mark)
        begin = time.process_time()
        table, found = said(capsys, lab_name, *ALL), sessions(capsys, lab_name)
        all_of_them = time.process_time() - begin
    print(f"{count // 10} sessions: {few:.2f} s, {count}: {all_of_them:.2f} s")
    assert all_of_them < 10 * BUSY * few
    assert len(table.splitlines()) == count + 2
    assert len({session["remote"] for session in found}) == count
    assert {(port_of(session), session["security_group_rule_id"], session["verdict"]) for session in found} == {
        (22, "sgr-ssh", "accept"),
        (8080, "sgr-alt", "accept"),
        (23, None, "drop"),
    }

"""A lab's life: whatever happens to it, `down` leaves nothing, and no lab touches namespaces of another or of anybody
else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.errors import HostError, KernelError, LabError
from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import Links
from sgdataplane.lab import build, manage
from sgdataplane.lab.manage import EnforceRequest
from sgdataplane.lab.record import LABS_DIR, LabFolder
from sgdataplane.statefile import dump_native
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.run.forked import Forked
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy
from tests.support.variants import dying

pytestmark = pytest.mark.traffic
ROOT = Path(__file__).parents[2]

STATE = labs.state_of("""
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}]
security_groups: [{security_group_id: sg-a, vpc_id: vpc-a, security_group_type: normal}]
instances: [{instance_id: i-a}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.1]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.2]}
""")
# one more instance, one more VPC
LARGER = labs.state_of("""
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}, {vpc_id: vpc-b, cidr_blocks: [10.1.0.0/16]}]
security_groups:
  - {security_group_id: sg-a, vpc_id: vpc-a, security_group_type: normal}
  - {security_group_id: sg-b, vpc_id: vpc-b, security_group_type: normal}
instances: [{instance_id: i-a}, {instance_id: i-b}, {instance_id: i-c}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.1]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.2, 10.0.0.12]}
  - {network_interface_id: eni-c, instance_id: i-c, type: primary, vpc_id: vpc-b, security_group_ids: [sg-b],
     private_ip_addresses: [10.1.0.1]}
""")


@pytest.fixture
def name(lab_name: str) -> Iterator[str]:
    """A name whose lab is gone after the test, whether the test made one or not."""
    yield lab_name
    manage.down(lab_name)
    labs.assert_gone(lab_name)


def run_dying(verb: str, name: str, state: Path, point: str, count: int) -> None:
    """Run a verb that is killed at that call. The test fails if the verb survives."""
    with Forked(dying.main, [verb, name, str(state), point, str(count)], stderr=subprocess.PIPE) as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, error.decode()


MOMENTS_OF_UP = [
    pytest.param("build.create_marked", 1, id="one namespace made"),
    pytest.param("build.create_marked", 4, id="all namespaces made"),
    pytest.param("build._set_up", 2, id="two namespaces set up"),
    pytest.param("build._add_veth", 1, id="one link made"),
    pytest.param("build._add_veth", 3, id="all links made"),
    pytest.param("build._fill", 2, id="some addresses set"),
    pytest.param("build._wait_ready", 1, id="all but the record"),
]


@pytest.mark.parametrize(("point", "count"), MOMENTS_OF_UP)
def test_killed_while_building_is_found_and_removed(name: str, tmp_path: Path, point: str, count: int) -> None:
    state = tmp_path / "state.yaml"
    state.write_text(dump_native(STATE))
    run_dying("up", name, state, point, count)
    with pytest.raises(LabError, match="a command died while building it; `sgdp lab down` removes it"):
        manage.look(name)
    with pytest.raises(LabError, match="it exists already"):
        manage.up(labs.record_of(name), STATE, labs.no_policy)
    assert manage.down(name) != ()
    labs.assert_gone(name)
    assert manage.down(name) == ()


MOMENTS_OF_APPLY = {
    "namespaces added": ("build.create_marked", 1),
    "old addresses gone": ("build._trim", 2),
    "policy half changed": ("manage.enforcement.enforce", 1),
    "links half made": ("build._add_veth", 1),
    "addresses half made": ("build._fill", 3),
}


@pytest.mark.placement("instance")
@pytest.mark.parametrize("moment", MOMENTS_OF_APPLY)
def test_killed_while_changing_can_be_completed_or_removed(
    name: str, placement: str, tmp_path: Path, moment: str
) -> None:
    check_killed(name, placement, tmp_path, *MOMENTS_OF_APPLY[moment])


@pytest.mark.placement("host")
@pytest.mark.parametrize(
    "moment",
    [pytest.param(one, marks=[pytest.mark.slow] * (one != "policy half changed")) for one in MOMENTS_OF_APPLY],
)
def test_killed_while_changing_where_routers_enforce(name: str, placement: str, tmp_path: Path, moment: str) -> None:
    """The policy alone depends on the placement."""
    check_killed(name, placement, tmp_path, *MOMENTS_OF_APPLY[moment])


def check_killed(name: str, placement: str, tmp_path: Path, point: str, count: int) -> None:
    manage.up(labs.record_of(name, placement), STATE, enforce_policy)
    state = tmp_path / "state.yaml"
    state.write_text(dump_native(LARGER))
    run_dying("apply", name, state, point, count)
    with pytest.raises(LabError, match="a command died while changing it; `sgdp lab apply STATE` completes it"):
        manage.look(name)
    lab = manage.apply(name, LARGER, enforce_policy)
    assert manage.look(name) == lab
    assert [cell for cell in labs.matrix(lab, "tcp/22,icmp") if not cell.agrees] == []
    run_dying("apply", name, state, "build._set_up", 1)
    assert len(manage.down(name)) == 6
    labs.assert_gone(name)


def test_killed_while_removing_is_removed_by_the_next(name: str, tmp_path: Path) -> None:
    manage.up(labs.record_of(name), STATE, labs.no_policy)
    state = tmp_path / "state.yaml"
    state.write_text(dump_native(STATE))
    run_dying("down", name, state, "build.end_processes", 1)
    assert manage.down(name) != ()
    labs.assert_gone(name)


def test_lab_whose_record_is_lost_is_found_by_its_marks(name: str) -> None:
    manage.up(labs.record_of(name), STATE, labs.no_policy)
    shutil.rmtree(LABS_DIR / name)
    assert set(manage.down(name)) == {f"{name}-{part}" for part in ("vpc-a", "i-a", "i-b", "ext-198.51.100.7")}
    labs.assert_gone(name)


def test_lab_whose_record_is_unreadable_is_removed_all_the_same(name: str) -> None:
    manage.up(labs.record_of(name), STATE, labs.no_policy)
    (LABS_DIR / name / "lab.json").write_text('{"version": 1, "na')
    with pytest.raises(LabError, match="can't be read"):
        manage.look(name)
    assert len(manage.down(name)) == 4


def test_bare_file_left_by_a_crash_between_the_steps_of_create_is_removed(name: str) -> None:
    folder = LabFolder(name)
    with folder.lock():
        folder.store(replace(labs.record_of(name), namespaces=(f"{name}-i-a",)))
    netns.create(f"{name}-x")  # makes /run/netns
    netns.remove(f"{name}-x")
    netns.path_of(f"{name}-i-a").touch()
    assert manage.down(name) == (f"{name}-i-a",)


def test_down_of_nothing_removes_nothing(name: str) -> None:
    assert manage.down(name) == ()


def test_failing_policy_leaves_nothing_of_the_lab(name: str) -> None:
    def refuse(_: EnforceRequest) -> None:
        raise KernelError("no")

    with pytest.raises(KernelError):
        manage.up(labs.record_of(name), STATE, refuse)
    labs.assert_gone(name)


def test_interrupt_while_building_leaves_nothing_of_the_lab(name: str) -> None:
    def interrupt(_: EnforceRequest) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manage.up(labs.record_of(name), STATE, interrupt)
    labs.assert_gone(name)


def test_a_refused_lab_leaves_no_folder(name: str) -> None:
    taken = replace(labs.record_of(name), externals=(("10.0.0.9",),))  # within the VPC
    with pytest.raises(LabError):
        manage.up(taken, STATE, labs.no_policy)
    assert not LabFolder(name).path.exists()
    labs.assert_gone(name)


def test_the_lab_of_another_namespace_s_name_is_refused_and_left(name: str) -> None:
    """What isn't the lab's stays, and the lab's folder doesn't."""
    netns.create(f"{name}-i-a")
    with pytest.raises(LabError, match="not a lab's"):
        manage.up(labs.record_of(name), STATE, labs.no_policy)
    assert netns.exists(f"{name}-i-a")
    assert not LabFolder(name).path.exists()
    netns.remove(f"{name}-i-a")


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_signal_while_it_builds_removes_the_lab_and_says_so(
    name: str, number: int, code: int, word: str, tmp_path: Path
) -> None:
    """Sent once the lab's record is there, so that something has been begun."""
    state = tmp_path / "state.yaml"
    state.write_text(dump_native(STATE), "utf-8")
    command = [sys.executable, "-m", "sgdataplane", "lab", "up", str(state), "--name", name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: LabFolder(name).load() is not None)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, f"{word}: the lab is removed, nothing of it stays\n")
    labs.assert_gone(name)


def test_interrupt_while_removing_waits_until_all_is_gone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manage.up(labs.record_of(name), STATE, labs.no_policy)
    original = build.remove

    def interrupted(names: tuple[str, ...]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        original(names)

    monkeypatch.setattr(build, "remove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        manage.down(name)
    labs.assert_gone(name)


def test_policy_is_in_force_before_any_link_is_there(name: str, placement: str) -> None:
    seen: list[tuple[str, list[str]]] = []

    def look(request: EnforceRequest) -> None:
        with Links(request.netns) as door:
            seen.append((request.netns, [link.ifname for link in door.links() if link.ifname != "lo" and link.is_up]))

    manage.up(labs.record_of(name, placement, hosts=2), STATE, look)
    places = ("i-a", "i-b") if placement == "instance" else ("vpc-a", "vpc-a.host2")
    assert seen == [(f"{name}-{place}", []) for place in places]


def test_time_scale_reaches_the_timeouts(name: str, placement: str) -> None:
    manage.up(replace(labs.record_of(name, placement), time_scale=0.1), STATE, enforce_policy)
    lab = manage.look(name)
    assert lab.record.time_scale == 0.1
    for entry in lab.enforced:
        with netns.inside(entry.netns):
            assert sysctl.read("netfilter/nf_conntrack_udp_timeout") == "3"
            assert sysctl.read("netfilter/nf_conntrack_tcp_timeout_established") == "91"


def test_labs_of_one_state_live_side_by_side_and_go_one_by_one(make_lab_name: Callable[[], str]) -> None:
    first, second = make_lab_name(), make_lab_name()
    with labs.running(first, STATE) as one:
        with labs.running(second, STATE) as other:
            assert labs.unlike(labs.matrix(one), "accept") == labs.unlike(labs.matrix(other), "accept") == []
        assert labs.unlike(labs.matrix(one), "accept") == []


def test_namespace_of_somebody_else_is_never_touched(name: str) -> None:
    foreign = f"{name}-i-b"
    netns.create(foreign)
    try:
        with pytest.raises(LabError, match="the name is taken and not a lab's"):
            manage.up(labs.record_of(name), STATE, labs.no_policy)
        assert manage.down(name) == ()
        assert netns.is_bound(foreign)
        assert not netns.exists(f"{name}-i-a")
    finally:
        netns.remove(foreign)


def test_processes_in_its_nodes_end_with_the_lab(name: str) -> None:
    lab = manage.up(labs.record_of(name), STATE, labs.no_policy)
    command = [
        sys.executable,
        "-c",
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)",
    ]
    with netns.inside(lab.topology.node["i-a"].netns):
        stubborn = subprocess.Popen(command, stdout=subprocess.PIPE)
        polite = subprocess.Popen(["sleep", "60"])
    with stubborn, polite:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()  # it ignores SIGTERM from here on
        manage.down(name)
        assert (stubborn.wait(DEADLINE), polite.wait(DEADLINE)) == (-signal.SIGKILL, -signal.SIGTERM)


def test_name_bound_to_our_own_namespace_has_no_processes_to_end(name: str) -> None:
    netns.create(f"{name}-x")
    netns.remove(f"{name}-x")
    path = netns.path_of(f"{name}-own")
    path.touch()
    subprocess.run(["mount", "--bind", "/proc/self/ns/net", str(path)], check=True)
    try:
        assert netns.pids_in([f"{name}-own"]) == ()
    finally:
        netns.remove(f"{name}-own")


def test_verbs_on_one_lab_exclude_each_other(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manage.up(labs.record_of(name), STATE, labs.no_policy)
    monkeypatch.setattr("sgdataplane.lab.record.LOCK_S", 0.1)
    with (
        manage.watch(name),
        manage.watch(name),
        pytest.raises(LabError, match="another command has been working on it"),
    ):
        manage.down(name)
    with LabFolder(name).lock(), pytest.raises(LabError, match="another command has been working on it"):
        manage.look(name)
    assert manage.look(name).record.name == name


def test_record_is_written_before_anything_is_made(name: str) -> None:
    records: list[dict[str, object]] = []

    def read(_: EnforceRequest) -> None:
        records.append(json.loads((LABS_DIR / name / "lab.json").read_text()))

    lab = manage.up(labs.record_of(name), STATE, read)
    assert records[0]["phase"] == "changing"
    assert records[0]["namespaces"] == list(lab.topology.netns_names)
    assert LabFolder(name).load() == lab.record
    assert lab.record.is_up


def test_unknown_lab_is_told_and_leaves_no_folder(name: str) -> None:
    for ask in (manage.look, lambda lab: manage.apply(lab, STATE, labs.no_policy)):
        with pytest.raises(LabError, match="no lab of that name is running"):
            ask(name)
    labs.assert_gone(name)


def test_errors_of_the_kernel_are_ours(name: str) -> None:
    with pytest.raises(HostError, match="no network namespace has that name"):
        netns.enter(f"{name}-none")
    netns.create(f"{name}-x")
    try:
        with pytest.raises(HostError, match="the name is taken"):
            netns.create(f"{name}-x")
        with Links(f"{name}-x") as door, pytest.raises(HostError, match="interface eth9 in namespace"):
            door.set_up("eth9")
    finally:
        netns.remove(f"{name}-x")

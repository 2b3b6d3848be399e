"""A state of 65,536 members and 1,000 groups, over 20 MB, takes as much longer as it is larger: loaded, or refused with
lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sgdataplane.analyse.review import review
from sgdataplane.errors import Problem, StateFileError
from sgdataplane.statefile import dump_native, load
from sgdataplane.statefile.dump_native import sections

pytestmark = pytest.mark.slow

MEMBERS, GROUPS, RULES = 65_536, 1_000, 40
SMALLER = 4  # the state that the large one is measured against has as many members and groups less
MOST = 3 * SMALLER  # times its processor time: in proportion, and twice as much again for a busy machine


def document(members: int, many: int) -> dict[str, object]:
    """As plain values: every ENI in two of the groups, every group with forty rules."""
    rules = [
        {"type": "ingress", "ip_protocol": "tcp", "port_range": f"{n}/{n}", "cidr_ip": f"192.{n}.0.0/16",
         "priority": n, "description": f"rule number {n}"}
        for n in range(1, RULES + 1)
    ]  # fmt: skip
    groups = [f"sg-{n:04}" for n in range(many)]
    return {
        "version": 1,
        "vpcs": [{"vpc_id": "vpc-a", "cidr_blocks": ["10.0.0.0/8"]}],
        "security_groups": [{"security_group_id": group, "vpc_id": "vpc-a", "rules": rules} for group in groups],
        "instances": [{"instance_id": f"i-{n:06}", "instance_name": f"node {n}"} for n in range(members)],
        "network_interfaces": [
            {"network_interface_id": f"eni-{n:06}", "instance_id": f"i-{n:06}", "type": "primary", "vpc_id": "vpc-a",
             "mac_address": f"00:16:3e:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}",
             "private_ip_addresses": [f"10.{n >> 14}.{n >> 6 & 255}.{n & 63}"],
             "security_group_ids": sorted({groups[n % many], groups[(7 * n + 1) % many]})}
            for n in range(members)
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scale")
    for name, share in (("big", 1), ("small", SMALLER)):
        state = document(MEMBERS // share, GROUPS // share)
        (made / f"{name}.json").write_text(json.dumps(state), encoding="utf-8")
        (made / f"{name}.yaml").write_text(dump_native(load(made / f"{name}.json").state), encoding="utf-8")
    return made


def cost(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def check_in_proportion(small: Callable[[], object], large: Callable[[], object]) -> None:
    """The large one's work takes as much longer as there is more of it."""
    one, other = cost(small), cost(large)
    print(f"{one:.1f} s, and {other:.1f} s of {SMALLER} times as much")
    assert other < MOST * one


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_large_state_is_loaded_and_reviewed_in_proportion(suffix: str, folder: Path) -> None:
    small, large = folder / f"small.{suffix}", folder / f"big.{suffix}"
    assert large.stat().st_size > 20_000_000
    check_in_proportion(partial(load, small), partial(load, large))
    found, state = load(small).state, load(large).state
    assert (len(state.network_interfaces), len(state.security_groups)) == (MEMBERS, GROUPS)
    check_in_proportion(partial(review, found), partial(review, state))
    assert {finding.code for finding in review(state)} == {"RedundantRule"}  # as all groups have the same rules


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_the_last_mistake_of_a_large_state_is_found_with_its_line(suffix: str, folder: Path) -> None:
    for name, share in (("small", SMALLER), ("big", 1)):
        last = MEMBERS // share - 1
        text = (folder / f"{name}.{suffix}").read_text(encoding="utf-8")
        mac = f"00:16:3e:00:{last >> 8:02x}:{last & 255:02x}"
        (folder / f"wrong-{name}.{suffix}").write_text(text.replace(mac, "00:16:3e:00:00:00"), encoding="utf-8")
    small, large = folder / f"wrong-small.{suffix}", folder / f"wrong-big.{suffix}"
    check_in_proportion(partial(refused, small), partial(refused, large))
    (problem,) = refused(large)
    assert problem.where.pointer == f"/network_interfaces/{MEMBERS - 1}/mac_address"
    assert "00:16:3e:00:00:00" in large.read_text(encoding="utf-8").splitlines()[problem.where.line - 1]


def refused(path: Path) -> tuple[Problem, ...]:
    """What is wrong with it."""
    with pytest.raises(StateFileError) as caught:
        load(path)
    return caught.value.problems


def test_the_plain_values_that_are_written_hold_every_section(folder: Path) -> None:
    found = sections(load(folder / "big.json").state)
    assert {name: len(objects) for name, objects in found.items()} == {
        "vpcs": 1, "prefix_lists": 0, "port_lists": 0, "security_groups": GROUPS, "instances": MEMBERS,
        "network_interfaces": MEMBERS,
    }  # fmt: skip

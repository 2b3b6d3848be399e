"""A state of 65,536 members and 1,000 groups, over 20 MB, loads in seconds, and is refused in seconds, with lines."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sgdataplane.analyse.review import review
from sgdataplane.errors import StateFileError
from sgdataplane.statefile import dump_native, load
from sgdataplane.statefile.dump_native import sections

pytestmark = pytest.mark.slow

MEMBERS, GROUPS, RULES = 65_536, 1_000, 40
SECONDS = 15  # of processor time, since the machine may be busy with more: here 4 s for JSON and 6 s for YAML


def big_document() -> dict[str, object]:
    """As plain values: every ENI in two of the groups, every group with forty rules."""
    rules = [
        {"type": "ingress", "ip_protocol": "tcp", "port_range": f"{n}/{n}", "cidr_ip": f"192.{n}.0.0/16",
         "priority": n, "description": f"rule number {n}"}
        for n in range(1, RULES + 1)
    ]  # fmt: skip
    groups = [f"sg-{n:04}" for n in range(GROUPS)]
    return {
        "version": 1,
        "vpcs": [{"vpc_id": "vpc-a", "cidr_blocks": ["10.0.0.0/8"]}],
        "security_groups": [{"security_group_id": group, "vpc_id": "vpc-a", "rules": rules} for group in groups],
        "instances": [{"instance_id": f"i-{n:06}", "instance_name": f"node {n}"} for n in range(MEMBERS)],
        "network_interfaces": [
            {"network_interface_id": f"eni-{n:06}", "instance_id": f"i-{n:06}", "type": "primary", "vpc_id": "vpc-a",
             "mac_address": f"00:16:3e:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}",
             "private_ip_addresses": [f"10.{n >> 14}.{n >> 6 & 255}.{n & 63}"],
             "security_group_ids": sorted({groups[n % GROUPS], groups[(7 * n + 1) % GROUPS]})}
            for n in range(MEMBERS)
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scale")
    (made / "big.json").write_text(json.dumps(big_document()), encoding="utf-8")
    (made / "big.yaml").write_text(dump_native(load(made / "big.json").state), encoding="utf-8")
    return made


@pytest.mark.parametrize("name", ["big.json", "big.yaml"])
def test_a_large_state_is_loaded_in_seconds(name: str, folder: Path) -> None:
    begin = time.process_time()
    loaded = load(folder / name)
    seconds = time.process_time() - begin
    size = (folder / name).stat().st_size
    print(f"{name}: {size / 1e6:.1f} MB in {seconds:.1f} s")
    assert size > 20_000_000
    assert (len(loaded.state.network_interfaces), len(loaded.state.security_groups)) == (MEMBERS, GROUPS)
    assert seconds < SECONDS
    begin = time.process_time()
    found = review(loaded.state)
    print(f"{len(found)} findings in {time.process_time() - begin:.1f} s")
    assert {finding.code for finding in found} == {"RedundantRule"}  # as all groups have the same rules
    assert time.process_time() - begin < 2 * SECONDS


@pytest.mark.parametrize("name", ["big.json", "big.yaml"])
def test_the_last_mistake_of_a_large_state_is_found_with_its_line(name: str, folder: Path) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    wrong = folder / f"wrong-{name}"
    wrong.write_text(text.replace("00:16:3e:00:ff:ff", "00:16:3e:00:00:00"), encoding="utf-8")
    begin = time.process_time()
    with pytest.raises(StateFileError) as caught:
        load(wrong)
    assert time.process_time() - begin < SECONDS
    (problem,) = caught.value.problems
    assert problem.where.pointer == f"/network_interfaces/{MEMBERS - 1}/mac_address"
    assert "00:16:3e:00:00:00" in wrong.read_text(encoding="utf-8").splitlines()[problem.where.line - 1]


def test_the_plain_values_that_are_written_hold_every_section(folder: Path) -> None:
    found = sections(load(folder / "big.json").state)
    assert {name: len(objects) for name, objects in found.items()} == {
        "vpcs": 1, "prefix_lists": 0, "port_lists": 0, "security_groups": GROUPS, "instances": MEMBERS,
        "network_interfaces": MEMBERS,
    }  # fmt: skip

"""ENIs may be named by their instance, wherever that is unambiguous."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.errors import StateFileError
from sgdataplane.model.naming import eni_of
from sgdataplane.statefile import load

STATE = """
version: 1
vpcs: [{vpc_id: v, cidr_blocks: [10.0.0.0/8]}]
security_groups: [{security_group_id: sg, vpc_id: v, security_group_type: normal}]
instances:
  - {instance_id: i-web, instance_name: web}
  - {instance_id: i-two, instance_name: two}
  - {instance_id: i-b1, instance_name: batch}
  - {instance_id: i-b2, instance_name: batch}
  - {instance_id: i-none}
network_interfaces:
"""
ENI = """
  - {network_interface_id: %s, instance_id: %s, type: %s, vpc_id: v, security_group_ids: [sg],
     private_ip_addresses: [10.0.0.%d]}
"""
ENIS = (("eni-web", "i-web"), ("eni-two", "i-two"), ("eni-2nd", "i-two"), ("eni-b1", "i-b1"), ("eni-b2", "i-b2"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state.yaml"
    kinds = ("secondary" if eni == "eni-2nd" else "primary" for eni, _ in ENIS)
    enis = (ENI % (*entry, kind, number) for number, (entry, kind) in enumerate(zip(ENIS, kinds, strict=True), 1))
    path.write_text(STATE + "".join(enis), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["eni-web", "i-web", "web"])
def test_an_eni_is_named_by_its_id_or_its_instance(name: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow = ("--direction", "egress", "--protocol", "tcp", "--port", "https", "--remote", "192.0.2.1")
    assert main(["explain", str(path), "--eni", name, *flow, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["eni"], found["port"]) == ("eni-web", 443)
    assert main(["compile", str(path), "--eni", name, "--stage", "policy"]) == 0
    assert capsys.readouterr().out.startswith("instance i-web: eth0 = eni-web\n")


@pytest.mark.parametrize(
    ("name", "message", "expected"),
    [
        ("two", "several ENIs could be meant", "one of eni-2nd, eni-two"),
        ("batch", "several ENIs could be meant", "one of eni-b1, eni-b2"),
        ("i-none", "no such ENI", "an ENI of the state"),
        ("wep", "no such ENI", "an ENI of the state, such as web"),
        ("", "no such ENI", "such as eni-2nd, eni-b1, eni-b2"),
    ],
)
def test_what_names_none_or_several_is_refused(name: str, message: str, expected: str, path: Path) -> None:
    with pytest.raises(StateFileError) as caught:
        eni_of(load(path).state, name)
    (problem,) = caught.value.problems
    assert message in problem.message
    assert expected in problem.expected

"""A lab judges as it was told to, remembers that, and every verb that asks it uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.model.choices import IN_LAB, read_choices
from tests.support.documents.schemas import assert_conforms
from tests.support.scenes import labs

pytestmark = pytest.mark.traffic

METADATA = "100.100.100.200"
STATE = """
version: 1
vpcs: [{vpc_id: v, cidr_blocks: [10.0.0.0/16]}]
security_groups:
  - security_group_id: sg
    vpc_id: v
    security_group_type: normal
    inner_access_policy: Accept
    rules:
      - {type: egress, policy: drop, ip_protocol: all, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-out}
instances: [{instance_id: i-a, instance_name: first}, {instance_id: i-b, instance_name: second}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: v, security_group_ids: [sg],
     private_ip_addresses: [10.0.0.1]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: v, security_group_ids: [sg],
     private_ip_addresses: [10.0.0.2]}
"""


class Asked:
    """A lab, used by its verbs. `said`: what the last one printed."""

    def __init__(self, name: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.name, self.state, self._capsys = name, state, capsys
        self.said = ""

    def run(self, *words: str, code: int = 0) -> str:
        assert main([*words, "--name", self.name]) == code
        self.said = self._capsys.readouterr().out
        return self.said

    def apply(self, *words: str) -> None:
        self.run("lab", "apply", str(self.state), *words)

    def observed(self, to: str) -> str:
        """What becomes of an echo request, which must be what the policy says."""
        cell = json.loads(self.run("lab", "probe", "--from", "i-a", "--to", to, "--protocol", "icmp", "--json"))
        assert cell["agrees"]
        return str(cell["observed"])

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("lab", "status", "--json"))
        assert_conforms("lab-status", found)
        return found


@pytest.fixture
def lab(lab_name: str, tmp_path: Path, placement: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Asked]:
    path = tmp_path / "state.yaml"
    path.write_text(STATE, encoding="utf-8")
    lab = Asked(lab_name, path, capsys)
    lab.run("lab", "up", str(path), "--placement", placement, "--external", METADATA)
    yield lab
    lab.run("lab", "down")
    labs.assert_gone(lab_name)


def test_a_lab_goes_on_judging_as_was_chosen_until_it_is_chosen_anew(lab: Asked, placement: str) -> None:
    assert (lab.observed(METADATA), lab.observed("i-b")) == ("drop", "accept")  # empty in labs
    lab.apply("--metadata", METADATA, "--inner-accept-egress", "custom_first", "--on-change", "keep")
    assert "metadata = 100.100.100.200/32" in lab.said
    assert (lab.observed(METADATA), lab.observed("i-b")) == ("accept", "drop")
    lab.apply("--no-strict-syn")
    assert lab.observed(METADATA) == "accept"
    found = lab.status()
    chosen = IN_LAB.over(read_choices(found["choices"]))
    assert (chosen.options.inner_accept_egress, chosen.on_change) == ("custom_first", "keep")
    assert found["choices"]["placement"] == placement
    flow = ("--eni", "eni-a", "--direction", "egress", "--protocol", "tcp", "--port", "80", "--remote", "10.0.0.2")
    live = ("explain", str(lab.state), *flow, "--live")
    assert "inner_accept_egress = custom_first" in lab.run(*live)
    lab.run(*live, "--inner-accept-egress", "first", code=1)  # that isn't what is in force
    lab.apply("--inner-accept-egress", "first")
    assert lab.observed("i-b") == "accept"


@pytest.mark.placement("instance")
def test_verbs_that_look_into_a_lab_take_an_instances_name_for_its_eni(lab: Asked) -> None:
    assert lab.observed("i-b") == "accept"
    (scope,) = json.loads(lab.run("counters", "--eni", "first", "--json"))["scopes"]
    assert scope["enis"] == ["eni-a"]
    sessions = json.loads(lab.run("sessions", "--eni", "second", "--json"))
    assert {session["eni"] for session in sessions} == {"eni-b"}
    lab.run("trace", "--eni", "first", "--seconds", "0.1", code=1)  # no packet came
    lab.run("log", "--eni", "first", "--seconds", "0.1")
    lab.run("log", "--eni", "third", "--seconds", "0.1", code=5)

"""Nodes and ENIs of a lab by id or by name: each verb that takes one, and each way to name it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from sgdataplane.cli.main import main
from sgdataplane.lab import manage
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = [pytest.mark.traffic, pytest.mark.placement("instance")]

DONE, NONE_CAME, INPUT = 0, 1, 5
STATE = labs.state_of(
    """
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}]
security_groups: [{security_group_id: sg-a, vpc_id: vpc-a, security_group_type: normal}]
instances:
  - {instance_id: i-a, instance_name: web}
  - {instance_id: i-t, instance_name: two}
  - {instance_id: i-b1, instance_name: batch}
  - {instance_id: i-b2, instance_name: batch}
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.1]}
  - {network_interface_id: eni-t1, instance_id: i-t, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.2]}
  - {network_interface_id: eni-t2, instance_id: i-t, type: secondary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.3]}
  - {network_interface_id: eni-b1, instance_id: i-b1, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.4]}
  - {network_interface_id: eni-b2, instance_id: i-b2, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.5]}
"""
)
OF_ENIS = {
    "counters": (("counters", "--name", "LAB", "--eni", "NAME"), (DONE,)),
    "sessions": (("sessions", "--name", "LAB", "--eni", "NAME"), (DONE,)),
    "log": (("log", "--name", "LAB", "--seconds", "0.05", "--eni", "NAME"), (DONE,)),
    # in between, an interface that has come up may say so to all
    "trace": (("trace", "--name", "LAB", "--seconds", "0.05", "--eni", "NAME"), (DONE, NONE_CAME)),
}
PROBE = ("--protocol", "icmp")
OF_NODES = {
    "sessions": (("sessions", "--name", "LAB", "--node", "NAME"), DONE),
    "probe-from": (("lab", "probe", "--name", "LAB", "--from", "NAME", "--to", "i-b2", *PROBE), DONE),
    "probe-to": (("lab", "probe", "--name", "LAB", "--from", "i-b2", "--to", "NAME", *PROBE), DONE),
    "probe": (("lab", "probe", "NAME", "i-b2", "icmp", "--name", "LAB"), DONE),
    "trace-to": (("trace", "i-b2", "NAME", "icmp", "--name", "LAB"), DONE),
    "trace": (("trace", "--name", "LAB", "--from", "NAME", "--to", "i-b2", *PROBE), DONE),
}
EXEC = ("lab", "exec", "--name", "LAB", "NAME", "--", "true")


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str]) -> Iterator[manage.Lab]:
    with labs.running(make_lab_name(), STATE, enforce_policy) as lab:
        yield lab


def spelt(words: tuple[str, ...], lab: manage.Lab, name: str) -> list[str]:
    return [{"LAB": lab.record.name, "NAME": name}.get(word, word) for word in words]


@pytest.mark.parametrize("name", ["eni-a", "i-a", "web"])
@pytest.mark.parametrize("verb", OF_ENIS)
def test_an_eni_is_named_by_its_id_or_its_instance(lab: manage.Lab, verb: str, name: str) -> None:
    words, codes = OF_ENIS[verb]
    assert main(spelt(words, lab, name)) in codes


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("two", "one of eni-t1, eni-t2"),
        ("i-t", "one of eni-t1, eni-t2"),
        ("batch", "one of eni-b1, eni-b2"),
        ("wep", "such as web"),
        ("", "such as eni-a"),
    ],
)
@pytest.mark.parametrize("verb", OF_ENIS)
def test_what_is_no_eni_or_several_is_refused(
    lab: manage.Lab, verb: str, name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(spelt(OF_ENIS[verb][0], lab, name)) == INPUT
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("name", ["i-t", "two"])
@pytest.mark.parametrize("verb", OF_NODES)
def test_a_node_is_named_by_its_id_or_its_instances_name(lab: manage.Lab, verb: str, name: str) -> None:
    words, code = OF_NODES[verb]
    assert main(spelt(words, lab, name)) == code


@pytest.mark.parametrize("name", ["eni-t2", "10.0.0.3"])
def test_a_probe_may_be_of_one_eni_of_a_node(lab: manage.Lab, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main([*spelt(OF_NODES["probe-to"][0], lab, name), "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["to_address"] == "10.0.0.3"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("batch", "several nodes have that name: i-b1, i-b2"), ("wep", "this lab has i-a"), ("", "this lab has i-a")],
)
@pytest.mark.parametrize("verb", OF_NODES)
def test_what_is_no_node_or_several_is_refused(
    lab: manage.Lab, verb: str, name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(spelt(OF_NODES[verb][0], lab, name)) == INPUT
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("web", DONE), ("batch", INPUT)])
def test_a_command_runs_in_the_node_of_that_name(lab: manage.Lab, name: str, code: int) -> None:
    """`exec` replaces its process by the command, so it runs as a process here."""
    words = [sys.executable, "-m", "sgdataplane", *spelt(EXEC, lab, name)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr

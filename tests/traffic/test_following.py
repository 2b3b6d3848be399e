"""A lab that follows the API: a change is built only where it counts, and what others did to the lab is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from sgdataplane import enforce as enforcement
from sgdataplane.enforce import ApplyReport, Proven, Settings
from sgdataplane.errors import KernelError
from sgdataplane.lab import build, manage
from sgdataplane.lab.expect import explain_result
from sgdataplane.lab.following import FollowingLab
from sgdataplane.model.state import CloudState
from sgdataplane.store.history import Version
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.traffic

STATE = """
version: 1
vpcs: [{{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/8]}}]
security_groups:
  - {{security_group_id: sg-web, vpc_id: vpc-a}}
  - {{security_group_id: sg-alone, vpc_id: vpc-a}}
  - security_group_id: sg-db
    vpc_id: vpc-a
    rules: [{rules}]
instances: [{{instance_id: i-web}}, {{instance_id: i-db}}, {{instance_id: i-alone}}]
network_interfaces:
  - {{network_interface_id: eni-web, instance_id: i-web, vpc_id: vpc-a, security_group_ids: [sg-web],
      private_ip_addresses: [10.0.0.1]}}
  - {{network_interface_id: eni-db, instance_id: i-db, vpc_id: vpc-a, security_group_ids: [sg-db],
      private_ip_addresses: [10.0.0.2]}}
  - {{network_interface_id: eni-alone, instance_id: i-alone, vpc_id: vpc-a, security_group_ids: [sg-alone],
      private_ip_addresses: [10.0.0.3]}}
"""


def with_ports(*ports: int) -> CloudState:
    """A database that accepts the web at these ports, and an instance that nobody names."""
    rule = (
        "{{type: ingress, ip_protocol: TCP, port_range: {0}/{0}, policy: accept, source_security_group_id: sg-web,"
        " security_group_rule_id: sgr-{0}}}"
    )
    return labs.state_of(STATE.format(rules=", ".join(rule.format(port) for port in ports)))


class Followed:
    """A lab that follows. `enforced`: the namespaces where something was done since the last look."""

    def __init__(self, name: str, placement: str) -> None:
        self.name, self.place, self.enforced = name, FollowingLab(labs.record_of(name, placement)), list[str]()

    def put(self, state: CloudState) -> list[str]:
        """The namespaces where something was done."""
        self.enforced.clear()
        self.place.put(Version(0, 1), state)
        return sorted(name.removeprefix(f"{self.name}-") for name in self.enforced)

    def passing(self) -> set[str]:
        """Which of the ports the web reaches; what packets show is what the policy says."""
        results = labs.matrix(manage.look(self.name), "tcp/1001,tcp/1002,tcp/1003")
        assert [explain_result(one) for one in results if not one.agrees] == []
        there = [one for one in results if (one.probe.source.node, one.probe.target.node) == ("i-web", "i-db")]
        assert len(there) == 3
        return {str(one.probe.service) for one in there if one.observed.verdict == "accept"}


@pytest.fixture
def followed(lab_name: str, placement: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    made = Followed(lab_name, placement)
    enforce = enforcement.enforce

    def noted(
        name: str, proven: Proven, previous: Proven | None = None, settings: Settings = enforcement.DEFAULT_SETTINGS
    ) -> ApplyReport:
        made.enforced.append(name)
        return enforce(name, proven, previous, settings)

    monkeypatch.setattr(enforcement, "enforce", noted)
    yield made
    manage.down(lab_name)
    labs.assert_gone(lab_name)


def test_a_rule_is_put_in_force_where_it_counts_alone(
    followed: Followed, placement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.put(with_ports(1001))
    assert followed.passing() == {"tcp/1001"}
    monkeypatch.setattr(build, "reconcile", None)  # no link is looked at
    assert followed.put(with_ports(1001, 1002)) == (["vpc-a"] if placement == "host" else ["i-db"])
    assert followed.passing() == {"tcp/1001", "tcp/1002"}
    assert followed.put(with_ports(1002)) == (["vpc-a"] if placement == "host" else ["i-db"])
    assert followed.passing() == {"tcp/1002"}
    followed.put(with_ports(1002))  # probes in routers have rules there
    assert followed.put(with_ports(1002)) == []


def flushed(followed: Followed) -> None:
    """Somebody removes the policy of the database."""
    lab = manage.look(followed.name)
    labs.run_in(lab.enforced[-1].netns if len(lab.enforced) == 1 else lab.find_node("i-db").netns, *FLUSH)


FLUSH = ("nft", "delete", "table", "inet", "sgdataplane")


def applied(followed: Followed) -> None:
    """Somebody applies another state."""
    manage.apply(followed.name, with_ports(1003), enforce_policy)


def built_anew(followed: Followed) -> None:
    """Somebody removes the lab and makes one of that name."""
    record = replace(manage.record_of(followed.name), namespaces=(), state_file="")
    manage.down(followed.name)
    manage.up(record, with_ports(1003), enforce_policy)


def removed(followed: Followed) -> None:
    manage.down(followed.name)


@pytest.mark.placement("instance")
@pytest.mark.parametrize("meanwhile", [applied, built_anew], ids=lambda one: one.__name__)
def test_what_others_did_with_our_own_verbs_is_seen(followed: Followed, meanwhile: Callable[[Followed], None]) -> None:
    check_seen(followed, meanwhile)


@pytest.mark.parametrize("meanwhile", [flushed, removed], ids=lambda one: one.__name__)
def test_what_others_did_to_the_lab_is_seen(followed: Followed, meanwhile: Callable[[Followed], None]) -> None:
    check_seen(followed, meanwhile)


def check_seen(followed: Followed, meanwhile: Callable[[Followed], None]) -> None:
    """Also if the API's state is the same as before."""
    followed.put(with_ports(1001))
    for port in (1001, 1002):
        meanwhile(followed)
        followed.put(with_ports(port))
        assert followed.passing() == {f"tcp/{port}"}
    followed.put(with_ports(1001, 1002))
    assert followed.passing() == {"tcp/1001", "tcp/1002"}


def test_after_a_refusal_the_lab_is_as_before_and_follows_on(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.put(with_ports(1001))
    enforce = enforcement.enforce

    def refuse(*_: object) -> ApplyReport:
        monkeypatch.setattr(enforcement, "enforce", enforce)
        raise KernelError("no")

    monkeypatch.setattr(enforcement, "enforce", refuse)
    with pytest.raises(KernelError):
        followed.put(with_ports(1002))
    assert followed.passing() == {"tcp/1001"}
    followed.put(with_ports(1001, 1003))
    assert followed.passing() == {"tcp/1001", "tcp/1003"}

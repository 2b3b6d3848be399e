"""`terraform show -json` of states and plans, with modules, and with values that are known only after apply."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.model.pending import PendingEni
from sgdataplane.model.state import GroupRef
from sgdataplane.net.values import Prefix, Verdict
from sgdataplane.statefile import Loaded, load, load_plan
from tests.unit.statefile.terraform_documents import Attributes, module, plan, refers, resource, shown


def read(folder: Path, text: str) -> Loaded:
    path = folder / "plan.json"
    path.write_text(text, encoding="utf-8")
    return load(path)


def codes(loaded: Loaded) -> list[str]:
    return [finding.code for finding in loaded.findings]


STATE = module(
    resource("alicloud_vpc.a"),
    resource("alicloud_security_group.a"),
    web=[resource("alicloud_security_group_rule.ssh", "module.web."), resource("alicloud_instance.a", "module.web.")],
)


def test_a_shown_state_is_read_with_its_modules(tmp_path: Path) -> None:
    loaded = read(tmp_path, shown(values=STATE))
    assert [str(rule.port_range) for rule in loaded.state.group["sg-a"].rules] == ["22/22"]
    assert [eni.network_interface_id for eni in loaded.state.network_interfaces] == ["eni-a"]
    assert codes(loaded) == ["MadeUpMac"]


# A plan that makes a group, a rule of it in a module, and an instance in it.
NEW = module(
    resource("alicloud_vpc.a"),
    resource("alicloud_security_group.new", id=None),
    resource("alicloud_security_group.peers", id=None),
    resource("alicloud_instance.new", id=None, network_interface_id=None, security_groups=[None]),
    web=[
        resource("alicloud_security_group_rule.ssh", "module.web.", security_group_id=None),
        resource("alicloud_security_group_rule.peers", "module.web.", security_group_id=None, cidr_ip="",
                 source_security_group_id=None, port_range="443/443"),
    ],
)  # fmt: skip
UNKNOWN: dict[str, Attributes] = {
    "alicloud_security_group.new": {"id": True, "tags": {}},
    "alicloud_security_group.peers": {"id": True},
    "alicloud_instance.new": {
        "id": True, "network_interface_id": True, "security_groups": [True], "ipv6_addresses": True,
    },
    "module.web.alicloud_security_group_rule.ssh": {"id": True, "security_group_id": True, "nic_type": True},
    "module.web.alicloud_security_group_rule.peers": {"security_group_id": True, "source_security_group_id": True},
}  # fmt: skip
GROUP_ID = ["alicloud_security_group.new.id", "alicloud_security_group.new"]
CONFIGURATION = {
    "root_module": {
        "resources": [refers("alicloud_instance.new", security_groups=GROUP_ID)],
        "module_calls": {
            "web": {
                "expressions": {
                    "group": {"references": GROUP_ID},
                    "peers": {"references": ["alicloud_security_group.peers.id", "alicloud_security_group.peers"]},
                },
                "module": {
                    "resources": [
                        refers("alicloud_security_group_rule.ssh", security_group_id=["var.group"]),
                        refers("alicloud_security_group_rule.peers", security_group_id=["var.group"],
                               source_security_group_id=["var.peers"]),
                    ],
                },
            }
        },
    }
}  # fmt: skip
ID, PEERS = "alicloud_security_group.new", "alicloud_security_group.peers"


def test_what_a_plan_will_make_has_its_address_as_id_and_is_found_by_references(tmp_path: Path) -> None:
    loaded = read(tmp_path, plan(NEW, UNKNOWN, CONFIGURATION))
    group = loaded.state.group[ID]
    remotes = {str(rule.port_range): rule.remote for rule in group.rules}
    assert remotes == {"22/22": Prefix.parse("10.0.0.0/8"), "443/443": GroupRef(PEERS)}
    (eni,) = loaded.state.network_interfaces
    assert (eni.network_interface_id, eni.security_group_ids) == ("alicloud_instance.new.network_interface_id", (ID,))
    assert codes(loaded) == ["MadeUpMac"]


def test_an_output_of_a_module_is_followed(tmp_path: Path) -> None:
    made = resource("alicloud_security_group.b", "module.groups.", id=None)
    rule = resource("alicloud_security_group_rule.x", security_group_id=None)
    output = {"expression": {"references": ["alicloud_security_group.b.id", "alicloud_security_group.b"]}}
    configuration = {
        "root_module": {
            "resources": [
                refers("alicloud_security_group_rule.x", security_group_id=["module.groups.id", "module.groups"])
            ],
            "module_calls": {"groups": {"module": {"outputs": {"id": output}}}},
        }
    }
    unknown = {made["address"]: {"id": True}, rule["address"]: {"security_group_id": True}}
    loaded = read(tmp_path, plan(module(resource("alicloud_vpc.a"), rule, groups=[made]), unknown, configuration))
    assert len(loaded.state.group["module.groups.alicloud_security_group.b"].rules) == 1
    assert not loaded.findings


def rules_of(folder: Path, unknown: Attributes, **said: object) -> tuple[list[str], list[str]]:
    """The rules that are read of a plan with one rule, and the findings."""
    name = "alicloud_security_group_rule.x"
    rule = resource(name, **{**said, **dict.fromkeys(unknown)})
    found = module(resource("alicloud_vpc.a"), resource("alicloud_security_group.a"), rule)
    loaded = read(folder, plan(found, {name: unknown}, {}))
    rules = [
        f"{rule.policy.value} {rule.ip_protocol} {rule.port_range} {rule.remote} {rule.priority}"
        for rule in loaded.state.group["sg-a"].rules
    ]
    return sorted(rules), [finding.message for finding in loaded.findings]


ANY4, ANY6 = "0.0.0.0/0", "::/0"


@pytest.mark.parametrize(
    ("unknown", "said", "rules", "message"),
    [
        (["nic_type", "security_group_rule_id"], {}, ["accept tcp 22/22 10.0.0.0/8 1"], ""),
        (["cidr_ip"], {}, [], "cidr_ip of {} is known only after apply, so the rule is left out"),
        (["cidr_ip", "port_range"], {}, [], "port_range and cidr_ip of {} are known only after apply, so "),
        (["policy"], {}, ["drop tcp 22/22 10.0.0.0/8 1"], "policy of {} is"),
        (["cidr_ip"], {"policy": "drop"}, [f"drop tcp 22/22 {ANY4} 1", f"drop tcp 22/22 {ANY6} 1"],
         "cidr_ip of {} is known only after apply, so the rule drops all that it may drop"),
        (["port_range"], {"policy": "drop", "priority": 7}, ["drop all any 10.0.0.0/8 7"], "port_range of {} is"),
        (["priority"], {"policy": "drop"}, ["drop tcp 22/22 10.0.0.0/8 1"], "priority of {} is"),
    ],
)  # fmt: skip
def test_a_rule_with_something_unknown_accepts_nothing(
    unknown: list[str], said: Attributes, rules: list[str], message: str, tmp_path: Path
) -> None:
    read_rules, messages = rules_of(tmp_path, dict.fromkeys(unknown, True), **said)
    assert [rule.replace("None", "any") for rule in read_rules] == rules
    assert len(messages) == bool(message)
    assert "".join(messages).startswith(message.format("alicloud_security_group_rule.x"))


def test_references_to_several_objects_are_not_guessed(tmp_path: Path) -> None:
    groups = [resource(f"alicloud_security_group.{name}", id=None) for name in "bc"]
    rule = resource("alicloud_security_group_rule.x", security_group_id=None)
    either = [f"alicloud_security_group.{name}{tail}" for name in "bc" for tail in (".id", "")]
    configuration = {"root_module": {"resources": [refers(rule["address"], security_group_id=either)]}}
    unknown = {each["address"]: {"id": True} for each in groups} | {rule["address"]: {"security_group_id": True}}
    loaded = read(tmp_path, plan(module(resource("alicloud_vpc.a"), *groups, rule), unknown, configuration))
    assert [len(group.rules) for group in loaded.state.security_groups] == [0, 0]
    assert codes(loaded) == ["KnownAfterApply"]


@pytest.mark.parametrize("name", ["private_ip", "security_groups"])
def test_an_interface_without_address_or_groups_is_left_out(name: str, tmp_path: Path) -> None:
    instance = resource("alicloud_instance.new", **{name: None})
    unknown = {"alicloud_instance.new": {name: True}}
    references = refers("alicloud_instance.new", **{name: ["data.x.y.ids"]})
    found = module(resource("alicloud_vpc.a"), resource("alicloud_security_group.a"), instance)
    loaded = read(tmp_path, plan(found, unknown, {"root_module": {"resources": [references]}}))
    code, pending = {
        "private_ip": ("AddressKnownAfterApply", (PendingEni("alicloud_instance.new", "vpc-a", ("sg-a",)),)),
        "security_groups": ("KnownAfterApply", ()),
    }[name]
    assert (loaded.state.network_interfaces, codes(loaded), loaded.pending) == ((), [code], pending)


def test_the_members_of_a_group_whose_inner_policy_is_unknown_do_not_reach_each_other(tmp_path: Path) -> None:
    group = resource("alicloud_security_group.a", inner_access_policy=None)
    unknown = {"alicloud_security_group.a": {"inner_access_policy": True}}
    loaded = read(tmp_path, plan(module(resource("alicloud_vpc.a"), group), unknown, {}))
    assert (loaded.state.group["sg-a"].inner_access_policy, codes(loaded)) == (Verdict.DROP, ["KnownAfterApply"])


def test_of_a_plan_both_states_are_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan(NEW, UNKNOWN, CONFIGURATION, prior=STATE), encoding="utf-8")
    before, after = load_plan(path)
    assert (list(before.state.group), list(after.state.group)) == (["sg-a"], [ID, PEERS])
    path.write_text(plan(NEW, UNKNOWN, CONFIGURATION), encoding="utf-8")
    assert load_plan(path)[0].state.security_groups == ()


def test_what_is_no_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(shown(values=STATE), encoding="utf-8")
    with pytest.raises(StateFileError, match="not a Terraform plan") as caught:
        load_plan(path)
    assert [problem.code for problem in caught.value.problems] == ["InvalidSource.NotAPlan"]


def test_a_plan_in_a_packed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json.gz"
    path.write_bytes(gzip.compress(shown(values=STATE).encode()))
    assert list(load(path).state.group) == ["sg-a"]

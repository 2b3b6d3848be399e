"""The policy's choices: each is an option of every verb whose answer depends on it, and changes that answer."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from sgdataplane.cli.main import build_parser, main
from sgdataplane.daemon.config import KINDS
from sgdataplane.model.choices import CHOICES, IN_LAB, JUDGING, ON_HOSTS, Choices, read_choices
from sgdataplane.model.options import Options, Placement
from sgdataplane.net.values import Address, Prefix
from sgdataplane.statefile.quotas import PROFILES
from sgdataplane.terminal.arguments import choices_of
from tests.support.documents.schemas import assert_conforms

# What each is set to, and the value that it then has: never the default.
GIVEN: dict[str, tuple[tuple[str, ...], object]] = {
    "profile": (("--profile", "2026"), "2026"),
    "placement": (("--placement", "host"), Placement.HOST),
    "inner_accept_egress": (("--inner-accept-egress", "custom_first"), "custom_first"),
    "midstream_egress": (("--midstream-egress", "judge"), "judge"),
    "strict_syn": (("--strict-syn",), True),
    "metadata": (("--metadata", "192.0.2.1,2001:db8::/64"), (Prefix.parse("192.0.2.1"), Prefix.parse("2001:db8::/64"))),
    "gateways": (("--gateways", "10.0.0.1"), (Address.parse("10.0.0.1"),)),
    "sessions_per_eni": (("--sessions-per-eni", "1000"), 1000),
    "on_change": (("--on-change", "keep"), "keep"),
}
FLOW = ("--eni", "e", "--direction", "egress", "--protocol", "tcp", "--port", "ssh", "--remote", "10.0.0.1")
ATTACH = ("--eni", "e", "--netns", "n", "--ifname", "i")
# Each verb, and the choices that its answer depends on.
TAKES: dict[tuple[str, ...], Sequence[str]] = {
    ("check", "S"): JUDGING,
    ("compile", "S"): (*JUDGING, "placement", "sessions_per_eni"),
    ("explain", "S", *FLOW): JUDGING,
    ("diff", "S", "T"): JUDGING,
    ("report", "S", "--html", "F"): JUDGING,
    ("lab", "up", "S"): tuple(CHOICES),
    ("lab", "apply", "S"): (*JUDGING, "sessions_per_eni", "on_change"),
    ("replay", "C", "--state", "S"): (*JUDGING, "placement"),
    ("apply", "S"): tuple(CHOICES),
    ("agent",): tuple(CHOICES),
    ("attach", *ATTACH, "--state", "S"): ("profile",),
    ("import", "S"): ("profile",),
    ("export", "S", "--to", "ecs"): ("profile",),
}
STATE = """
version: 1
vpcs: [{vpc_id: v, cidr_blocks: [10.0.0.0/8]}]
security_groups:
  - security_group_id: sg
    vpc_id: v
    security_group_type: normal
    inner_access_policy: Accept
    rules:
      - {security_group_rule_id: r-out, type: egress, policy: drop, ip_protocol: all, cidr_ip: 0.0.0.0/0}
instances: [{instance_id: i-a}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: v, security_group_ids: [sg],
     private_ip_addresses: [10.0.0.1]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: v, security_group_ids: [sg],
     private_ip_addresses: [10.0.0.2]}
"""
CUSTOM_FIRST = ("--inner-accept-egress", "custom_first")


@cache
def parser() -> ArgumentParser:
    """Build it once: it takes longer than all that a test asks it."""
    return build_parser()


@pytest.fixture
def state(tmp_path: Path) -> str:
    path = tmp_path / "state.yaml"
    path.write_text(STATE, encoding="utf-8")
    return str(path)


def test_a_choice_is_an_option_of_a_verb_and_a_key_of_the_agents_configuration() -> None:
    assert set(CHOICES) == set(GIVEN) == {name for names in TAKES.values() for name in names}
    assert all(KINDS[name] is choice for name, choice in CHOICES.items())
    assert tuple(PROFILES) == CHOICES["profile"].words  # type: ignore[union-attr]


@pytest.mark.parametrize("verb", TAKES, ids=lambda verb: " ".join(word for word in verb if word.islower()))
@pytest.mark.parametrize("name", CHOICES)
def test_a_verb_takes_the_choices_that_its_answer_depends_on(
    verb: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words, value = GIVEN[name]
    if name not in TAKES[verb]:
        with pytest.raises(SystemExit):
            parser().parse_args([*verb, *words])
        assert "unrecognized arguments" in capsys.readouterr().err
        return
    for base in (IN_LAB, ON_HOSTS):
        assert choices_of(parser().parse_args(verb), base) == base
        assert choices_of(parser().parse_args([*verb, *words]), base) == base.over({name: value}) != base


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metadata", "10.0.0.0/33"), "'10.0.0.0/33' is not a list of addresses or CIDR blocks, separated by commas"),
        (("--metadata", "a,,b"), "is not a list of"),
        (("--gateways", "10.0.0.0/24"), "is not a list of addresses"),
        (("--profile", "2025"), "invalid choice"),
        (("--sessions-per-eni", "-1"), "'-1' is not a number from 0 to 16777216"),
        (("--sessions-per-eni", "many"), "'many' is not a number from 0 to 16777216"),
        (("--sessions-per-eni", "16777217"), "'16777217' is not a number from 0 to 16777216"),
    ],
)
def test_what_is_no_value_is_a_usage_error(
    words: tuple[str, ...], said: str, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compile", state, *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_no_address_at_all_can_be_chosen_and_a_switch_taken_back() -> None:
    arguments = parser().parse_args(["apply", "S", "--metadata", "none", "--no-strict-syn"])
    base = Choices(options=Options(strict_syn=True, metadata=(Prefix.parse("192.0.2.1"),)))
    assert choices_of(arguments, base) == Choices()


def test_choices_survive_being_written_and_read() -> None:
    choices = ON_HOSTS.over({name: value for name, (_, value) in GIVEN.items()})
    plain = json.loads(json.dumps(choices.plain()))
    assert IN_LAB.over(read_choices(plain)) == choices
    with pytest.raises(ValueError, match=r"on_change: 'flush' is not one of revoke, keep"):
        read_choices({"on_change": "flush"})


def explained(state: str, capsys: pytest.CaptureFixture[str], remote: str, *words: str) -> dict[str, object]:
    flow = ("--eni", "eni-a", "--direction", "egress", "--protocol", "tcp", "--port", "80", "--remote", remote)
    assert main(["explain", state, *flow, *words, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    assert_conforms("explain", found)
    return found


def test_explain_judges_as_was_chosen_and_says_so(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(state, capsys, "10.0.0.2")["reason"] == "inner_accept"
    found = explained(state, capsys, "10.0.0.2", *CUSTOM_FIRST)
    assert (found["verdict"], found["security_group_rule_id"]) == ("drop", "r-out")
    assert found["choices"]["inner_accept_egress"] == "custom_first"  # type: ignore[index]
    assert main(["explain", state, *FLOW[2:], "--eni", "eni-a", *CUSTOM_FIRST]) == 0
    assert capsys.readouterr().out.endswith("options: inner_accept_egress = custom_first\n")


def test_the_metadata_address_passes_unless_it_is_chosen_otherwise(
    state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explained(state, capsys, "100.100.100.200")["cause"] == "metadata"
    assert explained(state, capsys, "100.100.100.201")["verdict"] == "drop"
    assert explained(state, capsys, "100.100.100.200", "--metadata", "none")["verdict"] == "drop"
    assert explained(state, capsys, "100.100.100.201", "--metadata", "100.100.100.0/24")["cause"] == "metadata"


def test_check_and_diff_judge_as_was_chosen(state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    void = "VoidDrop"
    assert main(["check", state]) == 0
    assert void in capsys.readouterr().out
    assert main(["check", state, *CUSTOM_FIRST]) == 0
    said = capsys.readouterr().out
    assert void not in said
    assert "options: inner_accept_egress = custom_first" in said
    other = tmp_path / "other.yaml"
    other.write_text(STATE.replace("Accept", "Drop"), encoding="utf-8")
    before_and_after = []
    for words in ((), CUSTOM_FIRST):
        assert main(["diff", state, str(other), "--json", *words]) == 0
        found = json.loads(capsys.readouterr().out)
        assert_conforms("diff", found)
        before_and_after.append({change["direction"] for change in found["changes"]})
    assert before_and_after == [{"ingress", "egress"}, {"ingress"}]


def test_compile_has_what_was_chosen(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for words in ((), ("--metadata", "none"), ("--strict-syn",), ("--gateways", "10.0.0.9"), CUSTOM_FIRST):
        assert main(["compile", state, "--eni", "eni-a", "--prove", *words]) == 0
        texts.append(capsys.readouterr().out)
    assert len(set(texts)) == len(texts)
    assert ["100.100.100.200" in text for text in texts] == [True, False, True, True, True]
    assert [text.splitlines()[0].partition("; options: ")[2] for text in texts] == [
        "",
        "metadata = none",
        "strict_syn = on",
        "gateways = 10.0.0.9",
        "inner_accept_egress = custom_first",
    ]


def test_compile_prints_routers_in_host_placement(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", state, "--placement", "host", "--uplink", "up0", "--prove"]) == 0
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line.startswith("# ")] == [
        "# router of v: eni-a = eni-a, eni-b = eni-b"
    ]
    assert [line for line in said.out.splitlines() if line.startswith("delete table ")] == [
        "delete table inet sgdataplane",
        "delete table netdev sgdataplane",
        "delete table arp sgdataplane",
    ]
    assert '"up0"' in said.out
    assert "proven" in said.err
    with pytest.raises(SystemExit):
        main(["compile", state, "--uplink", "up0"])
    assert "--uplink needs --placement host" in capsys.readouterr().err


def test_a_report_says_what_was_chosen(state: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", state, "--html", str(page), *CUSTOM_FIRST]) == 0
    assert "inner_accept_egress = custom_first" in page.read_text(encoding="utf-8")
    assert main(["report", state, "--html", str(page)]) == 0
    assert "custom_first" not in page.read_text(encoding="utf-8")

"""`sgdp explain`: what it prints about both ends, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.main import main
from tests.support.documents.schemas import assert_conforms

STATE = Path(__file__).resolve().parents[3] / "netns-lab/scenarios/20-three-tier/state.yaml"
WEB = ("--eni", "eni-web1", "--direction", "ingress", "--protocol", "tcp")


def run(*arguments: str, state: Path = STATE) -> int:
    return main(["explain", str(state), *arguments])


def told(capsys: pytest.CaptureFixture[str], *arguments: str, state: Path = STATE) -> Any:  # noqa: ANN401
    """The JSON that it prints."""
    assert run(*arguments, "--json", state=state) == 0
    document = json.loads(capsys.readouterr().out)
    assert_conforms("explain", document)
    return document


def test_the_answer_comes_first_then_what_decides_then_what_would_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*WEB, "--port", "22", "--remote", "192.0.2.66") == 0
    assert capsys.readouterr().out == (
        "The flow does not pass: eni-web1 drops it.\n"
        "\n"
        "eni-web1 ingress tcp port 22 from 192.0.2.66: drop\n"
        "  reason:     rule sgr-lost-laptop of sg-admin (priority 10)\n"
        "  otherwise:  accept, rule sgr-office-ssh of sg-admin (priority 10)\n"
        "  otherwise:  drop, the default\n"
        "  --verbose shows 1 rule that nearly matches\n"
    )


def test_a_rule_that_would_turn_the_verdict_but_for_one_field_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("web1", "db1", "tcp/5433") == 0
    _, _, said = capsys.readouterr().out.partition("eni-db1 ingress tcp port 5433 from 10.20.2.11: drop\n")
    rule = "rule sgr-from-web of sg-db (priority 1), which requires port 5432; the packet has 5433"
    assert " ".join(said.split()) == f"reason: the default nearly: accept, {rule}"


def test_verbose_shows_what_outranks_what_and_all_near_misses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*WEB, "--port", "22", "--remote", "192.0.2.66", "--verbose") == 0
    assert capsys.readouterr().out == (
        "The flow does not pass: eni-web1 drops it.\n"
        "\n"
        "eni-web1 ingress tcp port 22 from 192.0.2.66: drop\n"
        "         VERDICT  PRIORITY  BECAUSE OF                        OUTRANKED BY\n"
        "decides  drop     10        rule sgr-lost-laptop of sg-admin\n"
        "then     accept   10        rule sgr-office-ssh of sg-admin   a drop of the same priority\n"
        "then     drop               the default\n"
        "Near misses (one field differs):\n"
        "VERDICT  PRIORITY  RULE                         FIELD     REQUIRES  PACKET HAS  WOULD DECIDE\n"
        "accept         10  sgr-office-ping of sg-admin  protocol  icmp      tcp         no\n"
    )


def test_both_ends_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--eni", "eni-db1", "--direction", "ingress", "--protocol", "tcp", "--remote", "10.20.2.11")
    found = told(capsys, *arguments, "--port", "5432")
    assert (found["verdict"], found["security_group_rule_id"], found["passes"]) == ("accept", "sgr-from-web", True)
    other = found["other_end"]
    assert (other["eni"], other["direction"], other["verdict"]) == ("eni-web1", "egress", "accept")
    assert other["security_group_rule_id"] == "sgr-to-db"
    assert run(*arguments, "--port", "5432") == 0
    assert capsys.readouterr().out.startswith("The flow passes: both ends accept it.\n")
    assert run(*arguments, "--port", "5433") == 0
    assert capsys.readouterr().out.startswith("The flow does not pass: eni-db1 and eni-web1 drop it.\n")


def test_a_remote_that_is_nobody_here_has_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--eni", "eni-web1", "--direction", "egress", "--protocol", "icmp", "--remote", "8.8.8.8")
    assert told(capsys, *arguments)["other_end"] is None
    assert run(*arguments) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line == ("The flow passes: eni-web1 accepts it; 8.8.8.8 is no ENI of this state, so its end isn't known.")


@pytest.mark.parametrize(
    ("direction", "remote", "local", "words"),
    [
        (
            "egress",
            "8.8.8.8",
            "10.9.9.9",
            "its source address is spoofed: 10.9.9.9 is none of eni-web1's own addresses",
        ),
        (
            "ingress",
            "8.8.8.8",
            "10.9.9.9",
            "it is addressed to none of the ENI's addresses: 10.9.9.9 is not eni-web1's",
        ),
        (
            "ingress",
            "10.20.2.11",
            "10.20.2.11",
            "its source address is spoofed: 10.20.2.11 is a private address of eni-web1",
        ),
    ],
)
def test_what_never_passes_says_why(
    capsys: pytest.CaptureFixture[str], direction: str, remote: str, local: str, words: str
) -> None:
    ends = ("--direction", direction, "--remote", remote, "--local", local)
    assert run("--eni", "eni-web1", "--protocol", "icmp", *ends) == 0
    assert words in " ".join(capsys.readouterr().out.split())


def test_many_near_misses_are_cut_in_the_text_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rules = "\n".join(
        f"      - {{type: ingress, ip_protocol: tcp, port_range: {port}/{port}, cidr_ip: 0.0.0.0/0}}"
        for port in range(1001, 1009)
    )
    state = tmp_path / "state.yaml"
    state.write_text(
        "version: 1\nvpcs: [{vpc_id: vpc-a}]\nsecurity_groups:\n"
        f"  - security_group_id: sg-a\n    vpc_id: vpc-a\n    rules:\n{rules}\n"
        "instances: [{instance_id: i-a}]\nnetwork_interfaces:\n"
        "  - {network_interface_id: eni-web1, instance_id: i-a, vpc_id: vpc-a, private_ip_addresses: [10.0.0.1],"
        " security_group_ids: [sg-a]}\n",
        encoding="utf-8",
    )
    asked = (*WEB, "--port", "80", "--remote", "8.8.8.8")
    misses = told(capsys, *asked, state=state)["near_misses"]
    assert [miss["asks_for"] for miss in misses] != []
    assert {(miss["field"], miss["packet_has"], miss["would_decide"]) for miss in misses} == {("port", "80", True)}
    assert len(misses) == 8
    assert run(*asked, state=state) == 0
    assert "--verbose shows 5 more rules that nearly match" in capsys.readouterr().out
    assert run(*asked, "-v", state=state) == 0
    assert "and 3 more (--json has them all)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--eni", "eni-web1", "--protocol", "tcp", "--remote", "8.8.8.8"), "--port is needed with tcp"),
        (("--eni", "eni-web1", "--protocol", "gre", "--remote", "8.8.8.8", "--port", "1"), "gre has no ports"),
        (
            ("--eni", "eni-web1", "--protocol", "gre", "--remote", "8.8.8.8", "--source-port", "1"),
            "--source-port: gre has no ports",
        ),
        (("--eni", "eni-web1", "--protocol", "icmp", "--remote", "2001:db8::1"), "doesn't have it"),
        (("--eni", "eni-web1", "--protocol", "all", "--remote", "8.8.8.8"), "a packet has one protocol"),
        (("--eni", "eni-web1", "--protocol", "gre", "--remote", "8.8.8"), "--remote: "),
        (
            ("--eni", "eni-web1", "--protocol", "gre", "--remote", "8.8.8.8", "--local", "::1"),
            "not of one address family",
        ),
    ],
)
def test_a_packet_that_can_not_be_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--direction", "egress", *arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_an_eni_that_is_not_there_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--eni", "eni-web", "--direction", "egress", "--protocol", "gre", "--remote", "8.8.8.8")
    assert run(*arguments) == 5
    assert "such as eni-web" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ends", "enis", "passes"),
    [
        (("web1", "i-db1", "tcp/5432"), ("eni-web1", "eni-db1"), True),
        (("198.51.100.7", "web1", "tcp/22"), ("eni-web1",), False),
        (("eni-web1", "8.8.8.8", "icmp"), ("eni-web1",), True),
        (("10.20.2.11", "10.20.3.21", "tcp/5433"), ("eni-web1", "eni-db1"), False),
    ],
)
def test_both_ends_may_be_given_by_name(
    ends: tuple[str, ...], enis: tuple[str, ...], passes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, *ends)
    asked = [found["eni"], *([found["other_end"]["eni"]] if found["other_end"] else [])]
    assert (tuple(asked), found["passes"]) == (enis, passes)
    assert run(*ends, "--exit-code") == (0 if passes else 1)


def test_an_interface_of_no_instance_is_found_by_its_id_and_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "state.yaml"
    row = "  - {{network_interface_id: {}, private_ip_addresses: [{}], vpc_id: v, security_group_ids: [s]}}\n"
    enis = row.format("eni-lb", "10.0.0.1") + row.format("eni-db", "10.0.0.2")
    groups = "vpcs: [{vpc_id: v}]\nsecurity_groups: [{security_group_id: s, vpc_id: v}]\n"
    alone.write_text(f"version: 1\n{groups}network_interfaces:\n{enis}", encoding="utf-8")
    for sender, receiver in (("eni-lb", "eni-db"), ("10.0.0.1", "10.0.0.2")):
        found = told(capsys, sender, receiver, "tcp/22", state=alone)
        assert (found["eni"], found["other_end"]["eni"]) == ("eni-lb", "eni-db")


@pytest.mark.parametrize(
    ("sender", "receiver", "words"),
    [
        ("web1", "dbb1", "error: end 'dbb1': the state has no such instance, ENI or address; did you mean db1"),
        ("web1", "zzzzz", "ENI or address; its instances: i-db1, i-db2, i-lb1, i-web1, i-web2"),
        ("web1", "300.1.1.1", "error: end '300.1.1.1': not a valid IP address\n"),
        ("web1", "2001:db8::zz", "error: end '2001:db8::zz': not a valid IP address\n"),
        ("web1", "10.20.9.9", "error: end '10.20.9.9': it is in a VPC's block, and no ENI of the state has it"),
        ("web1", "web1", "error: web1 -> web1: both ends are the same, and what it sends to itself passes no ENI"),
        ("192.0.2.1", "192.0.2.2", "error: 192.0.2.1 -> 192.0.2.2: both are outside every VPC"),
    ],
)
def test_ends_that_can_not_be_asked_about_are_refused_in_words_of_the_state(
    sender: str, receiver: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No word of a lab, where none is."""
    assert run(sender, receiver, "tcp/22") == 5
    err = capsys.readouterr().err
    assert words in err
    assert [word for word in ("lab", "node") if word in err] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("web1", "db1"), "give STATE FROM TO WHAT, such as: state.yaml web db tcp/5432"),
        (("web1", "db1", "tcp/22", "--port", "22"), "--port: FROM, TO and WHAT say it already"),
        ((), "say which flow: FROM TO WHAT, such as web db tcp/5432, or --eni, --direction, --remote"),
    ],
)
def test_one_form_is_needed(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_ports_that_fare_differently_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("web1", "db1", "tcp/5430-5440", "--exit-code") == 1
    rows = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert rows[:4] == ["PORTS", "5430-5431", "5432", "5433-5440"]


def test_ports_that_fare_alike_are_one_flow(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("db1", "db2", "tcp/80-90", "--exit-code") == 0
    said = capsys.readouterr().out
    answer, _, end = said.splitlines()[:3]
    assert answer == "The flow passes: both ends accept it."
    assert end == "eni-db1 egress tcp ports 80-90 to 10.20.3.22: accept"


def test_a_service_names_its_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("web1", "db1", "postgresql") == 0
    by_name = capsys.readouterr().out
    assert run("web1", "db1", "tcp/5432") == 0
    assert capsys.readouterr().out == by_name


@pytest.mark.parametrize("option", ["--json", "--live"])
def test_a_range_is_no_one_packet(
    option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(SystemExit) as ended:
        run("web1", "db1", "tcp/5430-5440", option)
    assert ended.value.code == 2
    assert f"{option} is about one packet" in capsys.readouterr().err

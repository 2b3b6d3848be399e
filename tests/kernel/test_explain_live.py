"""`sgdp explain --live`: the kernel's table beside the state, in labs and on a host, in both placements."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.contract.tables import TABLE
from sgdataplane.lab import manage
from sgdataplane.lab.manage import Lab
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState, SecurityGroupRule
from sgdataplane.net.values import Direction
from sgdataplane.observe.drops import read_counters
from sgdataplane.statefile import dump_native
from tests.support.documents.schemas import assert_conforms
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.kernel.nft import nft
from tests.support.scenes import attachhost, labs
from tests.support.scenes.attachbench import WEB, Bench, state_of
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.kernel
T = f"inet {TABLE}"
SSH = make_rule("ingress tcp 22/22 from 10.0.0.0/16", "sgr-ssh")
NO_V6 = make_rule("ingress all from ::/0 drop 9", "sgr-v6")
NO_MAIL = make_rule("egress tcp 25/25 to 0.0.0.0/0 drop", "sgr-mail")


def policy(*rules: SecurityGroupRule) -> CloudState:
    enis = [make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-a"), make_eni("eni-b", "10.0.0.2 2001:db8::2", "sg-b")]
    return make_state([make_group("sg-a", rules), make_group("sg-b", [NO_MAIL])], enis)


STATE = policy(SSH, NO_V6)
TO_A = ("--eni", "eni-a", "--direction", "ingress", "--protocol", "tcp", "--remote", "10.0.0.2")


def written(folder: Path, state: CloudState) -> Path:
    path = folder / "asked.yaml"
    path.write_text(dump_native(state), encoding="utf-8")
    return path


Told = tuple[int, dict[str, Any], str]


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Exit code, JSON, and the warnings of the text for people."""

    def explain(*arguments: object, state: CloudState = STATE) -> Told:
        command = ["explain", str(written(tmp_path, state)), "--live", *map(str, arguments)]
        capsys.readouterr()
        code = main([*command, "--json"])
        document = json.loads(capsys.readouterr().out)
        assert_conforms("explain", document)
        assert main(command) == code
        return code, document, capsys.readouterr().err

    return explain


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str], placement: str) -> Iterator[Lab]:
    with labs.running(make_lab_name(), STATE, enforce_policy, placement=placement) as lab:
        yield lab


@pytest.fixture
def place(lab: Lab) -> Iterator[str]:
    """The namespace where eni-a is enforced; whatever the test does to its rules is put right."""
    yield next(entry.netns for entry in lab.enforced if "eni-a" in entry.desired.interfaces)
    manage.apply(lab.record.name, STATE, enforce_policy)


# Protocol and perhaps port, remote: whether the flow passes, and what the kernel's table counts it as at eni-a.
ASKED = [
    ("tcp --port 22", "10.0.0.2", True, "rule.sg-a.sgr-ssh"),
    ("tcp --port 23", "10.0.0.2", False, "default.ingress.drop"),
    ("tcp --port 22", "2001:db8::2", False, "rule.sg-a.sgr-v6"),
    ("tcp --port 22", "10.0.0.1", False, "ingress.spoofed"),
    ("icmp", "10.0.0.2", False, "default.ingress.drop"),
]


def judged(lab: Lab) -> list[dict[str, int]]:
    """What rules and defaults have counted. (The kernel sends discovery and MLD at any time.)"""
    kinds = ("rule.", "default.", "inner.")
    counters = (read_counters(entry.netns) for entry in lab.enforced)
    return [{name: count for name, count in found.items() if name.startswith(kinds)} for found in counters]


def test_a_lab_as_it_should_be(lab: Lab, ask: Callable[..., Told]) -> None:
    before = judged(lab)
    for protocol, remote, passes, counter in ASKED:
        asked = ("--eni", "eni-a", "--direction", "ingress", "--remote", remote, "--protocol", *protocol.split())
        code, found, warnings = ask(*asked, "--name", lab.record.name)
        assert (code, warnings) == (0, "")
        assert (found["passes"], found["live"]["counters"][0]) == (passes, counter)
        assert found["live"]["verdict"] == found["verdict"]
        other = found["other_end"]
        assert (other is None) == (remote == "10.0.0.1")
        assert other is None or (other["live"]["agrees"], other["live"]["verdict"]) == (True, "accept")
    assert judged(lab) == before, "nothing was sent"


def test_a_rule_put_before_ours_lets_through_what_the_state_drops(
    lab: Lab, place: str, ask: Callable[..., Told]
) -> None:
    nft(place, f"insert rule {T} ingress tcp dport 23 accept")
    asked = (*TO_A, "--name", lab.record.name, "--port")
    code, found, warnings = ask(*asked, 23)
    assert (code, found["verdict"], found["live"]["verdict"], found["live"]["agrees"]) == (1, "drop", "accept", False)
    first, second = warnings.splitlines()[:2]
    assert "eni-a: the kernel says accept; the state says drop (default)" in first
    assert "isn't what the state says: chain ingress has other rules" in second
    code, found, warnings = ask(*asked, 22)
    assert (code, found["live"]["verdict"], found["live"]["agrees"]) == (1, "accept", True)
    assert found["live"]["differences"] == ["chain ingress has other rules"]
    assert "isn't what the state says: chain ingress has other rules" in warnings
    assert "the kernel says" not in warnings, "of this packet it does"


def test_what_lets_most_pass_is_said_first_whichever_end_it_is_at(
    lab: Lab, place: str, ask: Callable[..., Told]
) -> None:
    """Asked at the sender, whose table has another rule that this packet doesn't meet; the receiver's lets it in."""
    sender = next(entry.netns for entry in lab.enforced if "eni-b" in entry.desired.interfaces)
    nft(sender, f"insert rule {T} egress tcp dport 9999 accept")
    nft(place, f"insert rule {T} ingress tcp dport 23 accept")
    asked = ("--eni", "eni-b", "--direction", "egress", "--remote", "10.0.0.1", "--port", "tcp/23")
    _, _, warnings = ask(*asked, "--name", lab.record.name)
    first, *others = warnings.splitlines()
    assert first == "warning: eni-a: the kernel says accept; the state says drop (default)"
    tables = [line for line in others if "isn't what the state says" in line]
    assert len(tables) == (1 if sender == place else 2), "a table is said to be wrong once, for both ends"


def test_a_base_chain_of_others_in_our_table_has_its_say(lab: Lab, place: str, ask: Callable[..., Told]) -> None:
    hook = lab.enforced[0].desired.site.hooks[Direction.INGRESS]
    opened = f"add chain {T} other {{ type filter hook {hook.name} priority {hook.priority + 1}; policy accept; }}"
    nft(place, opened, f"add rule {T} other tcp dport 22 drop")
    code, found, _ = ask(*TO_A, "--name", lab.record.name, "--port", 22)
    assert (code, found["verdict"], found["live"]["verdict"]) == (1, "accept", "drop")
    assert found["live"]["differences"] == ["chain other: its policy is accept", "chain other is not ours"]


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        (
            f"insert rule {T} ingress limit rate 1/second accept",
            "a rule that can't be read (no chain unreadable: limit)",
        ),
        (f"delete table {T}", "sgdataplane has no table there, so nothing is filtered"),
        (f"add table {T} {{ flags dormant; }}", "the table judges nothing: it is dormant, or lacks a base chain"),
        (f"delete element {T} applied {{ 0x00000000 }}", "the table has no stamp"),
    ],
)
def test_what_can_not_be_told_is_said(
    lab: Lab, place: str, ask: Callable[..., Told], commands: str, words: str
) -> None:
    nft(place, commands)
    code, _, warnings = ask(*TO_A, "--name", lab.record.name, "--port", 22)
    assert code == 1
    assert words in warnings


def test_a_member_taken_out_by_hand_is_missed(lab: Lab, place: str, ask: Callable[..., Told]) -> None:
    with_group = policy(make_rule("ingress tcp 22/22 from sg-b", "sgr-ssh"))
    manage.apply(lab.record.name, with_group, enforce_policy)
    asked = (*TO_A, "--name", lab.record.name, "--port", 22)
    code, found, _ = ask(*asked, state=with_group)
    assert (code, found["live"]["counters"]) == (0, ["rule.sg-a.sgr-ssh"])
    maps = [line.split()[1] for line in nft(place, f"list table {T}").splitlines() if "map members-ipv4" in line]
    for name in maps:
        nft(place, f"flush map {T} {name}")
    code, found, _ = ask(*asked, state=with_group)
    assert (code, found["live"]["verdict"], found["verdict"]) == (1, "drop", "accept")


def test_another_state_than_the_one_in_force(lab: Lab, ask: Callable[..., Told]) -> None:
    asked = (*TO_A, "--name", lab.record.name, "--port", 22)
    code, found, warnings = ask(*asked, state=policy())
    assert (code, found["verdict"], found["live"]["verdict"]) == (1, "drop", "accept")
    assert found["live"]["differences"][0] == "the policy that was applied is another one"
    assert warnings.startswith("warning: this isn't the state that is in force in "), "it explains what follows"
    assert "is missing" not in warnings
    assert main(["explain", "eni-b", "eni-a", "tcp/22", "--live", "--name", lab.record.name]) == 0, "the lab's own"
    only_a = make_state(STATE.security_groups[:1], STATE.network_interfaces[:1])
    code, found, _ = ask(*asked, state=only_a)
    is_also_of_b = lab.placement is Placement.HOST
    assert (code, found["other_end"]) == (1 if is_also_of_b else 0, None)
    assert [line for line in found["live"]["differences"] if "doesn't have eni-b" in line] != [] or not is_also_of_b


def test_what_is_nowhere_is_an_error(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_state([make_group("sg-x")], [make_eni("eni-x", "10.0.0.9", "sg-x")])
    asked = [
        "explain",
        str(written(tmp_path, other)),
        "--direction",
        "egress",
        "--protocol",
        "gre",
        "--remote",
        "8.8.8.8",
    ]
    asked += ["--eni", "eni-x", "--live"]
    assert main([*asked, "--name", lab.record.name]) == 5
    assert "none of its nodes has eni-x; its ENIs: eni-a, eni-b" in capsys.readouterr().err
    assert main([*asked, "--name", "nosuchlab"]) == 5
    assert "no lab of that name is running" in capsys.readouterr().err
    config = tmp_path / "agent.toml"
    config.write_text(f'bindings = "{tmp_path}/none"\n', encoding="utf-8")
    assert main([*asked, "--config", str(config)]) == 5
    assert "the ENI is not attached on this host" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("more", [("--name", "x"), ("--config", "x"), ("--live", "--name", "x", "--config", "x")])
def test_options_that_do_not_fit_are_usage_errors(more: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", str(written(tmp_path, STATE)), *TO_A, "--port", "22", *more])
    assert ended.value.code == 2


def configured(bench: Bench) -> tuple[str, str]:
    path = bench.folder / "agent.toml"
    path.write_text(f'bindings = "{bench.folder}/attached"\n', encoding="utf-8")
    return "--config", str(path)


TO_WEB = ("--eni", "eni-a", "--direction", "ingress", "--protocol", "udp", "--port", WEB)


@pytest.mark.placement("instance")
def test_a_workload_that_is_attached(bench: Bench, ask: Callable[..., Told]) -> None:
    bench.attach()
    state, asked = state_of(WEB), (*TO_WEB, "--remote", "8.8.8.8", *configured(bench))
    code, _, warnings = ask(*asked, state=state)
    assert code == 1
    assert "sgdataplane has no table there" in warnings, "it is attached, but nothing was applied"
    assert bench.apply(state)["exit"] == "0"
    code, found, warnings = ask(*asked, state=state)
    assert (code, warnings, found["live"]["verdict"]) == (0, "", "accept")
    assert found["live"]["namespace"] == f"pid {bench.pid}"
    nft(bench.place, f"flush chain {T} ingress")
    code, found, _ = ask(*asked, state=state)
    assert (code, found["live"]["verdict"]) == (1, "drop")


def test_workloads_whose_host_ends_are_in_a_router(host_bench: Bench, ask: Callable[..., Told]) -> None:
    state = attachhost.state_of(WEB)
    assert host_bench.apply(state, *attachhost.HOST)["exit"] == "0"
    asked = (*TO_WEB, "--remote", "10.0.0.1", *configured(host_bench))
    code, found, warnings = ask(*asked, state=state)
    assert (code, warnings) == (0, ""), found
    assert (found["passes"], found["live"]["namespace"]) == (True, attachhost.ROUTER)
    assert found["other_end"]["live"]["verdict"] == "accept"
    nft(attachhost.ROUTER, f"insert rule {T} ingress drop")
    code, found, _ = ask(*asked, state=state)
    assert (code, found["live"]["verdict"], found["other_end"]["live"]["agrees"]) == (1, "drop", True)

"""Every verb that takes a port takes it as a number, as a service, or with its protocol."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.lab import record

STATE = """
version: 1
vpcs: [{vpc_id: v, cidr_blocks: [10.0.0.0/8]}]
security_groups: [{security_group_id: sg, vpc_id: v, security_group_type: normal}]
instances: [{instance_id: i-a, instance_name: web}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: v, security_group_ids: [sg],
     private_ip_addresses: [10.0.0.1]}
"""
NOWHERE = ("--name", "nosuchlab")  # what the words say is read before that is found out: exit code 5
VERBS = {
    "explain": ("explain", "STATE", "--eni", "web", "--direction", "egress", "--remote", "192.0.2.1"),
    "probe": ("lab", "probe", *NOWHERE, "--from", "a", "--to", "b"),
    "trace": ("trace", *NOWHERE, "--eni", "web"),
    "trace-probe": ("trace", *NOWHERE, "--from", "a", "--to", "b"),
    "sessions": ("sessions", *NOWHERE),
}
ACCEPTED = [
    ("--protocol", "tcp", "--port", "22"),
    ("--protocol", "tcp", "--port", "ssh"),
    ("--protocol", "tcp", "--port", "tcp/22"),
    ("--protocol", "TCP", "--port", "tcp/ssh"),
    ("--protocol", "6", "--port", "tcp/22"),
    ("--port", "tcp/22"),
    ("--port", "udp/domain"),
    ("--port", "tcp/22", "--protocol", "tcp"),
    ("--port", "postgresql"),
    ("--port", "ssh"),
]
REFUSED = [
    (("--protocol", "udp", "--port", "tcp/22"), "--port tcp/22 is tcp, but udp is asked for, too"),
    (("--protocol", "icmp", "--port", "22"), "--port: icmp has no ports"),
    (("--protocol", "icmp", "--port", "tcp/22"), "--port: icmp has no ports"),
    (("--protocol", "tcp", "--port", "tcp/8000-8100"), "is not one port"),
    (("--protocol", "tcp", "--port", "proto/132"), "is not one port"),
    (("--protocol", "tcp", "--port", "icmp/8"), "other protocols none"),
    (("--protocol", "tcp", "--port", "tcp/70000"), "the port must be 1..65535"),
    (("--protocol", "tcp", "--port", "shh"), "neither a port 0..65535 nor a service"),
]
NEED_ONE = ("explain", "probe", "trace-probe")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(record, "LABS_DIR", tmp_path / "labs")
    path = tmp_path / "state.yaml"
    path.write_text(STATE, encoding="utf-8")
    return path


def words_of(verb: str, state: Path, *more: str) -> list[str]:
    return [str(state) if word == "STATE" else word for word in (*VERBS[verb], *more)]


@pytest.mark.parametrize("asked", ACCEPTED, ids=" ".join)
@pytest.mark.parametrize("verb", VERBS)
def test_each_way_to_say_it_is_read(
    verb: str, asked: tuple[str, ...], state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(words_of(verb, state, *asked))
    out, err = capsys.readouterr()
    expected = (0, False) if verb == "explain" else (5, True)
    assert (code, "no lab of that name is running" in err) == expected, out + err


@pytest.mark.parametrize(("asked", "words"), REFUSED, ids=lambda value: " ".join(value) if value[0] == "--" else "")
@pytest.mark.parametrize("verb", VERBS)
def test_what_contradicts_itself_or_is_no_port_is_a_usage_error(
    verb: str, asked: tuple[str, ...], words: str, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words_of(verb, state, *asked))
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "sessions"])
def test_a_source_port_is_of_the_same_protocol(verb: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words_of(verb, state, "--port", "tcp/22", "--source-port", "udp/53"))
    assert ended.value.code == 2
    assert "--source-port udp/53 is udp, but tcp is asked for, too" in capsys.readouterr().err


@pytest.mark.parametrize("verb", NEED_ONE)
def test_a_port_alone_says_no_protocol(verb: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words_of(verb, state, "--port", "22"))
    assert ended.value.code == 2
    assert "tcp/22" in capsys.readouterr().err


WORDS = (("lab", "probe", *NOWHERE), ("trace", *NOWHERE))


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("what", ["tcp/22", "ssh", "icmp", "proto/132"])
@pytest.mark.parametrize("verb", WORDS, ids=lambda verb: verb[0])
def test_a_probe_is_asked_for_in_the_words_of_explain(
    verb: tuple[str, ...], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb, "web", "db", what]) == 5
    assert "no lab of that name is running" in capsys.readouterr().err


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("web",), "TO and WHAT is missing: give FROM, TO and WHAT"),
        (("web", "db"), "WHAT is missing"),
        (("web", "db", "22"), "22"),
        (("web", "db", "tcp/8000-8001"), "name one service"),
        (("web", "db", "tcp/22", "--port", "22"), "--port: FROM, TO and WHAT say it already"),
        (("web", "db", "tcp/22", "--to", "db"), "--to: FROM, TO and WHAT say it already"),
        (("web", "db", "icmp", "--source-port", "99"), "--source-port: icmp has no ports"),
        (("--to", "db", "--port", "ssh"), "say which packet: FROM, TO and WHAT"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("verb", WORDS, ids=lambda verb: verb[0])
def test_a_probe_is_asked_for_in_one_form_and_as_a_whole(
    verb: tuple[str, ...], asked: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*verb, *asked])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err

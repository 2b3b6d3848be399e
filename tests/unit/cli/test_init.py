"""`sgdp init`: what it writes, that `sgdp check` accepts it, and that nothing is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.model.modes import Mode
from sgdataplane.model.state import CloudState, EniType, GroupRef, SecurityGroupRule
from sgdataplane.net.values import Verdict
from sgdataplane.statefile import load
from tests.support.servers.engine import Engine, engine_at, only

MAC = "02:42:ac:11:00:02"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def engine(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    only(monkeypatch, here, docker=here / "docker.sock")
    with engine_at(here / "docker.sock") as found:
        yield found


def end(address: str, length: int = 16, ipv6: str = "", mac: str = MAC) -> dict[str, Any]:
    """As engines write it: what an end doesn't have is empty or 0."""
    return {
        "IPAddress": address, "IPPrefixLen": length, "MacAddress": mac,
        "GlobalIPv6Address": ipv6, "GlobalIPv6PrefixLen": 64 if ipv6 else 0,
    }  # fmt: skip


def entry(name: str, networks: dict[str, Any], *ports: dict[str, Any]) -> dict[str, Any]:
    return {"Names": [f"/{name}"], "Ports": list(ports), "NetworkSettings": {"Networks": networks}}


def port(inside: int, outside: int | None = None, kind: str = "tcp") -> dict[str, Any]:
    return {"PrivatePort": inside, "Type": kind} | ({} if outside is None else {"PublicPort": outside, "IP": "0.0.0.0"})


SHOP = [
    entry("web", {"front": end("172.18.0.2"), "back": end("172.19.0.2", mac="02:42:ac:12:00:02")},
          port(80, 8080), port(81, 8081), port(443), port(53, 53, "udp")),
    entry("db", {"back": end("172.19.0.3", ipv6="fd00::3", mac="02:42:ac:12:00:03")}, port(5432)),
    entry("alone", {"none": end("", 0, mac="")}),
]  # fmt: skip


def answer(engine: Engine, containers: object) -> None:
    engine.answers["json"] = 200, json.dumps(containers)


def check(path: str) -> CloudState:
    """The state, which `sgdp check` accepts."""
    assert main(["check", path]) == 0
    return load(Path(path)).state


def test_the_starter_passes_the_check_without_findings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    assert "comments at its top" in capsys.readouterr().out
    assert main(["check", "--strict", "state.yaml"]) == 0
    assert (here / "state.yaml").read_text().startswith("#")


def test_what_is_there_stays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "state.yaml").write_text("mine")
    assert main(["init"]) == 5
    assert (here / "state.yaml").read_text() == "mine"
    assert "file exists" in capsys.readouterr().err


def test_the_comments_name_the_file(here: Path) -> None:
    assert main(["init", "a b.yaml"]) == 0
    assert "sgdp check 'a b.yaml'" in (here / "a b.yaml").read_text()
    check("a b.yaml")


def test_containers_are_only_observed_at_first(here: Path, engine: Engine) -> None:
    answer(engine, SHOP)
    assert main(["init", "--from-containers"]) == 0
    assert {eni.mode for eni in check("state.yaml").network_interfaces} == {Mode.AUDIT}
    assert "remove its mode" in (here / "state.yaml").read_text()


def test_no_name_of_a_file_ends_a_comment(here: Path) -> None:
    name = "x\nversion: 7\n.yaml"
    assert main(["init", name]) == 0
    assert not [line for line in (here / name).read_text().splitlines() if line.startswith("version: 7")]


@pytest.mark.usefixtures("here")
def test_a_dash_is_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "-"]) == 0
    assert "sgdp check state.yaml" in capsys.readouterr().out


def test_containers_become_enis_in_the_groups_of_their_networks(engine: Engine) -> None:
    answer(engine, SHOP)
    assert main(["init", "--from-containers"]) == 0
    state = check("state.yaml")
    assert {eni.network_interface_id: eni.security_group_ids for eni in state.network_interfaces} == {
        "eni-db": ("net-back", "sg-db"),
        "eni-web": ("net-back", "sg-web"),
        "eni-web--2": ("net-front", "sg-web--2"),
    }
    assert [str(address) for address in state.eni["eni-db"].addresses] == ["172.19.0.3", "fd00::3"]
    assert (state.eni["eni-web"].mac_address, state.eni["eni-web"].type) == ("02:42:ac:12:00:02", EniType.PRIMARY)
    assert [instance.instance_name for instance in state.instances] == ["db", "web"]


def test_what_is_published_is_open_to_everybody_and_all_else_to_the_network(engine: Engine) -> None:
    """By rules of each end alone, so that what is changed for one later opens nothing at the others."""
    answer(engine, SHOP)
    assert main(["init", "--from-containers", "shop.yaml"]) == 0
    state = check("shop.yaml")
    to_web = [("tcp", "80/81", "0.0.0.0/0"), ("udp", "53/53", "0.0.0.0/0")]
    assert {group.security_group_id: sorted(map(spell, group.rules)) for group in state.security_groups} == {
        "net-back": [],
        "net-front": [],
        "sg-db": [("all", "None", "net-back")],
        "sg-web": [("all", "None", "net-back"), *to_web],
        "sg-web--2": [("all", "None", "net-front"), *to_web],
    }
    assert {group.inner_access_policy for group in state.security_groups} == {Verdict.DROP}


def spell(rule: SecurityGroupRule) -> tuple[str, str, str]:
    remote = rule.remote.security_group_id if isinstance(rule.remote, GroupRef) else str(rule.remote)
    return str(rule.ip_protocol), str(rule.port_range), remote


def test_the_head_says_how_to_attach_each(engine: Engine, here: Path) -> None:
    answer(engine, SHOP)
    assert main(["init", "--from-containers"]) == 0
    text = (here / "state.yaml").read_text()
    for eni, container, ifname in (("eni-web", "web", "eth0"), ("eni-web--2", "web", "eth1"), ("eni-db", "db", "eth0")):
        assert f"#   sudo sgdp attach --eni {eni} --container {container} --ifname {ifname} --state state.yaml" in text


def test_a_long_name_makes_ids_that_states_may_have(engine: Engine) -> None:
    long = "x" * 200
    answer(
        engine, [entry(long, {"n": end("10.1.0.2")}, port(80, 80)), entry(long + "y", {"n": end("10.1.0.3", mac="")})]
    )
    assert main(["init", "--from-containers"]) == 0
    assert len(check("state.yaml").network_interfaces) == 2


@pytest.mark.parametrize(
    ("containers", "words"),
    [
        ([], "there is nothing to protect"),
        ([SHOP[2]], "there is nothing to protect"),
        ([SHOP[1], entry("twin", {"back": end("172.19.0.3", mac="")})], "IpAssigned"),
    ],
    ids=["none", "none with an address", "one address twice"],
)
def test_a_state_that_could_not_be_used_is_not_written(
    containers: object, words: str, engine: Engine, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(engine, containers)
    assert main(["init", "--from-containers"]) == 5
    assert words in capsys.readouterr().err
    assert not (here / "state.yaml").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}x",
        "7",
        '[{"Names": []}]',
        '[{"Names": ["/x\\u001b[2J"], "NetworkSettings": {"Networks": {}}}]',
        "[" * 99999,
    ],
    ids=["nothing", "no JSON", "a number", "no name", "an escape", "deep"],
)
def test_an_answer_that_no_engine_gives_is_an_error_of_the_machine(
    text: str, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.answers["json"] = 200, text
    assert main(["init", "--from-containers"]) == 3
    said = capsys.readouterr().err
    assert "list of containers can't be read" in said
    assert "\x1b" not in said


def test_without_an_engine_it_says_what_would_do(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, here)
    assert main(["init", "--from-containers"]) == 5
    assert "podman: not running (its socket" in capsys.readouterr().err

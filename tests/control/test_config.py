"""The API's configuration: each key, each refusal with its place, and which options take a key's place."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.control import config as configs
from sgdataplane.control.config import KINDS, OF_CHOICES, ApiConfig, load_api_config
from sgdataplane.errors import ConfigError, Problem

SAMPLE = Path(__file__).resolve().parents[2] / "systemd" / "api.toml"
STATE = SAMPLE.parents[1] / "examples" / "shop.yaml"
PACKAGED = ("store", "folder", "agent_socket")  # where the package keeps things


def loaded(folder: Path, text: str, **chosen: object) -> ApiConfig:
    path = folder / "api.toml"
    path.write_text(text, "utf-8")
    return load_api_config(path, must_exist=True, chosen=chosen)


def problems(folder: Path, text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as raised:
        loaded(folder, text)
    return list(raised.value.problems)


def test_the_sample_documents_every_key() -> None:
    text = SAMPLE.read_text("utf-8")
    keys = re.findall(r"^#?(\w+) = ", text, re.MULTILINE)
    assert sorted(keys) == sorted(KINDS)
    assert set(KINDS) == {entry.name for entry in fields(ApiConfig)} - {"choices"} | set(OF_CHOICES)


def test_the_sample_has_defaults_but_for_where_the_package_keeps_things(tmp_path: Path) -> None:
    text = SAMPLE.read_text("utf-8")
    assert tuple(re.findall(r"^(\w+) = ", text, re.MULTILINE)) == PACKAGED
    found = loaded(tmp_path, text)
    assert (found.store, str(found.folder), str(found.agent_socket)) == (
        "/var/lib/sgdataplane-api/store.db",
        "/var/lib/sgdataplane-api/state",
        "/run/sgdataplane-api/agent.sock",
    )
    shown = dict(re.findall(r"^#(\w+) = (.*)$", text, re.MULTILINE))
    for key in ("listen", "v1", "classic", *OF_CHOICES):
        assert loaded(tmp_path, f"{key} = {shown[key]}\n") == ApiConfig(), key


def test_every_key_is_taken(tmp_path: Path) -> None:
    text = """
        store = "sqlite:/s"
        key_file = "/k"
        listen = "192.0.2.1:443"
        tls_cert = "/c"
        tls_key = "/d"
        lab = "demo"
        agent_socket = "/a"
        v1 = false
        classic = true
        profile = "2026"
        placement = "host"
    """
    found = loaded(tmp_path, text)
    same = [entry.name for entry in fields(ApiConfig) if getattr(found, entry.name) == getattr(ApiConfig(), entry.name)]
    assert same == ["folder"]
    assert loaded(tmp_path, 'folder = "/f"').folder == Path("/f")
    etcd = "etcd://10.0.0.1:2379,10.0.0.2:2379?ca=/ca"
    assert loaded(tmp_path, f'store = "{etcd}"').store == etcd


@pytest.mark.parametrize(
    "line",
    [
        'store = "cloud.db"',
        'store = "sqlite:"',
        'store = "etcd://"',
        'store = "etcd://10.0.0.1:2379"',
        "store = 1",
        'key_file = "k"',
        'listen = "localhost:8080"',
        'listen = "127.0.0.1"',
        'listen = "127.0.0.1:65536"',
        "listen = 8080",
        'tls_cert = "c"',
        "lab = 1",
        'folder = "f"',
        'agent_socket = "a"',
        'v1 = "yes"',
        'profile = "2027"',
        'placement = "router"',
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_what_would_be_right(tmp_path: Path, line: str) -> None:
    (found,) = problems(tmp_path, f"# a comment\n{line}\n")
    assert (found.code, found.where.line) == ("InvalidConfig.Value", 2)
    assert found.where.pointer == "/" + line.split(maxsplit=1)[0]
    assert found.value
    assert found.expected


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('lab = "a"\nfolder = "/f"', "/folder"),
        ('tls_cert = "/c"', "/tls_cert"),
        ('tls_key = "/k"', "/tls_key"),
        ('listen = "0.0.0.0:8080"', "/listen"),
        ('listen = "[2001:db8::1]:8080"', "/listen"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, text: str, pointer: str) -> None:
    (found,) = problems(tmp_path, text)
    assert (found.code, found.where.pointer) == ("InvalidConfig.Contradiction", pointer)


def test_all_that_is_wrong_is_refused_together(tmp_path: Path) -> None:
    found = problems(tmp_path, 'stor = "/s"\nv1 = 1\nlab = "a"\nfolder = "/f"\n')
    assert [(each.code, each.where.line) for each in found] == [
        ("InvalidConfig.UnknownKey", 1),
        ("InvalidConfig.Value", 2),
        ("InvalidConfig.Contradiction", 4),
    ]
    assert found[0].expected == "store, which is the nearest known key"


def test_options_take_the_place_of_keys(tmp_path: Path) -> None:
    text = 'store = "/s"\nfolder = "/f"\nlisten = "127.0.0.1:1"\n'
    found = loaded(tmp_path, text, lab="demo", listen="127.0.0.1:2")
    assert (found.store, found.folder, found.lab, found.listen) == ("/s", None, "demo", "127.0.0.1:2")
    assert loaded(tmp_path, 'listen = "0.0.0.0:1"', listen="127.0.0.1:1").listen == "127.0.0.1:1"


def test_commands_use_the_store_that_the_configuration_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own, or the usual one; a store that an option names is used without it."""
    usual, mine = tmp_path / "usual.toml", tmp_path / "mine.toml"
    monkeypatch.setattr(configs, "CONFIG_FILE", usual)
    for file in (usual, mine):
        store, key = file.with_suffix(".db"), file.with_suffix(".secret")
        file.write_text(f'store = "{store}"\nkey_file = "{key}"\n', "utf-8")
    given = {"mine": ["--config", str(mine)], "usual": [], "other": ["--store", str(tmp_path / "other.db")]}
    for name, words in given.items():
        assert main(["api", "keys", "create", "--name", name, *words]) == 0
        assert (tmp_path / f"{name}.db").exists()
        capsys.readouterr()
        assert main(["api", *words, "keys", "list"]) == 0
        assert f"  {name}  " in capsys.readouterr().out
        assert main(["api", "import", str(STATE), *words]) == 0
        assert "imported 1 VPC" in capsys.readouterr().out
    keys = {path.name for path in tmp_path.iterdir() if path.suffix in (".secret", ".key")}
    assert keys == {"mine.secret", "usual.secret", "other.db.key"}


def test_without_a_store_nothing_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "api.toml"
    empty.touch()
    with pytest.raises(SystemExit) as raised:
        main(["api", "--config", str(empty)])
    assert raised.value.code == 2
    assert f"no store is named: give --store FILE, or name it in {empty}" in capsys.readouterr().err

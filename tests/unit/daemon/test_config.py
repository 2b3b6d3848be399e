from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from sgdataplane.attach.discover import BindRule
from sgdataplane.attach.registry import Means
from sgdataplane.daemon.config import KINDS, Config, find_start_only_changes, load_config
from sgdataplane.errors import ConfigError, Problem
from sgdataplane.history.merge import HistoryLimits
from sgdataplane.model.choices import CHOICES, ON_HOSTS
from sgdataplane.model.options import Placement

SAMPLE = Path(__file__).resolve().parents[3] / "systemd" / "agent.toml"


def loaded(folder: Path, text: str) -> Config:
    path = folder / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, must_exist=True)


def problems(folder: Path, text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return caught.value.problems


def test_the_sample_documents_every_key_with_its_default(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=\w+ = )", "", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    keys = re.findall(r"^(\w+) = ", text, re.MULTILINE)
    assert keys == list(KINDS)
    fixed = {entry.name for entry in fields(Config)} - {"choices"}
    assert set(keys) == fixed | set(CHOICES)
    packaged = replace(Config(), history=HistoryLimits(30 * 86400, 256 << 20))  # it has no default
    assert loaded(tmp_path, text) == loaded(tmp_path, SAMPLE.read_text(encoding="utf-8")) == packaged


def test_every_key_is_taken(tmp_path: Path) -> None:
    text = """
        state = "/a"
        profile = "2026"
        placement = "host"
        inner_accept_egress = "custom_first"
        midstream_egress = "judge"
sessions_per_eni = 1000
        strict_syn = true
        metadata = ["192.0.2.1", "2001:db8::/64"]
        gateways = ["10.0.0.1"]
        uplinks = ["up0"]
        bind = ["mac", "alias"]
        bind_in = ["w-*", "db[0-9]"]
        audit = ["eni-a", "*"]
        audit_until = "2026-12-24T00:00:00Z"
        on_change = "keep"
        conntrack_max = "keep"
        adoption_window = 0
        resync = 1
        fence = false
        prove = false
        bindings = "/b"
        state_directory = "/c"
        socket = "/d"
        status_socket = "/e"
        log_level = "debug"
        metrics = "[::1]:9469"
        [history]
    """
    config = loaded(tmp_path, text)
    assert not any(getattr(config, entry.name) == getattr(Config(), entry.name) for entry in fields(Config))
    assert not any(config.choices.value(name) == ON_HOSTS.value(name) for name in CHOICES)
    manner = config.manner
    assert (manner.profile, manner.options) == ("2026", config.choices.options)
    assert (manner.placement, manner.uplinks) == (Placement.HOST, ("up0",))
    assert config.bind_rule == BindRule((Means.MAC, Means.ALIAS), ("w-*", "db[0-9]"))
    assert (manner.settings.on_change, manner.settings.adoption_window) == ("keep", 0)
    assert (manner.settings.fence, manner.settings.prove) == (False, False)


BAD_VALUES = [
    'state = "relative"',
    "state = 1",
    'state = ["/a"]',
    "profile = 2026",
    'profile = "2025"',
    'inner_accept_egress = "last"',
    'midstream_egress = "accept"',
    'strict_syn = "yes"',
    'metadata = "100.100.100.200"',
    'metadata = ["100.100.100.200/33"]',
    "metadata = [1]",
    'gateways = ["10.0.0.0/24"]',
    'gateways = ["eth0"]',
    'placement = "router"',
    "placement = true",
    'uplinks = "up0"',
    'uplinks = ["a name"]',
    "uplinks = [1]",
    'bind = "alias"',
    'bind = ["attach"]',
    'bind = ["mac", "mac"]',
    "bind = [[]]",
    'bind_in = "*"',
    'bind_in = ["a/b"]',
    'bind_in = [""]',
    "bind_in = [1]",
    'on_change = "flush"',
    "on_change = []",
    'conntrack_max = "raise"',
    "conntrack_max = 524288",
    "adoption_window = -1",
    "adoption_window = true",
    "adoption_window = nan",
    'resync = "5"',
    "resync = 0",
    "resync = 1e9",
    "fence = 1",
    'prove = "yes"',
    'socket = "a\\u0000b"',
    'log_level = "DEBUG"',
    "log_level = {}",
    "metrics = 9469",
    'metrics = "9469"',
    'metrics = "localhost:9469"',
    'metrics = "127.0.0.1"',
    'metrics = "127.0.0.256:9469"',
    'metrics = "127.0.0.1:0"',
    'metrics = "127.0.0.1:65536"',
    'metrics = "::1:9469"',
    'metrics = "[127.0.0.1]:9469"',
    'metrics = "http://127.0.0.1:9469"',
    'history = "30d"',
    'history = {keep = "30"}',
    'history = {keep = "59m"}',
    'history = {keep = "4000d"}',
    "history = {keep = 30}",
    "history = {max_mb = 7}",
    "history = {max_mb = true}",
    "history = {max_mb = 65537}",
    'history = {kep = "30d"}',
]


@pytest.mark.parametrize("line", BAD_VALUES)
def test_a_wrong_value_is_refused_with_its_place_and_what_would_be_right(tmp_path: Path, line: str) -> None:
    (found,) = problems(tmp_path, f"# a comment\n{line}\n")
    assert (found.code, found.where.line) == ("InvalidConfig.Value", 2)
    assert found.where.pointer == "/" + line.split(maxsplit=1)[0]
    assert found.value
    assert found.expected


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, 'resnyc = 5\nfence = "no"\n[prometheus]\nport = 1\n')
    assert [(problem.code, problem.where.line) for problem in found] == [
        ("InvalidConfig.UnknownKey", 1),
        ("InvalidConfig.Value", 2),
        ("InvalidConfig.UnknownKey", 3),
    ]
    assert found[0].expected == "resync, which is the nearest known key"


def test_uplinks_without_routers_are_refused(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, 'uplinks = ["up0"]\n')
    assert (found.code, found.where.line) == ("InvalidConfig.Contradiction", 1)


@pytest.mark.parametrize(("text", "line"), [("a = \n", 1), ("a = 1\nb = [\n", 0), ("a = 1\na = 2\n", 2)])
def test_what_is_not_toml_is_refused(tmp_path: Path, text: str, line: int) -> None:
    (found,) = problems(tmp_path, text)
    assert (found.code, found.expected) == ("InvalidConfig.Malformed", "TOML 1.0")
    assert not line or found.where.line == line


def test_a_file_that_is_not_there_stands_for_the_defaults_unless_it_was_named(tmp_path: Path) -> None:
    assert load_config(tmp_path / "none", must_exist=False) == Config()
    with pytest.raises(ConfigError, match="NotFound"):
        load_config(tmp_path / "none", must_exist=True)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NotReadable"):
        load_config(tmp_path, must_exist=False)
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="NotReadable"):
        load_config(tmp_path / "bytes", must_exist=True)
    (tmp_path / "large").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="TooLarge"):
        load_config(tmp_path / "large", must_exist=True)


def test_what_is_taken_at_start_only_is_told() -> None:
    new = replace(Config(), socket=Path("/x"), resync=5.0)
    assert find_start_only_changes(Config(), new) == ("socket",)


def test_what_was_chosen_on_the_command_line_holds_whatever_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('placement = "host"\nuplinks = ["up0"]\nstrict_syn = true\n', encoding="utf-8")
    config = load_config(path, must_exist=True, chosen={"on_change": "keep", "strict_syn": False})
    assert (config.choices.placement, config.choices.on_change) == (Placement.HOST, "keep")
    assert not config.choices.options.strict_syn
    with pytest.raises(ConfigError, match="without host placement"):
        load_config(path, must_exist=True, chosen={"placement": Placement.INSTANCE})

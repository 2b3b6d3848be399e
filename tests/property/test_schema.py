"""The JSON Schema of state files is never stricter than the reader: it takes every good state, and what it refuses the
reader refuses, too."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sgdataplane.errors import StateFileError
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native
from sgdataplane.statefile.keys import INNER_KEYS, KEYS, TOP_KEYS
from sgdataplane.statefile.load import LoadOptions, load_sources
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.schema import state_schema
from sgdataplane.statefile.source import SourceText
from sgdataplane.statefile.yamltext import parse_yaml
from tests.property.test_roundtrip import ATOMS, TREES, WORDS, loadable
from tests.support.run.amounts import holds_for
from tests.unit.statefile.test_native import EVERY_FIELD

ROOT = Path(__file__).resolve().parents[2]
# What people may write in place of each other: the same in capitals, a number in quotes, a key of another object.
VALUES = ATOMS | st.sampled_from(
    ["Ingress", "TCP", " udp ", "6", 6, 17, 256, -1, "443/443", "0/5", "70000/1", "Accept", "enterprise", "CLASSIC",
     110, 100, 101, 0, [], ["10.9.0.1"], ["10.9.0.1/32"], ["sg-0", "sg-0"], {}, "fe80::1", "1.2.3.4", "10.9.0.1/33",
     "IPV6", "00-16-3E-00-00-01", "01:00:00:00:00:01", [{}], {"tcp_established_timeout": 910}, {"a": ""}, {"": "a"},
     "sgr 1"]
)  # fmt: skip


@cache
def schema() -> Draft202012Validator:
    Draft202012Validator.check_schema(state_schema())
    return Draft202012Validator(state_schema())


def is_readable(document: object) -> bool:
    sources = (SourceText("s.json", json.dumps(document)),)
    try:
        load_sources(sources, LoadOptions("unlimited"), Problems(), Memory())
    except StateFileError:
        return False
    return True


OF_THE_REPOSITORY = [
    path for at in ("netns-lab", "tests/golden", "examples") for path in sorted((ROOT / at).rglob("*.yaml"))
]


@pytest.mark.parametrize("path", OF_THE_REPOSITORY, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_repositorys_states_conform(path: Path) -> None:
    schema().validate(parse_yaml(path.read_text("utf-8")))


def test_a_state_with_every_field_conforms() -> None:
    document = parse_yaml(EVERY_FIELD)
    assert isinstance(document, dict)
    schema().validate(document)
    assert {name for section in document for entry in of(document, section) for name in entry} >= {
        name for keys in KEYS.values() for name in keys
    }


def of(document: dict[str, Any], section: str) -> list[dict[str, Any]]:
    return document[section] if section in KEYS else []


@holds_for(loadable(), few=40, many=150)
def test_every_state_that_is_written_conforms(state: CloudState) -> None:
    schema().validate(parse_yaml(dump_native(state)))


def places(value: object) -> Iterator[tuple[Any, Any]]:
    """(collection, key) of every value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from places(inner)


@holds_for(loadable(), st.data(), few=100, many=400)
def test_what_it_refuses_the_reader_refuses_too(state: CloudState, data: st.DataObject) -> None:
    """Some values of a good state are replaced, some keys are added or removed."""
    document = copy.deepcopy(parse_yaml(dump_native(state)))
    for _ in range(data.draw(st.integers(1, 3))):
        found = list(places(document))
        if not found:
            break
        around, key = data.draw(st.sampled_from(found))
        match data.draw(st.sampled_from(("replace", "remove", "add"))):
            case "replace":
                around[key] = data.draw(VALUES)
            case "remove":
                del around[key]
            case "add" if isinstance(around, dict):
                around[data.draw(st.sampled_from(WORDS))] = data.draw(VALUES)
    assert schema().is_valid(document) or not is_readable(document)


@holds_for(st.dictionaries(st.sampled_from(tuple(TOP_KEYS)), TREES, max_size=4), few=100, many=400)
def test_no_tree_that_it_refuses_can_be_read(tree: dict[str, object]) -> None:
    assert schema().is_valid(tree) or not is_readable(tree)


REFUSED: dict[str, object] = {
    "an unknown key": {"version": 1, "groups": []},
    "nothing": {},
    "an unknown key of a rule": {"direction": "ingress"},
    "an unknown word": {"type": "inward"},
    "a port that is no range": {"port_range": "443"},
    "a priority out of range": {"priority": 0},
    "no remote": {"cidr_ip": None},
    "tcp without ports": {"port_range": None},
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_an_editor_should_show(name: str) -> None:
    """So that the property above isn't true because the schema takes everything."""
    document: Any = REFUSED[name]
    if "rule" in name or name not in ("an unknown key", "nothing"):
        good = {"type": "ingress", "ip_protocol": "tcp", "port_range": "443/443", "cidr_ip": "0.0.0.0/0"}
        schema().validate(of_rule(good))
        changed = {key: value for key, value in {**good, **document}.items() if value is not None}
        document = of_rule(changed)
    assert not schema().is_valid(document)
    assert not is_readable(document)


def of_rule(rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "vpcs": [{"vpc_id": "vpc-a"}],
        "security_groups": [{"security_group_id": "sg-a", "vpc_id": "vpc-a", "rules": [rule]}],
    }


def test_every_key_of_the_reader_is_described() -> None:
    tables = [TOP_KEYS, *KEYS.values(), *{id(keys): keys for keys in INNER_KEYS.values()}.values()]
    described = [state_schema()["properties"], *(each["properties"] for each in state_schema()["$defs"].values())]
    assert sorted(map(sorted, tables)) == sorted(map(sorted, described))
    assert all(entry["description"] for properties in described for entry in properties.values())

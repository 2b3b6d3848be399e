"""A load that uses what the one before left gives the same state, findings and refusals as a load from nothing, after
any sequence of edits."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import Memory, dump_native, load
from sgdataplane.statefile.dump_native import sections
from tests.support.inputs import hardpolicies
from tests.support.inputs.edits import edited
from tests.support.run.amounts import few_or_many

STEPS = 15
SPOILED: tuple[tuple[str, object], ...] = (
    ("priority", True),  # which equals 1, to Python
    ("priority", 1.0),
    ("priority", 0),
    ("type", "inwards"),
    ("vpc_id", "vpc-other"),
    ("mac_address", 7),
)


def small(seed: int) -> CloudState:
    state = hardpolicies.mixture(seed, 30)
    return replace(state, network_interfaces=state.network_interfaces[:60])


def outcome(path: Path, memory: Memory | None) -> object:
    try:
        return load(path, profile="unlimited", memory=memory)
    except StateFileError as error:
        return error.problems


def spoiled(document: dict[str, list[dict[str, object]]], chance: random.Random) -> None:
    """Some value is replaced by another one, which may be wrong."""
    key, wrong = chance.choice(SPOILED)
    objects = [entry for section in document.values() for entry in section]
    objects += [rule for entry in objects for rule in entry.get("rules", ())]  # type: ignore[attr-defined]
    fitting = [entry for entry in objects if key in entry]
    if fitting:
        chance.choice(fitting)[key] = wrong


@pytest.mark.parametrize("suffix", ["json", "yaml", "folder"])
@few_or_many("seed", 0, 1)
def test_a_load_is_the_same_whatever_was_loaded_before(tmp_path: Path, suffix: str, seed: int) -> None:
    chance = random.Random(f"{seed} {suffix}")
    state, memory = small(seed), Memory()
    refused = 0
    for _ in range(STEPS):
        before, state = state, edited(state, chance) if chance.random() < 0.8 else state
        path = tmp_path / f"state.{suffix}"
        plain = json.loads(json.dumps(sections(state)))
        if chance.random() < 0.4:
            spoiled(plain, chance)
        if suffix == "yaml":
            path.write_text(dump_native(state), encoding="utf-8")
        elif suffix == "json":
            path.write_text(json.dumps(plain), encoding="utf-8")
        else:
            path.mkdir(exist_ok=True)
            for name, objects in plain.items():
                (path / f"{name}.json").write_text(json.dumps({name: objects}), encoding="utf-8")
        wanted = outcome(path, None)
        assert outcome(path, memory) == wanted
        if isinstance(wanted, tuple):
            state, refused = before, refused + 1
    assert suffix == "yaml" or 0 < refused < STEPS


def test_what_stands_there_as_before_is_not_read_again(tmp_path: Path) -> None:
    path, memory = tmp_path / "state.yaml", Memory()
    state = small(0)
    path.write_text(dump_native(state), encoding="utf-8")
    first = load(path, profile="unlimited", memory=memory).state
    path.write_text("versoin: 1\n", encoding="utf-8")
    with pytest.raises(StateFileError):
        load(path, profile="unlimited", memory=memory)
    group = next(group for group in state.security_groups if group.rules)
    groups = tuple(replace(entry, description="other") if entry is group else entry for entry in state.security_groups)
    path.write_text(dump_native(replace(state, security_groups=groups)), encoding="utf-8")
    second = load(path, profile="unlimited", memory=memory).state
    assert all(a is b for a, b in zip(first.network_interfaces, second.network_interfaces, strict=True))
    same = [a is b for a, b in zip(first.security_groups, second.security_groups, strict=True)]
    assert same.count(False) == 1

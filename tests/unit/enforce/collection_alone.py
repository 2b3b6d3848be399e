"""The garbage collector during builds: what a build makes counts as old at once, and needs no collector to be freed.

test_collection.py runs this in a process of its own, whose objects are these tests' alone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from sgdataplane.collection import _GROWTH, LEAST, _is_kept_out, no_collection, tidy
from sgdataplane.enforce import Desired, Proven, build
from sgdataplane.model.state import CloudState
from tests.support.inputs.hardpolicies import POLICIES, targets

ROUNDS = 3


@contextmanager
def _kept_garbage() -> Iterator[list[object]]:
    """Everything that only the collector can free, and that became garbage in the block."""
    gc.collect()
    flags, was_on = gc.get_debug(), gc.isenabled()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        found: list[object] = []
        yield found
        gc.collect()
        found += gc.garbage
    finally:
        gc.garbage.clear()
        gc.set_debug(flags)
        if was_on:
            gc.enable()


def _desired(state: CloudState) -> Desired:
    return Desired(state, {targets(state)[0].network_interface_id: "eth0"})


def _without_a_rule(state: CloudState, place: int) -> CloudState:
    first, *others = state.security_groups
    fewer = replace(first, rules=(*first.rules[:place], *first.rules[place + 1 :]))
    return replace(state, security_groups=(fewer, *others))


@pytest.mark.parametrize("name", ["typical", "five_tuple"])
def test_no_build_leaves_anything_that_only_the_collector_can_free(name: str) -> None:
    state = POLICIES[name](0, 80)
    current: Proven = build(_desired(state))
    with _kept_garbage() as garbage:
        for place in range(ROUNDS):
            current = build(_desired(_without_a_rule(state, place)), previous=current)
    assert not {type(entry).__qualname__ for entry in garbage if type(entry).__module__.startswith("sgdataplane")}


def test_garbage_in_a_cycle_is_seen_by_that_test() -> None:
    with _kept_garbage() as garbage:
        cycle: list[object] = [_desired(POLICIES["typical"](0, 20))]
        cycle.append(cycle)
        del cycle
    assert any(isinstance(entry, Desired) for entry in garbage)


def test_what_a_pause_leaves_is_old() -> None:
    gc.collect()
    with no_collection():
        assert not gc.isenabled()
        made = [[number] for number in range(5_000)]
    assert gc.isenabled()
    young = {id(entry) for generation in (0, 1) for entry in gc.get_objects(generation)}
    assert not young & set(map(id, made))


@contextmanager
def _cycle_of_a_pause() -> Iterator[list[str]]:
    """A cycle that was made in a pause; something is in the list once it is freed."""

    class Node:
        own: Node

    freed: list[str] = []
    _GROWTH.look()
    with no_collection():
        node = Node()
        node.own = node
        weakref.finalize(node, freed.append, "freed")
        del node
    assert not freed
    yield freed


def test_a_cycle_is_freed_by_who_tidies_once_there_may_be_twice_as_many_objects() -> None:
    with _cycle_of_a_pause() as freed:
        tidy()
        assert not freed
        _GROWTH.add(LEAST + len(gc.get_objects()))
        with no_collection():
            pass
        assert not freed
        tidy()
        assert freed == ["freed"]


def test_it_is_freed_by_a_later_pause_if_nobody_tidies() -> None:
    with _cycle_of_a_pause() as freed:
        _GROWTH.add(2 * (LEAST + len(gc.get_objects())))
        with no_collection():
            pass
        assert freed == ["freed"]


def test_objects_that_a_program_keeps_out_of_all_collections_stay_so() -> None:
    gc.freeze()
    _is_kept_out.cache_clear()
    try:
        kept = gc.get_freeze_count()
        _GROWTH.add(4 * (LEAST + len(gc.get_objects())))
        with no_collection():
            pass
        tidy()
        assert gc.get_freeze_count() >= kept > 0
    finally:
        gc.unfreeze()
        _is_kept_out.cache_clear()


def test_a_pause_inside_of_another_one_changes_nothing() -> None:
    with no_collection(), no_collection():
        pass
    assert gc.isenabled()

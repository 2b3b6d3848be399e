"""An ENI's mode in every format: what is read, what is written back, and what can't be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.model.modes import MODE_TAG, UNTIL_TAG, Mode, mode_of_tags, until_seconds, until_text
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_ecs, dump_native, load
from sgdataplane.statefile.load import Loaded
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.unit.statefile.ecs_documents import eni
from tests.unit.statefile.test_ecs import read

UNTIL = "2026-12-24T00:00:00Z"
AUDITED = make_state(
    [make_group("sg-a")],
    [
        make_eni("eni-a", "10.0.0.1", "sg-a", mode=Mode.AUDIT, audit_until=UNTIL),
        make_eni("eni-b", "10.0.0.2", "sg-a", mode=Mode.AUDIT),
        make_eni("eni-c", "10.0.0.3", "sg-a"),
    ],
)
MODES = {"eni-a": (Mode.AUDIT, UNTIL), "eni-b": (Mode.AUDIT, ""), "eni-c": (Mode.ENFORCE, "")}


def modes(state: CloudState) -> dict[str, tuple[Mode, str]]:
    return {eni.network_interface_id: (eni.mode, eni.audit_until) for eni in state.network_interfaces}


def test_what_is_written_in_the_native_format_is_read_back(tmp_path: Path) -> None:
    text = dump_native(AUDITED)
    assert "mode: enforce" not in text
    path = tmp_path / "state.yaml"
    path.write_text(text)
    assert modes(load(path).state) == MODES


def test_what_is_written_as_answers_is_read_back_from_tags(tmp_path: Path) -> None:
    for name, text in dump_ecs(AUDITED).items():
        (tmp_path / name).write_text(text)
    assert modes(load(tmp_path).state) == MODES


def answered(folder: Path, tags: dict[str, str]) -> Loaded:
    items = [{"Key": key, "Value": value} for key, value in tags.items()]
    return read(folder, one={"RequestId": "R", **eni("eni-2", "10.0.0.6"), "Tags": {"Tag": items}})


@pytest.mark.parametrize(
    ("tags", "odd"),
    [
        ({MODE_TAG: "Audit"}, [MODE_TAG]),
        ({MODE_TAG: "observe"}, [MODE_TAG]),
        ({MODE_TAG: "audit", UNTIL_TAG: "tomorrow"}, [UNTIL_TAG]),
        ({MODE_TAG: "enforce", UNTIL_TAG: UNTIL}, []),
        ({UNTIL_TAG: UNTIL}, []),
        ({"env": "audit"}, []),
    ],
    ids=str,
)
def test_what_tags_say_that_cant_be_read_is_enforced_and_told(
    tags: dict[str, str], odd: list[str], tmp_path: Path
) -> None:
    found = answered(tmp_path, tags)
    assert found.state.eni["eni-2"].mode is Mode.ENFORCE
    told = [finding for finding in found.findings if finding.code == "UnreadableMode"]
    assert [tag for tag in odd if any(tag in finding.message for finding in told)] == odd
    assert len(told) == len(odd)
    control = answered(tmp_path, {MODE_TAG: "audit", UNTIL_TAG: UNTIL}).state.eni["eni-2"]
    assert (control.mode, control.audit_until) == (Mode.AUDIT, UNTIL)


def test_a_time_of_audit_is_over_at_its_second_and_not_before() -> None:
    before, after = until_text(until_seconds(UNTIL) - 1), until_text(until_seconds(UNTIL))
    assert AUDITED.at(before) is AUDITED
    assert modes(AUDITED.at(after)) == MODES | {"eni-a": (Mode.ENFORCE, "")}


def test_times_are_in_the_order_of_their_texts() -> None:
    assert until_text(until_seconds(UNTIL)) == UNTIL
    assert mode_of_tags({MODE_TAG: "audit", UNTIL_TAG: UNTIL}) == (Mode.AUDIT, UNTIL)

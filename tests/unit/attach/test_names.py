"""Containers are shown by the names that their engines know, whatever else engines say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.attach import containers
from sgdataplane.attach.names import WorkloadNames
from tests.support.servers.engine import ID, Engine, engine_at, only

LIST = "json?all=true"
SHOWN = ID[:12]
BY_HOOK = f"attachment oci:{SHOWN}"


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """It runs alone: docker's socket isn't there."""
    paths = {name: tmp_path / f"{name}.sock" for name in containers.ENGINES}
    only(monkeypatch, tmp_path, **paths)
    with engine_at(paths["podman"]) as engine:
        yield engine


def lists(engine: Engine, *containers: object) -> None:
    engine.answers[LIST] = 200, json.dumps(containers)


def test_a_container_that_a_hook_bound_is_shown_by_its_name(podman: Engine) -> None:
    lists(podman, {"Id": "f" * 64, "Names": ["/other"]}, {"Id": ID, "Names": ["/web"]})
    names = WorkloadNames.of(["netns db1", BY_HOOK])
    assert names.place(BY_HOOK) == "container web"
    assert names.label("eni-web1", BY_HOOK) == "eni-web1 (web)"
    assert podman.asked == [f"/containers/{LIST}"]


@pytest.mark.parametrize(
    "entry",
    [
        {"Id": ID, "Names": []},
        {"Id": ID, "Names": ["/\x1b[31mweb"]},
        {"Id": ID, "Names": [7]},
        {"Id": SHOWN, "Names": ["/web"]},
        {"Names": ["/web"]},
        "web",
        None,
    ],
)
def test_without_a_name_the_id_is_shown(podman: Engine, entry: object) -> None:
    lists(podman, entry)
    names = WorkloadNames.of([BY_HOOK])
    assert names.place(BY_HOOK) == f"container {SHOWN}"
    assert names.label("eni-web1", BY_HOOK) == "eni-web1"


def test_an_engine_that_answers_no_list_knows_no_names(podman: Engine) -> None:
    for status, text in ((200, "{}"), (200, "7"), (200, "["), (500, "[]")):
        podman.answers[LIST] = status, text
        assert WorkloadNames.of([BY_HOOK]).by_id == {}
    lists(podman, {"Id": ID, "Names": ["/web"]})
    assert WorkloadNames.of([BY_HOOK]).by_id == {SHOWN: "web"}


def test_no_engine_is_asked_about_what_has_a_name(podman: Engine) -> None:
    lists(podman, {"Id": ID, "Names": ["/web"]})
    names = WorkloadNames.of(["container db", "netns db1", "pid 7", f"attachment podnet/{SHOWN}"])
    assert podman.asked == []
    shown = ["container db", "netns db1", "pid 7", f"container {SHOWN} of network podnet"]
    assert [names.place(each) for each in ("container db", "netns db1", "pid 7", f"attachment podnet/{SHOWN}")] == shown
    assert names.label("eni-db", "container db") == "eni-db (db)"
    assert names.label("eni-db", "netns db1") == "eni-db"

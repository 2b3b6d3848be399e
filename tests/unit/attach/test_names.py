"""Containers are shown by the names that their engines know, and pods by those that their runtime said, whatever else
they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.attach import containers
from sgdataplane.attach.names import NO_NAMES, WorkloadNames
from sgdataplane.attach.registry import Binding, Registry
from sgdataplane.attach.workload import Naming, Workload
from sgdataplane.host.identity import Identity
from tests.support.servers.engine import ID, Engine, engine_at, only

LIST = "json?all=true"
SHOWN = ID[:12]
BY_HOOK = f"attachment oci:{SHOWN}"
POD = "attachment podnet/0123456789ab"


def binding(named: str, eni_id: str = "eni-web1", *, pod: str = "", superseded: bool = False) -> Binding:
    return Binding(eni_id, "eth0", named, "/p", Identity(5, 7), superseded=superseded, pod=pod)


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
    names = WorkloadNames.of([binding("netns db1", "eni-db1"), binding(BY_HOOK)])
    assert names.place(BY_HOOK) == "container web"
    assert names.describe(binding(BY_HOOK)) == "eth0 of container web"
    assert names.label("eni-web1") == "eni-web1 (web)"
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
    names = WorkloadNames.of([binding(BY_HOOK)])
    assert names.place(BY_HOOK) == f"container {SHOWN}"
    assert (names.workload("eni-web1"), names.label("eni-web1")) == (None, "eni-web1")


def test_an_engine_that_answers_no_list_knows_no_names(podman: Engine) -> None:
    for status, text in ((200, "{}"), (200, "7"), (200, "["), (500, "[]")):
        podman.answers[LIST] = status, text
        assert WorkloadNames.of([binding(BY_HOOK)]).by_id == {}
    lists(podman, {"Id": ID, "Names": ["/web"]})
    assert WorkloadNames.of([binding(BY_HOOK)]).by_id == {SHOWN: "web"}


def test_no_engine_is_asked_about_what_has_a_name(podman: Engine) -> None:
    lists(podman, {"Id": ID, "Names": ["/web"]})
    container, other = str(Workload(Naming.CONTAINER, "db")), f"attachment podnet/{SHOWN}"
    some = {"eni-db": container, "eni-cache": "netns cache", "eni-job": "pid 7", "eni-other": other}
    names = WorkloadNames.of(binding(named, eni_id) for eni_id, named in some.items())
    assert podman.asked == []
    shown = ["container db", "netns cache", "pid 7", f"container {SHOWN} of network podnet"]
    assert [names.place(each) for each in some.values()] == shown
    assert [names.label(each) for each in some] == ["eni-db (db)", "eni-cache", "eni-job", "eni-other"]


def test_a_pod_is_shown_by_its_namespace_and_name() -> None:
    names = WorkloadNames.of([binding(POD, pod="shop/web-0")])
    assert names.place(POD) == "pod shop/web-0 of network podnet"
    assert names.label("eni-web1") == "eni-web1 (shop/web-0)"


def test_an_eni_has_the_name_of_where_it_is_bound_now() -> None:
    names = WorkloadNames.of([binding("container old", superseded=True), binding("container new")])
    assert names.workload("eni-web1") == "new"


def test_json_has_names_beside_its_enis() -> None:
    names = WorkloadNames.of([binding("container web"), binding("container db", "eni-db")])
    row = {"event": "denied", "eni": "eni-web1", "direction": "ingress", "end": "eni-db"}
    assert list(names.add_to(row).items()) == [
        ("event", "denied"),
        ("eni", "eni-web1"),
        ("workload", "web"),
        ("direction", "ingress"),
        ("end", "eni-db"),
        ("end_workload", "db"),
    ]
    assert names.add_to({"eni": None, "end": "192.0.2.7"}) == {
        "eni": None,
        "workload": None,
        "end": "192.0.2.7",
        "end_workload": None,
    }


def test_a_record_that_cannot_be_read_has_no_names(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    with registry.lock():
        registry.store([binding("container web")])
    assert WorkloadNames.read(registry).workload("eni-web1") == "web"
    registry.path.write_text("{", "utf-8")
    assert WorkloadNames.read(registry) == NO_NAMES

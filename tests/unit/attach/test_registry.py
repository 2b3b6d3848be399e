"""The record of bindings: what was written is read back, and anything else is refused as a whole."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.attach.registry import Binding, EndNumbers, HostEnd, Means, Registry, current
from sgdataplane.errors import BindingError, HostError
from sgdataplane.host.files import beside_of
from sgdataplane.host.identity import Identity

ONE = Binding("eni-a", "eth0", "pid 17", "/proc/17/ns/net", Identity(4026532398, 7))
END = HostEnd("sgdp-vpc-a", "eni-b", "veth7", "/proc/thread-self/ns/net", Identity(4026531833, 3))
TWO = Binding("eni-b", "eth1", "container web", "/proc/18/ns/net", Identity(4026532399, 8), END, Means.MAC)
POD = replace(ONE, pod="shop/web-0")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "run" / "attached")


def test_what_is_stored_is_loaded_by_eni(registry: Registry) -> None:
    assert registry.load() == ()
    with registry.lock():
        registry.store((TWO, ONE))
        assert registry.load() == (ONE, TWO)
        registry.store((TWO,))
        assert registry.load() == (TWO,)
        registry.store((POD,))
        assert registry.load() == (POD,)
        registry.forget()
        registry.forget()
        assert registry.load() == ()


def test_one_eni_is_bound_once_beside_where_it_was_before(registry: Registry) -> None:
    before = replace(ONE, identity=Identity(4026532400, 9), superseded=True)
    earlier = replace(ONE, identity=Identity(4026532401, 8), superseded=True)
    with registry.lock():
        registry.store((before, TWO, earlier, ONE))
        assert registry.load() == (ONE, earlier, before, TWO)
        assert current(registry.load()) == (ONE, TWO)
        registry.store((ONE, replace(before, superseded=False)))
        with pytest.raises(BindingError, match="each ENI once"):
            registry.load()


def test_a_write_that_was_cut_short_leaves_the_record(registry: Registry) -> None:
    with registry.lock():
        registry.store((ONE,))
        beside_of(registry.path).write_text('{"version": 1, "bind')
        assert registry.load() == (ONE,)
        registry.store((TWO,))
        assert registry.load() == (TWO,)


def changed(**fields: object) -> dict[str, object]:
    entry = {
        "eni": "eni-a",
        "ifname": "eth0",
        "named": "pid 17",
        "path": "/p",
        "means": "alias",
        "inode": 5,
        "cookie": 7,
        "host_end": None,
        **fields,
    }
    return {key: value for key, value in entry.items() if value is not ...}


@pytest.mark.parametrize("missing", [("means",), ("means", "host_end")])
def test_what_versions_before_wrote_is_read(registry: Registry, missing: tuple[str, ...]) -> None:
    """They had no host placement, and only `sgdp attach` bound interfaces."""
    entry = changed(**dict.fromkeys(missing, ...))
    with registry.lock():
        registry.path.write_text(json.dumps({"version": 1, "bindings": [entry]}), encoding="utf-8")
        (binding,) = registry.load()
    assert (binding.means, binding.host_end, binding.eni_id) == (Means.ATTACH, None, "eni-a")


def test_host_ends_of_versions_before_have_no_numbers_yet(registry: Registry) -> None:
    numbers = {"index": 7, "peer": 2, "peer_nsid": 0, "mac": "02:00:00:00:00:01", "alias": ""}
    for more, expected in (({}, None), ({"numbers": numbers}, EndNumbers(7, 2, 0, "02:00:00:00:00:01", ""))):
        with registry.lock():
            entry = changed(host_end=END_ENTRY | more)
            registry.path.write_text(json.dumps({"version": 1, "bindings": [entry]}), encoding="utf-8")
            (binding,) = registry.load()
            assert binding.host_end is not None
            assert binding.host_end.numbers == expected
            registry.store((binding,))
            assert Registry(registry.path.parent).load() == (binding,)


END_ENTRY = {"router": "r", "ifname": "e", "home_ifname": "v", "home_path": "/h", "inode": 5, "cookie": 7}
MALFORMED = [
    pytest.param("{", "", id="no-json"),
    pytest.param("[]", "", id="no-object"),
    pytest.param({"version": 1}, "", id="key-missing"),
    pytest.param({"version": 1, "bindings": [], "more": 1}, "", id="key-unknown"),
    pytest.param({"version": 2, "bindings": []}, "/version", id="other-version"),
    pytest.param({"version": 1, "bindings": {}}, "/bindings", id="no-list"),
    pytest.param({"version": 1, "bindings": [3]}, "/bindings/0", id="entry-no-object"),
    pytest.param({"version": 1, "bindings": [changed(path=...)]}, "/bindings/0", id="entry-key-missing"),
    pytest.param({"version": 1, "bindings": [changed(more=1)]}, "/bindings/0", id="entry-key-unknown"),
    pytest.param({"version": 1, "bindings": [changed(ifname="")]}, "/bindings/0/ifname", id="text-empty"),
    pytest.param({"version": 1, "bindings": [changed(eni=3)]}, "/bindings/0/eni", id="text-a-number"),
    pytest.param({"version": 1, "bindings": [changed(means="magic")]}, "/bindings/0/means", id="means-unknown"),
    pytest.param({"version": 1, "bindings": [changed(pod=7)]}, "/bindings/0/pod", id="pod-a-number"),
    pytest.param({"version": 1, "bindings": [changed(cookie="7")]}, "/bindings/0/cookie", id="number-a-text"),
    pytest.param({"version": 1, "bindings": [changed(inode=True)]}, "/bindings/0/inode", id="number-a-bool"),
    pytest.param(
        {"version": 1, "bindings": [changed(host_end=END_ENTRY | {"router": 3})]},
        "/bindings/0/host_end/router",
        id="end-text-a-number",
    ),
    pytest.param(
        {"version": 1, "bindings": [changed(host_end=END_ENTRY | {"numbers": {"index": "7"}})]},
        "/bindings/0/host_end/numbers",
        id="end-numbers-malformed",
    ),
    pytest.param({"version": 1, "bindings": [changed(host_end=3)]}, "/bindings/0/host_end", id="end-no-object"),
    pytest.param({"version": 1, "bindings": [changed(), changed(ifname="eth1")]}, "/bindings", id="eni-twice"),
    pytest.param({"version": 1, "bindings": [changed(), changed(eni="eni-b")]}, "/bindings", id="interface-twice"),
]


@pytest.mark.parametrize(("content", "pointer"), MALFORMED)
def test_what_sgdp_does_not_write_is_refused(registry: Registry, content: object, pointer: str) -> None:
    with registry.lock():
        text = content if isinstance(content, str) else json.dumps(content)
        registry.path.write_text(text, encoding="utf-8")
        with pytest.raises(BindingError) as caught:
            registry.load()
    problem = caught.value.problem
    assert (problem.where.file, problem.where.pointer) == (str(registry.path), pointer)
    assert problem.code == "InvalidBindings.Malformed"
    assert problem.value
    assert problem.expected
    assert registry.path.read_text(encoding="utf-8") == text


def test_who_finds_the_bindings_locked_waits_and_then_gives_up(
    registry: Registry,
) -> None:
    got = threading.Event()

    def wait_for_it() -> None:
        with registry.lock():
            got.set()

    waiting = threading.Thread(target=wait_for_it)
    with registry.lock():
        other = Registry(registry.path.parent)
        with pytest.raises(HostError, match="another process has been working"), other.lock(0.0):
            pass
        waiting.start()
        assert not got.is_set()
    waiting.join()
    assert got.is_set()

"""What relays needn't read is under keys of its own in etcd."""

from __future__ import annotations

from contextlib import closing, suppress

import pytest

from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.keys import LogEntry
from sgdataplane.store.etcd.store import EtcdStore
from sgdataplane.store.interface import Body, Write
from tests.support.servers.etcdserver import Members, control


class DyingError(Exception):
    """The process ends here."""


def die(*_: object) -> None:
    raise DyingError


def numbered(count: int) -> dict[str, Body]:
    return {f"kind/{number}": {"n": number} for number in range(count)}


@pytest.mark.parametrize("count", [1, 400])
def test_access_keys_are_apart_from_what_relays_read(
    etcd: Members, etcd_name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a small commit and in a large one, also while that isn't in its place yet."""
    former, new = {"access_key/a": {"sealed": "first"}}, {"access_key/b": {"sealed": "second"}}
    store = EtcdStore(EtcdAccess.of(etcd_name))
    store.commit(Write({}, former))
    write = Write({}, {**numbered(count), **new}, frozenset(former))
    with monkeypatch.context() as patch, suppress(DyingError):
        patch.setattr(LogEntry, "batches", die)
        store.commit(write)
    store.close()
    access = EtcdAccess.of(etcd_name)
    with closing(EtcdStore(access)) as other, closing(EtcdStore(access, private=False)) as relay:
        assert other.snapshot().documents == write.puts
        assert relay.snapshot().documents == numbered(count)
        assert [change.puts for change in other.watch(0, timeout=0)] == [former, write.puts]
        assert [change.puts for change in relay.watch(0, timeout=0)] == [{}, numbered(count)]
        other.commit(Write({}))
        assert other.snapshot().documents == write.puts
    name = EtcdAccess.of(etcd_name).name
    for folder in ("doc", "log", "parcel"):
        found = control(etcd.all[0], "get", "--prefix", f"{name}/{folder}/")
        assert "sealed" not in found
    assert control(etcd.all[0], "get", "--prefix", f"{name}/private/").count("sealed") == 3

"""What `--store etcd://...` says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.store.etcd.access import EtcdAccess

TLS = "?ca=/ca.pem&cert=/my%20cert.pem&key=/key.pem"


@pytest.mark.parametrize(
    ("text", "access"),
    [
        ("etcd://127.0.0.1:2379", EtcdAccess(("127.0.0.1:2379",))),
        ("etcd://localhost:1,[::1]:2/a.b-c", EtcdAccess(("localhost:1", "[::1]:2"), "a.b-c")),
        (
            f"etcd://one.example:2379,10.0.0.2:2379{TLS}",
            EtcdAccess(
                ("one.example:2379", "10.0.0.2:2379"),
                authority=Path("/ca.pem"),
                certificate=Path("/my cert.pem"),
                key=Path("/key.pem"),
            ),
        ),
        ("etcd://one.example:2379/n?ca=c", EtcdAccess(("one.example:2379",), "n", authority=Path("c"))),
    ],
)
def test_a_text_names_members_a_name_and_files(text: str, access: EtcdAccess) -> None:
    assert EtcdAccess.of(text) == access


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("etcd:", "Format"),
        ("etcd://", "Format"),
        ("etcd://host", "Format"),
        ("etcd://127.0.0.1:2379,", "Format"),
        ("etcd://user@127.0.0.1:2379", "Format"),
        ("etcd://127.0.0.1:2379/a/b", "Format"),
        ("etcd://127.0.0.1:2379/\x1b", "Format"),
        ("etcd://127.0.0.1:2379#x", "Format"),
        ("etcd://127.0.0.1:2379?cert=c&key=k", "Format"),
        ("etcd://127.0.0.1:2379?ca=a&cert=c", "Format"),
        ("etcd://127.0.0.1:2379?ca=", "Format"),
        ("etcd://127.0.0.1:2379?timeout=3", "Format"),
        ("etcd://10.0.0.1:2379", "Insecure"),
        ("etcd://127.0.0.1:2379,etcd.example:2379", "Insecure"),
    ],
)
def test_what_is_no_such_text_is_refused(text: str, code: str) -> None:
    with pytest.raises(StateFileError, match=rf"InvalidStore\.{code}"):
        EtcdAccess.of(text)

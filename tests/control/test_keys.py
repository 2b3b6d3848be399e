"""Access keys: made, found, revoked; their secrets at rest; and the record that each change leaves."""

from __future__ import annotations

import base64
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from sgdataplane.control.access.keys import GUARD, Keyring, StoredKey, create_key, list_keys, policy_of, revoke_key
from sgdataplane.control.access.permissions import PolicyError
from sgdataplane.control.access.secrets import SecretBox, make_key_file
from sgdataplane.control.access.signature import Verifier, digest_of
from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.http.admission import Admission
from sgdataplane.errors import StateFileError
from sgdataplane.store import audit
from sgdataplane.store.call import Call
from sgdataplane.store.interface import Body, Json, Store, Write
from tests.support.run.memorystore import MemoryStore


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.key"
    make_key_file(file)
    return file


@pytest.fixture
def box(key_file: Path) -> SecretBox:
    return SecretBox(key_file)


def call(action: str = "CreateAccessKey") -> Call:
    return audit.local_call(action)


def create(store: Store, box: SecretBox, name: str = "", policy: str = "full") -> tuple[str, str]:
    made = create_key(store, lambda _: box, call(), name=name, policy=policy)
    return made.id, made.secret


# keys


def test_a_ring_serves_those_who_check_signatures(store: Store, box: SecretBox) -> None:
    ring = Keyring(store, lambda: box)
    Admission(Verifier(ring.find), ring.permits)  # the type checker holds them to what these ask for


def test_a_key_is_made_and_found(store: Store, box: SecretBox) -> None:
    key_id, secret = create(store, box, "ci", "read-only")
    assert re.fullmatch(r"LTAI5t[A-Za-z0-9]{18}", key_id)
    assert re.fullmatch(r"[A-Za-z0-9]{30}", secret)
    found = Keyring(store, lambda: box).find(key_id)
    assert found is not None
    assert (found.id, found.secret, found.is_revoked) == (key_id, secret, False)
    (stored,) = list_keys(store.snapshot().documents)
    assert (stored.id, stored.name, stored.policy, stored.revoked) == (key_id, "ci", "read-only", None)


def test_a_temporary_key_has_an_end_and_a_token_that_the_store_never_has(store: Store, box: SecretBox) -> None:
    made = create_key(store, lambda _: box, call(), name="", policy="full", lasts_s=60)
    assert made.id.startswith("STS.")
    found = Keyring(store, lambda: box).find(made.id)
    assert found is not None
    assert (found.ends, found.token_digest) == (made.ends, digest_of(made.token))
    changes = [dict(change.puts) for change in store.watch(0, timeout=0)]
    assert made.token not in repr(changes)


def test_an_older_version_gives_a_temporary_key_no_rights(store: Store, box: SecretBox) -> None:
    """It would ask for no token and see no end. It reads `policy`, and what it can't read permits nothing."""
    made = create_key(store, lambda _: box, call(), name="", policy="full", lasts_s=60)
    about = cast("dict[str, Any]", store.snapshot().documents[f"access_key/{made.id}"]["about"])
    with pytest.raises(PolicyError):
        policy_of(about["policy"])
    json.loads(about["policy"])  # as its `keys list --json` does
    assert not {"ends", "token_digest"} & about.keys()
    found = Keyring(store, lambda: box).find(made.id)
    assert found is not None
    assert found.policy == policy_of("full")


@pytest.mark.parametrize("left", [{}, {"policy": "full"}, {"policy": "full", "token_digest": "x"}])
def test_a_temporary_key_whose_end_is_lost_has_ended(left: dict[str, str]) -> None:
    about: dict[str, Json] = {"name": "", "policy": "full", "sealed_secret": "x", "created": 1.0, "revoked": None}
    body: Body = {"state": {}, "about": {**about, **({"temporary": {**left}} if left else {})}}
    assert StoredKey.of("access_key/STS.Nx", body).ends == 0.0
    assert StoredKey.of("access_key/LTAI5tx", {"state": {}, "about": about}).ends is None


def test_a_revoked_temporary_key_stays_temporary(store: Store, box: SecretBox) -> None:
    made = create_key(store, lambda _: box, call(), name="", policy="full", lasts_s=60)
    revoked = revoke_key(store, call(), made.id)
    assert (revoked.ends, revoked.revoked is not None) == (made.ends, True)
    assert list_keys(store.snapshot().documents) == [revoked]


def test_no_two_keys_are_alike(store: Store, box: SecretBox) -> None:
    made = [create(store, box) for _ in range(20)]
    assert len({key_id for key_id, _ in made}) == len({secret for _, secret in made}) == 20


def test_the_store_never_has_a_secret(store: Store, box: SecretBox) -> None:
    _, secret = create(store, box)
    changes = [dict(change.puts) for change in store.watch(0, timeout=0)]
    told = repr((store.snapshot(), store.events(), changes))
    assert secret not in told
    assert base64.b64encode(secret.encode()).decode() not in told


def test_a_revoked_key_is_refused_from_the_next_look_on(store: Store, box: SecretBox) -> None:
    kept, _ = create(store, box)
    key_id, _ = create(store, box)
    ring = Keyring(store, lambda: box)
    assert ring.permits(Call("DescribeVpcs", {}, "", key_id, "", 0)) is False  # it was never found
    assert not ring.is_known(key_id)
    assert ring.find(key_id) is not None
    assert ring.permits(Call("DescribeVpcs", {}, "", key_id, "", 0))
    assert ring.is_known(key_id)
    revoke_key(store, call("DeleteAccessKey"), key_id)
    found = ring.find(key_id)
    assert found is not None
    assert (found.is_revoked, found.secret) == (True, "")
    assert not ring.permits(Call("DescribeVpcs", {}, "", key_id, "", 0))
    assert not ring.is_known(key_id)
    other = ring.find(kept)
    assert other is not None  # control
    assert not other.is_revoked


def test_a_revoked_key_leaves_no_sealed_secret(store: Store, box: SecretBox) -> None:
    key_id, _ = create(store, box)
    assert list_keys(store.snapshot().documents)[0].sealed  # control
    revoke_key(store, call(), key_id)
    assert not list_keys(store.snapshot().documents)[0].sealed


def test_a_key_is_revoked_once(store: Store, box: SecretBox) -> None:
    key_id, _ = create(store, box)
    first = revoke_key(store, call(), key_id)
    assert revoke_key(store, call(), key_id) == first
    assert store.snapshot().revision == 2


def test_a_key_that_is_not_there(store: Store, box: SecretBox) -> None:
    assert Keyring(store, lambda: box).find("LTAInone") is None
    with pytest.raises(StateFileError, match=r"InvalidAccessKeyId\.NotFound"):
        revoke_key(store, call(), "LTAInone")
    assert store.snapshot().revision == 0


@pytest.mark.parametrize("policy", ["none", "{}", '{"Version": "1", "Statement": []}'])
def test_a_key_with_a_bad_policy_is_not_made(store: Store, box: SecretBox, policy: str) -> None:
    with pytest.raises(PolicyError):
        create(store, box, policy=policy)
    assert store.snapshot().revision == 0


def test_a_key_s_own_policy_decides(store: Store, box: SecretBox) -> None:
    policy = {"Version": "1", "Statement": [{"Effect": "Allow", "Action": "vpc:*", "Resource": "*"}]}
    key_id, _ = create(store, box, policy=json.dumps(policy))
    ring = Keyring(store, lambda: box)
    ring.find(key_id)
    assert ring.permits(Call("DescribeVpcs", {}, "", key_id, "", 0))
    assert not ring.permits(Call("DescribeSecurityGroups", {}, "", key_id, "", 0))


def test_a_stored_policy_that_this_version_can_not_read_permits_nothing(store: Store, box: SecretBox) -> None:
    good, _ = create(store, box)
    odd = StoredKey("LTAIodd", "", '{"Version": "9"}', box.seal("secret", "LTAIodd"), 0.0)
    store.commit(Write({}, {odd.path: odd.body()}))
    ring = Keyring(store, lambda: box)
    assert ring.find("LTAIodd") is not None
    assert not ring.permits(Call("DescribeVpcs", {}, "", "LTAIodd", "", 0))
    assert ring.permits(Call("DescribeVpcs", {}, "", good, "", 0))


def test_a_ring_goes_on_after_what_it_missed(box: SecretBox) -> None:
    store = MemoryStore(kept=2)
    first, _ = create(store, box)
    ring = Keyring(store, lambda: box)
    assert ring.find(first) is not None
    others = [create(store, box)[0] for _ in range(5)]
    assert all(ring.find(one) is not None for one in (first, *others))


def test_a_ring_whose_store_is_away_says_so(store: Store, box: SecretBox) -> None:
    key_id, _ = create(store, box)
    ring = Keyring(store, lambda: box)
    assert ring.find(key_id) is not None
    store.close()
    with pytest.raises(ApiError) as raised:
        ring.find(key_id)
    assert (raised.value.code, raised.value.status) == ("ServiceUnavailable", 503)


def test_keys_that_are_made_at_once_are_all_there(store: Store, box: SecretBox) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = {key_id for key_id, _ in pool.map(lambda _: create(store, box), range(12))}
    assert {key.id for key in list_keys(store.snapshot().documents)} == made
    assert store.snapshot().guards == {GUARD: 12}


def test_the_box_is_told_whether_another_secret_is_sealed(store: Store, box: SecretBox) -> None:
    """With none, a new sealing key will do: so a lost one can be replaced once all keys are revoked."""
    told = []

    def make(is_first: bool) -> SecretBox:
        told.append(is_first)
        return box

    create_key(store, make, call(), name="", policy="full")
    create_key(store, make, call(), name="", policy="full")
    for key in list_keys(store.snapshot().documents):
        revoke_key(store, call(), key.id)
    create_key(store, make, call(), name="", policy="full")
    assert told == [True, False, True]


def test_the_engine_lives_with_keys_among_its_documents(store: Store, box: SecretBox) -> None:
    create(store, box)
    engine = Engine(store)
    create(store, box)
    engine.follow(timeout=0)
    made = engine.call(Call("CreateVpc", {"CidrBlock": "10.0.0.0/8"}, "r", "LTAI", "192.0.2.1", 1.0))
    assert made.revision == 3


# the audit


def test_every_change_of_keys_is_recorded(store: Store, box: SecretBox) -> None:
    key_id, _ = create(store, box)
    revoke_key(store, call("DeleteAccessKey"), key_id)
    made, revoked = audit.read(store)
    assert [made["action"], revoked["action"]] == ["CreateAccessKey", "DeleteAccessKey"]
    assert made["changed"] == revoked["changed"] == [f"access_key/{key_id}"]
    assert made["source"] == f"uid:{os.getuid()}"
    assert [record["revision"] for record in (made, revoked)] == [1, 2]


def test_a_command_s_record_has_the_fields_of_a_call_s(store: Store, box: SecretBox) -> None:
    create(store, box)
    Engine(store).call(Call("CreateVpc", {"CidrBlock": "10.0.0.0/8"}, "r-1", "LTAI", "192.0.2.1", 86_400.5))
    ours, of_call = audit.read(store)
    assert ours.keys() == of_call.keys()
    assert (of_call["request_id"], of_call["key"], of_call["source"]) == ("r-1", "LTAI", "192.0.2.1")
    assert (of_call["action"], of_call["time"]) == ("CreateVpc", "1970-01-02T00:00:00.500Z")


def test_the_audit_is_read_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "AT_ONCE", 3)
    for number in range(10):
        store.commit(Write({}, audit={"n": number, "time": 0.0}))
    assert [record["n"] for record in audit.read(store)] == list(range(10))
    assert [record["revision"] for record in audit.read(store, 7)] == [8, 9, 10]
    assert list(audit.read(store, 10)) == []


# secrets


@pytest.mark.parametrize("secret", ["", "x", "é" * 1000])
def test_what_is_sealed_opens_under_its_name_alone(box: SecretBox, secret: str) -> None:
    sealed = box.seal(secret, "LTAIa")
    assert box.open(sealed, "LTAIa") == secret
    with pytest.raises(StateFileError, match=r"InvalidKeyFile\.Wrong"):
        box.open(sealed, "LTAIb")


def test_a_secret_is_never_sealed_alike_twice(box: SecretBox) -> None:
    assert box.seal("secret", "a") != box.seal("secret", "a")


def test_what_was_changed_does_not_open(box: SecretBox) -> None:
    sealed = box.seal("secret", "a")
    octets = bytearray(base64.b64decode(sealed[2:]))
    octets[-1] ^= 1
    with pytest.raises(StateFileError, match=r"InvalidKeyFile\.Wrong"):
        box.open(f"1:{base64.b64encode(octets).decode()}", "a")


def test_another_key_file_opens_nothing(box: SecretBox, tmp_path: Path) -> None:
    sealed = box.seal("secret", "a")
    make_key_file(tmp_path / "other")
    with pytest.raises(StateFileError, match=r"InvalidKeyFile\.Wrong"):
        SecretBox(tmp_path / "other").open(sealed, "a")


def test_a_key_file_is_its_owner_s_alone_and_is_made_once(key_file: Path) -> None:
    before = key_file.read_bytes()
    assert key_file.stat().st_mode & 0o777 == 0o600
    make_key_file(key_file)
    assert key_file.read_bytes() == before
    assert list(key_file.parent.iterdir()) == [key_file]


def test_a_service_s_key_file_is_the_service_s_if_root_makes_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a folder away")
    folder = tmp_path / "service"
    folder.mkdir()
    os.chown(folder, 12345, 23456)
    make_key_file(folder / "key")
    found = (folder / "key").stat()
    assert (found.st_uid, found.st_gid) == (12345, 23456)
    SecretBox(folder / "key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_a_key_file_that_others_may_use_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(StateFileError, match=rf"InvalidKeyFile\.Readable(.|\n)*value:    {mode:04o}(.|\n)*chmod 600"):
        SecretBox(key_file)
    key_file.chmod(0o600)
    SecretBox(key_file)  # control


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 44, base64.b64encode(bytes(31)), b"A" * 5_000])
def test_a_file_that_is_no_key_file_is_refused(key_file: Path, content: bytes) -> None:
    key_file.write_bytes(content)
    with pytest.raises(StateFileError, match=r"InvalidKeyFile\.Format"):
        SecretBox(key_file)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_a_place_without_a_key_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file"
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file, 0o600)
    with pytest.raises(StateFileError, match=r"InvalidKeyFile\."):
        SecretBox(file)

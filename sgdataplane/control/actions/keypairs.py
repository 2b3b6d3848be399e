"""Key pairs for instances: create, import, describe, delete.

Owns these actions. Nothing here logs in with one: a client that makes one expects to find it again. CreateKeyPair
answers with the private key, which is never kept. Must not know HTTP or the store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope, is_grouped_and_tagged, is_like
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.statefile import ecs_translation
from sgdataplane.store.bodies import KeyPairAbout, TypedDocument
from sgdataplane.store.interface import Body, Json

MAX_NAME, FINGERPRINT = 128, 32  # characters
NAME = re.compile(r"[^\W\d_][\w:.-]*")  # no comma: that separates names


def create(scope: Scope) -> Body:
    """Answer CreateKeyPair with a private key, which nobody else gets."""
    from sgdataplane.control.access.secrets import make_key_pair  # noqa: PLC0415  # nothing else needs its library

    name = _free_name(scope)
    private, public = make_key_pair()
    return {**_keep(scope, name, public), "PrivateKeyBody": private}


def import_key(scope: Scope) -> Body:
    """Answer ImportKeyPair: keep a public key."""
    return _keep(scope, _free_name(scope), scope.require("PublicKeyBody"))


def _free_name(scope: Scope) -> str:
    name = scope.require("KeyPairName")
    if len(name) > MAX_NAME or not NAME.fullmatch(name):
        words = f"KeyPairName has at most {MAX_NAME} letters, digits and :_.-, a letter first"
        raise ApiError("InvalidKeyPairName.Malformed", words)
    if scope.key_pairs.get(name) is not None:
        raise ApiError("KeyPair.AlreadyExist", f"There is a key pair {name} already.")
    return name


def _keep(scope: Scope, name: str, public: str) -> Body:
    fingerprint = hashlib.sha256(public.encode()).hexdigest()[:FINGERPRINT]
    key_pair_id = scope.new_id("ssh")
    more: KeyPairAbout = {
        "key_pair_id": key_pair_id,
        "public": public,
        "fingerprint": fingerprint,
        "created": scope.time,
        "resource_group_id": scope.text("ResourceGroupId"),
        "tags": scope.tags(),
    }
    scope.key_pairs.put(name, {}, more)
    return {"KeyPairId": key_pair_id, "KeyPairName": name, "KeyPairFingerPrint": fingerprint}


def delete(scope: Scope) -> Body:
    """Answer DeleteKeyPairs. One that isn't there is no error."""
    for name in scope.texts("KeyPairNames"):
        scope.key_pairs.delete(name)
    return DONE


def describe_all(scope: Scope) -> Body:
    """Answer DescribeKeyPairs."""
    found = [
        one
        for one in scope.key_pairs.all()
        if is_like(one.id, scope.text("KeyPairName"))
        and scope.text("KeyPairFingerPrint") in ("", one.about["fingerprint"])
        and is_grouped_and_tagged(scope, one)
    ]

    def shape(one: TypedDocument[Mapping[str, object], KeyPairAbout]) -> Json:
        more = one.about
        return {
            "KeyPairName": one.id,
            "KeyPairId": more["key_pair_id"],
            "KeyPairFingerPrint": more["fingerprint"],
            "PublicKey": more["public"] if scope.flag("IncludePublicKey") else "",
            "CreationTime": more["created"],
            "ResourceGroupId": more.get("resource_group_id", ""),
            "Tags": {"Tag": ecs_translation.tag_items(sorted(one.tags.items()))},
        }

    return scope.page(found, shape, "KeyPairs", "KeyPair")

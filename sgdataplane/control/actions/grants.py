"""Permissions for others to use an ENI. They are stored and described, but mean nothing, as there is one account.

Owns these actions. Must not know HTTP or the store.
"""

from __future__ import annotations

from sgdataplane.control.actions.interfaces import EniDocument
from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope, is_among
from sgdataplane.control.calls.answers import NOT_FOUND, ApiError
from sgdataplane.store.bodies import EniGrant
from sgdataplane.store.interface import Body, Json

PERMISSION = "InstanceAttach"
MAX_GRANTS = 20  # of an ENI


def _grants(eni: EniDocument) -> dict[str, EniGrant]:
    return eni.about.get("grants", {})


def create(scope: Scope) -> Body:
    """Answer CreateNetworkInterfacePermission."""
    eni_id, permission = scope.require("NetworkInterfaceId"), scope.require("Permission")
    if permission != PERMISSION:
        raise ApiError("InvalidParameter.Permission", f"Permission is {PERMISSION}")
    known = _grants(scope.enis.find(eni_id))
    if len(known) >= MAX_GRANTS:
        raise ApiError("InvalidOperation.PermissionCountExceeded", f"{eni_id} has {MAX_GRANTS} permissions")
    grant_id = scope.new_id("eni-perm")
    one: EniGrant = {"account": scope.number("AccountId", 0), "permission": permission}
    _write(scope, eni_id, {**known, grant_id: one})
    return {"NetworkInterfacePermission": grant_item(eni_id, grant_id, one)}


def delete(scope: Scope) -> Body:
    """Answer DeleteNetworkInterfacePermission."""
    grant_id = scope.require("NetworkInterfacePermissionId")
    for eni in scope.enis.all():
        known = _grants(eni)
        if grant_id in known:
            _write(scope, eni.id, {name: one for name, one in known.items() if name != grant_id})
            return DONE
    raise ApiError("InvalidPermissionId.NotFound", f"There is no permission {grant_id}.", NOT_FOUND)


def describe_all(scope: Scope) -> Body:
    """Answer DescribeNetworkInterfacePermissions."""
    ids = scope.texts("NetworkInterfacePermissionId")
    found = [
        (eni.id, grant_id, one)
        for eni in scope.enis.among(filter(None, [scope.text("NetworkInterfaceId")]))
        for grant_id, one in sorted(_grants(eni).items())
        if is_among(grant_id, ids)
    ]
    inner = "NetworkInterfacePermission"
    return scope.page(found, lambda entry: grant_item(*entry), f"{inner}s", inner)


def grant_item(eni_id: str, grant_id: str, one: EniGrant) -> Json:
    """Return a permission as the cloud's answers have it."""
    return {
        "NetworkInterfaceId": eni_id,
        "NetworkInterfacePermissionId": grant_id,
        "AccountId": one["account"],
        "Permission": one["permission"],
        "PermissionState": "Granted",
        "ServiceName": "",
    }


def _write(scope: Scope, eni_id: str, grants: dict[str, EniGrant]) -> None:
    scope.enis.change(eni_id, about={"grants": grants})

"""The way back to the beginning, for tests: SgdpReset.

Owns what is taken away. Must not know HTTP or the store.
"""

from __future__ import annotations

from sgdataplane.control.actions.networks import default_vpc
from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.calls.parameters import unknown_action
from sgdataplane.store.documents import ResourceKind
from sgdataplane.store.interface import Body

KEPT = (ResourceKind.ACCESS_KEY, ResourceKind.STORE, ResourceKind.HOST, ResourceKind.REFUSAL)


def reset(scope: Scope) -> Body:
    """Answer SgdpReset: remove everything but keys and hosts, and make a default VPC. Only for `--dev`."""
    if not scope.habits.can_reset:
        raise unknown_action(scope.call.action)
    for kind in ResourceKind:
        if kind not in KEPT:
            for name in [name for name, _ in scope.workspace.all(kind)]:
                scope.workspace.delete(kind, name)
    return {"VpcId": default_vpc(scope)}

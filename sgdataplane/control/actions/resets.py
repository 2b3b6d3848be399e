"""The way back to the beginning, for tests: SgdpReset.

Owns what is taken away, and what is there afterwards. Must not know HTTP or the store.
"""

from __future__ import annotations

from sgdataplane.control.actions.importing import put_state
from sgdataplane.control.actions.networks import default_vpc
from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.calls.parameters import unknown_action
from sgdataplane.errors import StateFileError
from sgdataplane.statefile.load import load_text
from sgdataplane.store.documents import ResourceKind
from sgdataplane.store.interface import Body

KEPT = (ResourceKind.ACCESS_KEY, ResourceKind.STORE, ResourceKind.HOST, ResourceKind.REFUSAL)
SEED = "State"


def reset(scope: Scope) -> Body:
    """Answer SgdpReset: remove everything but keys and hosts, and make a default VPC. Only for `--dev`.

    If the call gives a state, its objects are there afterwards, too.
    """
    if not scope.habits.can_reset:
        raise unknown_action(scope.call.action)
    for kind in ResourceKind:
        if kind not in KEPT:
            for name in [name for name, _ in scope.workspace.all(kind)]:
                scope.workspace.delete(kind, name)
    if scope.has(SEED):
        _put_seed(scope)
    return {"VpcId": default_vpc(scope)}


def _put_seed(scope: Scope) -> None:
    """Put the objects of the state that the call gives as a text, in any format of state files.

    Raises:
        ApiError: The text is no state, or not a whole one.
    """
    try:
        put_state(scope.workspace, load_text(scope.text(SEED), file=SEED).state, scope.call)
    except StateFileError as error:
        raise ApiError(f"InvalidParameter.{SEED}", str(error)) from error

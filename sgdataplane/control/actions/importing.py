"""The import of a state into a store: its objects become documents, all of them in one commit.

Owns how an object of a state becomes a document, and what is refused. Must not know where the state comes from, or how
a store keeps documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sgdataplane.control.actions.scope import write_time
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model.state import CloudState, NetworkType, SecurityGroup
from sgdataplane.statefile.dump_native import rule_with_id, sections
from sgdataplane.statefile.ecs_names import CLASSIC_VPC
from sgdataplane.statefile.interfaces import require_whole
from sgdataplane.statefile.load import load_native
from sgdataplane.store.audit import record_of
from sgdataplane.store.call import Call
from sgdataplane.store.documents import IDS, SECTIONS, Documents, ResourceKind, Workspace, native
from sgdataplane.store.interface import ConflictError, Store, Write
from sgdataplane.store.rulechanges import rule_changes


def import_state(store: Store, state: CloudState, profile: str, call: Call) -> int:
    """Put every object of the state into the store, and return the revision.

    Raises:
        StateFileError: The store has one of these ids already, or would not be a valid state. Nothing is put.
        LimitError: The store can't hold it. Nothing is put.
    """
    while True:
        workspace = Workspace(Documents.of(store.snapshot()))
        put_state(workspace, state, call)
        load_native(native((kind, body) for kind in SECTIONS for _, body in workspace.all(kind)), profile=profile)
        audit = record_of(call, workspace.changed, rule_changes(workspace))
        try:
            return store.commit(Write(workspace.guards, dict(workspace.puts), audit=audit))
        except ConflictError:  # others have committed meanwhile
            continue


def _check_classic(state: CloudState) -> None:
    """Refuse a classic network with another id, as the API recognizes it by its id, and that id for another VPC.

    Raises:
        StateFileError: There is such a network.
    """
    for vpc in state.vpcs:
        if (vpc.network_type is NetworkType.CLASSIC) != (vpc.vpc_id == CLASSIC_VPC):
            expected = f"the id {CLASSIC_VPC} for the classic network, and for no other"
            raise _make_refusal("InvalidVpcId.Classic", "the API can't tell this network's type", vpc.vpc_id, expected)


def put_state(workspace: Workspace, state: CloudState, call: Call) -> None:
    """Put every object of a state among documents.

    Raises:
        StateFileError: A document has one of these ids already, or the state can't be an account's.
    """
    require_whole(state)
    _check_classic(state)
    created = write_time(call.now)
    for kind, name, fields in _objects(state):
        if workspace.get(kind, name) is not None:
            message = f"the store has this {kind.replace('_', ' ')} already"
            raise _make_refusal(
                "InvalidStore.Exists", message, name, "a store without the state's ids, such as a new one"
            )
        workspace.put(kind, name, fields, {"created": created})


def _objects(state: CloudState) -> Iterator[tuple[ResourceKind, str, Mapping[str, object]]]:
    """Yield kind, id and native fields of every object. Each rule has its id, by which the API's users name it."""
    found = sections(state)
    for kind, section in SECTIONS.items():
        for record, plain in zip(getattr(state, section), found[section], strict=True):
            fields: dict[str, object] = {**plain}
            if isinstance(record, SecurityGroup):
                fields["rules"] = [rule_with_id(rule) for rule in record.rules]
            yield kind, str(fields[IDS[kind]]), fields


def _make_refusal(code: str, message: str, value: str = "", expected: str = "") -> StateFileError:
    return StateFileError((Problem(Where(), code, message, value, expected),))

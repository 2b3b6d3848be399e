"""The ENI that a name stands for on this host, by the running agent, or by the state that it enforces.

Owns the order in which these are asked, and how a name that stands for none is refused. Its input is the agent's
configuration. Must not know verbs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdataplane.daemon.control import Request, ask
from sgdataplane.errors import HostError, StateFileError
from sgdataplane.model.naming import Named, look_up, names_of_enis, near_misses

if TYPE_CHECKING:
    from sgdataplane.attach.registry import Registry
    from sgdataplane.daemon.config import Config
    from sgdataplane.model.state import CloudState

UNKNOWN = ("no ENI with this id or name is attached here", "an attached ENI")
NONE = ("no ENI is attached here", "an attached ENI")
BY_ID_ONLY = ("no ENI with this id is attached here", "the id of an attached ENI (names need the agent or its state)")


def agent_state(config: Config) -> CloudState | None:
    """Return the state that the agent enforces; None if none can be read.

    It is the one on disk, or what the agent holds in its place, or the last one that it kept if the one on disk is
    refused.
    """
    from sgdataplane.daemon.hold import PolicyKeeper  # noqa: PLC0415  (attachments may be asked for without a state)
    from sgdataplane.statefile import load  # noqa: PLC0415

    try:
        on_disk = load(config.state, profile="unlimited").state  # the agent judges its quotas
    except StateFileError:
        on_disk = None
    return PolicyKeeper(config.state_directory).in_force(on_disk)


def get_enforced_file(config: Config) -> Path:
    """Return the file of the state that the agent enforces: the one on disk, or what it holds in its place."""
    from sgdataplane.daemon.hold import PolicyKeeper  # noqa: PLC0415
    from sgdataplane.statefile import load  # noqa: PLC0415

    keeper = PolicyKeeper(config.state_directory)
    if keeper.hold is None:
        return config.state
    on_disk = None
    with suppress(StateFileError):
        on_disk = load(config.state, profile="unlimited").state
    return keeper.past.path_of(keeper.hold.digest) if keeper.holds(on_disk) else config.state


def resolve_eni_id(name: str, registry: Registry, config: Callable[[], Config]) -> tuple[str, tuple[str, ...]]:
    """Return the id of the ENI that a name stands for where no state was given, and a warning if nothing here knows it.

    An ENI may be attached before the state has it, and passes nothing until then. So a name that no ENI here has is
    taken for an id.
    """
    from sgdataplane.attach.discover import CLOUD_ID  # noqa: PLC0415  (needed by those who attach alone)

    if CLOUD_ID.fullmatch(name):
        return name, ()
    named = look_up_here(config(), name, frozenset(binding.eni_id for binding in registry.load()))
    if named.ids:
        return named.the_eni(*UNKNOWN), ()
    near = f" (near: {', '.join(named.near)})" if named.near else ""
    unknown = f"no ENI or instance of this name is known here{near}, so it is taken for an ENI's id"
    return name, (f"{name}: {unknown}; nothing passes until the state has it",)


def find_attached_eni(config: Config, name: str, attached: Collection[str]) -> str:
    """Return the id of the attached ENI that `name` stands for.

    Raises:
        StateFileError: It stands for none or several.
    """
    found = look_up_here(config, name, attached) if attached else Named(name, ())
    if set(attached).isdisjoint(found.ids):
        found = Named(name, (), near_misses(name, dict.fromkeys(attached, ())))
        return found.the_eni(*(NONE if not attached else UNKNOWN if _has_names(config) else BY_ID_ONLY))
    return found.the_eni(*UNKNOWN)


def _has_names(config: Config) -> bool:
    """Whether anything here knows which ENI a name stands for."""
    return config.socket.exists() or agent_state(config) is not None


def look_up_here(config: Config, name: str, attached: Collection[str] = ()) -> Named:
    """Return what `name` can stand for on this host.

    The id of an attached ENI stands for that one, whatever else has this name. Otherwise the agent is asked, which
    knows what is in force; or the state is read, if no agent runs.
    """
    if name in attached:
        return Named(name, (name,))
    try:
        answer: Any = ask(config.socket, Request.FIND, eni=name)
    except HostError:
        state = agent_state(config)
        return look_up(name, {**dict.fromkeys(attached, ()), **(names_of_enis(state) if state else {})})
    return Named(name, tuple(answer["ids"]), tuple(answer["near"]))

"""A lab that follows the API: an instance or a rule that is made there appears in the lab.

Owns how a lab is made equal to a state, whatever it was before, and what one change leaves for the next. Must not know
the API.
"""

from __future__ import annotations

from collections.abc import Collection

from sgdataplane import enforce as enforcement
from sgdataplane.enforce import Cache, Desired, Proven, Settings
from sgdataplane.lab import manage
from sgdataplane.lab.manage import EnforceRequest, Lab
from sgdataplane.lab.record import LabFolder, LabRecord
from sgdataplane.model.state import CloudState
from sgdataplane.policy.reach import Reach


class FollowingLab:
    """A place where the API's state is enforced (control/hosts/following.py).

    The lab is built if it doesn't exist.
    """

    def __init__(self, record: LabRecord) -> None:
        self.name = f"lab {record.name}"
        self._record, self._enforce = record, RememberingEnforcer()
        self._known: Lab | None = None  # None unless the last change was completed

    def put(self, version: object, state: CloudState) -> None:
        """Make the lab equal to the state. SgDataplaneError if that fails; the lab is then as it was before."""
        del version
        known, self._known = self._known, None
        if LabFolder(self._record.name).load() is None:
            lab = manage.up(self._record, state, self._enforce)
        else:
            lab = manage.apply(self._record.name, state, self._enforce, known=known)
        self._enforce.forget_others(lab.desired)
        self._known = lab


class RememberingEnforcer:
    """An Enforcer (manage.py) that knows what it has put in force.

    It builds and proves anew only what a change can affect. Where others may have changed something, it enforces as if
    nothing was known.
    """

    def __init__(self) -> None:
        self._cache = Cache()
        self._in_force: dict[str, Proven] = {}
        self._reach: tuple[CloudState, CloudState, Reach] | None = None

    def __call__(self, request: EnforceRequest) -> None:
        """Put one namespace's policy in force, unless it is in force already.

        Raises:
            KernelError: The kernel refuses.
        """
        previous = self._previous(request)
        self._in_force.pop(request.netns, None)  # until it is known again
        proven = self._build(request.wanted, request.settings, previous)
        is_same = request.is_wired and previous is not None and proven.table is previous.table
        if not (is_same and enforcement.is_in_force(request.netns, proven)):
            enforcement.enforce(request.netns, proven, previous, request.settings)
        self._in_force[request.netns] = proven

    def forget_others(self, names: Collection[str]) -> None:
        """Forget what is in force in all namespaces but these."""
        self._in_force = {name: proven for name, proven in self._in_force.items() if name in names}
        self._cache.forget_others(self._in_force.values())

    def _previous(self, request: EnforceRequest) -> Proven | None:
        """Return what is in force there; None if that isn't known."""
        known, previous = self._in_force.get(request.netns), request.previous
        if known is None or previous is None or known.desired.state is not previous.state:
            return None
        return known if known.is_of(previous, request.settings) else None

    def _build(self, wanted: Desired, settings: Settings, previous: Proven | None) -> Proven:
        """Return the policy that is wanted, built and proven.

        What was in force serves again if the change can't affect it.
        """
        if previous is None or not previous.is_of(wanted, settings) or self._touches(previous, wanted):
            return self._cache.build(wanted, settings, previous)
        return previous.on(wanted.state)

    def _touches(self, previous: Proven, wanted: Desired) -> bool:
        """Return whether the other state can mean another policy there."""
        old, new = previous.desired.state, wanted.state
        if self._reach is None or self._reach[0] is not old or self._reach[1] is not new:
            self._reach = old, new, Reach(old, new)
        return self._reach[2].touches(wanted.interfaces)

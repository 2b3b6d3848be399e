"""A lab that follows the API: an instance that is made there appears as a node, and a rule there is a rule here.

Owns how a lab is made equal to a state, whatever it was before. Must not know the API.
"""

from __future__ import annotations

from sgdataplane.lab import manage
from sgdataplane.lab.manage import Enforcer, enforce_policy
from sgdataplane.lab.record import LabFolder, LabRecord
from sgdataplane.model.state import CloudState


class FollowingLab:
    """A place where the API's state is enforced (control/following.py). The lab is made if it isn't there."""

    def __init__(self, record: LabRecord, enforce: Enforcer = enforce_policy) -> None:
        self.name = f"lab {record.name}"
        self._record, self._enforce = record, enforce

    def put(self, revision: int, state: CloudState) -> None:
        """Make the lab equal to it. SgDataplaneError if that can't be; then it's as it was."""
        del revision
        if LabFolder(self._record.name).load() is None:
            manage.up(self._record, state, self._enforce)
        else:
            manage.apply(self._record.name, state, self._enforce)

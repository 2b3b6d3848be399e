"""What keeps a lab from doing what its policy says: full conntrack tables, others who use the mark or have flowtables;
and what of the kernel's connection tracking we don't know.

Owns the JSON keys. Is given a lab. Must not know how either is read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sgdataplane.host import netns
from sgdataplane.host.timeouts import read_unknown
from sgdataplane.lab.manage import Lab
from sgdataplane.model.options import Placement
from sgdataplane.observe.capacity import TableUse, read_table_use
from sgdataplane.observe.others import Flowtable, MarkUser, read_flowtables, read_mark_users


@dataclass(frozen=True, slots=True)
class Health:
    """One namespace's."""

    use: TableUse
    mark_users: tuple[MarkUser, ...] = ()
    flowtables: tuple[Flowtable, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Keys of an instance, or of a router, in `lab status --json`."""
        return {
            "conntrack": self.use.as_json(),
            "mark_users": [asdict(user) for user in self.mark_users],
            "flowtables": [asdict(flowtable) for flowtable in self.flowtables],
        }

    def complaints(self, placement: Placement) -> tuple[str, ...]:
        """What somebody should know of others there, a line each."""
        users = (user.complaint for user in self.mark_users)
        return *users, *(flowtable.complaint(placement) for flowtable in self.flowtables)


def read_health(lab: Lab) -> dict[str, Health]:
    """Of each namespace where policy is enforced, by the name of its instance or router. HostError if one is gone or
    the kernel refuses."""
    found = {}
    for entry in lab.enforced:
        with netns.inside(entry.netns):
            found[entry.name] = Health(read_table_use(), read_mark_users(), read_flowtables())
    return found


def read_unknown_timeouts(lab: Lab) -> tuple[str, ...]:
    """The kernel's, as one of its namespaces has them. HostError if that is gone."""
    for entry in lab.enforced[:1]:
        with netns.inside(entry.netns):
            return read_unknown()
    return ()

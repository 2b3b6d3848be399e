"""What keeps the instances of a lab from doing what the policy says: full conntrack tables, others who use the mark.

Owns the JSON keys. Is given a lab. Must not know how either is read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sgdataplane.host import netns
from sgdataplane.lab.manage import Lab
from sgdataplane.observe.conntrack import TableUse, read_table_use
from sgdataplane.observe.markusers import MarkUser, read_mark_users


@dataclass(frozen=True, slots=True)
class Health:
    """One instance's."""

    use: TableUse
    mark_users: tuple[MarkUser, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Keys of an instance in `lab status --json`."""
        return {"conntrack": self.use.as_json(), "mark_users": [asdict(user) for user in self.mark_users]}


def read_health(lab: Lab) -> dict[str, Health]:
    """Of each instance, by its node's name. HostError if a namespace is gone or the kernel refuses."""
    found = {}
    for node in lab.topology.nodes:
        if node.is_instance:
            with netns.inside(node.netns):
                found[node.name] = Health(read_table_use(), read_mark_users())
    return found

"""The status of a lab, as text and as JSON: what is where, and what keeps it from doing what its policy says.

Owns the JSON keys of `lab status`. It is given a lab. Must not know how the kernel is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from sgdataplane.host import netns
from sgdataplane.host.timeouts import read_unknown
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.parts import Interface, LabNode, Router
from sgdataplane.model.options import Placement
from sgdataplane.net.values import Family
from sgdataplane.observe.capacity import TableUse, read_table_use
from sgdataplane.observe.others import Flowtable, MarkUser, read_flowtables, read_mark_users
from sgdataplane.terminal.output import one_line, render_table


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a namespace that enforces policy."""

    use: TableUse
    """How full its conntrack table is."""
    mark_users: tuple[MarkUser, ...]
    """Others that use the packet mark there."""
    flowtables: tuple[Flowtable, ...]
    """Flowtables of others, by which sessions bypass policy."""

    def as_json(self) -> dict[str, object]:
        """Return the keys of an instance, or of a router, in `lab status --json`."""
        return {
            "conntrack": self.use.as_json(),
            "mark_users": [asdict(user) for user in self.mark_users],
            "flowtables": [asdict(flowtable) for flowtable in self.flowtables],
        }

    def warnings(self, placement: Placement) -> tuple[str, ...]:
        """Return what a person should know about others in this namespace, one line each."""
        users = (user.warning for user in self.mark_users)
        return *users, *(flowtable.warning(placement) for flowtable in self.flowtables)


def read_health(lab: Lab) -> dict[str, Health]:
    """Read the health of each namespace that enforces policy, by the name of its instance or router.

    Raises:
        HostError: A namespace is gone, or the kernel refuses.
    """
    found = {}
    for entry in lab.enforced:
        with netns.inside(entry.netns):
            found[entry.name] = Health(read_table_use(), read_mark_users(), read_flowtables())
    return found


def read_unknown_timeouts(lab: Lab) -> tuple[str, ...]:
    """Return timeouts that the kernel has and sgdataplane doesn't know, read in one of the lab's namespaces.

    Raises:
        HostError: The namespace is gone.
    """
    for entry in lab.enforced[:1]:
        with netns.inside(entry.netns):
            return read_unknown()
    return ()


def status_as_json(lab: Lab, health: Mapping[str, Health], unknown_timeouts: Sequence[str]) -> dict[str, object]:
    """Return the keys of command-line.md.

    `health` is by the name of the instance or router that enforces policy.
    """
    return {
        "name": lab.record.name,
        "placement": lab.placement.value,
        "choices": lab.record.choices.plain(),
        "time_scale": lab.record.time_scale,
        "unknown_timeouts": list(unknown_timeouts),
        "nodes": {node.name: _node_as_json(node, health.get(node.name)) for node in lab.topology.nodes},
        "vpcs": {vpc_id: _vpc_as_json(found, health) for vpc_id, found in lab.topology.routers_of_vpc.items()},
    }


def _node_as_json(node: LabNode, health: Health | None) -> dict[str, object]:
    interfaces = [_interface_as_json(interface) for interface in node.interfaces]
    where = {"host": node.host} if node.host > 1 else {}
    more = health.as_json() if health else {}
    return {"kind": node.kind, "netns": node.netns, "interfaces": interfaces} | where | more


def _vpc_as_json(routers: Sequence[Router], health: Mapping[str, Health]) -> dict[str, object]:
    """Return the first host's router; those of other hosts stand under `hosts`, by number."""
    first, *others = (_router_as_json(router, health.get(router.name)) for router in routers)
    numbered = {str(number): found for number, found in enumerate(others, 2)}
    return first | ({"hosts": numbered} if numbered else {})


def _router_as_json(router: Router, health: Health | None) -> dict[str, object]:
    return {"netns": router.netns} | (health.as_json() if health else {})


def _interface_as_json(interface: Interface) -> dict[str, object]:
    eni = {"eni": interface.eni_id} if interface.eni_id else {}
    mac = {"mac": interface.mac} if interface.eni_id else {}
    return eni | {"ifname": interface.ifname} | mac | {family.value: _texts(interface, family) for family in Family}


def _texts(interface: Interface, family: Family) -> list[str]:
    return [str(address) for address in interface.addresses if address.family is family]


def status_as_text(lab: Lab) -> str:
    """Return what is where: one line per interface, then the routers."""
    rows = [row for node in lab.topology.nodes for row in _status_rows(lab, node)]
    nodes = render_table(("NODE", "INTERFACE", "ENI", "GROUPS", "ADDRESSES"), rows)
    routers = "\n".join(_router_line(router) for router in lab.topology.routers)
    head = f"lab {lab.record.name}: policy enforced in placement {lab.placement.value}{notes(lab)}"
    places = f"The namespace of a node is named {lab.record.name}-NODE."
    return "\n".join(part for part in (head, nodes, routers, one_line(places)) if part)


def _router_line(router: Router) -> str:
    where = f" on host {router.host}" if router.host > 1 else ""
    return one_line(f"router of {router.vpc_id}{where}: {router.netns}")


def _status_rows(lab: Lab, node: LabNode) -> Iterator[tuple[str, ...]]:
    name = f"{node.name} ({node.alias})" if node.alias and node.alias != node.name else node.name
    name += f" on host {node.host}" if node.host > 1 else ""
    if not node.interfaces:
        yield (name, "-", "-", "-", "-")
    for index, interface in enumerate(node.interfaces):
        groups = lab.state.eni[interface.eni_id].security_group_ids if interface.eni_id else ()
        addresses = [str(value) for value in (*interface.addresses, *interface.prefixes)]
        first = name if index == 0 else ""
        yield (first, interface.ifname, interface.eni_id or "-", ", ".join(groups) or "-", " ".join(addresses))


def notes(lab: Lab) -> str:
    """Return what every report says of a lab whose timeouts are scaled, or whose choices aren't the default ones.

    Each note begins with a comma; the text is empty if there is nothing unusual.
    """
    scale = [f"timeouts times {lab.record.time_scale:g}"] if lab.record.time_scale != 1.0 else []
    return "".join(f", {note}" for note in (*scale, *lab.unusual))

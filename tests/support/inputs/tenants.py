"""Documents of two tenants, their hosts, and random revisions of them, each of which leaves a valid state.

Owns generated documents and their edits. Must not know what a host gets of them.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from typing import Any, cast

from sgdataplane.errors import StateFileError
from sgdataplane.model.state import CloudState, NetworkType
from sgdataplane.statefile import load_native
from sgdataplane.statefile.dump_native import sections
from sgdataplane.store.documents import (
    IDS,
    SECTIONS,
    Documents,
    ResourceKind,
    kind_of,
    name_of,
    native,
    path_of,
    state_in,
)
from sgdataplane.store.hosts import StoredHost
from sgdataplane.store.interface import Body, Path, Revision, Snapshot

HOSTS = ("alpha", "beta.example", "gamma", "delta")
IDS_OF_OURS = re.compile(r'"(vpc|sg|sgr|eni|i|pl|prl)-')
UNKNOWN = "sg-unknown"
NAMES_A_GROUP = ("source_security_group_id", "dest_security_group_id")


def documents_of(state: CloudState, tenant: str) -> dict[Path, Body]:
    """A state's objects as documents, their ids with the tenant's name. What validation refuses, which `gen` makes all
    the same, is left out."""
    written = cast("dict[str, list[dict[str, Any]]]", json.loads(json.dumps(sections(state))))
    is_classic = state.vpcs[0].network_type is NetworkType.CLASSIC
    for group in written["security_groups"]:
        group["rules"] = [rule for rule in group.get("rules", []) if _is_valid(rule, is_classic=is_classic)]
    for eni in written["network_interfaces"] if is_classic else ():
        eni.pop("instance_id", None)
    ours = json.loads(IDS_OF_OURS.sub(rf'"\1-{tenant}-', json.dumps(written)))
    found: dict[Path, Body] = {}
    for kind, field in IDS.items():
        for fields in ours[SECTIONS[kind]]:
            found[path_of(kind, fields[field])] = {"state": fields, "about": {}}
    return found


def _is_valid(rule: dict[str, Any], *, is_classic: bool) -> bool:
    """Without rules on groups that nobody knows."""
    if is_classic:
        is_on_group = not rule.keys().isdisjoint(NAMES_A_GROUP)
        return (
            "prefix_list_id" not in rule and not (is_on_group and "nic_type" in rule) and UNKNOWN not in rule.values()
        )
    rule.pop("nic_type", None)
    return UNKNOWN not in rule.values()


class Tenants:
    """The documents, and one random revision after the other. `chance` decides everything."""

    def __init__(self, states: tuple[CloudState, CloudState], chance: random.Random) -> None:
        self.chance = chance
        bodies: dict[Path, Body] = {
            f"host/{name}": StoredHost(name, 1.0).body() for name in HOSTS[: chance.randint(0, 3)]
        }
        for state, tenant in zip(states, ("a", "b"), strict=True):
            bodies |= documents_of(state, tenant)
        self.documents = Documents.of(Snapshot(1, bodies, {}))
        self._gone: dict[Path, Body] = {}
        for path in [path for path in bodies if kind_of(path) is ResourceKind.ENI and chance.random() < 0.9]:
            self._commit({path: self._bound(path)}, set())

    @property
    def state(self) -> CloudState:
        return load_native(native(self.documents.bodies()), profile="unlimited").state

    def revisions(self, count: int) -> Iterator[tuple[Documents, Documents, Revision]]:
        """(documents before, after, what changed); edits that would make no valid state are left out."""
        for _ in range(count):
            before, puts, deletes = self.documents, dict[Path, Body](), set[Path]()
            for _ in range(self.chance.choice((1, 1, 2, 3))):
                self._edit(puts, deletes)
            if change := self._commit(puts, deletes):
                yield before, self.documents, change

    def _commit(self, puts: dict[Path, Body], deletes: set[Path]) -> Revision | None:
        puts = {path: body for path, body in puts.items() if path not in deletes}
        change = Revision(self.documents.revision + 1, puts, frozenset(deletes), frozenset())
        after = self.documents.after(change)
        try:
            load_native(native(after.bodies()), profile="unlimited")
        except StateFileError:
            return None
        self._gone |= {path: body for path in deletes if (body := self.documents.get(path))}
        self.documents = after
        return change

    # edits

    def _edit(self, puts: dict[Path, Body], deletes: set[Path]) -> None:
        edits = (
            self._rules, self._rules, self._rules, self._group, self._group, self._groups_of_eni, self._groups_of_eni,
            self._far_or_near, self._claim, self._claim, self._tag, self._lists, self._vpc, self._about, self._hosts,
            self._hosts, self._delete, self._return, self._return, self._trade,
        )  # fmt: skip
        self.chance.choice(edits)(puts, deletes)

    def _any(self, *kinds: ResourceKind) -> Path | None:
        found = [path_of(kind, name) for kind in kinds for name in sorted(self.documents.of_kind[kind])]
        return self.chance.choice(found) if found else None

    def _taken(self, puts: dict[Path, Body], *kinds: ResourceKind) -> dict[str, Any] | None:
        """A copy of a document, which is put."""
        path = self._any(*kinds)
        body = path and (puts.get(path) or self.documents.get(path))
        if not path or not body:
            return None
        copied = copy.deepcopy(dict(body))
        puts[path] = copied
        return cast("dict[str, Any]", copied)

    def _bound(self, path: Path) -> Body:
        body = copy.deepcopy(dict(cast(Body, self.documents.get(path))))
        cast("dict[str, Any]", body["about"])["host"] = self.chance.choice(HOSTS)
        return body

    def _rules(self, puts: dict[Path, Body], _: set[Path]) -> None:
        """A rule goes, comes from another group, or names another group."""
        body = self._taken(puts, ResourceKind.GROUP)
        other = self._any(ResourceKind.GROUP)
        if body is None or other is None:
            return
        rules = body["state"].setdefault("rules", [])
        if rules and self.chance.random() < 0.3:
            rules.remove(self.chance.choice(rules))
        elif rules and self.chance.random() < 0.5:
            rule = self.chance.choice(rules)
            for name in ("cidr_ip", "ipv6_cidr_ip", "prefix_list_id", *NAMES_A_GROUP):
                rule.pop(name, None)
            rule[NAMES_A_GROUP[rule["type"] == "egress"]] = name_of(other)
        else:
            more = state_in(self.documents.of_kind[ResourceKind.GROUP][name_of(other)]).get("rules", [])
            number = self.documents.revision
            for rule in copy.deepcopy(cast("list[dict[str, Any]]", more))[:2]:
                number += 1
                rules.append({**rule, "security_group_rule_id": f"sgr-new-{number}-{self.chance.randrange(1 << 32)}"})

    def _group(self, puts: dict[Path, Body], _: set[Path]) -> None:
        if body := self._taken(puts, ResourceKind.GROUP):
            match self.chance.randrange(4):
                case 0:
                    body["state"]["inner_access_policy"] = self.chance.choice(("Accept", "Drop"))
                case 1:
                    body["state"]["security_group_name"] = f"name {self.documents.revision}"
                case 2:
                    body["state"]["service_managed"] = self.chance.random() < 0.5
                case _:
                    path = path_of(ResourceKind.GROUP, f"sg-made-{self.documents.revision}")
                    puts[path] = {"state": {**body["state"], "security_group_id": name_of(path)}, "about": {}}

    def _groups_of_eni(self, puts: dict[Path, Body], _: set[Path]) -> None:
        group, body = self._any(ResourceKind.GROUP), self._taken(puts, ResourceKind.ENI)
        if body and group:
            ids = body["state"]["security_group_ids"]
            if len(ids) > 1 and self.chance.random() < 0.5:
                ids.pop()
            elif name_of(group) not in ids:
                ids.append(name_of(group))

    def _far_or_near(self, puts: dict[Path, Body], _: set[Path]) -> None:
        """Something of an ENI that its own host alone hears, or that others hear, too."""
        if body := self._taken(puts, ResourceKind.ENI):
            state, number = body["state"], self.documents.revision
            changes: dict[str, Any] = self.chance.choice((
                {"connection_tracking": {"udp_timeout": self.chance.choice((10, 20, 60))}},
                {"allowed_address_pairs": [f"192.0.2.{number % 250}/32"]},
                {"mac_address": f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"},
                {"private_ip_addresses": [*state["private_ip_addresses"][:1], f"10.9.0.{100 + number % 100}"]},
                {"ipv6_addresses": [f"2001:db8:9::{100 + number:x}"]},
                {"nic_type": self.chance.choice(("intranet", "internet"))},
                {"instance_id": ""},
                {"type": self.chance.choice(("primary", "secondary"))},
            ))  # fmt: skip
            state |= changes

    def _claim(self, puts: dict[Path, Body], _: set[Path]) -> None:
        if body := self._taken(puts, ResourceKind.ENI):
            body["about"]["host"] = self.chance.choice(("", *HOSTS))

    def _tag(self, puts: dict[Path, Body], _: set[Path]) -> None:
        if body := self._taken(puts, ResourceKind.INSTANCE):
            body["about"]["tags"] = {"sgdp:host": self.chance.choice(("", *HOSTS))}

    def _lists(self, puts: dict[Path, Body], _: set[Path]) -> None:
        if body := self._taken(puts, ResourceKind.PREFIX_LIST, ResourceKind.PORT_LIST):
            entries = body["state"].setdefault("entries", [])
            if entries:
                entries.pop()
            elif "address_family" in body["state"]:
                is_ipv4 = body["state"]["address_family"] == "IPv4"
                entries.append({"cidr": "10.9.0.0/29" if is_ipv4 else "2001:db8:9::/64"})
            else:
                entries.append({"port_range": "80/443"})

    def _vpc(self, puts: dict[Path, Body], _: set[Path]) -> None:
        if body := self._taken(puts, ResourceKind.VPC):
            body["state"]["cidr_blocks"] = self.chance.choice((["10.0.0.0/8"], ["10.0.0.0/8", "2001:db8::/32"]))

    def _about(self, puts: dict[Path, Body], _: set[Path]) -> None:
        kinds = (ResourceKind.GROUP, ResourceKind.ENI, ResourceKind.VPC, ResourceKind.PREFIX_LIST)
        if body := self._taken(puts, *kinds):
            body["about"]["description"] = f"at revision {self.documents.revision}"

    def _hosts(self, puts: dict[Path, Body], deletes: set[Path]) -> None:
        path = f"host/{self.chance.choice(HOSTS)}"
        if self.documents.get(path) is None or self.chance.random() < 0.3:
            puts[path] = StoredHost(name_of(path), 1.0, is_revoked=self.chance.random() < 0.3).body()
        else:
            deletes.add(path)

    def _delete(self, _: dict[Path, Body], deletes: set[Path]) -> None:
        path = self._any(*IDS)
        if path and not path.startswith("vpc/"):
            deletes.add(path)

    def _return(self, puts: dict[Path, Body], _: set[Path]) -> None:
        """Something that was deleted comes back."""
        if found := sorted(path for path in self._gone if self.documents.get(path) is None):
            path = self.chance.choice(found)
            puts[path] = self._gone[path]

    def _trade(self, puts: dict[Path, Body], _: set[Path]) -> None:
        """Two ENIs trade their addresses."""
        one, other = self._taken(puts, ResourceKind.ENI), self._taken(puts, ResourceKind.ENI)
        if one and other and one["state"]["vpc_id"] == other["state"]["vpc_id"]:
            mine, theirs = one["state"]["private_ip_addresses"], other["state"]["private_ip_addresses"]
            one["state"]["private_ip_addresses"], other["state"]["private_ip_addresses"] = theirs, mine

"""The page on what a host gets shows the messages that the code makes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sgdataplane.relay.closure import Closures
from sgdataplane.relay.wire import HostChange, spell
from sgdataplane.statefile import load
from sgdataplane.statefile.dump_native import sections
from sgdataplane.store.documents import IDS, SECTIONS, Documents, Fields, ResourceKind, path_of
from sgdataplane.store.hosts import StoredHost
from sgdataplane.store.interface import Body, Revision, Snapshot
from sgdataplane.store.interface import Path as DocumentPath

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "design" / "closure.md"
BLOCK = re.compile(r"```\n(\{.*?)\n```", re.DOTALL)
HOSTS = {"eni-db1": "db-host", "eni-web1": "web-host", "eni-lb1": "lb-host"}
GROUP = path_of(ResourceKind.GROUP, "sg-db")
NEW_RULE = {
    "security_group_rule_id": "sgr-office-metrics",
    "type": "ingress",
    "ip_protocol": "tcp",
    "port_range": "9100/9100",
    "prefix_list_id": "pl-office",
}


def shop() -> dict[DocumentPath, Body]:
    """The documents of the example, with some ENIs bound to hosts."""
    written = json.loads(json.dumps(sections(load(ROOT / "examples" / "shop.yaml").state)))
    found: dict[DocumentPath, Body] = {f"host/{name}": StoredHost(name, 1.0).body() for name in HOSTS.values()}
    for kind, field in IDS.items():
        for fields in written.get(SECTIONS[kind], []):
            about = {"host": HOSTS[fields[field]]} if fields[field] in HOSTS else {}
            found[path_of(kind, fields[field])] = {"state": fields, "about": about}
    return found


def messages() -> dict[str, object]:
    """What each host would be sent after a rule was added to the group of the databases."""
    before = Documents.of(Snapshot(41, shop(), {}))
    closures = Closures(before)
    had = {host: closures.of(host) for host in HOSTS.values()}
    body = json.loads(json.dumps(before.of_kind[ResourceKind.GROUP]["sg-db"]))
    body["state"]["rules"].append(NEW_RULE)
    change = Revision(42, {GROUP: body}, frozenset(), frozenset())
    after = before.after(change)
    paths = closures.step(after, change)
    found: dict[str, object] = {}
    for host, some in paths.items():
        now = closures.some(host, some)
        puts: dict[DocumentPath, Fields] = {
            path: fields for path, fields in now.items() if fields is not None and had[host].get(path) != fields
        }
        deletes = tuple(path for path, fields in now.items() if fields is None and path in had[host])
        if puts or deletes:
            found[host] = json.loads(spell(HostChange(after.version, puts, deletes)))
    return found


def test_the_message_on_the_page_is_what_the_host_of_a_member_gets() -> None:
    (shown,) = BLOCK.findall(PAGE.read_text("utf-8"))
    assert json.loads(shown) == messages()["db-host"]


@pytest.mark.parametrize("host", ["web-host", "lb-host"])
def test_hosts_that_only_name_the_group_or_do_not_know_it_get_no_message(host: str) -> None:
    assert host not in messages()

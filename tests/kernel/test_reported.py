"""Whether a namespace is still as a reconcile has reported it, which the agent asks once it listens there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from sgdataplane.attach.agenda import Agenda
from sgdataplane.attach.reconcile import is_as_reported, reconcile
from sgdataplane.contract.tables import TABLE
from sgdataplane.host import netns
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import WEB, Bench, state_of

pytestmark = pytest.mark.kernel


def set_links(*commands: str) -> Callable[[str], None]:
    """Runs `ip link` with each of these arguments in the namespace."""

    def change(place: str) -> None:
        with netns.inside(place):
            for command in commands:
                subprocess.run(["ip", "link", *command.split()], check=True)

    return change


CHANGES: dict[str, Callable[[str], object]] = {
    "a table of others": lambda place: nft(place, "add table inet others"),
    "our own table": lambda place: nft(place, f"flush chain inet {TABLE} ingress-refuse"),
    "the fence": lambda place: nft(place, f"delete table netdev {TABLE}"),
    "a new link": set_links("add more type veth peer name other"),
    "a link's state": set_links("set eth0 down"),
    "a link's name": set_links("set eth0 down", "set eth0 name eth7", "set eth7 up"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_report_says_whether_anything_has_changed_since(bench: Bench, what: str) -> None:
    bench.attach()
    found = [reconcile(bench.registry, state_of(WEB))]

    def is_same() -> bool:
        return is_as_reported(found[-1].namespaces[0])

    def is_certain() -> bool:  # the link may just have come up
        found.append(reconcile(bench.registry, state_of(WEB), agenda=Agenda(found[-1])))
        return is_same()

    wait_until(lambda: is_same() or is_certain())
    CHANGES[what](bench.place)
    assert not is_same()

"""What a kernel has to load is asked for where a policy is put in force; this kernel has all of it built in."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.daemon.namespaces import NamespaceWatch
from sgdataplane.enforce import Desired
from sgdataplane.errors import UnsupportedError
from sgdataplane.host import modules, netns
from sgdataplane.host.modules import NFTABLES, TRACKING, Subsystem
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import nft

pytestmark = pytest.mark.kernel
STATE = Path(__file__).resolve().parents[2] / "netns-lab" / "scenarios" / "20-three-tier" / "state.yaml"
NOBODYS = Subsystem("what no kernel has", "nothing", message_kind(200, 0))


def desired(rule: str) -> Desired:
    state = make_state([make_group("sg-a", [rule])], [make_eni("eni-a", "10.0.0.1", "sg-a")])
    return Desired(state, {"eni-a": "eth0"})


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[[Subsystem], None]:
    """From then on the kernel answers as one that hasn't this subsystem, and can't load it."""

    def lose_it(subsystem: Subsystem) -> None:
        ask = Nfnetlink.ask

        def asked(door: Nfnetlink, kind: int, *more: object) -> dict[int, bytes]:
            if kind == subsystem.question:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return ask(door, kind, *more)  # type: ignore[arg-type]

        monkeypatch.setattr(Nfnetlink, "ask", asked)
        monkeypatch.setattr(modules, "_ANSWERED", set())

    return lose_it


@pytest.mark.parametrize("subsystem", [TRACKING, NFTABLES], ids=lambda found: found.module)
def test_what_this_kernel_has_answers_in_a_new_namespace(namespace: str, subsystem: Subsystem) -> None:
    with netns.inside(namespace):
        modules.require(subsystem)


def test_what_a_kernel_has_not_it_refuses_as_we_expect(namespace: str) -> None:
    with netns.inside(namespace), pytest.raises(UnsupportedError, match="`modprobe nothing`"):
        modules.require(NOBODYS)


def test_who_may_not_ask_is_told_what_it_takes() -> None:
    body = "from sgdataplane.host import modules; modules.require(modules.TRACKING)"
    command = ["setpriv", "--bounding-set", "-net_admin", sys.executable, "-c", body]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "PrivilegeError: not permitted: this needs CAP_NET_ADMIN" in done.stderr


@pytest.mark.parametrize("subsystem", [TRACKING, NFTABLES], ids=lambda found: found.module)
def test_without_it_nothing_is_changed(namespace: str, lose: Callable[[Subsystem], None], subsystem: Subsystem) -> None:
    enforce(namespace, desired("ingress tcp 22/22 from 0.0.0.0/0"))
    before = nft(namespace, "-s list ruleset")
    lose(subsystem)
    with pytest.raises(UnsupportedError, match=subsystem.module):
        enforce(namespace, desired("ingress tcp 80/80 from 0.0.0.0/0"))
    assert nft(namespace, "-s list ruleset") == before


def test_an_agent_does_not_start_without_nftables(lose: Callable[[Subsystem], None]) -> None:
    NamespaceWatch().close()
    lose(NFTABLES)
    with pytest.raises(UnsupportedError, match="`modprobe nf_tables`"):
        NamespaceWatch()


def test_a_lab_says_what_to_load_and_leaves_nothing(
    lab_name: str, lose: Callable[[Subsystem], None], capsys: pytest.CaptureFixture[str]
) -> None:
    lose(TRACKING)
    assert main(["lab", "up", str(STATE), "--name", lab_name]) == 3
    said = capsys.readouterr().err
    assert "connection tracking is not available here" in said
    assert "`modprobe nf_conntrack_netlink`" in said
    assert not any(name.startswith(lab_name) for name in netns.list_names())

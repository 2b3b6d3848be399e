"""`sgdp attach`, `apply`, `detach`, `clear` on a workload that is there already: a process in a namespace without a
name, as a container's is, joined by a link to a peer."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from sgdataplane.attach.agenda import Agenda, Heard
from sgdataplane.attach.reconcile import reconcile
from sgdataplane.attach.registry import Binding
from sgdataplane.contract.tables import TABLE
from sgdataplane.host import netns
from sgdataplane.host.identity import Identity, hold_namespace, identity_of
from sgdataplane.host.links import InterfaceAddress, Links
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import link_local
from sgdataplane.observe.hits import read_hits
from tests.support.documents.schemas import assert_conforms
from tests.support.inputs.builders import as_member, mac_of, make_eni, make_group, make_rule, make_state
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.probes.links import add_fallback, veths_in
from tests.support.scenes.attachbench import DNS, WEB, Bench, living_nowhere, state_of
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import HERE, Session

pytestmark = pytest.mark.kernel
FRAME = bytes.fromhex("ff" * 6 + mac_of("eni-a").replace(":", "") + "0800") + bytes(46)


def tables(place: str) -> str:
    return nft(place, "list tables")


def send_frame(bench: Bench) -> bool:
    """Whether the kernel lets a frame out that the workload sends past its IP stack."""
    with netns.inside(bench.place), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        try:
            sender.sendto(FRAME, ("eth0", 0))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("naming", ["pid", "path", "name"])
def test_packets_obey_the_state_from_apply_to_detach(
    bench: Bench, naming: str, make_lab_name: Callable[[], str]
) -> None:
    with ExitStack() as stack:
        where: tuple[object, ...] = ("--pid", bench.pid)
        if naming != "pid":
            name = make_lab_name()
            subprocess.run(["ip", "netns", "attach", name, str(bench.pid)], check=True)
            stack.callback(netns.remove, name)
            where = ("--netns", netns.path_of(name) if naming == "path" else name)
        web, dns = stack.enter_context(Session(bench.pair, WEB)), stack.enter_context(Session(bench.pair, DNS))
        assert bench.attach(*where) == 0
        assert dns.passes(beside=web)  # attaching changes no packet's fate
        assert bench.apply(state_of(WEB)) == {"eni-a": "in force", "exit": "0"}
        assert not dns.passes(beside=web)
        assert bench.apply(state_of(DNS)) == {"eni-a": "in force", "exit": "0"}
        assert not web.passes(beside=dns)  # its session is revoked, the other's is let in
        assert bench.apply(state_of(DNS, WEB)) == {"eni-a": "in force", "exit": "0"}
        assert web.passes(beside=dns)
        assert bench.apply(state_of(DNS)) == {"eni-a": "in force", "exit": "0"}
        assert not web.passes(beside=dns)
        assert bench.sgdp("detach", "--eni", "eni-a") == 0
        assert web.passes(beside=dns)
        assert tables(bench.place) == ""
        assert bench.registry.load() == ()


def test_a_connection_that_runs_when_it_is_attached_goes_on(bench: Bench) -> None:
    with ExitStack() as stack:
        with netns.inside(bench.place):
            listener = stack.enter_context(socket.create_server(("0.0.0.0", 80)))
        with netns.inside(bench.pair["peer"]):
            client = stack.enter_context(socket.create_connection((HERE["instance"][0], 80), timeout=DEADLINE))
        server, _ = listener.accept()
        stack.enter_context(server)
        bench.attach()
        rules = [make_rule("ingress tcp 80/80 from 0.0.0.0/0", "sgr-web")]
        eni = make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")
        assert bench.apply(make_state([make_group("sg-a", rules)], [eni]))["eni-a"] == "in force"
        for sender, receiver in ((server, client), (client, server)):
            receiver.settimeout(DEADLINE)
            sender.send(b"still there")
            assert receiver.recv(64) == b"still there"


@pytest.mark.parametrize("state", [state_of(WEB, eni="eni-b"), as_member(state_of(WEB), "eni-a")])
def test_an_eni_whose_policy_the_state_has_not_passes_nothing(bench: Bench, state: CloudState) -> None:
    with Session(bench.pair, WEB) as web:
        bench.attach()
        assert send_frame(bench)
        assert bench.apply(state) == {"eni-a": "closed", "exit": "1"}
        sent, answer = web.send(), web.answer()
        assert not send_frame(bench)
        assert bench.apply(state_of(WEB)) == {"eni-a": "in force", "exit": "0"}
        assert sent not in web.must_pass()
        assert answer not in web.must_be_answered()


def test_a_workload_that_ends_takes_its_namespace_with_it_and_stays_listed(
    bench: Bench, process: subprocess.Popen[bytes]
) -> None:
    with Session(bench.pair, WEB) as web:
        bench.attach()
        bench.apply(state_of(WEB))
        web.must_pass()
    process.kill()
    process.wait()
    wait_until(lambda: not veths_in(bench.pair["peer"]))  # the link goes with the namespace that has its other end
    for _ in range(2):
        assert bench.apply(state_of(WEB)) == {"eni-a": "gone", "exit": "1"}
    assert bench.sgdp("detach", "--eni", "eni-a") == 0
    assert bench.apply(state_of(WEB)) == {"exit": "0"}


def test_an_eni_whose_namespace_has_ended_can_be_bound_anew(bench: Bench) -> None:
    with living_nowhere() as other:
        with Links(bench.pair["peer"]) as links:
            links.add_veth("far", f"/proc/{other.pid}/ns/net", "eth0", mac_of("eni-a"))
        assert bench.attach("--pid", other.pid) == 0
        assert bench.attach() == 5  # it is bound, and its namespace is there
    assert bench.attach() == 0
    assert [binding.named for binding in bench.registry.load()] == [f"pid {bench.pid}"]


def test_a_namespace_is_found_again_when_the_process_that_named_it_has_ended(
    bench: Bench, process: subprocess.Popen[bytes]
) -> None:
    with netns.inside(bench.place):
        second = subprocess.Popen(["sleep", "600"])
    try:
        bench.attach()
        process.kill()
        process.wait()
        bench.pair = {**bench.pair, "instance": f"/proc/{second.pid}/ns/net"}
        with Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
            assert bench.apply(state_of(WEB))["eni-a"] == "in force"
            assert not dns.passes(beside=web)
    finally:
        second.kill()
        second.wait()


def test_another_namespace_at_the_same_path_and_inode_is_left_alone(bench: Bench) -> None:
    with hold_namespace(bench.place) as place:
        identity = identity_of(place)
    later = Identity(identity.inode, identity.cookie + 1)
    with bench.registry.lock():
        bench.registry.store([Binding("eni-a", "eth0", "pid 1", bench.place, later)])
    assert bench.apply(state_of(WEB)) == {"eni-a": "gone", "exit": "1"}
    assert tables(bench.place) == ""


def test_of_two_enis_in_a_namespace_one_is_detached(bench: Bench) -> None:
    with Links(bench.pair["peer"]) as links:
        links.add_veth("far1", bench.place, "eth1", mac_of("eni-b"))
        links.set_up("far1")
    with Links(bench.place) as links:
        links.set_up("eth1")
    state = state_of(WEB)
    second = make_eni("eni-b", "10.0.1.2", "sg-a")
    both = replace(state, network_interfaces=(*state.network_interfaces, second), instances=())
    enis = tuple(replace(eni, instance_id="") for eni in both.network_interfaces)
    both = replace(both, network_interfaces=enis)
    bench.attach()
    bench.attach("--pid", bench.pid, eni="eni-b", ifname="eth1")
    assert bench.apply(both) == {"eni-a": "in force", "eni-b": "in force", "exit": "0"}
    with Session(bench.pair, WEB) as web:
        web.must_pass()
        assert bench.sgdp("detach", "--eni", "eni-a") == 0
        assert "from the next `sgdp apply` on, eth0 passes nothing" in bench.read_output()
        web.must_pass()
        assert bench.apply(both) == {"eni-b": "in force", "exit": "0"}
        sent = web.send()
        bench.attach()
        assert bench.apply(both)["eni-a"] == "in force"
        assert sent not in web.must_pass()


def test_who_keeps_what_is_in_force_changes_only_what_differs(bench: Bench) -> None:
    bench.attach()
    first = reconcile(bench.registry, state_of(WEB))
    again = reconcile(bench.registry, state_of(WEB), agenda=Agenda(first))
    second = reconcile(bench.registry, state_of(WEB, DNS), agenda=Agenda(again))
    done = [report.namespaces[0].applied for report in (first, again, second)]
    assert [one is not None and (one.changed, one.is_full_resync) for one in done] == [
        (True, False),
        (False, False),
        (True, False),
    ]


def test_what_is_settled_and_quiet_is_not_looked_at(bench: Bench) -> None:
    bench.attach()
    first = reconcile(bench.registry, state_of(WEB))
    (key,) = first.in_force
    nft(bench.place, f"flush table inet {TABLE}")  # it is said to be quiet all the same
    others = make_state([make_group("sg-x"), *state_of(WEB).security_groups], state_of(WEB).network_interfaces)
    beats: list[str] = []
    quiet = reconcile(bench.registry, others, agenda=Agenda(first, Heard({key}), lambda: beats.append("quiet")))
    assert (first.namespaces[0].applied, quiet.namespaces[0].applied) != (None, None)
    assert [report.namespaces[0].applied.changed for report in (first, quiet)] == [True, False]  # type: ignore[union-attr]
    assert quiet.in_force[key].desired.state == others
    assert "drop" not in nft(bench.place, f"list chain inet {TABLE} ingress-refuse")
    for state, is_heard in ((others, True), (state_of(WEB, DNS), False)):
        agenda = Agenda(quiet, Heard(set() if is_heard else {key}), lambda: beats.append("look"))
        reconcile(bench.registry, state, agenda=agenda)
        assert "drop" in nft(bench.place, f"list chain inet {TABLE} ingress-refuse")
        nft(bench.place, f"flush table inet {TABLE}")
    assert beats == ["look", "look"]


def test_what_programs_read_of_attach_and_detach(bench: Bench) -> None:
    bench.read_output()
    for verb, where in (("attach", ("--pid", bench.pid, "--ifname", "eth0")), ("detach", ())):
        assert bench.sgdp(verb, "--eni", "eni-a", *where, "--json") == 0
        said = json.loads(bench.read_output())
        assert_conforms(verb, said)
        assert (said["eni"], said["interface"]) == ("eni-a", "eth0")


def test_clear_removes_what_is_ours_and_nothing_else(bench: Bench) -> None:
    nft(bench.place, f"add table ip {TABLE}", "add table inet other")
    with Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
        bench.attach()
        bench.apply(state_of(WEB))
        assert not dns.passes(beside=web)
        bench.read_output()
        assert bench.sgdp("clear", "--json") == 0
        said = json.loads(bench.read_output())
        assert_conforms("clear", said)
        assert said == {"enis": 1, "left": [], "refused": {}}
        assert dns.passes(beside=web)
    assert sorted(tables(bench.place).split("\n")) == ["", "table inet other", f"table ip {TABLE}"]
    assert bench.registry.load() == ()
    assert bench.sgdp("clear") == 0


def test_the_mac_is_given_to_the_interface_on_request(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    state = state_of(WEB)
    other = replace(state.network_interfaces[0], mac_address="02:00:00:00:00:07")
    path = bench.write(replace(state, network_interfaces=(other,)))
    where = ("--pid", bench.pid, "--state", path)
    assert bench.attach(*where) == 5
    assert "InvalidMacAddress.Differs" in capsys.readouterr().err
    assert bench.registry.load() == ()
    assert bench.attach(*where, "--set-mac") == 0
    with Links(bench.place) as links:
        assert [link.mac for link in links.links() if link.ifname == "eth0"] == ["02:00:00:00:00:07"]
    assert bench.attach(*where) == 0


def solicit_routers(place: str) -> None:
    """As the kernel does by itself, from the interface's link-local address."""
    with netns.inside(place), socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        with suppress(PermissionError):  # it was dropped
            sender.sendto(bytes((133, 0, 0, 0, 0, 0, 0, 0)), ("ff02::2", 0, 0, socket.if_nametoindex("eth0")))


def spoofed(place: str) -> int:
    return read_hits(place)["egress.spoofed"].packets


def test_an_interface_that_gets_another_mac_gets_its_link_local_address(bench: Bench) -> None:
    """From the former one, what the kernel sends by itself would be spoofed. All other addresses stay."""
    mac = "02:00:00:00:00:07"
    state = state_of(WEB)
    other = replace(state, network_interfaces=(replace(state.network_interfaces[0], mac_address=mac),))
    former, now = (InterfaceAddress("eth0", link_local(each), 64) for each in (mac_of("eni-a"), mac))
    with Links(bench.place) as links:
        wait_until(lambda: former in links.addresses())
        before = links.addresses()
        assert bench.attach("--pid", bench.pid, "--state", bench.write(other), "--set-mac") == 0
        assert links.addresses() ^ before == {former, now}
        assert bench.apply(other)["exit"] == "0"
        solicit_routers(bench.place)
        assert spoofed(bench.place) == 0
        links.add_address(former)
        links.delete_address(now)
        solicit_routers(bench.place)
        assert spoofed(bench.place) >= 1  # the kernel itself may have said something, too


REFUSALS = [
    pytest.param("--pid {pid}", "eth7", "InvalidInterface.NotFound", id="no-such-interface"),
    pytest.param("--pid {pid}", "lo", "InvalidInterface.NotFound", id="loopback"),
    pytest.param("--pid 999999999", "eth0", "InvalidNamespace.NotFound", id="no-process"),
    pytest.param("--pid 1", "eth0", "InvalidNamespace", id="of-the-machine"),  # or it can't be seen
    pytest.param("--netns /proc/self/ns/net", "eth0", "InvalidNamespace.Own", id="own"),
    pytest.param("--netns /proc/{pid}/ns/mnt", "eth0", "InvalidNamespace.NotFound", id="of-mounts"),
    pytest.param("--netns /etc/passwd", "eth0", "InvalidNamespace.NotFound", id="a-file"),
    pytest.param("--netns /no/where", "eth0", "InvalidNamespace.NotFound", id="no-path"),
    pytest.param("--netns no-such-name", "eth0", "InvalidNamespace.NotFound", id="no-name"),
]


@pytest.mark.parametrize(("where", "ifname", "code"), REFUSALS)
def test_what_cannot_be_attached_is_refused_and_changes_nothing(
    bench: Bench, capsys: pytest.CaptureFixture[str], where: str, ifname: str, code: str
) -> None:
    assert bench.attach(*where.format(pid=bench.pid).split(), ifname=ifname) == 5
    complaint = capsys.readouterr().err
    assert code in complaint
    assert "expected:" in complaint
    assert bench.registry.load() == ()
    assert bench.attach() == 0  # and rightly asked, it is


def test_one_interface_has_one_eni(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.attach() == 0
    assert bench.attach() == 0
    assert "already bound" in capsys.readouterr().out
    assert bench.attach("--pid", bench.pid, eni="eni-b") == 5
    assert "`sgdp detach --eni eni-a` first" in capsys.readouterr().err
    assert bench.attach("--pid", bench.pid, "--state", bench.write(state_of()), eni="eni-c") == 5
    assert "an ENI of the state, such as eni-a" in capsys.readouterr().err
    assert bench.sgdp("detach", "--eni", "eni-c") == 5
    assert [binding.eni_id for binding in bench.registry.load()] == ["eni-a"]


def test_what_differs_from_the_eni_is_said(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    state = state_of(WEB)
    eni = replace(make_eni("eni-a", "10.0.0.9", "sg-a"), mac_address="02:00:00:00:00:07")
    bench.attach()
    with Links(bench.pair["peer"]) as links:
        links.add_veth("far1", bench.place, "eth1", "")
    with Links(bench.place) as links:
        links.set_up("eth1")
    for command in ("link add br0 type bridge", "link set eth0 master br0"):
        run_in(bench.place, "ip", *command.split())
    assert bench.sgdp("apply", bench.write(replace(state, network_interfaces=(eni,)))) == 1  # misaddressed
    complaint = capsys.readouterr().err
    assert "it is a port of br0 (bridge), which takes its packets. In instance placement" in complaint
    assert "the fence drops what it sends" in complaint
    assert "10.0.0.2 is on the interface, but not the ENI's" in complaint
    assert "10.0.0.9 is the ENI's, but not on the interface" in complaint
    assert "eth1 of pid" in complaint


def test_interfaces_that_a_namespace_has_by_itself_are_named_once_they_are_up(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with netns.inside(bench.place):
        add_fallback()
    assert bench.attach("--pid", bench.pid, ifname="eth7") == 5
    assert "expected: one of eth0\n" in capsys.readouterr().err
    bench.attach()
    state = bench.write(state_of(WEB))
    assert bench.sgdp("apply", state) == 0
    assert "no ENI is bound to it" not in capsys.readouterr().err
    with Links(bench.place) as links:
        links.set_up("gre0")
    assert bench.sgdp("apply", state) == 0
    complaints = [line for line in capsys.readouterr().err.splitlines() if "no ENI is bound to it" in line]
    assert ["gre0 of pid" in line for line in complaints] == [True]


def test_an_interface_that_went_is_absent(bench: Bench) -> None:
    bench.attach()
    with Links(bench.place) as links, suppress(OSError):
        links.delete_link("eth0")
    assert bench.apply(state_of(WEB)) == {"eni-a": "absent", "exit": "1"}


def test_sessions_of_what_is_attached_have_the_rule_that_lets_them_in(bench: Bench) -> None:
    assert bench.attach() == 0
    assert bench.apply(state_of(WEB))["exit"] == "0"
    with Session(bench.pair, WEB) as web:
        web.must_pass()
        (found,) = bench.sessions("instance")
        keys = ("eni", "node", "direction", "local_port", "judged", "verdict", "security_group_rule_id")
        assert [found[key] for key in keys] == ["eni-a", "i-a", "ingress", WEB, True, "accept", f"sgr-{WEB}"]
        assert bench.sessions("instance", "--port", f"udp/{DNS}") == []
        assert bench.apply(state_of(DNS))["exit"] == "0"
        (refused,) = bench.sessions("instance")
        assert [refused[key] for key in ("judged", "verdict", "reason")] == [False, "drop", "default"]


def test_sessions_of_an_eni_or_instance_that_is_not_here_are_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.attach() == 0
    assert bench.apply(state_of(WEB))["exit"] == "0"
    assert len(bench.sessions("instance")) == 0
    for option in ("--eni", "--node"):
        assert bench.run("sessions", "--config", bench.folder / "agent.toml", option, "nobody") == 5
        assert "nobody" in capsys.readouterr().err

"""`sgdp sessions` on a lab: what it says of real sessions of every kind, of revoked ones, and of very many."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.cli.sessions import __doc__ as keys_in_words
from sgdataplane.host import netns, sysctl
from sgdataplane.lab import manage
from sgdataplane.model.state import CloudState
from tests.support.documents.schemas import assert_conforms
from tests.support.probes.ends import Ends
from tests.support.probes.flood import wait_until
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.traffic

STATE = labs.state_of("""
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    security_group_type: normal
    inner_access_policy: Drop
    rules:
      - {security_group_rule_id: sgr-ssh, type: ingress, ip_protocol: tcp, port_range: 22/22, cidr_ip: 0.0.0.0/0}
      - {security_group_rule_id: sgr-ssh6, type: ingress, ip_protocol: tcp, port_range: 22/22, ipv6_cidr_ip: "::/0"}
      - {security_group_rule_id: sgr-alt, type: ingress, ip_protocol: tcp, port_range: 8080/8080, cidr_ip: 0.0.0.0/0}
      - {security_group_rule_id: sgr-udp, type: ingress, ip_protocol: udp, port_range: 5000/5009, priority: 7,
         cidr_ip: 198.51.100.0/24}
      - {security_group_rule_id: sgr-udp6, type: ingress, ip_protocol: udp, port_range: 5000/5009, ipv6_cidr_ip: "::/0"}
      - {security_group_rule_id: sgr-ping, type: ingress, ip_protocol: icmp, port_range: -1/-1, cidr_ip: 0.0.0.0/0}
      - {security_group_rule_id: sgr-ping6, type: ingress, ip_protocol: icmpv6, port_range: -1/-1,
         ipv6_cidr_ip: "::/0"}
      - {security_group_rule_id: sgr-dns, type: egress, ip_protocol: udp, port_range: 53/53, cidr_ip: 0.0.0.0/0,
         priority: 3}
  - security_group_id: sg-b
    vpc_id: vpc-a
    security_group_type: normal
    rules:
      - {security_group_rule_id: sgr-b, type: ingress, ip_protocol: tcp, port_range: 22/22, cidr_ip: 198.51.100.7/32}
instances: [{instance_id: i-a, instance_name: first}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-a2, instance_id: i-a, type: secondary, vpc_id: vpc-a, security_group_ids: [sg-b],
     private_ip_addresses: [10.0.0.3]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-b],
     private_ip_addresses: [10.0.0.2]}
""")
A, A6, A2, B = "10.0.0.1", "2001:db8:a::1", "10.0.0.3", "10.0.0.2"
EXT, EXT6 = "198.51.100.7", "2001:db8:ffff::7"
# Port 8080 of the instance is served by its port 22; what it sends to 192.0.2.80 goes to the host outside.
NAT = f"""
table ip nat {{
  chain in {{ type nat hook prerouting priority -100; tcp dport 8080 redirect to :22; }}
  chain out {{ type nat hook output priority -100; meta l4proto tcp ip daddr 192.0.2.80 dnat to {EXT}:8443; }}
}}
"""


@contextmanager
def opened(name: str, placement: str, hosts: int = 1) -> Iterator[Ends]:
    """A lab of STATE, and sockets in it."""
    with labs.running(name, STATE, enforce_policy, placement=placement, hosts=hosts), ExitStack() as stack:
        yield Ends(name, stack)


def place_of_a(name: str, placement: str) -> str:
    """The namespace that enforces i-a's policy."""
    return f"{name}-{'i-a' if placement == 'instance' else 'vpc-a'}"


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str], placement: str) -> Iterator[str]:
    """A lab with one session of each kind, with all ports known."""
    with opened(make_lab_name(), placement) as ends:
        with netns.inside(place_of_a(ends.lab, placement)):
            sysctl.write("netfilter/nf_conntrack_acct", "1")
        labs.load_rules(f"{ends.lab}-i-a", NAT)
        outside = "ext-198.51.100.7"
        for address in (A, A6):
            ends.tcp(outside, address, 22, ends.listen("i-a", address, 22))
            ends.ping(outside, address)
            for port, is_answered in ((5000, True), (5001, False)):
                listener = ends.listen("i-a", address, port, socket.SOCK_DGRAM)
                ends.udp(outside, address, port, listener, is_answered=is_answered)
        ends.tcp(outside, A2, 22, ends.listen("i-a", A2, 22))
        ends.tcp(outside, B, 22, ends.listen("i-b", B, 22))
        for address in (EXT, EXT6):
            ends.tcp("i-a", address, 443, ends.listen(outside, address, 443))
            ends.udp("i-a", address, 53, ends.listen(outside, address, 53, socket.SOCK_DGRAM), is_answered=True)
        _translated(ends, outside)
        ends.tcp("i-a", "127.0.0.1", 7000, ends.listen("i-a", "127.0.0.1", 7000))
        ends.tcp("i-a", A, 7000, ends.listen("i-a", A, 7000))
        yield ends.lab


def _translated(ends: Ends, outside: str) -> None:
    """Sessions that the instance translates: one that comes in, one that goes out."""
    client = ends.open(outside, socket.SOCK_STREAM, A)
    client.connect((A, 8080))  # answered by the listener on 22
    ends.tcp("i-a", "192.0.2.80", 80, ends.listen(outside, EXT, 8443))


def said(capsys: pytest.CaptureFixture[str], name: str, *arguments: str, code: int = 0) -> str:
    """What `sgdp sessions` prints."""
    capsys.readouterr()
    assert main(["sessions", "--name", name, *arguments]) == code
    printed = capsys.readouterr()
    return printed.err if code else printed.out


def sessions(capsys: pytest.CaptureFixture[str], name: str, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(said(capsys, name, "--json", *arguments))
    assert_conforms("sessions", found)
    return found


COLUMNS = (
    "eni",
    "interface",
    "direction",
    "family",
    "protocol",
    "remote",
    "local",
    "port",
    "state",
    "rule",
    "priority",
)
ROWS = {
    "TCP in": ("eni-a", "eth0", "ingress", "ipv4", "tcp", EXT, A, 22, "ESTABLISHED", "sgr-ssh", 1),
    "TCP in, IPv6": ("eni-a", "eth0", "ingress", "ipv6", "tcp", EXT6, A6, 22, "ESTABLISHED", "sgr-ssh6", 1),
    "TCP in at the other ENI": ("eni-a2", "eth1", "ingress", "ipv4", "tcp", EXT, A2, 22, "ESTABLISHED", "sgr-b", 1),
    "TCP in at the other instance": ("eni-b", "eth0", "ingress", "ipv4", "tcp", EXT, B, 22, "ESTABLISHED", "sgr-b", 1),
    "TCP in, DNAT": ("eni-a", "eth0", "ingress", "ipv4", "tcp", EXT, A, 8080, "ESTABLISHED", "sgr-alt", 1),
    "TCP out": ("eni-a", "eth0", "egress", "ipv4", "tcp", EXT, A, 443, "ESTABLISHED", None, None),
    "TCP out, IPv6": ("eni-a", "eth0", "egress", "ipv6", "tcp", EXT6, A6, 443, "ESTABLISHED", None, None),
    "TCP out, DNAT": ("eni-a", "eth0", "egress", "ipv4", "tcp", EXT, A, 8443, "ESTABLISHED", None, None),
    "UDP in": ("eni-a", "eth0", "ingress", "ipv4", "udp", EXT, A, 5000, "REPLIED", "sgr-udp", 7),
    "UDP in, IPv6": ("eni-a", "eth0", "ingress", "ipv6", "udp", EXT6, A6, 5000, "REPLIED", "sgr-udp6", 1),
    "UDP in, one way": ("eni-a", "eth0", "ingress", "ipv4", "udp", EXT, A, 5001, "UNREPLIED", "sgr-udp", 7),
    "UDP in, one way, IPv6": ("eni-a", "eth0", "ingress", "ipv6", "udp", EXT6, A6, 5001, "UNREPLIED", "sgr-udp6", 1),
    "UDP out": ("eni-a", "eth0", "egress", "ipv4", "udp", EXT, A, 53, "REPLIED", "sgr-dns", 3),
    "UDP out, IPv6": ("eni-a", "eth0", "egress", "ipv6", "udp", EXT6, A6, 53, "REPLIED", None, None),
    "echo": ("eni-a", "eth0", "ingress", "ipv4", "icmp", EXT, A, None, "REPLIED", "sgr-ping", 1),
    "echo, IPv6": ("eni-a", "eth0", "ingress", "ipv6", "icmpv6", EXT6, A6, None, "REPLIED", "sgr-ping6", 1),
}  # fmt: skip
LIMITS = {"tcp": 910, "udp": 30, "icmp": 30, "icmpv6": 30}


def port_of(session: dict[str, Any]) -> int | None:
    port: int | None = session["local_port" if session["direction"] == "ingress" else "remote_port"]
    return port


ETH = {"eni-a": "eth0", "eni-a2": "eth1", "eni-b": "eth0"}


def as_row(session: dict[str, Any]) -> tuple[Any, ...]:
    """A router's interfaces are named after their ENIs, but the rows have the names that instances use."""
    interface = session["interface"]
    values = session | {"port": port_of(session), "rule": session["security_group_rule_id"]}
    if interface == session["eni"]:
        values["interface"] = ETH[interface]
    return tuple(values[column] for column in COLUMNS)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_session_is_shown_with_its_eni_direction_and_rule(
    lab: str, capsys: pytest.CaptureFixture[str], row: tuple[Any, ...]
) -> None:
    found = [session for session in sessions(capsys, lab) if as_row(session) == row]
    assert len(found) == 1, sessions(capsys, lab)
    (session,) = found
    assert (session["judged"], session["verdict"]) == (True, "accept")
    assert session["reason"] == ("rule" if session["security_group_rule_id"] else "default")
    assert 0 < session["seconds_left"] <= LIMITS[session["protocol"]]


def test_nothing_else_is_shown(lab: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(map(as_row, sessions(capsys, lab)), key=repr) == sorted(ROWS.values(), key=repr)


def test_the_interface_is_that_where_policy_is_enforced(
    lab: str, capsys: pytest.CaptureFixture[str], placement: str
) -> None:
    found = {(s["eni"], s["namespace"], s["interface"]) for s in sessions(capsys, lab, "--node", "i-a")}
    interfaces = {eni: ETH[eni] if placement == "instance" else eni for eni in ("eni-a", "eni-a2")}
    assert found == {(eni, place_of_a(lab, placement), interface) for eni, interface in interfaces.items()}


@pytest.mark.placement("instance")
def test_counters_are_shown_where_the_kernel_counts(lab: str, capsys: pytest.CaptureFixture[str]) -> None:
    (one_way,) = sessions(capsys, lab, "--port", "5001", "--remote", EXT)
    counted = tuple(one_way[f"{way}_{what}"] for way in ("ingress", "egress") for what in ("packets", "bytes"))
    assert counted == (1, 20 + 8 + len("question"), 0, 0)
    (uncounted,) = sessions(capsys, lab, "--node", "i-b")
    assert (uncounted["ingress_packets"], uncounted["egress_bytes"]) == (None, None)
    assert "BYTES IN" in said(capsys, lab)
    assert "BYTES IN" not in said(capsys, lab, "--node", "i-b")


def test_sessions_of_no_eni_are_shown_only_on_demand(
    lab: str, capsys: pytest.CaptureFixture[str], placement: str
) -> None:
    """A router sees no session that an instance has with itself."""
    internal = [session for session in sessions(capsys, lab, "--all") if session["eni"] is None]
    if placement == "host":
        assert internal == []
        return
    assert {(session["local"], session["remote"], session["remote_port"]) for session in internal} == {
        ("127.0.0.1", "127.0.0.1", 7000),
        (A, A, 7000),
    }
    empty = ("interface", "direction", "judged", "verdict", "security_group_rule_id")
    assert {session[key] for session in internal for key in empty} == {None}
    assert len(sessions(capsys, lab, "--all")) == len(ROWS) + len(internal)


def test_the_keys_are_those_that_are_documented(lab: str, capsys: pytest.CaptureFixture[str]) -> None:
    keys = set(sessions(capsys, lab, "--limit", "1")[0])
    described = {word.strip(",") for line in str(keys_in_words).splitlines()[5:] for word in line.split()}
    assert keys <= described


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--eni", "eni-a2"), "TCP in at the other ENI"),
        (("--node", "i-b"), "TCP in at the other instance"),
        (("--instance", "first", "--port", "22", "--remote", "::/0"), "TCP in, IPv6"),
        (("--node", "i-b", "--eni", "eni-a2"), ""),
        (("--port", "8443"), "TCP out, DNAT"),
        (("--port", "8080"), "TCP in, DNAT"),
        (("--state", "unreplied"), "UDP in, one way; UDP in, one way, IPv6"),
        (("--rule", "sgr-udp"), "UDP in; UDP in, one way"),
        (("--protocol", "icmpv6"), "echo, IPv6"),
        (("--protocol", "17", "--direction", "egress"), "UDP out; UDP out, IPv6"),
        (("--remote", "198.51.100.0/24", "--direction", "egress", "--protocol", "tcp"), "TCP out; TCP out, DNAT"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_filters(lab: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], names: str) -> None:
    found = {as_row(session) for session in sessions(capsys, lab, *arguments)}
    assert found == {ROWS[name] for name in names.split("; ") if name}


def test_order_and_limit(lab: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [port_of(session) or 0 for session in sessions(capsys, lab, "--protocol", "tcp", "--sort", "port")]
    assert ports == sorted(ports)
    backwards = sessions(capsys, lab, "--protocol", "tcp", "--sort", "port", "--reverse", "--limit", "2")
    assert [port_of(session) for session in backwards] == [8443, 8080]
    assert said(capsys, lab, "--protocol", "udp", "--limit", "2").splitlines()[-1] == "2 of 6 sessions"
    monkeypatch.setattr("sgdataplane.cli.sessions.SHOWN", 3)
    assert said(capsys, lab, "--protocol", "udp").splitlines()[-1] == "3 of 6 sessions; --limit N lists more"
    assert len(sessions(capsys, lab, "--protocol", "udp")) == 6  # programs get all


def test_text_is_a_table(lab: str, capsys: pytest.CaptureFixture[str]) -> None:
    header, row, total = said(capsys, lab, "--rule", "sgr-ssh6").splitlines()
    assert header.split("  ")[0] == "ENI"
    cells = [cell.strip() for cell in row.split("  ") if cell.strip()]
    (session,) = sessions(capsys, lab, "--rule", "sgr-ssh6")
    flow = f"tcp [{EXT6}]:{session['remote_port']} -> [{A6}]:22"
    assert cells[:4] == ["eni-a", "ingress", flow, "ESTABLISHED"]
    assert cells[5] == "sgr-ssh6 of sg-a (priority 1)"
    assert total == "1 session"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--eni", "eni-z"), 5, "an ENI of the state, such as eni-"),
        (("--node", "i-z"), 5, "there is no such node; this lab has i-a, i-b"),
        (("--node", "ext-198.51.100.7"), 5, "no policy is applied to it"),
        (("--rule", "sgr-z"), 5, "no rule in force has that id; near: sgr-"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_not_there_is_refused(
    lab: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert words in said(capsys, lab, *arguments, code=code)


def test_an_unknown_lab_is_refused(lab_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no lab of that name is running" in said(capsys, lab_name, code=5)


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_session_between_two_enis_is_shown_for_each(
    lab_name: str, capsys: pytest.CaptureFixture[str], placement: str, hosts: int
) -> None:
    with opened(lab_name, placement, hosts) as ends:
        ends.tcp("i-b", A, 22, ends.listen("i-a", A, 22))
        found = {session["eni"]: session for session in sessions(capsys, lab_name)}
        assert len(sessions(capsys, lab_name)) == len(found) == 2
        keys = ("node", "direction", "remote", "local", "judged", "security_group_rule_id")
        assert [tuple(found[eni][key] for key in keys) for eni in ("eni-b", "eni-a")] == [
            ("i-b", "egress", A, B, True, None),
            ("i-a", "ingress", B, A, True, "sgr-ssh"),
        ]
        assert [session["eni"] for session in sessions(capsys, lab_name, "--node", "i-b")] == ["eni-b"]
        assert [session["eni"] for session in sessions(capsys, lab_name, "--eni", "eni-a")] == ["eni-a"]


@pytest.mark.placement("host")
def test_a_router_s_sessions_of_others_are_shown_only_on_demand(
    lab_name: str, capsys: pytest.CaptureFixture[str], placement: str
) -> None:
    """The first host's router forwards what comes from outside to the second."""
    with opened(lab_name, placement, hosts=2) as ends:
        ends.tcp("ext-198.51.100.7", B, 22, ends.listen("i-b", B, 22))
        (own,) = sessions(capsys, lab_name)
        assert (own["node"], own["eni"], own["namespace"]) == ("i-b", "eni-b", f"{lab_name}-vpc-a.host2")
        (other,) = (session for session in sessions(capsys, lab_name, "--all") if session["eni"] is None)
        assert (other["node"], other["namespace"]) == ("vpc-a", f"{lab_name}-vpc-a")


def test_closed_connections_are_shown_while_they_last(
    lab_name: str, capsys: pytest.CaptureFixture[str], placement: str
) -> None:
    with opened(lab_name, placement) as ends:
        client, served = ends.tcp("ext-198.51.100.7", A, 22, ends.listen("i-a", A, 22))
        client.close()
        assert served.recv(1) == b""
        shows_one(capsys, lab_name, "CLOSE_WAIT")
        served.close()
        shows_one(capsys, lab_name, "TIME_WAIT")
        assert sessions(capsys, lab_name)[0]["seconds_left"] <= 3


def shows_one(capsys: pytest.CaptureFixture[str], lab_name: str, state: str) -> None:
    """Wait until the lab's only session is in that state, as the answer to the last segment may still be on its way."""
    wait_until(lambda: [session["state"] for session in sessions(capsys, lab_name)] == [state])


def without(*rule_ids: str) -> CloudState:
    """STATE without these rules."""
    groups = tuple(
        replace(group, rules=tuple(rule for rule in group.rules if rule.security_group_rule_id not in rule_ids))
        for group in STATE.security_groups
    )
    return replace(STATE, security_groups=groups)


def test_a_revoked_session_is_told_from_one_that_goes_on(
    lab_name: str, capsys: pytest.CaptureFixture[str], placement: str
) -> None:
    with opened(lab_name, placement) as ends:
        revoked = ends.tcp("ext-198.51.100.7", A, 22, ends.listen("i-a", A, 22))
        allowed = ends.tcp("ext-198.51.100.7", A6, 22, ends.listen("i-a", A6, 22))
        manage.apply(lab_name, without("sgr-ssh"), enforce_policy)
        before = {session["family"]: session for session in sessions(capsys, lab_name)}
        assert [fate(before[family]) for family in ("ipv4", "ipv6")] == [(False, "drop"), (False, "accept")]
        assert (before["ipv4"]["reason"], before["ipv6"]["security_group_rule_id"]) == ("default", "sgr-ssh6")
        words = said(capsys, lab_name)
        assert "to be judged: refused" in words
        assert "to be judged: passes" in words
        for client, _ in (revoked, allowed):
            client.send(b"x")
        assert allowed[1].recv(1) == b"x"
        revoked[1].settimeout(0.0)
        with pytest.raises(BlockingIOError):
            revoked[1].recv(1)
        after = {session["family"]: session for session in sessions(capsys, lab_name)}
        assert [fate(after[family]) for family in ("ipv4", "ipv6")] == [(False, "drop"), (True, "accept")]


def fate(session: dict[str, Any]) -> tuple[bool, str]:
    return session["judged"], session["verdict"]

"""Part of the prototype of bench.flowtables: how long sessions live, and what counts their packets.

Must not know what a packet costs, or how a change revokes sessions.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time

from bench.batch import PACKETS, Batch
from bench.flowsessions import (
    BEHIND,
    KEPT,
    REVOKED,
    SHORT,
    Talks,
    connect,
    count,
    first,
    must,
    path_with,
    say,
    switch,
    tracked,
)
from bench.path import HOST_END, UPLINK, RoutedPath
from bench.policy import RECEIVER
from sgdataplane.host import netns


def entry_of(path: RoutedPath, port: int) -> str:
    """What conntrack says of a session."""
    for one in tracked(path):
        if one.original.port == port:
            return "carried" if one.is_carried else f"{one.state}, {one.seconds_left} s left"
    return "no entry"


TIMEOUTS = {
    "nf_conntrack_tcp_timeout_fin_wait": "4",
    "nf_conntrack_tcp_timeout_last_ack": "4",
    "nf_conntrack_tcp_timeout_close_wait": "4",
    "nf_conntrack_tcp_timeout_established": "40",
    "nf_flowtable_tcp_timeout": "12",
    "nf_conntrack_udp_timeout_stream": "30",
    "nf_flowtable_udp_timeout": "10",
    "nf_conntrack_tcp_timeout_time_wait": "3",
    "nf_conntrack_tcp_timeout_close": "3",
}
OWN = "".join(
    f"add ct timeout inet proto own{port} {{ protocol tcp; l3proto ip; policy = {{ established: {seconds} }}; }}\n"
    f'insert rule inet proto forward tcp dport {port} ct state new ct timeout set "own{port}"\n'
    for port, seconds in ((REVOKED, 100), (SHORT, 20))
)


def timeouts() -> None:
    """Idle for a third of its time, a session goes back to conntrack: with how much time left?"""
    text = first(1, [KEPT, REVOKED, SHORT]) + OWN
    names = {
        KEPT: "TCP with 40 s (flowtable 12 s)",
        REVOKED: "TCP of an ENI with 100 s of its own",
        SHORT: "TCP of an ENI with 20 s of its own",
    }
    with path_with(text, TIMEOUTS) as path:
        open_ends = [connect(path, port) for port in names]
        talks, began, over = Talks(path, 1), time.monotonic(), dict[str, str]()
        names_of = {6: names, 17: {KEPT: "UDP with 30 s (flowtable 10 s)"}}
        while time.monotonic() - began < 20:
            for one in tracked(path):
                name = names_of[one.original.protocol].get(one.original.port)
                if name and not one.is_carried and name not in over:
                    over[name] = f"back after {time.monotonic() - began:.0f} s, {one.seconds_left} s left"
            time.sleep(0.5)
        for name, found in over.items():
            say(name, found)
        del open_ends, talks


def endings() -> None:
    """A flowtable goes below a connection; connections end while one has them, and where there is none."""
    for name in ("with a flowtable", "without"):
        text = first(1, [KEPT, REVOKED])
        if name == "without":
            text = re.sub(r"add rule [^\n]* flow add [^\n]*\n", "", text)
        with path_with(text, TIMEOUTS) as path:
            client, server = connect(path, KEPT)
            say(f"{name}: TCP", entry_of(path, KEPT))
            client.close()  # with a reset
            say(f"{name}: after a reset", entry_of(path, KEPT))
            client, server = connect(path, REVOKED)
            client.shutdown(socket.SHUT_WR)
            server.recv(64)
            say(f"{name}: after one end's FIN", entry_of(path, REVOKED))
            server.shutdown(socket.SHUT_WR)
            client.recv(64)
            say(f"{name}: after the other's FIN", entry_of(path, REVOKED))
            time.sleep(5)
            say(f"{name}: 5 s later, reset and closed", (entry_of(path, KEPT), entry_of(path, REVOKED)))
    with path_with(first(1, [KEPT]), TIMEOUTS) as path:
        client, server = connect(path, KEPT)
        must(path.filtering, switch(1, [KEPT]))
        say("right after its flowtable was deleted", entry_of(path, KEPT))
        for _ in range(2):
            client.send(b"x")
            server.recv(64)
            server.send(b"x")
            client.recv(64)
        say("after two exchanges more", entry_of(path, KEPT))
        client.close()


SEEN = "add table netdev seen\n" + "".join(
    f"add counter netdev seen c{n}\n"
    f"add chain netdev seen in{n} {{ type filter hook ingress device {device} priority 0; }}\n"
    f"add rule netdev seen in{n} counter name c{n}\n"
    f"add chain netdev seen out{n} {{ type filter hook egress device {device} priority 0; }}\n"
    f"add counter netdev seen e{n}\n"
    f"add rule netdev seen out{n} counter name e{n}\n"
    for n, device in enumerate((UPLINK, HOST_END))
)


def hooks() -> None:
    """Which hooks and counters see what a flowtable carries."""
    for priority in (-10, BEHIND):
        for flags in ("", "counter;"):
            text = first(1, [KEPT, REVOKED], flags).replace(f"priority {BEHIND};", f"priority {priority};")
            with path_with(SEEN + text, {"nf_conntrack_acct": "1"}) as path:
                talks, batch = Talks(path, 1), Batch()

                def counts(path: RoutedPath = path) -> dict[str, int]:
                    listed = must(path.filtering, "list table netdev seen")
                    seen = dict(re.findall(r"counter (\w+) {\s*packets (\d+)", listed))
                    (one,) = (one for one in tracked(path) if one.original.port == KEPT)
                    assert one.sent is not None
                    own = {name: count(path.filtering, name) for name in ("slow", "judged")}
                    return {name: int(found) for name, found in seen.items()} | own | {"conntrack": one.sent.packets}

                before = counts()
                batch.send(talks.kept[0])
                after = counts()
                grown = {name: after[name] - before[name] for name in after}
                say(f"flowtable at {priority} {flags or 'without counter'}, {PACKETS} packets: counted", grown)


INTRUDER, MAC, MARK, UNUSED = "flowx", "02:00:00:00:00:77", "0x1234", "10.9.9.9"


def leaked_mark() -> None:
    """Whether a macvlan of another namespace over a host end sees a mark that is set at the host end's ingress hook."""
    for name, text in (
        ("with the mark set at ingress", f"add rule netdev proto in meta mark set {MARK}\n"),
        ("without", ""),
    ):
        with RoutedPath("flow") as path:
            netns.create(INTRUDER)
            path.stack.callback(netns.remove, INTRUDER)
            chain = f"add chain netdev proto in {{ type filter hook ingress device {HOST_END} priority 5; }}\n"
            must(path.filtering, f"add table netdev proto\n{chain}{text}")
            for namespace, command in (
                (path.filtering, f"link add link {HOST_END} name m0 netns {INTRUDER} type macvlan mode bridge"),
                (INTRUDER, f"link set m0 address {MAC} up"),
                (path.receiver, f"neigh replace {UNUSED} lladdr {MAC} dev eth0 nud permanent"),
                (path.receiver, f"route add {UNUSED}/32 dev eth0"),
            ):
                subprocess.run(("ip", "-n", namespace, *command.split()), check=True)
            watch = "add table netdev w\nadd chain netdev w in { type filter hook ingress device m0 priority 0; }\n"
            rules = (
                f"add rule netdev w in udp dport 9 counter\nadd rule netdev w in udp dport 9 meta mark {MARK} counter\n"
            )
            must(INTRUDER, watch + rules)
            sender = path.udp(RECEIVER)
            for _ in range(10):
                sender.sendto(b"x", (UNUSED, 9))
            found = re.findall(r"packets (\d+)", must(INTRUDER, "list table netdev w"))
            say(f"{name}: packets at a macvlan over the host end, and those of them that have the mark", found)

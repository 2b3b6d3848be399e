"""Part of the prototype of bench.flowtables: what becomes of sessions, timeouts and counters.

Owns the rules of its epochs, and what is tried with them. Must not know what a packet costs.
"""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from bench.measures import spread
from bench.path import HOST_END, UPLINK, RoutedPath
from bench.policy import PROBE, RECEIVER
from sgdataplane.host import netns, sysctl
from sgdataplane.host.conntrack import Tracked, end_tracked, list_tracked

BEHIND = 10  # the flowtable's priority at the ingress hook; the product's fence has 0
REVOKED, KEPT, SHORT = 5002, 5001, 5003  # ports
FIRST_PORT, TRIES = 20000, 3


def nft(namespace: str, text: str) -> str:
    """Load one batch. Return what nft lists or says of an error."""
    command = ("ip", "netns", "exec", namespace, "nft", "-f", "-")
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else f"refused: {done.stderr.strip().splitlines()[0]}"


def must(namespace: str, text: str) -> str:
    said = nft(namespace, text)
    if said.startswith("refused"):
        raise RuntimeError(f"{said}\n{text}")
    return said


def say(what: str, found: object) -> None:
    print(f"{what}: {found}", flush=True)


def flowtable(name: str, priority: int = BEHIND, flags: str = "") -> str:
    return (
        f"add flowtable inet proto {name} "
        f"{{ hook ingress priority {priority}; devices = {{ {UPLINK}, {HOST_END} }}; {flags} }}\n"
    )


def rules(epoch: int, ports: Sequence[int]) -> str:
    """What a session may do in this epoch. Only a packet whose session has the epoch's mark gets to `flow add`."""
    allowed, accept = ", ".join(map(str, ports)), f"counter name judged ct mark set {epoch} accept"
    return (
        f"add rule inet proto judge ct mark {epoch} counter name slow\n"
        f"add rule inet proto judge ct mark {epoch} meta l4proto {{ tcp, udp }} flow add @e{epoch}\n"
        f"add rule inet proto judge ct mark {epoch} accept\n"
        f"add rule inet proto judge ct direction original th dport {{ {allowed} }} {accept}\n"
        f"add rule inet proto judge ct direction reply th sport {{ {allowed} }} {accept}\n"
        "add rule inet proto judge counter name refused drop\n"
    )


def first(epoch: int, ports: Sequence[int], flags: str = "") -> str:
    counters = "".join(f"add counter inet proto {name}\n" for name in ("slow", "judged", "refused"))
    return (
        f"add table inet proto\n{flowtable(f'e{epoch}', flags=flags)}{counters}"
        "add chain inet proto judge\n"
        "add chain inet proto forward { type filter hook forward priority 0; }\n"
        "add rule inet proto forward meta l4proto { tcp, udp } goto judge\n"
        f"{rules(epoch, ports)}"
    )


def switch(old: int, ports: Sequence[int]) -> str:
    """The next epoch in one transaction: rules away, flowtable away, flowtable there, rules there."""
    made = f"{flowtable(f'e{old + 1}')}{rules(old + 1, ports)}"
    return f"flush chain inet proto judge\ndelete flowtable inet proto e{old}\n{made}"


def count(namespace: str, name: str) -> int:
    (packets,) = re.findall(r"packets (\d+)", must(namespace, f"list counter inet proto {name}"))
    return int(packets)


class Talks:
    """UDP sessions from the uplink to the ENI, each answered once."""

    def __init__(self, path: RoutedPath, sessions: int) -> None:
        self.path, self.servers = path, {port: path.udp(RECEIVER, port) for port in (KEPT, REVOKED)}
        self.kept = [self._open(KEPT, FIRST_PORT + number) for number in range(sessions)]
        self.revoked = self._open(REVOKED, FIRST_PORT - 1)
        for client in (*self.kept, self.revoked):
            for _ in range(TRIES):
                self.exchange(client)

    def _open(self, port: int, source: int) -> socket.socket:
        client = self.path.udp(PROBE, source)  # a port of its own, as reuse is on
        client.connect((RECEIVER, port))
        return client

    def arrives(self, client: socket.socket) -> bool:
        """Whether a packet has arrived when its sender's call ends, or a moment later."""
        client.send(b"x")
        server = self.servers[client.getpeername()[1]]
        server.settimeout(0.2)
        try:
            server.recvfrom(64)
        except TimeoutError:
            return False
        return True

    def exchange(self, client: socket.socket) -> bool:
        """There and back."""
        if not self.arrives(client):
            return False
        self.servers[client.getpeername()[1]].sendto(b"y", client.getsockname())
        client.recv(64)
        return True


def tracked(path: RoutedPath) -> list[Tracked]:
    with netns.inside(path.filtering):
        return list_tracked()


def carried(path: RoutedPath, port: int | None = None) -> int:
    return sum(one.is_carried and port in (None, one.original.port) for one in tracked(path))


@contextmanager
def path_with(text: str, settings: Mapping[str, str] | None = None) -> Iterator[RoutedPath]:
    with RoutedPath("flow") as path:
        must(path.filtering, text)
        with netns.inside(path.filtering):
            sysctl.write_all({f"netfilter/{name}": value for name, value in (settings or {}).items()})
        yield path


def transactions() -> None:
    """In which order one transaction takes a flowtable's place, and with which name."""
    both = [KEPT, REVOKED]
    wrong = f"{flowtable('e2')}flush chain inet proto judge\ndelete flowtable inet proto e1\n{rules(2, both)}"
    same = f"flush chain inet proto judge\ndelete flowtable inet proto e1\n{flowtable('e1')}{rules(1, both)}"
    used = "delete flowtable inet proto e1\n"
    for name, text in (("old away first", switch(1, both)), ("new one first", wrong), ("same name", same)):
        with path_with(first(1, both)) as path:
            say(f"one transaction, {name}", nft(path.filtering, text) or "accepted")
    with path_with(first(1, both)) as path:
        say("deleting one that a rule names", nft(path.filtering, used) or "accepted")
        must(path.filtering, "add table inet other\n" + flowtable("f").replace("proto", "other"))
        say("the same devices in another table", "accepted")


def revoke_one(sessions: int) -> None:
    """One revoked among many: what arrives, what the others pay."""
    with path_with(first(1, [KEPT, REVOKED])) as path:
        talks = Talks(path, sessions)
        say(f"{sessions} sessions: carried before", carried(path))
        before = count(path.filtering, "slow")
        for client in talks.kept[:100]:
            talks.exchange(client)
        say("packets of carried sessions that met the chain, of 200", count(path.filtering, "slow") - before)
        started = time.perf_counter()
        must(path.filtering, switch(1, [KEPT]))
        took = (time.perf_counter() - started) * 1000
        met = count(path.filtering, "judged"), count(path.filtering, "slow")
        revoked = sum(talks.arrives(talks.revoked) for _ in range(5))
        passed = sum(talks.exchange(client) for client in talks.kept)
        slow, judged = count(path.filtering, "slow"), count(path.filtering, "judged")
        say("packets of the kept sessions' first exchange judged anew, slow", (judged - met[0], slow - met[1]))
        say("the switch, with nft's start, ms", f"{took:.1f}")
        say("of 5 packets of the revoked session, sent at once, arrived", revoked)
        say(f"of {sessions} kept sessions, exchanges that passed at once", passed)
        say("carried after one exchange of each", carried(path, KEPT))
        for client in talks.kept:
            talks.exchange(client)
        say("carried after two", carried(path, KEPT))
        more = count(path.filtering, "slow") - slow, count(path.filtering, "judged") - judged
        say("packets that met the chain meanwhile, slow and judged", more)
        started = time.perf_counter()
        must(path.filtering, "flush chain inet proto judge\n")
        plain = (time.perf_counter() - started) * 1000
        say("a commit without a flowtable in it, ms", f"{plain:.1f}")


def switch_costs(sessions: int, rounds: int = 9) -> None:
    """Time of the switch with and without sessions in the flowtable, by turns."""
    both = [KEPT, REVOKED]
    with path_with(first(1, both)) as full, RoutedPath("flowb") as bare:
        must(bare.filtering, first(1, both))
        talks, found = Talks(full, sessions), {"full": list[float](), "empty": list[float]()}
        for epoch in range(1, rounds + 1):
            for client in talks.kept:
                for _ in range(2):
                    talks.exchange(client)
            for name, path in (("full", full), ("empty", bare)):
                started = time.perf_counter()
                must(path.filtering, switch(epoch, both))
                found[name].append((time.perf_counter() - started) * 1000)
        for name, samples in found.items():
            say(f"switch of a flowtable, {name} ({sessions}), ms with nft's start", f"{spread(samples).median:.1f}")


def entry_deleted() -> None:
    """A session's conntrack entry goes, and its flowtable stays."""
    with path_with(first(1, [KEPT, REVOKED])) as path:
        talks = Talks(path, 50)
        passed = []
        for _ in range(20):
            talks.exchange(talks.revoked), talks.exchange(talks.revoked)
            assert carried(path, REVOKED) == 1
            slow, judged = count(path.filtering, "slow"), count(path.filtering, "judged")
            with netns.inside(path.filtering):
                end_tracked(lambda one: one.original.port == REVOKED)
            talks.arrives(talks.revoked)
            passed.append((count(path.filtering, "slow") - slow, count(path.filtering, "judged") - judged))
        say("entry deleted, the next packet met the chain as (slow, judged anew)", sorted(set(passed)))
        say("other sessions still carried, of 50", carried(path, KEPT))


def flood(rounds: int) -> None:
    """A sender on another processor stamps each packet. None that it sent after the switch was answered may arrive."""
    late = in_time = overlap = held = 0
    with path_with(first(1, [KEPT, REVOKED])) as path:
        talks = Talks(path, 1)
        server = talks.servers[REVOKED]
        sender = subprocess.Popen(
            (sys.executable, "-c", SENDER),
            stdin=subprocess.PIPE,
            pass_fds=[talks.revoked.fileno()],
            env={"FD": str(talks.revoked.fileno())},
        )
        try:
            for epoch in range(1, rounds * 2, 2):
                time.sleep(0.02)
                held += carried(path, REVOKED)
                began = time.monotonic_ns()
                must(path.filtering, switch(epoch, [KEPT]))
                done = time.monotonic_ns()
                time.sleep(0.02)
                stamps = [int(each) for each in _drain(server) if each.isdigit()]
                late += sum(stamp > done for stamp in stamps)
                overlap += sum(began < stamp <= done for stamp in stamps)
                in_time += sum(stamp <= began for stamp in stamps)
                must(path.filtering, switch(epoch + 1, [KEPT, REVOKED]))
                server.sendto(b"y", talks.revoked.getsockname())
        finally:
            sender.kill()
            sender.wait()
    say(
        f"flood, {rounds} switches, carried before {held}: arrived from before, during, after", (in_time, overlap, late)
    )


SENDER = """
import os, socket, time
sock = socket.socket(fileno=int(os.environ["FD"]))
while True:
    try:
        sock.send(b"%d" % time.monotonic_ns())
    except OSError:
        pass
"""


def _drain(sock: socket.socket) -> list[bytes]:
    found = []
    sock.setblocking(False)
    try:
        while True:
            found.append(sock.recv(64))
    except BlockingIOError:
        return found


def connect(path: RoutedPath, port: int) -> tuple[socket.socket, socket.socket]:
    """A connection that has said something each way, so that a flowtable has it."""
    listener = path.tcp(RECEIVER, port)
    listener.listen(1)
    client = path.tcp(PROBE)
    client.connect((RECEIVER, port))
    server, _ = listener.accept()
    for _ in range(TRIES):
        for here, there in ((client, server), (server, client)):
            here.send(b"x")
            there.recv(64)
    return client, server


CHUNK, CHUNKS = 1 << 16, 6000
TOTAL_RETRANS = 100  # offset of tcpi_total_retrans in struct tcp_info (linux/tcp.h)


def bulk() -> None:
    """A connection that sends much, while flowtables are switched below it: what conntrack calls invalid is dropped."""
    text = first(1, [KEPT]) + (
        'add counter inet proto invalid\ninsert rule inet proto forward ct state invalid counter name "invalid" drop\n'
    )
    with path_with(text) as path:
        client, server = connect(path, KEPT)
        epoch, took, held = 1, list[float](), 0
        sender = threading.Thread(target=lambda: _write(client))
        sender.start()
        missing, buffer, began = CHUNK * CHUNKS, bytearray(CHUNK), time.monotonic()
        reader = threading.Thread(target=lambda: _read(server, buffer, missing))
        reader.start()
        while reader.is_alive():
            held += carried(path, KEPT)
            must(path.filtering, switch(epoch, [KEPT]))
            epoch += 1
        took.append(time.monotonic() - began)
        sender.join()
        info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
        (again,) = struct.unpack_from("=I", info, TOTAL_RETRANS)
        say(
            f"a connection of {CHUNK * CHUNKS >> 20} MB in {took[0]:.1f} s",
            f"{epoch - 1} switches, carried before {held} of them, sent again {again}, "
            f"invalid {count(path.filtering, 'invalid')}, refused {count(path.filtering, 'refused')}",
        )


def _write(sock: socket.socket) -> None:
    for _ in range(CHUNKS):
        sock.sendall(bytes(CHUNK))


def _read(sock: socket.socket, buffer: bytearray, missing: int) -> None:
    while missing:
        missing -= sock.recv_into(buffer)

"""Packets as bytes: what a tap reads in a frame, and the few packets that probers build themselves.

Owns how headers are parsed and built. It is given bytes and plain values. Must not do I/O, nor load much, so that
probers start fast.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from sgdataplane.net.headers import ENDS, ETH_ARP, ETH_IPV4, ETH_IPV6, family_of, find_upper
from sgdataplane.net.values import ECHO_REQUEST, GRE, ICMP, ICMPV6, TCP, UDP, Family

ARP_REQUEST, ARP_REPLY = 1, 2
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
ECHO_REPLY = {Family.IPV4: 0, Family.IPV6: 129}
GRE_HEADER = struct.pack("!HH", 0, 0x88B5)  # version 0, no options; the local experimental EtherType (IEEE 802)
SCTP, SCTP_INIT, SCTP_INIT_ACK = 132, 1, 2
SCTP_SKIPPED_PARAMETER = 0xBFFF  # its two highest bits tell the receiver to skip it without a report
SCTP_TAG, SCTP_PORT = 0x73677073, 9899
TOKEN = re.compile(rb"sgdp-(ask|ans):([0-9a-f]{16})")
ASK, ANSWER = b"ask", b"ans"


@dataclass(frozen=True, slots=True)
class ProbeMessage:
    """The message that a probe carries: the question or its answer, with the token of the probe."""

    kind: bytes
    """ASK or ANSWER."""
    token: str

    def encode(self) -> bytes:
        """Return the message as bytes, as TOKEN finds it."""
        return b"sgdp-" + self.kind + b":" + self.token.encode() + b"\n"

    @classmethod
    def find(cls, payload: bytes) -> ProbeMessage | None:
        """Return the first message in some bytes; None if there is none."""
        match = TOKEN.search(payload)
        return cls(match[1], match[2].decode()) if match else None


# keys: the name of a packet, which is the same at the taps of both ends


def port_key(protocol: int, source: tuple[str, int], target: tuple[str, int]) -> str:
    """Return the key of a TCP or UDP packet."""
    return f"{protocol} {source[0]} {source[1]} > {target[0]} {target[1]}"


def echo_key(source: str, target: str, ident: int) -> str:
    """Return the key of an ICMP or ICMPv6 echo request."""
    return f"echo {source} > {target} {ident}"


def token_key(protocol: int, source: str, target: str, token: str) -> str:
    """Return the key of a packet of any other protocol that carries a probe's token."""
    return f"{protocol} {source} > {target} {token}"


def key_of_frame(frame: bytes) -> str | None:
    """Return the key of a frame; None if no probe asks about such a frame.

    Beside the keys of IP packets there are `arp? T N` and `nd? T N`, a request for address T with our nonce N, and
    `arp! S` and `nd! S`, the answer of S.
    """
    reader = _READERS.get(int.from_bytes(frame[12:14], "big"))
    return _key(reader, frame[14:]) if reader else None


def key_of_packet(packet: bytes) -> str | None:
    """Return the key of an IP packet; None if no probe asks about such a packet."""
    return _key(_read_ip, packet)


def _key(reader: Callable[[bytes], str | None], packet: bytes) -> str | None:
    """Read the key; a truncated or odd packet has none."""
    try:
        return reader(packet)
    except (struct.error, IndexError, ValueError):  # a truncated or odd packet has no key
        return None


def _read_arp(packet: bytes) -> str | None:
    operation = int.from_bytes(packet[6:8], "big")
    if operation == ARP_REQUEST:
        return f"arp? {_text(packet[24:28])} {packet[28:36].hex()}"
    return f"arp! {_text(packet[14:18])}" if operation == ARP_REPLY else None


def _read_ip(packet: bytes) -> str | None:
    family = family_of(packet)
    if family is None or not (upper := find_upper(packet)).is_here:
        return None
    ends = packet[ENDS[family]]
    half = len(ends) // 2
    return _read_transport(upper.protocol, (_text(ends[:half]), _text(ends[half:])), packet[upper.at :])


def _read_transport(protocol: int, ends: tuple[str, str], rest: bytes) -> str | None:
    source, target = ends
    if protocol in (TCP, UDP):
        sport, dport = struct.unpack("!HH", rest[:4])
        return port_key(protocol, (source, sport), (target, dport))
    if protocol in (ICMP, ICMPV6):
        return _read_icmp(ends, rest)
    message = ProbeMessage.find(rest)
    return token_key(protocol, source, target, message.token) if message else None


def _read_icmp(ends: tuple[str, str], rest: bytes) -> str | None:
    source, target = ends
    if len(rest) < 8:
        return None
    if rest[0] in ECHO_REQUEST.values():
        return echo_key(source, target, int.from_bytes(rest[4:6], "big"))
    if rest[0] == NEIGHBOUR_SOLICITATION:
        return f"nd? {_text(rest[8:24])} {rest[34:42].hex()}"
    return f"nd! {_text(rest[8:24])}" if rest[0] == NEIGHBOUR_ADVERTISEMENT else None


@lru_cache(maxsize=8192)
def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


_READERS: dict[int, Callable[[bytes], str | None]] = {ETH_ARP: _read_arp, ETH_IPV4: _read_ip, ETH_IPV6: _read_ip}


# building


def arp_request(mac: bytes, source: str, target: str, nonce: bytes) -> bytes:
    """Build an ARP request for `target`.

    The 8-octet nonce is in the padding, where only a tap looks (ARP ends at 28 octets).
    """
    head = struct.pack("!HHBBH", 1, ETH_IPV4, 6, 4, ARP_REQUEST)
    body = mac + socket.inet_aton(source) + bytes(6) + socket.inet_aton(target)
    return b"\xff" * 6 + mac + ETH_ARP.to_bytes(2, "big") + (head + body + nonce).ljust(46, b"\0")


def neighbour_solicitation(mac: bytes, target: str, nonce: bytes) -> bytes:
    """Build a request for an IPv6 `target`, as an ICMPv6 message without its checksum.

    The nonce begins its nonce option (RFC 3971, 5.3.2).
    """
    options = b"\x01\x01" + mac + b"\x0e\x02" + nonce.ljust(14, b"\0")
    return bytes([NEIGHBOUR_SOLICITATION]) + bytes(7) + socket.inet_pton(socket.AF_INET6, target) + options


def derive_solicited_node(target: str) -> str:
    """Return the multicast group to which solicitations for an address go (RFC 4291, 2.7.1)."""
    group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13]
    return socket.inet_ntop(socket.AF_INET6, group + socket.inet_pton(socket.AF_INET6, target)[13:])


def echo_request(family: Family, ident: int, payload: bytes) -> bytes:
    """Build an echo request with sequence number 1 and ICMP's checksum; the kernel fills in ICMPv6's."""
    head = struct.pack("!BBHHH", ECHO_REQUEST[family], 0, 0, ident, 1)
    check = checksum(head + payload) if family is Family.IPV4 else 0
    return head[:2] + check.to_bytes(2, "big") + head[4:] + payload


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    return ~internet_sum(data) & 0xFFFF


def internet_sum(data: bytes) -> int:
    """Return the ones' complement sum of all 16-bit words; the checksum is its complement (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    return fold_carries(sum(struct.unpack(f"!{len(padded) // 2}H", padded)))


def fold_carries(total: int) -> int:
    """Return a sum with its carries added in until 16 bits are left."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def other_payload(protocol: int, message: ProbeMessage) -> bytes:
    """Build the payload of a protocol without ports: our message, behind a header if conntrack reads one."""
    if protocol == SCTP:
        return sctp_payload(message)
    return (GRE_HEADER if protocol == GRE else b"") + message.encode()


def sctp_payload(message: ProbeMessage) -> bytes:
    """Build an association's INIT, or its INIT ACK, with our message in a parameter that receivers skip (RFC 9260)."""
    is_ask = message.kind == ASK
    text = message.encode()
    parameter = struct.pack("!HH", SCTP_SKIPPED_PARAMETER, 4 + len(text)) + text + bytes(-len(text) % 4)
    fixed = struct.pack("!IIHHI", SCTP_TAG, 65536, 1, 1, 1)  # tag, window, streams out and in, first sequence number
    chunk = struct.pack("!BBH", SCTP_INIT if is_ask else SCTP_INIT_ACK, 0, 4 + len(fixed) + len(parameter))
    head = struct.pack("!HHI", SCTP_PORT, SCTP_PORT, 0 if is_ask else SCTP_TAG)
    body = chunk + fixed + parameter
    return head + struct.pack("<I", crc32c(head + bytes(4) + body)) + body


def crc32c(data: bytes) -> int:
    """Return SCTP's checksum (RFC 9260, appendix A): reflected, polynomial 0x1EDC6F41."""
    value = 0xFFFFFFFF
    for octet in data:
        value ^= octet
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF

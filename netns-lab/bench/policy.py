"""The policy that every filter gets: an allow-list whose last rules are the probe's own, or a set of members.

Owns the addresses of the path, the rules and the members. Must not know any filter, nor how a filter writes the rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.net.values import Address

PROBE, RECEIVER, STRANGER = "10.0.0.1", "10.0.0.2", "10.0.0.3"  # probe and stranger are the sender's
PORT = 5001
FILLERS = 4094  # 172.16.0.0/12 has so many /24, without its first and last
MEMBERS = 1 << 20  # of 10.16.0.0/12


@dataclass(frozen=True, slots=True)
class Rule:
    """Accept what comes to that port by that protocol (tcp or udp) from that IPv4 address or prefix."""

    protocol: str
    port: int
    source: str


PROBE_RULES = (Rule("udp", PORT, PROBE), Rule("tcp", PORT, PROBE))
# What a change adds and takes away again: until then nothing lets the stranger in.
CHANGE = Rule("udp", 5002, STRANGER)


def policy(size: int) -> tuple[Rule, ...]:
    """The rules in the order in which they are tried. With the change there are `size` of them, so that the change
    stays within a quota of `size` rules; with size 1 there are the probe's two. No two match the same packet."""
    count = max(0, size - len(PROBE_RULES) - 1)
    if count > FILLERS:
        raise ValueError(f"at most {FILLERS + len(PROBE_RULES) + 1} rules, not {size}")
    return tuple(_filler(number) for number in range(count)) + PROBE_RULES


def member(number: int) -> str:
    """The address of a member: the probe is the first one. The stranger isn't among them until the change."""
    if not 0 <= number <= MEMBERS:
        raise ValueError(f"at most {MEMBERS:,} members")
    first = (10 << 24) + (16 << 16)
    return PROBE if number == 0 else str(Address(32, first + number - 1))


def _filler(number: int) -> Rule:
    """A rule like those of a real list: with its own network and its own port."""
    high, low = divmod(number + 1, 256)
    return Rule("udp" if number % 2 else "tcp", 20000 + number, f"172.{16 + high}.{low}.0/24")

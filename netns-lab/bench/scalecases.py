"""The cases of `bench.scale`: how many hosts, which store, and which of them a run has by default.

Owns their names, sizes and times. Must not know how one is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from bench.costs import Command, commands

HOSTS_A_RELAY = 1250
STORES = ("sqlite", "etcd")
CHURN = "churn"  # whose figures a run of `bench` has, too


class AnyCase(Protocol):
    """What all cases have. `most_s`: after which a case is given up."""

    @property
    def name(self) -> str: ...
    @property
    def most_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Case:
    """`hosts`: of the store; `connected`: how many of them are there. All but one are simulated."""

    hosts: int
    connected: int
    store: str
    changes: int
    most_s: float = 120.0
    enis_a_host: int = 20
    has_agent: bool = False
    """Whether the real host has an agent with an interface, which enforces what its sync writes."""

    @property
    def relays(self) -> int:
        return -(-self.connected // HOSTS_A_RELAY)

    @property
    def name(self) -> str:
        hosts = f"{self.hosts}" if self.hosts == self.connected else f"{self.hosts}-{self.connected}"
        return "whole-" * self.has_agent + f"{hosts}-{self.store}"


@dataclass(frozen=True, slots=True)
class CommandCase:
    """A command of the package, in a process of its own. `words`: arguments besides those that `bench` gives it."""

    command: Command
    words: tuple[str, ...] = ()
    most_s: float = 240.0

    @property
    def name(self) -> str:
        return self.command.name


def make_command_case(name: str, most_s: float, times: int = 0) -> CommandCase:
    """Return a command of `bench` as a case. `times`: how many calls; 0: as many as in `bench`."""
    command = next(command for command in commands() if command.name == name)
    return CommandCase(command, ("--times", str(times)) if times else (), most_s)


# What has a goal comes first: a run that takes too long leaves out the last ones.
WHOLE = Case(1000, 1000, "etcd", 40, 150.0, has_agent=True)
FULL: tuple[AnyCase, ...] = (
    make_command_case("everywhere-3", 90, 40),
    make_command_case("everywhere-16", 150, 20),
    make_command_case("api", 150, 10),
    WHOLE,
    Case(10_000, 10_000, "etcd", 20, 600.0),
    *(Case(1000, 1000, store, 10, 90.0) for store in STORES),
    *(Case(hosts, hosts, store, 5, 40.0) for hosts in (100, 10) for store in STORES),
)
# None of them is in a default run.
LARGE: tuple[AnyCase, ...] = (
    Case(100_000, HOSTS_A_RELAY, "sqlite", 5, 1200.0, enis_a_host=10),
    Case(10_000, 10_000, "sqlite", 20, 600.0),
    Case(20_000, 20_000, "sqlite", 10, 1800.0),
    make_command_case(CHURN, 240),
)
QUICK: tuple[AnyCase, ...] = (
    make_command_case("everywhere-3", 90, 5),
    Case(100, 100, "etcd", 5, has_agent=True),
    *(Case(hosts, hosts, "sqlite", 5) for hosts in (10, 100, 1000)),
    Case(1000, 1000, "etcd", 5),
    Case(10_000, HOSTS_A_RELAY, "sqlite", 5, 240.0),
)


def find_cases(names: Iterable[str]) -> tuple[AnyCase, ...]:
    """Return the cases of these names, each once. KeyError, with the name, if there is none."""
    known = {case.name: case for case in (*QUICK, *LARGE, *FULL)}
    return tuple(known[name] for name in dict.fromkeys(names))

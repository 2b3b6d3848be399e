"""Expectations: what people say must pass and what must not, checked against a policy and against packets.

Owns the format of a row, of a file of rows, and the comparison. It is given labs: one that is up for packets, or one
that is only planned (`plan_lab`) for what the policy says. Must not print.

    # who reaches the database
    web -> db tcp/5432 accept
    198.51.100.7 -> db tcp/22,tcp/5432,icmp drop default
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sgdataplane.errors import LabError, Problem, StateFileError, Where
from sgdataplane.lab.ends import Asked, find_probes
from sgdataplane.lab.expect import Expectation, ProbeResult, expect, packet_at
from sgdataplane.lab.manage import Lab, make_lab
from sgdataplane.lab.matrix import probe_all
from sgdataplane.lab.probe import Observation, Probe, Service, parse_services
from sgdataplane.lab.record import LabRecord
from sgdataplane.model import words
from sgdataplane.model.state import CloudState, Instance
from sgdataplane.net.packet import Packet
from sgdataplane.net.ports import EPHEMERAL
from sgdataplane.net.values import Address, Direction

ROW = re.compile(r"(?P<sender>\S+) -> (?P<receiver>\S+) (?P<services>\S+) (?P<verdict>accept|drop)(?: (?P<rule>\S+))?")
FORM = "FROM -> TO WHAT[,WHAT...] accept|drop [RULE]"
NOWHERE = Where()
MAX_BYTES, MAX_ROWS = 4 << 20, 20_000


@dataclass(frozen=True, slots=True)
class Row:
    """An expectation: `FROM -> TO WHAT[,WHAT...] accept|drop [RULE]`."""

    text: str
    """The row as it was written, with single spaces."""
    sender: str
    receiver: str
    services: tuple[Service, ...]
    verdict: str
    rule: str = ""
    """The id of the rule that must decide, or the reason if no rule decides; empty if any will do."""
    where: Where = NOWHERE
    """The line of the file that it stands in."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One probe of a row, with what the policy says and what its packets showed."""

    row: Row
    probe: Probe
    expected: Expectation
    observed: Observation | None
    """None if no packet was sent."""
    mistake: str
    """What isn't as the row says; else empty."""

    @property
    def is_right(self) -> bool:
        """Whether everything is as the row says."""
        return not self.mistake


# reading


def parse_row(text: str, where: Where = NOWHERE) -> Row:
    """Parse a row.

    Raises:
        ValueError: It is no row; the message says what would be right.
        LabError: Its services can't be probed.
    """
    match = ROW.fullmatch(" ".join(text.split()))
    if match is None:
        raise ValueError(f"expected {FORM}")
    services = parse_services(match["services"])
    return Row(match[0], match["sender"], match["receiver"], services, match["verdict"], match["rule"] or "", where)


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read a file of rows: one a line; empty lines and what follows `#` are ignored.

    Raises:
        StateFileError: Something is wrong in it; the error lists everything.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        text = re.sub(r"(?:^|\s)#.*", "", line).strip()
        if not text:
            continue
        where = Where(str(path), number)
        try:
            rows.append(parse_row(text, where))
        except ValueError:
            problems.append(Problem(where, "InvalidExpectation.Malformed", _what_is_wrong(text), text, FORM))
        except LabError as error:
            problems.append(Problem(where, "InvalidExpectation.Service", str(error), text))
    if not rows and not problems:
        what = "one expectation a line, such as: web -> db tcp/5432 accept"
        problems.append(Problem(Where(str(path)), "InvalidExpectation.Empty", "the file has no expectation", "", what))
    if problems:
        raise StateFileError(tuple(problems))
    return tuple(rows)


def _what_is_wrong(text: str) -> str:
    """Say what is wrong in a line that is no row; name the word in the verdict's place, if there is one."""
    words = text.split()
    if words[1:2] == ["->"] and len(words) > 4 and words[4] not in ("accept", "drop"):
        return f"{words[4]} is neither accept nor drop"
    return "not an expectation"


def _text(path: Path) -> str:
    """Read the file, bounded in size. StateFileError if it can't be read, isn't UTF-8 or is too large."""
    try:
        with path.open("rb") as stream:
            octets = stream.read(MAX_BYTES + 1)
        text = octets.decode("utf-8-sig")
    except OSError as error:
        message = (error.strerror or str(error)).lower()
        problem = Problem(Where(str(path)), "InvalidExpectation.Unreadable", message, "", "a readable file")
        raise StateFileError((problem,)) from error
    except UnicodeDecodeError as error:
        problem = Problem(Where(str(path)), "InvalidExpectation.NotUtf8", "the file is not UTF-8", "", "UTF-8 text")
        raise StateFileError((problem,)) from error
    if len(octets) > MAX_BYTES or text.count("\n") > MAX_ROWS:
        expected = f"at most {MAX_ROWS} lines and {MAX_BYTES} bytes"
        raise StateFileError((Problem(Where(str(path)), "InvalidExpectation.TooLarge", "too large", "", expected),))
    return text


# the labs that rows are asked of


def with_hosts_of(record: LabRecord, state: CloudState, rows: Iterable[Row]) -> LabRecord:
    """Return the record with one more host outside for each unknown address in the rows.

    An address is known if the state has it, if it is in a block of the state's VPCs, or if the record has a host
    outside with it.
    """
    known = {address for host in record.externals for address in host}
    own = [prefix for eni in state.network_interfaces for prefix in eni.own_prefixes]
    own += [block for vpc in state.vpcs for block in vpc.cidr_blocks]
    found: dict[str, None] = {}
    for name in (name for row in rows for name in (row.sender, row.receiver)):
        address = _address(name)
        if address and str(address) not in known and not any(address in prefix for prefix in own):
            found[str(address)] = None
    return replace(record, externals=(*record.externals, *((name,) for name in found)))


def _address(name: str) -> Address | None:
    """Return the address that a name is; None if it isn't one."""
    try:
        return Address.parse(name)
    except ValueError:
        return None


def one_probe(lab: Lab, sender: str, receiver: str, what: str) -> Probe:
    """Return the probe of one service between two ends; where both have IPv4 and IPv6, the IPv4 one.

    Raises:
        LabError: There is no such probe.
    """
    services = parse_services(what)
    if len(services) > 1:
        raise LabError(f"services {what!r}", "name one, such as tcp/22")
    return find_probes(lab, Asked(sender, receiver, services[0]))[0]


def plan_probe(record: LabRecord, state: CloudState, sender: str, receiver: str, what: str) -> tuple[Lab, Probe]:
    """Return the same probe in a lab that is only planned, with the hosts outside that the ends name."""
    row = Row("", sender, receiver, (), "")
    lab = plan_lab(with_hosts_of(record, state, (row,)), state)
    return lab, one_probe(lab, sender, receiver, what)


def get_opening_packet(probe: Probe) -> Packet:
    """Return the probe's opening packet as the first end that has a policy sees it."""
    ways = ((Direction.EGRESS, probe.source, probe.target), (Direction.INGRESS, probe.target, probe.source))
    direction, end, other = next(way for way in ways if way[1].eni_id)
    return packet_at(end, other, direction, probe, EPHEMERAL)


def plan_lab(record: LabRecord, state: CloudState) -> Lab:
    """Return a lab that isn't built: it knows where everything would be, and nothing can be sent in it.

    Every ENI has a node there.
    """
    return make_lab(record, with_nodes(state))


def with_nodes(state: CloudState) -> CloudState:
    """Return the state with an instance for each ENI that has none, such as a load balancer's.

    That instance has the ENI's id.
    """
    alone = {e.network_interface_id for e in state.network_interfaces if e.instance_id not in state.instance}
    alone -= state.instance.keys()
    if not alone:
        return state
    enis = (
        replace(eni, instance_id=eni.network_interface_id) if eni.network_interface_id in alone else eni
        for eni in state.network_interfaces
    )
    instances = (*state.instances, *map(Instance, sorted(alone)))
    return replace(state, instances=instances, network_interfaces=tuple(enis))


# judging


def probes_of(lab: Lab, rows: Sequence[Row]) -> dict[Row, tuple[Probe, ...]]:
    """Return the probes of each row: each service, in each family that both ends have.

    Raises:
        StateFileError: The ends of a row can't be found, or don't meet; the error lists all such rows.
    """
    found: dict[Row, tuple[Probe, ...]] = {}
    problems: list[Problem] = []
    for row in rows:
        try:
            found[row] = probes_of_row(lab, row)
        except LabError as error:
            problems.append(Problem(row.where, "InvalidExpectation.End", str(error), row.text))
    if problems:
        raise StateFileError(tuple(problems))
    return found


def probes_of_row(lab: Lab, row: Row) -> tuple[Probe, ...]:
    """Return the probes of one row. LabError if an end can't be found, or the ends don't meet."""
    asked = (Asked(row.sender, row.receiver, service) for service in row.services)
    return tuple(probe for each in asked for probe in find_probes(lab, each))


def judge_by_policy(lab: Lab, rows: Sequence[Row]) -> Iterator[Judged]:
    """Yield what the policy at both ends says of each row's probes."""
    for row, probes in probes_of(lab, rows).items():
        for probe in probes:
            expected = expect(lab.state, probe, probe.source_port or EPHEMERAL, lab.options)
            yield Judged(row, probe, expected, None, _mistake_of_policy(row, expected))


def judge_by_packets(lab: Lab, rows: Sequence[Row]) -> Iterator[Judged]:
    """Yield what packets in a running lab show of each row's probes, beside what the policy says."""
    of_row = probes_of(lab, rows)
    probes = tuple(dict.fromkeys(probe for found in of_row.values() for probe in found))
    results = dict(zip(probes, probe_all(lab, probes), strict=True))
    yield from judge(of_row, results)


def judge(of_row: Mapping[Row, Iterable[Probe]], results: Mapping[Probe, ProbeResult]) -> Iterator[Judged]:
    """Yield each row's probes with their results; `results` must have a result for each probe."""
    for row, probes in of_row.items():
        for probe in probes:
            result = results[probe]
            yield Judged(row, probe, result.expected, result.observed, mistake_of(row, result))


def mistake_of(row: Row, result: ProbeResult) -> str:
    """Return what isn't as the row says: the policy's verdict, that of the packets, or the rule that decides.

    It is empty if all is right.
    """
    policy, packets = result.expected, result.observed
    wrong = _mistake_of_policy(row, policy)
    if policy.verdict == row.verdict == packets.verdict:
        return wrong
    if not wrong:
        wrong = f"expected {row.verdict}, and the policy says so, by {words.cite_decision(policy.decision)}"
    at = f" at {packets.where}" if packets.where else ""
    return f"{wrong}; packets show {packets.verdict}{at}: {'; '.join(packets.evidence)}"


def _mistake_of_policy(row: Row, expected: Expectation) -> str:
    """Return how the policy's decision differs from the row; empty if it doesn't."""
    decision = expected.decision
    at = f" at {expected.where}" if expected.where else ""
    if expected.verdict != row.verdict:
        return f"expected {row.verdict}, but the policy says {expected.verdict}{at}, by {words.cite_decision(decision)}"
    if row.rule and row.rule not in (decision.security_group_rule_id, decision.reason):
        return f"expected {row.verdict} by {row.rule}, but {words.cite_decision(decision)} decides{at}"
    return ""

"""`sgdp log`: denied packets, as they happen.

Owns the arguments, and how a denied packet is written: for people, as JSON, as an entry of the vendor's flow log. Must
not know where policies are enforced (scopes.py), or how a denied packet is found (observe/denied.py).

It listens in each namespace itself. The kernel serves only one listener there, so a second `sgdp log` of the same
namespace is refused. Where the agent records history, that is the listener, and any `sgdp log` asks it.

`--json` prints an object a line, by sgdataplane/schemas/log.schema.json. `--format flowlog` prints an object a line
with the fields of Alibaba Cloud's VPC flow log, in the order and form in which Log Service keeps them: all values are
texts, "-" where nothing is known (a state has neither accounts nor vSwitches). An entry is one packet. Packets that
weren't logged one by one share an entry with log-status SKIPDATA and their number. Frames that are no IP packets have
no entry, and neither have packets that others logged in our name.
"""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Self

from sgdataplane.attach.names import NO_NAMES, WorkloadNames
from sgdataplane.cli.scopes import Scopes, look
from sgdataplane.cli.times import add_time
from sgdataplane.model import words
from sgdataplane.model.decision import DEFAULT, RULE
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Direction, Protocol
from sgdataplane.observe.denied import Denied, Forged, Unlogged
from sgdataplane.observe.follow import Follow, Followed, Told
from sgdataplane.terminal.arguments import ENI_HELP, Verbs, read_seconds, require_root
from sgdataplane.terminal.output import Columns, Exit, endpoint, iso_time, local_time, paint, say, say_aside
from sgdataplane.visible import json_text

MAX_SECONDS = 1e6
NAMES = {0x0806: "arp", 0x8100: "802.1q", 0x88A8: "802.1ad", 0x888E: "eapol"}  # by EtherType (IEEE 802)
Entry = Denied | Unlogged | Forged  # Unlogged: a number of packets; Forged: logged by others in our name
Format = Callable[[str, CloudState | None, Entry], str | None]  # place, its state, entry -> a line, or None for none
NOTHING = "-"
CLOCK = "%H:%M:%S.%f"
HEADERS = ("TIME", "ENI", "DIRECTION", "PROTOCOL", "FROM > TO", "DENIED BY")
USUAL_WAY = len("198.51.100.7:49152 > 10.20.30.40:443")
FORMATS = ("text", "json", "flowlog")
WAYS = {Direction.INGRESS: "in", Direction.EGRESS: "out"}


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = "Needs root. One `sgdp log` at a time can listen in a namespace, unless the agent records history."
    parser = verbs.add("log", run, more)
    parser.add_where()
    parser.add_argument("--eni", metavar="ENI", help=f"only packets of this ENI: {ENI_HELP}")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    parser.add_argument(
        "--seconds", type=read_seconds(MAX_SECONDS), default=5.0, metavar="S", help="without -f: how long (default: 5)"
    )
    help_text = "text (default), json, or the fields of the cloud's VPC flow log (flowlog)"
    parser.add_argument("--format", choices=FORMATS, default="text", help=help_text)
    help_text = "--format json: one object per line, sgdataplane/schemas/log.schema.json"
    add_time(parser, None)
    parser.add_argument("--json", action="store_const", const="json", dest="format", help=help_text)


def run(arguments: argparse.Namespace) -> int:
    """Print denied packets until the time is over, or no namespace is left; or, with --since, those of before."""
    require_root("listening in other namespaces")
    if arguments.since is not None or arguments.until is not None:
        if arguments.follow or arguments.format == "flowlog":
            arguments.parser.error("--since and --until show what was recorded, without -f or flowlog")
        from sgdataplane.cli.logpast import show_past

        return show_past(arguments)
    there = look(arguments)
    there.say_if_unread()
    eni_id = None if arguments.eni is None else there.eni(arguments.eni)
    sources = [scope.source for scope in (there.all if eni_id is None else (there.having(eni_id),))]
    columns = columns_of(sources, there.workloads)
    shown_as = _writer(arguments.format, columns, there.workloads)
    with _following(there, sources) as follow:
        say_aside(f"listening in {words.pluralize(len(sources), 'namespace')}")
        if arguments.format == "text":
            say(columns.line(HEADERS), flush=True)
        count = 0
        with suppress(KeyboardInterrupt):
            until = None if arguments.follow else time.monotonic() + arguments.seconds
            for line in _lines(follow.entries(until), eni_id, shown_as):
                say(line, flush=True)
                count += 1
        for line in _lines(follow.rest(), eni_id, shown_as):
            say(line, flush=True)
            count += 1
    if not count and not arguments.follow:
        say_aside(f"no packet was denied in {arguments.seconds:g} s")
    return Exit.DONE


def _following(there: Scopes, sources: Sequence[Followed]) -> Follow | _Recorded:
    """Return the listener: history's recorder, if the agent records, because it listens there already."""
    from sgdataplane.history import live

    link = None if there.config is None else live.connect(there.config.state_directory)
    return Follow(sources) if link is None else _Recorded(link, sources)


class _Recorded:
    """A client of history's recorder, which adds the source of each place."""

    def __init__(self, link: socket.socket, sources: Sequence[Followed]) -> None:
        from sgdataplane.history.live import LiveFollow

        self._sources = {source.name: source for source in sources}
        self._follow = LiveFollow(link, self._sources)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._follow.__exit__()

    def entries(self, until: float | None) -> Iterator[Told]:
        """Yield what the recorder tells until that time, by time.monotonic(); None is without end."""
        return ((self._sources[named], entry) for named, entry in self._follow.entries(until))

    def rest(self) -> Iterator[Told]:
        """Yield what has come until now and wasn't yielded yet."""
        return ((self._sources[named], entry) for named, entry in self._follow.rest())


def _lines(told: Iterable[Told], eni_id: str | None, written: Format) -> Iterator[str]:
    """Yield the packets of that ENI, or of all if it is None, as lines.

    Numbers of packets are always shown.
    """
    for source, entry in told:
        if eni_id is None or not isinstance(entry, Denied) or entry.eni_id == eni_id:
            line = written(source.name, source.state, entry)
            if line is not None:
                yield line


def _writer(chosen: str, columns: Columns, names: WorkloadNames) -> Format:
    """Return the format that was asked for."""
    writers: dict[str, Format] = {
        "text": partial(as_text, columns=columns, names=names),
        "json": partial(as_json, names=names),
        "flowlog": as_flowlog,
    }
    return writers[chosen]


def columns_of(sources: Iterable[Followed], names: WorkloadNames = NO_NAMES) -> Columns:
    """Return columns that are wide enough for the ENIs there."""
    eni = max((len(names.label(eni)) for source in sources for eni in source.interfaces), default=0)
    return Columns(len(local_time(time.time(), CLOCK)), eni, len(HEADERS[2]), len(HEADERS[3]), USUAL_WAY)


def as_text(
    place: str,
    _state: CloudState | None,
    entry: Entry,
    *,
    columns: Columns | None = None,
    names: WorkloadNames = NO_NAMES,
) -> str:
    """Return a line for people; the time is local, with its offset from UTC.

    `columns` are those of the lines before.
    """
    place, at = names.place(place), local_time(entry.seconds, CLOCK)
    if isinstance(entry, Forged):
        whose = "in the name of sgdataplane's rules by another program"
        return paint(f"{at}  {place}: {entry.packets:,} logged {whose}, and ignored", "yellow")
    if isinstance(entry, Unlogged):
        side = f"{entry.decision.direction.value} " if entry.decision else ""
        what = "that would be dropped" if _is_audited(entry) else "denied"
        return paint(f"{at}  {place}: {entry.packets:,} more {what} and not logged: {side}{_cause(entry)}", "yellow")
    headers = entry.headers
    ends = [_end(headers.source, headers.source_port), _end(headers.destination, headers.port)]
    who = names.label(entry.eni_id) if entry.eni_id else f"{entry.ifname or NOTHING} of {place}"
    judged_as = entry.decision.direction if entry.decision else entry.direction
    rules = f" ({judged_as.value} rules, of a reply)" if judged_as is not entry.direction else ""
    way = (entry.direction.value, _protocol(entry), f"{ends[0]} > {ends[1]}")
    return (columns or columns_of(())).line((at, who, *way, f"{_reason(entry)}{rules}"))


def _reason(entry: Denied) -> str:
    """Return what denied a packet, and what that means unless it is a rule; in audit mode, what would deny it."""
    decision, would = entry.decision and entry.decision.enforced, "would drop: " if _is_audited(entry) else ""
    if decision is None or decision.cause == RULE:
        return would + _cause(entry)
    why = "no rule matches" if decision.cause == DEFAULT else words.because(decision)
    return f"{would}{decision.cause}: {why}"


def _is_audited(entry: Denied | Unlogged) -> bool:
    """Return whether it passed because its ENI is in audit mode."""
    return entry.decision is not None and entry.decision.would is not None


def _end(address: Address | None, port: int | None) -> str:
    return NOTHING if address is None else endpoint(address, port)


def _protocol(entry: Denied) -> str:
    """Return the protocol's name, or that of a frame that is no IP packet."""
    if entry.headers.protocol is not None:
        return str(Protocol(entry.headers.protocol))
    return NAMES.get(entry.ethertype, f"{entry.ethertype:#06x}")


def _cause(entry: Denied | Unlogged) -> str:
    """Return the name of what denied it."""
    if entry.decision is None:
        return f"a rule that the state doesn't have ({entry.counter})"
    return words.name(entry.decision.enforced)


def as_json(place: str, _state: CloudState | None, entry: Entry, *, names: WorkloadNames = NO_NAMES) -> str:
    """Return an object on a line; sgdataplane/schemas/log.schema.json has its keys."""
    at = iso_time(entry.seconds, "microseconds")
    if isinstance(entry, Forged):
        return json_text({"event": "forged", "time": at, "namespace": place, "packets": entry.packets})
    decision = entry.decision and entry.decision.enforced
    why = {
        "counter": entry.counter,
        "reason": decision.cause if decision else RULE,
        "judged_as": decision and decision.direction.value,
        "security_group_id": (decision and decision.security_group_id) or None,
        "security_group_rule_id": (decision and decision.security_group_rule_id) or None,
    }
    if isinstance(entry, Unlogged):
        event = "unlogged-audited" if _is_audited(entry) else "unlogged"
        return json_text({"event": event, "time": at, "namespace": place, "packets": entry.packets, **why})
    headers = entry.headers
    packet = {
        "family": headers.family.value if headers.family else None,
        "protocol": _protocol(entry),
        "source": None if headers.source is None else str(headers.source),
        "source_port": headers.source_port,
        "destination": None if headers.destination is None else str(headers.destination),
        "destination_port": headers.port,
        "icmp_type": headers.icmp_type,
        "tcp_flags": headers.tcp_flags,
        "bytes": headers.length,
    }
    whose = {**names.add_to({"eni": entry.eni_id}), "interface": entry.ifname, "direction": entry.direction.value}
    event = "audited" if _is_audited(entry) else "denied"
    return json_text({"event": event, "time": at, "namespace": place, **whose, **packet, **why})


def as_flowlog(_place: str, state: CloudState | None, entry: Entry) -> str | None:
    """Return an object on a line with FLOW_FIELDS; None for what is no IP packet, or forged."""
    if isinstance(entry, Forged):
        return None
    second = str(int(entry.seconds))
    window = {"start": second, "end": second}
    if isinstance(entry, Unlogged):
        way = WAYS[entry.decision.direction] if entry.decision else NOTHING
        skipped = {"direction": way, "action": _action(entry), "packets": str(entry.packets), "bytes": NOTHING}
        return _flow({**skipped, **window, "log-status": "SKIPDATA"})
    headers = entry.headers
    if headers.family is None:
        return None
    eni = state.eni.get(entry.eni_id) if state is not None and entry.eni_id is not None else None
    return _flow(
        {
            "eni-id": entry.eni_id or NOTHING,
            "vm-id": (eni.instance_id if eni else "") or NOTHING,
            "vpc-id": (eni.vpc_id if eni else "") or NOTHING,
            "srcaddr": str(headers.source),
            "srcport": str(headers.source_port or 0),
            "dstaddr": str(headers.destination),
            "dstport": str(headers.port or 0),
            "protocol": str(headers.protocol),
            "direction": WAYS[entry.direction],
            "action": _action(entry),
            "packets": "1",
            "bytes": str(headers.length),
            **window,
            "tcp-flags": NOTHING if headers.tcp_flags is None else str(headers.tcp_flags),
            "log-status": "OK",
        }
    )


def _action(entry: Denied | Unlogged) -> str:
    """Return the flow log's word for what became of it."""
    return "ACCEPT" if _is_audited(entry) else "REJECT"


FLOW_FIELDS = (
    *("version", "account-id", "eni-id", "vm-id", "vswitch-id", "vpc-id", "srcaddr", "srcport", "dstaddr", "dstport"),
    *("protocol", "direction", "packets", "bytes", "start", "end", "tcp-flags", "action", "log-status"),
)


def _flow(fields: dict[str, str]) -> str:
    """Return an entry with all FLOW_FIELDS, on a line."""
    values = {"version": "1", **fields}
    return json_text({name: values.get(name, NOTHING) for name in FLOW_FIELDS})

"""How `sgdp log` writes a denied packet: for people, as JSON, as an entry of the vendor's flow log.

Owns the wording and the keys. Is given what was denied. Must not know where it came from.

`--json`: an object a line, schemas/log.schema.json. `--format flowlog`: an object a line with the fields of Alibaba
Cloud's VPC flow log, as Log Service keeps them: texts, "-" where there is nothing to say (a state knows neither
accounts nor vSwitches). An entry is one packet. Packets that were not logged are one with log-status SKIPDATA: how many
is all that is known of them. Frames that are no IP packets have no entry, and neither has what others have forged.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sgdataplane.cli.output import paint
from sgdataplane.model import words
from sgdataplane.model.decision import RULE
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Direction, Protocol
from sgdataplane.observe.denied import Denied, Forged, Unlogged
from sgdataplane.visible import json_text

Entry = Denied | Unlogged | Forged
Format = Callable[[str, CloudState | None, Entry], str | None]  # place and its state -> a line, None: nothing to say
NAMES = {0x0806: "arp", 0x8100: "802.1q", 0x88A8: "802.1ad", 0x888E: "eapol"}
NOTHING = "-"
WAYS = {Direction.INGRESS: "in", Direction.EGRESS: "out"}


def as_text(place: str, _state: CloudState | None, entry: Entry) -> str:
    """A line for people."""
    at = datetime.fromtimestamp(entry.seconds, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    if isinstance(entry, Forged):
        what = "logged in the name of our rules by others, and not believed"
        return paint(f"{at}  {place}: {entry.packets:,} {what}", "yellow")
    if isinstance(entry, Unlogged):
        side = f"{entry.decision.direction.value} " if entry.decision else ""
        text = f"{at}  {place}: {entry.packets:,} more denied and not logged: {side}{_cause(entry)}"
        return paint(text, "yellow")
    headers = entry.headers
    ends = [_end(headers.source, headers.source_port), _end(headers.destination, headers.port)]
    who = entry.eni_id or f"{entry.ifname or NOTHING} of {place}"
    judged_as = entry.decision.direction if entry.decision else entry.direction
    rules = f" ({judged_as.value} rules, of a reply)" if judged_as is not entry.direction else ""
    way = f"{entry.direction.value:7}  {_protocol(entry):6}  {ends[0]} > {ends[1]}"
    return f"{at}  {who}  {way}  {_cause(entry)}{rules}"


def _end(address: Address | None, port: int | None) -> str:
    if address is None:
        return NOTHING
    if port is None:
        return str(address)
    return f"{address}:{port}" if address.family_bits == 32 else f"[{address}]:{port}"


def _protocol(entry: Denied) -> str:
    if entry.headers.protocol is not None:
        return str(Protocol(entry.headers.protocol))
    return NAMES.get(entry.ethertype, f"{entry.ethertype:#06x}")


def _cause(entry: Denied | Unlogged) -> str:
    if entry.decision is None:
        return f"a rule that the state hasn't got ({entry.counter})"
    return words.name(entry.decision)


def as_json(place: str, _state: CloudState | None, entry: Entry) -> str:
    """Keys: schemas/log.schema.json."""
    at = datetime.fromtimestamp(entry.seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(entry, Forged):
        return json_text({"event": "forged", "time": at, "namespace": place, "packets": entry.packets})
    decision = entry.decision
    why = {
        "counter": entry.counter,
        "reason": decision.cause if decision else RULE,
        "judged_as": decision and decision.direction.value,
        "security_group_id": (decision and decision.security_group_id) or None,
        "security_group_rule_id": (decision and decision.security_group_rule_id) or None,
    }
    if isinstance(entry, Unlogged):
        return json_text({"event": "unlogged", "time": at, "namespace": place, "packets": entry.packets, **why})
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
    whose = {"eni": entry.eni_id, "interface": entry.ifname, "direction": entry.direction.value}
    return json_text({"event": "denied", "time": at, "namespace": place, **whose, **packet, **why})


def as_flowlog(_place: str, state: CloudState | None, entry: Entry) -> str | None:
    """Fields in the order of the vendor's documentation."""
    if isinstance(entry, Forged):
        return None
    second = str(int(entry.seconds))
    window = {"start": second, "end": second}
    if isinstance(entry, Unlogged):
        way = WAYS[entry.decision.direction] if entry.decision else NOTHING
        skipped = {"direction": way, "action": "REJECT", "packets": str(entry.packets), "bytes": NOTHING}
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
            "action": "REJECT",
            "packets": "1",
            "bytes": str(headers.length),
            **window,
            "tcp-flags": NOTHING if headers.tcp_flags is None else str(headers.tcp_flags),
            "log-status": "OK",
        }
    )


FLOW_FIELDS = (
    *("version", "account-id", "eni-id", "vm-id", "vswitch-id", "vpc-id", "srcaddr", "srcport", "dstaddr", "dstport"),
    *("protocol", "direction", "packets", "bytes", "start", "end", "tcp-flags", "action", "log-status"),
)


def _flow(known: dict[str, str]) -> str:
    values = {"version": "1", **known}
    return json_text({name: values.get(name, NOTHING) for name in FLOW_FIELDS})


FORMATS: dict[str, Format] = {"text": as_text, "json": as_json, "flowlog": as_flowlog}

"""Write nftables objects as nft text, one operation a line, for people and for golden files.

Owns nft syntax. Only its words for fields stand elsewhere (contract/fields.py). It must not know clouds, or what the
kernel holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from sgdataplane.contract import names
from sgdataplane.contract.fields import PAIRED, CtDirection, CtState, Field, KeyType, Nfproto
from sgdataplane.net.values import format_address
from sgdataplane.nft.ir import (
    LOGGED_BYTES,
    Chain,
    Count,
    Counter,
    Datum,
    Effect,
    Exceeds,
    InSet,
    Key,
    Log,
    Map,
    MapCount,
    MapKey,
    MapPriority,
    Match,
    OneIn,
    Range,
    Remember,
    Rule,
    SessionsExceed,
    SetMark,
    SetPacketMark,
    SetPriority,
    SetTimeout,
    Statement,
    Table,
    Timeout,
    Verdict,
    VerdictKind,
    VerdictMap,
    is_set,
)

_MAP_KEYS = {
    KeyType.IFNAME: "ifname",
    KeyType.IPV4: "ipv4_addr",
    KeyType.IPV6: "ipv6_addr",
    KeyType.MARK: "mark",
    KeyType.CLASSID: "classid",
    KeyType.COUNTER: "counter",
    KeyType.MARK_IFNAME: "mark . ifname",
    KeyType.CLASSID_IFNAME: "classid . ifname",
    KeyType.IPV4_IFNAME: "ipv4_addr . ifname",
    KeyType.IPV6_IFNAME: "ipv6_addr . ifname",
}


def render_table(table: Table) -> str:
    """Return a file for `nft -f` (nft >= 1.0) that replaces the whole table, whether or not it exists."""
    opening = [add_table(table), delete_table(table)]
    return "\n".join([*opening, *write_creation(table)]) + "\n"


def write_creation(table: Table) -> Iterator[str]:
    """Yield the lines that make the table with everything in it, in an order that nft accepts."""
    yield add_table(table)
    for timeout in table.timeouts:
        yield add_timeout(table, timeout)
    for counter in table.counters:
        yield add_counter(table, counter)
    for chain in table.chains:
        yield add_chain(table, chain)
        if chain.hook is not None:
            yield set_policy(table, chain.name, "drop")
    for entry in table.maps:
        yield add_map(table, entry)
        yield from add_elements(table, entry)
    for chain in table.chains:
        yield from add_rules(table, chain)


def _in(table: Table) -> str:
    """Return the table's family and name, as each line has them."""
    return f"{table.family} {names.check_name(table.name)}"


def add_table(table: Table) -> str:
    """Return the line that adds a table."""
    return f"add table {_in(table)}"


def delete_table(table: Table) -> str:
    """Return the line that deletes a table."""
    return f"delete table {_in(table)}"


def delete_others(table: Table) -> str:
    """Return a comment, since nft has no command that deletes all that others put into the table."""
    return f"# what else is in table {_in(table)} goes"


def delete_object(table: Table, kind: str, name: str) -> str:
    """Return the line that deletes an object; `kind` is chain, map, set, counter, or ct timeout."""
    return f"delete {kind} {_in(table)} {names.check_name(name)}"


def flush_object(table: Table, kind: str, name: str) -> str:
    """Return the line that flushes an object; `kind` is chain, map or set."""
    return f"flush {kind} {_in(table)} {names.check_name(name)}"


def add_chain(table: Table, chain: Chain) -> str:
    """Return the line that adds a chain."""
    hook = chain.hook
    head = f"add chain {_in(table)} {names.check_name(chain.name)}"
    if hook is None:
        return f"{head} {{ {_comment(chain.comment)}; }}" if chain.comment else head
    device = f' device "{names.check_interface(hook.device)}"' if hook.device else ""
    return f"{head} {{ type filter hook {hook.name}{device} priority {hook.priority}; }}"


def set_policy(table: Table, name: str, verdict: str) -> str:
    """Return the line that sets a base chain's policy."""
    return f"add chain {_in(table)} {names.check_name(name)} {{ policy {verdict}; }}"


def add_rules(table: Table, chain: Chain) -> Iterator[str]:
    """Yield the lines that append a chain's rules."""
    head = f"add rule {_in(table)} {names.check_name(chain.name)} "
    for text in chain.texts or map(rule_text, chain.rules):
        yield head + text


def add_map(table: Table, entry: Map) -> str:
    """Return the line that adds a map or set."""
    name, keys = f"{_in(table)} {names.check_name(entry.name)}", _MAP_KEYS[entry.key_type]
    if is_set(entry):
        return f"add set {name} {{ type {keys};{_describe_filling(entry)} }}"
    data = _MAP_KEYS[entry.holds] if entry.holds else "verdict"
    flags = " flags timeout;" if entry.lifetime else ""
    more = flags + (f" {_comment(entry.comment)};" if entry.comment else "")
    return f"add map {name} {{ type {keys} : {data};{more} }}"


def _describe_filling(entry: Map) -> str:
    """Return what the line of a set says if packets fill the set."""
    flags = "dynamic,timeout" if entry.lifetime else "dynamic"
    return f" size {entry.room}; flags {flags};" if entry.room else ""


# How many elements a line has: few enough that a refusal points near its cause, enough that 65,536 members parse fast.
BATCH = 500


def add_elements(table: Table, entry: Map) -> Iterator[str]:
    """Yield the lines that add a map's elements."""
    lifetime = f" timeout {entry.lifetime}ms" if entry.lifetime else ""
    items = [f"{_map_key(entry.key_type, k)}{lifetime}{_datum(entry, value)}" for k, value in entry.elements]
    yield from _element_lines("add", table, entry.name, items)


def delete_elements(table: Table, name: str, key_type: KeyType, keys: Iterable[MapKey]) -> Iterator[str]:
    """Yield the lines that delete elements by their keys."""
    yield from _element_lines("delete", table, name, [_map_key(key_type, k) for k in keys])


def _element_lines(verb: str, table: Table, name: str, items: list[str]) -> Iterator[str]:
    for start in range(0, len(items), BATCH):
        batch = ", ".join(items[start : start + BATCH])
        yield f"{verb} element {_in(table)} {names.check_name(name)} {{ {batch} }}"


def add_counter(table: Table, counter: Counter) -> str:
    """Return the line that adds a counter."""
    comment = f" {{ {_comment(counter.comment)}; }}" if counter.comment else ""
    return f"add counter {_in(table)} {names.check_name(counter.name)}{comment}"


def add_timeout(table: Table, timeout: Timeout) -> str:
    """Return the line that adds a timeout."""
    policy = ", ".join(f"{state} : {seconds}" for state, seconds in timeout.policy)
    return (
        f"add ct timeout {_in(table)} {names.check_name(timeout.name)} "
        f"{{ protocol {timeout.protocol}; l3proto {timeout.family}; policy = {{ {policy} }}; }}"
    )


def rule_text(rule: Rule) -> str:
    """Return the statements of one rule, and its comment."""
    parts = [statement_text(statement) for statement in rule.statements]
    if rule.comment:
        parts.append(_comment(rule.comment))
    return " ".join(parts)


def statement_text(statement: Statement) -> str:
    """Return a statement as nft writes it."""
    match statement:
        case Match():
            return _match(statement)
        case Exceeds(rate, burst, is_bytes):
            what = "bytes" if is_bytes else "packets"
            return f"limit rate over {rate}{' bytes' if is_bytes else ''}/second burst {burst} {what}"
        case VerdictMap(field, entries, name):
            body = (
                f"@{names.check_name(name)}"
                if name
                else _braces(f"{range_text(field, r)} : {verdict_text(v)}" for r, v in entries)
            )
            return f"{field.word} vmap {body}"
        case MapPriority(field, name):
            return f"meta priority set {field.word} map @{names.check_name(name)}"
        case MapCount(field, name, interface):
            asked = field.word if interface is None else _pair(field, interface, None)
            return f"counter name {asked} map @{names.check_name(name)}"
        case InSet(field, interface, name, negate, mask):
            return f"{_pair(field, interface, mask)} {'!= ' if negate else ''}@{names.check_name(name)}"
        case OneIn() | SessionsExceed() | Remember():
            return _of_sessions(statement)
        case Log(counter, group, rate):
            limit = f"limit rate {rate}/second burst {rate} packets"
            return (
                f'{limit} log prefix "{names.log_prefix(names.check_name(counter))}" '
                f"group {group} snaplen {LOGGED_BYTES}"
            )
        case Verdict():
            return verdict_text(statement)
        case _:
            return _effect(statement)


def _of_sessions(statement: OneIn | SessionsExceed | Remember) -> str:
    match statement:
        case OneIn(number):
            return f"numgen random mod {number} 0"
        case SessionsExceed(field, interface, name, most, mask):
            return f"add @{names.check_name(name)} {{ {_pair(field, interface, mask)} ct count over {most} }}"
        case Remember(field, interface, name, milliseconds, mask):
            return f"add @{names.check_name(name)} {{ {_pair(field, interface, mask)} timeout {milliseconds}ms }}"


def _pair(field: Field, interface: Field, mask: int | None) -> str:
    return f"{field.word}{'' if mask is None else f' & {mask:#010x}'} . {interface.word}"


def _effect(effect: Effect) -> str:
    """Return an effect as nft writes it."""
    match effect:
        case Count(counter):
            return f'counter name "{names.check_name(counter)}"'
        case SetMark(keep, value):
            return f"ct mark set ct mark & {keep:#010x} | {value:#010x}"
        case SetPacketMark(value):
            return f"meta mark set {value:#010x}"
        case SetPriority(value):
            return f"meta priority set {key(KeyType.CLASSID, value)}"
        case SetTimeout(timeout):
            return f'ct timeout set "{names.check_name(timeout)}"'


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict as nft writes it."""
    if verdict.kind in (VerdictKind.JUMP, VerdictKind.GOTO):
        return f"{verdict.kind.value} {names.check_name(verdict.chain)}"
    return str(verdict.kind.value)


def _match(match: Match) -> str:
    """Return a match as nft writes it."""
    left = match.field.word
    if match.mask is None and not match.negate and len(match.ranges) == 1:
        return f"{left} {range_text(match.field, match.ranges[0])}"
    if match.mask is not None:
        left += f" & {match.mask:#x}"
    values = [range_text(match.field, item) for item in match.ranges]
    right = _braces(values) if match.is_set else ",".join(values)
    equals = "==" if match.mask is not None else ""
    operator = "!=" if match.negate else equals
    return " ".join(part for part in (left, operator, right) if part)


def range_text(field: Field, item: Range) -> str:
    """Return a range of a field's values as nft writes it."""
    if field.key_type is KeyType.NUMBER:
        return str(item.first) if item.first == item.last else f"{item.first}-{item.last}"
    if item.first == item.last:
        return key(field.key_type, item.first)
    if field.key_type is KeyType.CLASSID:
        return f"{_classid(int(item.first))}-{_classid(int(item.last))}"
    return f"{key(field.key_type, item.first)}-{key(field.key_type, item.last)}"


def key(key_type: KeyType, value: Key) -> str:
    """Return one key of that type as nft writes it."""
    if isinstance(value, str):
        return f'"{names.check_interface(value)}"'
    return _KEYS[key_type](value) if key_type in _KEYS else str(value)


def _classid(value: int) -> str:
    """Return a number as nft writes a class: major and minor number in hexadecimal."""
    return f"{value >> 16:x}:{value & 0xFFFF:x}"


_KEYS: Mapping[KeyType, Callable[[int], str]] = {
    KeyType.IPV4: lambda value: format_address(32, value),
    KeyType.IPV6: lambda value: format_address(128, value),
    KeyType.MARK: "{:#010x}".format,
    KeyType.CLASSID: lambda value: _classid(value) if value else "none",  # nft takes no range that begins with none
    KeyType.MAC: lambda value: value.to_bytes(6, "big").hex(":"),
    KeyType.ETHERTYPE: "{:#06x}".format,
    KeyType.BITS: "{:#x}".format,
    KeyType.BITS128: "{:#034x}".format,
    KeyType.NFPROTO: lambda value: Nfproto(value).name.lower(),
    KeyType.CT_STATE: lambda value: CtState(value).name.lower(),
    KeyType.CT_DIRECTION: lambda value: CtDirection(value).name.lower(),
}


def _map_key(key_type: KeyType, value: MapKey) -> str:
    if isinstance(value, tuple):
        return f"{key(PAIRED[key_type], value[0])} . {key(KeyType.IFNAME, value[1])}"
    return key(key_type, value)


def _datum(entry: Map, value: Datum) -> str:
    """Return what an element says behind its key."""
    if is_set(entry):
        return ""
    if isinstance(value, Verdict):
        return f" : {verdict_text(value)}"
    if isinstance(value, Count):
        return f' : "{names.check_name(value.counter)}"'
    assert entry.holds is not None
    return f" : {key(entry.holds, value)}"


def _braces(items: Iterable[str]) -> str:
    return "{ " + ", ".join(items) + " }"


def _comment(text: str) -> str:
    """Return a comment. names.comment() takes quotes out, since nft can't escape them."""
    return f'comment "{names.comment(text)}"'

"""Write nftables objects as messages to the kernel, by the same calls with which text.py writes them for people.

Owns the layout of messages that change something. It must not know what the kernel holds. A name is sent as bytes
behind their length, so whatever it holds, the kernel takes it for a name and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import count

from sgdataplane.contract import names
from sgdataplane.contract.fields import PORTS, SESSION_PORTS, Field, Hook, KeyType
from sgdataplane.host.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    attribute,
    nest,
)
from sgdataplane.host.nfnetlink import BatchMessage
from sgdataplane.nft import uapi, wire
from sgdataplane.nft.elements import delete_element, map_elements, singles, spans
from sgdataplane.nft.encode import Nameless, encode_rule, size_of
from sgdataplane.nft.ir import (
    Chain,
    Counter,
    Map,
    MapKey,
    Rule,
    SetMark,
    Table,
    Timeout,
    is_set,
)
from sgdataplane.nft.layout import HOST_ORDER, LONGEST
from sgdataplane.nft.snapshot import KEY_TYPES
from sgdataplane.nft.text import BATCH
from sgdataplane.nft.wire import name, text, word

# User space stores notes with objects for programs that list them: the number of the comment, and byte orders in sets.
COMMENT, SET_COMMENT, KEY_ORDER, DATA_ORDER = 0, 7, 0, 1
HOST_ORDERED, BIG_ENDIAN = 1, 2  # BYTEORDER_*
# The types of keys as user space numbers them (nft's datatype.h), by their kind, and where a field has one of its own.
INTEGER, PROTOCOL, SERVICE = 4, 12, 13
KINDS = {
    **{kind: number for number, kind in KEY_TYPES.items()},
    KeyType.NFPROTO: 2,
    KeyType.MAC: 9,
    KeyType.ETHERTYPE: 10,
    KeyType.CT_DIRECTION: 27,
}
OWN_TYPES = {
    Field.ARP_OPERATION: 11,
    Field.L4PROTO: PROTOCOL,
    Field.CT_PROTOCOL: PROTOCOL,
    **dict.fromkeys((*PORTS, *SESSION_PORTS), SERVICE),
    Field.ICMP_TYPE: 14,
    Field.TCP_FLAGS: 15,
    Field.ROUTE_REALM: 22,
    Field.ICMPV6_TYPE: 29,
}
STATES = {  # CTA_TIMEOUT_TCP_*, CTA_TIMEOUT_UDP_*
    "tcp": {"established": 3, "time_wait": 7, "close": 8},
    "udp": {"unreplied": 1, "replied": 2},
}
PROTOCOLS, NETWORKS = {"tcp": 6, "udp": 17}, {"ip": 2, "ip6": 10}
MESSAGE_ELEMENTS = 300  # so many elements are in one message: they are one attribute, which has 64 KiB at most
Messages = tuple[BatchMessage, ...]
_NEW_RULE = uapi.kind_of(uapi.NEWRULE)
# The message that deletes or flushes an object of a kind, the attribute that names it, and what else the message needs.
DELETED = {
    "chain": (uapi.DELCHAIN, uapi.CHAIN_NAME, b""),
    **dict.fromkeys(("map", "set"), (uapi.DELSET, uapi.SET_NAME, b"")),
    "counter": (uapi.DELOBJ, uapi.OBJ_NAME, word(uapi.OBJ_TYPE, uapi.OBJ_COUNTER)),
    "ct timeout": (uapi.DELOBJ, uapi.OBJ_NAME, word(uapi.OBJ_TYPE, uapi.OBJ_TIMEOUT)),
}
FLUSHED = {
    "chain": (uapi.DELRULE, uapi.RULE_CHAIN),
    **dict.fromkeys(("map", "set"), (uapi.DELSETELEM, uapi.ELEMENTS_SET)),
}


# A batch's rules find its sets by these numbers. It takes very long until a number comes again, so rules that were
# encoded for one batch can be used in another.
_NUMBERS = map((0xFFFFFFFF).__and__, count(1))


class Writer:
    """Writes the messages of a batch.

    Each method writes those for the line that text.py's function of that name writes. If it `is_keeping`, chains and
    counters are kept as they are encoded, for the next namespace that has them.
    """

    def __init__(self, *, is_keeping: bool = True) -> None:
        self._chain = _chain_of if is_keeping else _chain_of.__wrapped__
        self._counter = _counter_of if is_keeping else _counter_of.__wrapped__
        self._is_keeping = is_keeping

    def add_table(self, table: Table, flags: int = 0) -> Messages:
        """Write the message that adds a table."""
        return (_message(uapi.NEWTABLE, table, word(uapi.TABLE_FLAGS, flags) if flags else b"", NLM_F_CREATE),)

    def delete_table(self, table: Table) -> Messages:
        """Write the message that deletes a table with all that is in it."""
        return (_message(uapi.DELTABLE, table),)

    def delete_object(self, table: Table, kind: str, called: str) -> Messages:
        """Write the message that deletes an object; `kind` as in text.py."""
        message, named, more = DELETED[kind]
        return (_message(message, table, name(named, called) + more),)

    def flush_object(self, table: Table, kind: str, called: str) -> Messages:
        """Write the message that deletes all rules of a chain, or all elements of a map or set."""
        message, named = FLUSHED[kind]
        return (_message(message, table, name(named, called)),)

    def add_chain(self, table: Table, chain: Chain) -> Messages:
        """Write the message that adds a chain."""
        if chain.hook is None:
            return self._chain(table.name, table.family, chain.name, chain.comment)
        parts = name(uapi.CHAIN_NAME, chain.name) + _hook(table, chain.hook)
        return (_message(uapi.NEWCHAIN, table, parts, NLM_F_CREATE),)

    def set_policy(self, table: Table, called: str, verdict: str) -> Messages:
        """Write the message that sets a base chain's policy."""
        policy = word(uapi.CHAIN_POLICY, uapi.POLICIES[verdict])
        return (_message(uapi.NEWCHAIN, table, name(uapi.CHAIN_NAME, called) + policy, NLM_F_CREATE),)

    def add_rules(self, table: Table, chain: Chain) -> Iterator[Messages]:
        """Write the messages that append a chain's rules, rule by rule."""
        rules = _Rules(table.name, table.family, chain)
        is_kept = self._is_keeping and all(map(_is_lasting, chain.rules[:1]))
        return iter(_rules_of(rules) if is_kept else rules.encode())

    def add_rule(self, table: Table, chain: str, rule: Rule, more: bytes = b"") -> Messages:
        """Write the messages that append a rule to the chain. `more` are instructions after the rule's own."""
        encoded = encode_rule(rule, table.family, _NUMBERS)
        sets = [message for asked in encoded.sets for message in _nameless(table, asked)]
        where = _encode_name(table.name) + name(uapi.RULE_CHAIN, chain)
        return (*sets, _rule_message(table.family, where + _body(rule, encoded.instructions + more)))

    def add_map(self, table: Table, entry: Map) -> Messages:
        """Write the message that adds a map or set."""
        noted = _set_noted(_orders(entry), entry.comment)
        parts = name(uapi.SET_NAME, entry.name) + _map_shape(entry) + word(uapi.SET_ID, next(_NUMBERS)) + noted
        return (_message(uapi.NEWSET, table, parts, NLM_F_CREATE),)

    def add_elements(self, table: Table, entry: Map) -> Iterator[Messages]:
        """Write the messages that add a map's elements."""
        return _by_line(uapi.NEWSETELEM, table, name(uapi.ELEMENTS_SET, entry.name), map_elements(entry))

    def delete_elements(
        self, table: Table, called: str, key_type: KeyType, keys: Iterable[MapKey]
    ) -> Iterator[Messages]:
        """Write the messages that delete elements by their keys."""
        parts = [delete_element(key_type, key) for key in keys]
        return _by_line(uapi.DELSETELEM, table, name(uapi.ELEMENTS_SET, called), parts)

    def add_counter(self, table: Table, counter: Counter) -> Messages:
        """Write the message that adds a counter."""
        return self._counter(table.name, table.family, counter)

    def add_timeout(self, table: Table, timeout: Timeout) -> Messages:
        """Write the message that adds a timeout. States that it doesn't name keep the namespace's timeouts."""
        states = [word(STATES[timeout.protocol][state], seconds) for state, seconds in timeout.policy]
        network = attribute(uapi.TIMEOUT_FAMILY, wire.U16.pack(NETWORKS[timeout.family]))
        protocol = attribute(uapi.TIMEOUT_PROTOCOL, bytes([PROTOCOLS[timeout.protocol]]))
        data = nest(uapi.OBJ_DATA, [protocol, network, nest(uapi.TIMEOUT_STATES, states)])
        parts = name(uapi.OBJ_NAME, timeout.name) + word(uapi.OBJ_TYPE, uapi.OBJ_TIMEOUT) + data
        return (_message(uapi.NEWOBJ, table, parts, NLM_F_CREATE),)

    def delete_others(self, table: Table) -> Messages:  # noqa: ARG002
        """Write nothing: kernel.py lists what the table holds, and writes these messages."""
        return ()


def _rule_message(family: str, attributes: bytes) -> BatchMessage:
    return BatchMessage(_NEW_RULE, uapi.FAMILIES[family], attributes, NLM_F_CREATE | NLM_F_APPEND)


def _body(rule: Rule, instructions: bytes) -> bytes:
    """Return all of the rule's message but which chain it is in."""
    return nest(uapi.RULE_EXPRESSIONS, (instructions,)) + _encode_note(uapi.RULE_USERDATA, COMMENT, rule.comment)


# These are encoded once: namespaces whose ENIs have equal groups have mostly equal chains and counters.


@dataclass
class _KeptChains:
    """Counts the chains that are kept encoded."""

    count: int = 0
    """How many there were after the last apply."""
    most_new: int = 0
    """How many came by one apply, at most."""

    def trim(self) -> None:
        """Forget all, once there are twice as many as one apply makes."""
        count = _rules_of.cache_info().currsize
        self.most_new = max(self.most_new, count - self.count)
        if count > 2 * self.most_new:
            for kept in (_chain_of, _counter_of, _rules_of):
                kept.cache_clear()
            _BODIES.clear()
            count = 0
        self.count = count


_KEPT = _KeptChains()


def trim_encoded() -> None:
    """Forget what was encoded, if most of it must be of former policies. Call it after an apply of all namespaces.

    All namespaces can be written anew from what is left. Without it, an agent kept 50 MB of former policies.
    """
    _KEPT.trim()


@lru_cache(maxsize=1 << 14)
def _chain_of(table: str, family: str, called: str, comment: str) -> Messages:
    parts = name(uapi.CHAIN_NAME, called) + _encode_note(uapi.CHAIN_USERDATA, COMMENT, comment)
    return (_message(uapi.NEWCHAIN, Table(table, family=family), parts, NLM_F_CREATE),)


@lru_cache(maxsize=1 << 14)
def _counter_of(table: str, family: str, counter: Counter) -> Messages:
    data = word(uapi.OBJ_TYPE, uapi.OBJ_COUNTER) + nest(uapi.OBJ_DATA, ())
    noted = _encode_note(uapi.OBJ_USERDATA, COMMENT, counter.comment)
    parts = name(uapi.OBJ_NAME, counter.name) + data + noted
    return (_message(uapi.NEWOBJ, Table(table, family=family), parts, NLM_F_CREATE),)


@dataclass(frozen=True, slots=True)
class _Rules:
    """All rules of a chain, as they are added to a table.

    Its hash is that of the chain's name if the chain is named by its content. Other chains may have one name in all
    namespaces, so for them the rules count, too.
    """

    table: str
    family: str
    chain: Chain

    def __hash__(self) -> int:
        return hash((self.family, self.chain.name, () if self.chain.texts else self.chain.rules))

    def encode(self) -> tuple[Messages, ...]:
        """Return the messages of each rule."""
        table = Table(self.table, family=self.family)
        where = _encode_name(self.table) + name(uapi.RULE_CHAIN, self.chain.name)
        return tuple(_BODIES.messages(table, where, entry) for entry in self.chain.rules)


@lru_cache(maxsize=1 << 12)
def _rules_of(rules: _Rules) -> tuple[Messages, ...]:
    return rules.encode()


def _is_lasting(rule: Rule) -> bool:
    """Return whether the rule may come again. One that writes an epoch is another one each time."""
    return not isinstance(rule.statements[0], SetMark)


class _Bodies:
    """Keeps up to `most` rules that need no sets, by identity: chains of one table have many rules in common.

    A rule with sets is encoded each time, since no other rule of a batch may find them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[tuple[int, str], tuple[Rule, bytes]] = {}  # the rule is kept, so that its id() stays its own

    def clear(self) -> None:
        """Keep none."""
        self._known.clear()

    def messages(self, table: Table, where: bytes, rule: Rule) -> Messages:
        """Return the messages that append a rule. `where` has the names of table and chain, encoded."""
        key = id(rule), table.family
        found = self._known.get(key)
        if found is not None:
            return (_rule_message(table.family, where + found[1]),)
        encoded = encode_rule(rule, table.family, _NUMBERS)
        body = _body(rule, encoded.instructions)
        if not encoded.sets and _is_lasting(rule):
            if len(self._known) == self._most:
                self.clear()
            self._known[key] = rule, body
        sets = (message for asked in encoded.sets for message in _nameless(table, asked))
        return (*sets, _rule_message(table.family, where + body))


_BODIES = _Bodies(1 << 14)


def _message(kind: int, table: Table, parts: bytes = b"", flags: int = 0) -> BatchMessage:
    return BatchMessage(uapi.kind_of(kind), uapi.FAMILIES[table.family], _encode_name(table.name) + parts, flags)


@lru_cache(maxsize=64)
def _encode_name(table: str) -> bytes:
    return name(uapi.TABLE_NAME, table)


def _hook(table: Table, hook: Hook) -> bytes:
    number = uapi.HOOKS[uapi.FAMILIES[table.family]].index(hook.name)
    device = text(uapi.HOOK_DEVICE, names.check_interface(hook.device)) if hook.device else b""
    where = word(uapi.HOOK_NUMBER, number) + attribute(uapi.HOOK_PRIORITY, struct.pack("!i", hook.priority)) + device
    return nest(uapi.CHAIN_HOOK, [where]) + text(uapi.CHAIN_TYPE, "filter")


def _encode_note(kind: int, number: int, comment: str) -> bytes:
    return attribute(kind, _note(number, names.comment(comment).encode() + b"\0")) if comment else b""


def _note(number: int, data: bytes) -> bytes:
    return bytes([number, len(data)]) + data


# sets, maps and their elements


def _shape(flags: int, key: tuple[int, int], data: tuple[int, int] | None) -> bytes:
    """Return the attributes that say what a set is. `key` and `data` are type and length."""
    parts = word(uapi.SET_FLAGS, flags) + word(uapi.SET_KEY_TYPE, key[0]) + word(uapi.SET_KEY_LENGTH, key[1])
    return parts if data is None else parts + word(uapi.SET_DATA_TYPE, data[0]) + word(uapi.SET_DATA_LENGTH, data[1])


def _map_shape(entry: Map) -> bytes:
    """Return the attributes that say what a named map or set is."""
    flags, held = uapi.SET_TIMEOUT if entry.lifetime else 0, entry.holds
    key = KINDS[entry.key_type], LONGEST[entry.key_type]
    if entry.room:
        size = nest(uapi.SET_DESCRIPTION, [word(uapi.DESCRIBED_SIZE, entry.room)])
        return _shape(flags | uapi.SET_FILLED, key, None) + size
    if is_set(entry):
        return _shape(flags, key, None)
    if held is KeyType.COUNTER:
        return _shape(flags | uapi.SET_OBJECT, key, None) + word(uapi.SET_OBJECT_KIND, uapi.OBJ_COUNTER)
    data = (KINDS[held], LONGEST[held]) if held else (uapi.TYPE_VERDICT, uapi.VERDICT_BYTES)
    return _shape(flags | uapi.SET_MAP, key, data)


def _orders(entry: Map) -> Iterator[bytes]:
    yield _note_order(KEY_ORDER, entry.key_type)
    if entry.holds in KINDS:
        yield _note_order(DATA_ORDER, entry.holds)


def _set_noted(orders: Iterable[bytes], comment: str = "") -> bytes:
    note = _note(SET_COMMENT, names.comment(comment).encode() + b"\0") if comment else b""
    return attribute(uapi.SET_USERDATA, b"".join(orders) + note)


def _note_order(what: int, key_type: KeyType) -> bytes:
    is_host = key_type in (*HOST_ORDER, KeyType.IFNAME)
    return _note(what, struct.pack("=I", HOST_ORDERED if is_host else BIG_ENDIAN))


def _nameless(table: Table, made: Nameless) -> Iterator[BatchMessage]:
    """Yield the messages that make a set without a name, and its elements."""
    shape, noted = _nameless_shape(made.asked, is_map=made.is_map, is_interval=made.is_interval)
    parts = text(uapi.SET_NAME, made.template) + shape + word(uapi.SET_ID, made.number) + noted
    yield _message(uapi.NEWSET, table, parts, NLM_F_CREATE)
    where = text(uapi.ELEMENTS_SET, made.template) + word(uapi.ELEMENTS_SET_ID, made.number)
    elements = list(spans(made) if made.is_interval else singles(made))
    yield from _of_elements(uapi.NEWSETELEM, table, where, elements)


@cache
def _nameless_shape(asked: Field, *, is_map: bool, is_interval: bool) -> tuple[bytes, bytes]:
    """Return the shape of a set without a name, and what is noted with it."""
    flags = uapi.SET_ANONYMOUS | uapi.SET_CONSTANT | (uapi.SET_INTERVAL if is_interval else 0)
    data = (uapi.TYPE_VERDICT, uapi.VERDICT_BYTES) if is_map else None
    shape = _shape(flags | (uapi.SET_MAP if is_map else 0), (_type_of(asked), size_of(asked)), data)
    return shape, _set_noted([_note_order(KEY_ORDER, asked.key_type)])


def _type_of(asked: Field) -> int:
    return OWN_TYPES.get(asked, KINDS.get(asked.key_type, INTEGER))


def _by_line(kind: int, table: Table, where: bytes, parts: list[bytes]) -> Iterator[Messages]:
    """Yield the messages in the same parts as the text's lines."""
    for start in range(0, len(parts), BATCH):
        yield tuple(_of_elements(kind, table, where, parts[start : start + BATCH]))


def _of_elements(kind: int, table: Table, where: bytes, parts: list[bytes]) -> Iterator[BatchMessage]:
    flags = NLM_F_CREATE if kind == uapi.NEWSETELEM else 0
    for start in range(0, len(parts), MESSAGE_ELEMENTS):
        some = nest(uapi.ELEMENTS, parts[start : start + MESSAGE_ELEMENTS])
        yield _message(kind, table, where + some, flags)

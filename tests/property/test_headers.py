"""Whoever reads a packet's headers finds the same behind any chain of IPv6 extension headers: what rules judge."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from sgdataplane.lab.frames import key_of_packet
from sgdataplane.lab.replay.datagrams import HeaderFields, header_fields
from sgdataplane.lab.replay.packets import Unfit, find_packet, readdress
from sgdataplane.net.headers import ETH_IPV6, ends_of, find_upper
from sgdataplane.net.values import Address
from sgdataplane.nft.tracing import Event
from sgdataplane.observe.headers import parse_headers
from sgdataplane.observe.tracepath import headers_of
from tests.support.inputs.chains import BETWEEN, IDENT, LAST, SKIPPED, TOKEN, Found, found_in, packet_of, pieces_in

RAW_IP = 101
ENDS = "2001:db8::1", "2001:db8::2"
MOST = 200
chains = st.builds(
    lambda between, last: (*between, last),
    st.lists(st.sampled_from(sorted(BETWEEN)), max_size=5),
    st.sampled_from(sorted(LAST)),
)


def key_for(found: Found) -> str | None:
    """As frames.py has it."""
    if not found.has_upper:
        return None
    if found.ports:
        source_port, port = found.ports
        return f"{found.protocol} {ENDS[0]} {source_port} > {ENDS[1]} {port}"
    if found.protocol == LAST["echo"][0]:
        return f"echo {ENDS[0]} > {ENDS[1]} {IDENT}"
    return f"{found.protocol} {ENDS[0]} > {ENDS[1]} {TOKEN}"


@settings(max_examples=MOST, deadline=None)
@given(chains)
def test_all_who_read_a_packet_find_what_rules_judge(chain: tuple[str, ...]) -> None:
    data, wanted = bytes(packet_of(chain)), found_in(chain)
    upper = find_upper(data)
    assert (upper.protocol, upper.is_here) == (wanted.protocol, wanted.has_upper)
    assert tuple(map(str, ends_of(data))) == ENDS

    logged = parse_headers(ETH_IPV6, data)
    assert logged.protocol == wanted.protocol
    assert logged.port == (wanted.ports[1] if wanted.ports else None)
    assert logged.source_port == (wanted.ports[0] if wanted.ports else None)
    assert (str(logged.source), str(logged.destination), logged.length) == (*ENDS, len(data))

    assert key_of_packet(data) == key_for(wanted)

    traced = headers_of(Event(1, "inet", "t", "c", 1, "accept", "", network=data[:40], transport=data[upper.at :]))
    if BETWEEN.get(chain[0], (-1,))[0] not in SKIPPED:
        assert (traced.protocol, traced.port) == (logged.protocol, logged.port)


@settings(max_examples=MOST, deadline=None)
@given(chains)
def test_a_replay_finds_the_same_or_says_why_not(chain: tuple[str, ...]) -> None:
    data, wanted, pieces = bytes(packet_of(chain)), found_in(chain), pieces_in(chain)
    is_nested = any(chain[at] != "atomic" for at in pieces[1:])
    if is_nested:
        with pytest.raises(Unfit, match="a fragment within a fragment"):
            find_packet(RAW_IP, data, len(data))
        return
    packet = find_packet(RAW_IP, data, len(data))
    assert (packet.protocol, packet.has_upper) == (wanted.protocol, wanted.has_upper)
    assert (packet.fragment is not None) == (bool(pieces) and chain[pieces[0]] != "atomic")
    if wanted.has_upper:
        assert header_fields(packet, packet.source, packet.target, data[packet.upper :]).ports == facts_ports(wanted)


def facts_ports(found: Found) -> tuple[int, int]:
    """A replay knows an echo by its identifier."""
    return found.ports or ((IDENT, IDENT) if found.protocol == LAST["echo"][0] else (0, 0))


@settings(max_examples=MOST, deadline=None)
@given(chains, st.booleans())
def test_so_is_what_an_icmp_error_quotes_also_cut_short(chain: tuple[str, ...], is_cut: bool) -> None:
    quoted, wanted = bytes(packet_of(chain)), found_in(chain)
    if is_cut and wanted.has_upper:
        quoted = quoted[: find_upper(quoted).at + 8]
    error = IPv6(src=ENDS[1], dst=ENDS[0]) / ICMPv6PacketTooBig() / Raw(quoted)
    told = facts_in(bytes(error)).quoted
    if not wanted.has_upper or any(chain[at] == "later-piece" for at in pieces_in(chain)):
        assert told is None
    elif all(chain[at] == "atomic" for at in pieces_in(chain)):
        assert told is not None
        assert (told.protocol, told.ports) == (wanted.protocol, facts_ports(wanted))


def facts_in(data: bytes) -> HeaderFields:
    packet = find_packet(RAW_IP, data, len(data))
    return header_fields(packet, packet.source, packet.target, data[packet.upper :])


@settings(max_examples=MOST, deadline=None)
@given(chains)
def test_a_quoted_packet_gets_other_addresses_and_the_checksum_of_these(chain: tuple[str, ...]) -> None:
    new = "2001:db8:1::1", "2001:db8:1::2"
    changed = {Address.parse(before): Address.parse(after) for before, after in zip(ENDS, new, strict=True)}
    error = bytes(IPv6(src=ENDS[1], dst=ENDS[0]) / ICMPv6PacketTooBig() / Raw(bytes(packet_of(chain))))
    packet = find_packet(RAW_IP, error, len(error))
    source, target = changed[packet.source], changed[packet.target]
    sent = readdress(packet, source, target, lambda address: changed.get(address, address), 1).data
    quoted, wanted = sent[48:], found_in(chain)
    assert quoted[8:40] == b"".join(changed[Address.parse(end)].value.to_bytes(16) for end in ENDS)
    at = find_upper(quoted).at
    if wanted.has_upper and wanted.protocol in (6, 17, 58):
        plain = LAST[chain[-1]][1]
        assert quoted[at:] == bytes(IPv6(bytes(IPv6(src=new[0], dst=new[1]) / plain)))[40:]


def test_the_chains_are_not_all_of_one_kind() -> None:
    """What the tests above would miss if scapy built it otherwise."""
    assert IPv6(bytes(packet_of(("options", "atomic", "udp"))))[UDP].dport == 53
    assert (
        IPv6(bytes(packet_of(("hop-by-hop", "routing-of-two", "long-options", "echo"))))[ICMPv6EchoRequest].id == IDENT
    )

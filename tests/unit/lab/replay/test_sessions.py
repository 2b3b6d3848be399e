"""The model of sessions that says what a replay expects: semantics.md, section 4."""

from __future__ import annotations

import pytest

from sgdataplane.lab.replay.datagrams import ACK, FIN, RST, SYN, HeaderFields
from sgdataplane.lab.replay.sessions import SessionModel, Stop
from sgdataplane.model.options import DEFAULTS
from sgdataplane.net.values import ICMP, TCP, UDP, Address, Direction
from tests.replay.generator import OPEN, SERVER, SHUT, STATE
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.scenes.labs import state_of

CLIENT = Address.parse("198.51.100.9")
US = Address.parse(SERVER)
IN = (Stop("eni-server", Direction.INGRESS, "t"),)
OUT = (Stop("eni-server", Direction.EGRESS, "t"),)


@pytest.fixture
def sessions() -> SessionModel:
    return SessionModel(state_of(STATE), DEFAULTS, 1.0)


def to_us(flags: int = 0, port: int = OPEN, protocol: int = TCP) -> HeaderFields:
    return HeaderFields(CLIENT, US, protocol, (4000, port), tcp_flags=flags)


def from_us(flags: int = 0, port: int = OPEN, protocol: int = TCP) -> HeaderFields:
    return HeaderFields(US, CLIENT, protocol, (port, 4000), tcp_flags=flags)


def passes(sessions: SessionModel, header: HeaderFields, now: float = 0.0) -> bool:
    stops = IN if header.target == US else OUT
    found = sessions.expect(header, stops, now).is_accepted
    sessions.commit(header, stops, now)
    return found


def test_both_directions_of_an_accepted_session_pass(sessions: SessionModel) -> None:
    assert [passes(sessions, header) for header in (to_us(SYN), from_us(SYN | ACK), to_us(ACK), from_us(ACK))] == [
        True
    ] * 4


def test_what_answers_a_refused_opening_is_midstream(sessions: SessionModel) -> None:
    assert not passes(sessions, to_us(SYN, SHUT))
    assert not passes(sessions, from_us(SYN | ACK, SHUT))


def test_midstream_is_judged_at_ingress_and_dropped_at_egress(sessions: SessionModel) -> None:
    assert not passes(sessions, from_us(ACK))
    assert passes(sessions, to_us(ACK))
    assert passes(sessions, from_us(ACK))


@pytest.mark.parametrize(("protocol", "idle"), [(TCP, 910), (UDP, 30)])
def test_an_idle_session_is_over(sessions: SessionModel, protocol: int, idle: int) -> None:
    """Then what the server sends is mid-stream, or opens a session of its own, as its egress is open."""
    assert passes(sessions, to_us(SYN, OPEN, protocol))
    assert passes(sessions, from_us(SYN | ACK, OPEN, protocol), 1.0)
    assert sessions.find("t", to_us(ACK, OPEN, protocol), 1.0 + idle) is not None
    assert sessions.find("t", to_us(ACK, OPEN, protocol), 1.1 + idle) is None


def test_a_closed_session_is_opened_anew_by_a_bare_syn_alone(sessions: SessionModel) -> None:
    for closing in ((to_us(RST),), (to_us(FIN | ACK), from_us(FIN | ACK))):
        for header in (to_us(SYN), from_us(SYN | ACK), *closing):
            assert passes(sessions, header)
        assert sessions.find("t", from_us(ACK), 1.0) is not None
        assert sessions.find("t", to_us(SYN), 1.0) is None
        assert sessions.find("t", from_us(ACK), 4.0) is None


def test_an_icmp_error_passes_with_the_session_it_quotes(sessions: SessionModel) -> None:
    asked = to_us(protocol=UDP)
    error = HeaderFields(US, CLIENT, ICMP, icmp_type=3, quoted=asked)
    assert not passes(sessions, error)
    assert passes(sessions, asked)
    assert passes(sessions, error)
    assert not passes(sessions, HeaderFields(US, CLIENT, ICMP, icmp_type=3, quoted=to_us(port=SHUT, protocol=UDP)))


def test_an_echo_reply_is_of_its_request_and_the_other_ends_request_is_not(sessions: SessionModel) -> None:
    request = HeaderFields(CLIENT, US, ICMP, (7, 7), icmp_type=8)
    assert passes(sessions, request)
    assert sessions.find("t", HeaderFields(US, CLIENT, ICMP, (7, 7), icmp_type=0), 0.0) is not None
    assert sessions.find("t", HeaderFields(US, CLIENT, ICMP, (7, 7), icmp_type=8), 0.0) is None


def test_what_conntrack_calls_invalid_never_passes_and_opens_nothing(sessions: SessionModel) -> None:
    invalid = frozenset({"t"})
    assert not sessions.expect(to_us(SYN), IN, 0.0, invalid).is_accepted
    sessions.commit(to_us(SYN), IN, 0.0, invalid)
    assert sessions.find("t", to_us(SYN), 0.0) is None


def test_an_icmp_error_about_a_session_of_others_does_not_pass() -> None:
    """Two ENIs of one router talk. Nobody else sends an error about that: another ENI of the router, or a host outside.
    The session's own end does."""
    group = make_group("sg-0", ["ingress all from 0.0.0.0/0"])
    enis = [make_eni(f"eni-{name}", f"10.0.0.{number}", "sg-0") for number, name in enumerate("abx", 1)]
    state, (a, b, x) = make_state([group], enis), [Address.parse(f"10.0.0.{number}") for number in (1, 2, 3)]
    names = {a: "eni-a", b: "eni-b", x: "eni-x"}
    sessions = SessionModel(state, DEFAULTS, 1.0, {"router": names.values()})

    def fate(header: HeaderFields) -> tuple[str, str]:
        ends = ((header.source, Direction.EGRESS), (header.target, Direction.INGRESS))
        stops = tuple(Stop(names[end], direction, "router") for end, direction in ends if end in names)
        found = sessions.expect(header, stops, 0.0)
        sessions.commit(header, stops, 0.0)
        return found.where, found.decision.cause

    asked = HeaderFields(a, b, UDP, (4000, OPEN))
    assert fate(asked) == ("", "inner_accept")
    errors = [HeaderFields(sender, a, ICMP, icmp_type=3, quoted=asked) for sender in (x, CLIENT, b)]
    refused = ("egress", "icmp-error-refused")
    assert [fate(error) for error in errors] == [refused, refused, ("", "inner_accept")]

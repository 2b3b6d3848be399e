"""Which ENIs are in audit mode on a host: by state, configuration and binding, and as time goes, also backwards."""

from __future__ import annotations

import pytest

from sgdataplane.attach.modes import NO_RULE, AuditRule, ModesNow
from sgdataplane.attach.registry import Binding
from sgdataplane.host.identity import Identity
from sgdataplane.model.modes import Mode, until_seconds
from sgdataplane.model.state import CloudState
from tests.support.inputs.builders import make_eni, make_group, make_state

NOON, ONE, TWO = (f"2026-12-24T{hour}:00:00Z" for hour in (12, 13, 14))
FAR = "2199-01-01T00:00:00Z"
EVERY = AuditRule(("*",))


def state_of(**untils: str | None) -> CloudState:
    """ENIs a, b and c; of these, the ones that are audited, and until when."""

    def modes(name: str) -> dict[str, object]:
        until = untils.get(name)
        return {} if until is None else {"mode": Mode.AUDIT, "audit_until": until}

    enis = [make_eni(f"eni-{name}", f"10.0.0.{number}", "sg-a", **modes(name)) for number, name in enumerate("abc", 1)]
    return make_state([make_group("sg-a")], enis)


def bound(*names: str, mode: Mode = Mode.ENFORCE) -> list[Binding]:
    return [
        Binding(f"eni-{name}", "eth0", name, f"/run/netns/{name}", Identity(1, number), mode=mode)
        for number, name in enumerate(names, 1)
    ]


def audited(state: CloudState) -> dict[str, str]:
    return {eni.network_interface_id[-1]: eni.audit_until for eni in state.audited}


def found(state: CloudState, bindings: list[Binding], rule: AuditRule = NO_RULE, now: str = NOON) -> dict[str, str]:
    return audited(ModesNow().of(state, bindings, rule, until_seconds(now)))


@pytest.mark.parametrize(
    ("patterns", "names"),
    [(("*",), "ab"), (("eni-a",), "a"), (("eni-[ab]",), "ab"), (("eni-?",), "ab"), (("eni",), ""), (("ENI-A",), "")],
)
def test_a_pattern_of_the_configuration_concerns_attached_enis_alone(patterns: tuple[str, ...], names: str) -> None:
    assert found(state_of(), bound("a", "b"), AuditRule(patterns)) == dict.fromkeys(names, "")


def test_the_configuration_ends_at_its_time() -> None:
    rule = AuditRule(("*",), ONE)
    assert found(state_of(), bound("a"), rule, NOON) == {"a": ONE}
    assert found(state_of(), bound("a"), rule, ONE) == {}


def test_a_binding_puts_its_eni_into_audit_mode_and_no_other() -> None:
    assert found(state_of(), bound("a", mode=Mode.AUDIT)) == {"a": ""}
    assert found(state_of(b=""), bound("a", "b", mode=Mode.ENFORCE)) == {"b": ""}, "it can't enforce what is audited"


def test_an_attached_eni_that_the_state_does_not_have_changes_nothing() -> None:
    state = state_of()
    assert ModesNow().of(state, bound("other", mode=Mode.AUDIT), EVERY, until_seconds(NOON)) is state


def test_a_time_of_the_state_ends_also_where_an_eni_is_not_attached() -> None:
    assert found(state_of(a=ONE, b=TWO, c=""), bound("a"), now=NOON) == {"a": ONE, "b": TWO, "c": ""}
    assert found(state_of(a=ONE, b=TWO, c=""), bound("a"), now=ONE) == {"b": TWO, "c": ""}


@pytest.mark.parametrize(
    ("state", "rule", "binding", "together"),
    [
        (ONE, TWO, Mode.ENFORCE, TWO),
        (TWO, ONE, Mode.ENFORCE, TWO),
        (ONE, "", Mode.ENFORCE, ""),
        ("", ONE, Mode.ENFORCE, ""),
        (ONE, TWO, Mode.AUDIT, ""),
    ],
)
def test_of_several_that_audit_an_eni_the_last_to_end_holds(
    state: str, rule: str, binding: Mode, together: str
) -> None:
    assert found(state_of(a=state), bound("a", mode=binding), AuditRule(("*",), rule)) == {"a": together}


def test_the_next_change_is_the_first_end_of_what_is_audited() -> None:
    modes, state = ModesNow(), state_of(a=TWO, b=ONE, c="")

    def change_after(now: str) -> float | None:
        modes.of(state, bound("a"), AuditRule(("*",), ONE), until_seconds(now))
        return modes.until

    assert change_after(NOON) == until_seconds(ONE)
    assert change_after(ONE) == until_seconds(TWO)
    assert change_after(TWO) is None
    assert change_after(NOON) is None, "it has passed already"


def test_it_is_the_same_object_as_long_as_nothing_changes() -> None:
    modes, state, bindings = ModesNow(), state_of(b=ONE), bound("a")
    first = modes.of(state, bindings, EVERY, until_seconds(NOON))
    assert modes.of(state, bindings, EVERY, until_seconds(NOON) + 1) is first
    assert modes.of(state, bindings, EVERY, until_seconds(ONE)) is not first
    assert modes.of(state_of(b=ONE), bindings, EVERY, until_seconds(ONE)) is not first
    assert modes.of(state, [], NO_RULE, until_seconds(NOON)) is not first


def test_a_state_that_already_says_what_holds_is_not_copied() -> None:
    state = state_of(a="")
    assert ModesNow().of(state, bound("a"), EVERY, until_seconds(NOON)) is state


# the clock goes back


@pytest.mark.parametrize("source", ["state", "configuration"])
def test_an_audit_that_has_ended_is_not_taken_up_by_a_clock_that_goes_back(source: str) -> None:
    state, rule = (state_of(a=ONE), NO_RULE) if source == "state" else (state_of(), AuditRule(("*",), ONE))

    def at(modes: ModesNow, now: str) -> dict[str, str]:
        return audited(modes.of(state, bound("a"), rule, until_seconds(now)))

    modes = ModesNow()
    assert at(modes, NOON) == {"a": ONE}
    assert at(modes, TWO) == {}
    assert at(modes, NOON) == {}
    assert at(ModesNow(ended=modes.ended), NOON) == {}, "nor after a restart"
    assert at(ModesNow(), NOON) == {"a": ONE}, "control: it is this clock at which it would be audited"


def test_an_earlier_end_has_passed_too_and_a_later_one_has_not() -> None:
    modes = ModesNow()
    modes.of(state_of(a=ONE), [], NO_RULE, until_seconds(ONE))
    assert audited(modes.of(state_of(a=NOON, b=ONE, c=TWO), [], NO_RULE, until_seconds(NOON) - 1)) == {"c": TWO}


def test_a_clock_that_was_far_ahead_ends_only_what_had_an_end_then() -> None:
    """What ends too early is enforced; whoever wants it audited says a later time, or none."""
    modes = ModesNow()
    modes.of(state_of(a=ONE, b=""), [], NO_RULE, until_seconds(FAR))
    assert modes.ended == ONE
    later = state_of(a=TWO, b="", c=NOON)
    assert audited(modes.of(later, [], NO_RULE, until_seconds(NOON) - 1)) == {"a": TWO, "b": ""}


def test_an_end_that_nobody_has_seen_pass_is_not_taken_for_one() -> None:
    modes = ModesNow()
    modes.of(state_of(), [], NO_RULE, until_seconds(FAR))
    assert modes.ended == ""
    assert audited(modes.of(state_of(a=ONE), [], NO_RULE, until_seconds(NOON))) == {"a": ONE}

"""enforce's order of steps and choice of epochs. The kernel is in memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.contract.stamp import STAMP_MAP, Stamp
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.enforce import Desired, Epochs, Settings
from sgdataplane.errors import KernelError, MarksError, ProofError, UnsupportedError
from sgdataplane.host.conntrack import Bound
from sgdataplane.net.values import Prefix
from sgdataplane.nft.delta import plan
from sgdataplane.nft.ir import Chain, Map, rule
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.snapshot import with_generation
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import apply, table_of
from tests.support.models.fakekernel import FakeKernel, RefusingKernel

LAST = INSTANCE.marks.last_epoch
ALL_EPOCHS, SECOND_HALF = Epochs(LAST).all, Epochs(LAST).second_half
REVOKE, KEEP, RESYNC = Settings(), Settings(on_change="keep"), Settings(resync=True)


def policy(*rules: str, **eni: object) -> Desired:
    state = make_state([make_group("sg-a", rules)], [make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-a", **eni)])
    return Desired(state, {"eni-a": "eth0"})


ONE, TWO = policy("ingress tcp 22/22 from 0.0.0.0/0"), policy("ingress tcp 23/23 from 0.0.0.0/0")


class Sessions:
    """Notes which epochs it was asked to forget, and when: before that many commits. `tries`: how often it fails."""

    def __init__(self, kernel: FakeKernel, tries: int = 0) -> None:
        self.asked: list[tuple[Collection[int], int]] = []
        self._kernel, self._tries = kernel, tries

    def forget_epochs(self, epochs: Collection[int], stamp: Stamp | None) -> bool:
        assert stamp == self._kernel.inventory(TABLE).stamp or (stamp is None and epochs == ALL_EPOCHS)
        self.asked.append((epochs, self._kernel.generation))
        self._tries -= 1
        return self._tries < 0

    def count(self) -> int:
        return 1234

    def seed(self, own: Collection[Prefix]) -> int:
        return 0 * len(own)

    def shorten(self, longest: Bound) -> int:
        return 0 * bool(longest)


def at_epoch(epoch: int, desired: Desired = ONE) -> FakeKernel:
    """A kernel that holds `desired` at that epoch."""
    kernel = FakeKernel()
    apply(kernel, Sessions(kernel), desired, None, REVOKE)
    table = table_of(desired)
    for change in plan(table, kernel.inventory(TABLE), with_epoch(table, epoch)).changes:
        kernel.run(change.switch)
    return kernel


def test_first_apply_is_the_first_epoch_and_waits_only_before_its_policy_drops() -> None:
    kernel = FakeKernel()
    report = apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    assert (report.epoch, report.swept, report.is_full_resync, kernel.settled) == (1, 2, False, 1)
    assert kernel.table(TABLE) == with_generation(table_of(ONE), kernel.generation)


@pytest.mark.parametrize("previous", [None, TWO], ids=["unknown", "known"])
def test_what_the_counters_of_removed_rules_had_counted_is_reported_once(previous: Desired | None) -> None:
    kernel = FakeKernel()
    apply(kernel, Sessions(kernel), TWO, None, REVOKE)
    two, one = ({counter.name for counter in table_of(desired).counters} for desired in (TWO, ONE))
    (removed,) = two - one
    kernel.count(TABLE, removed)
    report = apply(kernel, Sessions(kernel), ONE, previous, REVOKE)
    assert {name: counted.packets for name, counted in report.counted.items()} == {removed: 1}
    assert report.at_rest.counted == apply(kernel, Sessions(kernel), ONE, ONE, REVOKE).counted == {}


@pytest.mark.parametrize("previous", [None, ONE, TWO], ids=["unknown", "known", "wrong"])
def test_applying_twice_does_nothing(previous: Desired | None) -> None:
    kernel = FakeKernel()
    apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    before = kernel.generation, kernel.settled
    report = apply(kernel, Sessions(kernel), ONE, previous, REVOKE)
    assert (report.changed, report.epoch, (kernel.generation, kernel.settled)) == (False, 1, before)


@pytest.mark.parametrize("previous_id", ["eni-a", "eni-b"], ids=["same_eni", "another_eni_on_the_interface"])
def test_only_the_eni_that_accepted_a_session_keeps_it(previous_id: str) -> None:
    kernel = at_epoch(5)
    enis = tuple(replace(eni, network_interface_id=previous_id) for eni in ONE.state.network_interfaces)
    before = Desired(replace(ONE.state, network_interfaces=enis), {previous_id: "eth0"})
    assert apply(kernel, Sessions(kernel), TWO, before, KEEP).epoch == (5 if previous_id == "eni-a" else 6)


def test_no_session_is_kept_when_an_interface_comes_or_goes() -> None:
    kernel = at_epoch(5)
    enis = [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-b", "10.0.0.2", "sg-a")]
    more = Desired(make_state([make_group("sg-a")], enis), {"eni-a": "eth0", "eni-b": "eth1"})
    assert apply(kernel, Sessions(kernel), more, None, KEEP).epoch == 6


@pytest.mark.parametrize(
    ("settings", "desired", "epoch"),
    [
        pytest.param(REVOKE, TWO, 6, id="changed-policy"),
        pytest.param(KEEP, TWO, 5, id="changed-policy-but-keep"),
        pytest.param(REVOKE, ONE, 5, id="same-policy"),
        pytest.param(RESYNC, ONE, 5, id="same-policy-anew"),
        pytest.param(RESYNC, TWO, 6, id="changed-policy-anew"),
    ],
)
def test_epoch_moves_when_the_policy_changes_unless_kept(settings: Settings, desired: Desired, epoch: int) -> None:
    kernel = at_epoch(5)
    sessions = Sessions(kernel)
    report = apply(kernel, sessions, desired, ONE, settings)
    assert report.epoch == epoch
    assert sessions.asked == []
    assert kernel.table(TABLE).chains == with_epoch(table_of(desired), epoch).chains
    stamp = stamp_of(kernel.table(TABLE))
    is_kept = settings is KEEP
    assert stamp == Stamp(epoch, stamp_of(table_of(desired)).digest, kernel.generation, is_lenient=is_kept)


@pytest.mark.parametrize(
    ("old", "new", "forgotten"),
    [
        pytest.param(SECOND_HALF - 2, SECOND_HALF - 1, None, id="within-the-first-half"),
        pytest.param(SECOND_HALF - 1, SECOND_HALF, range(SECOND_HALF, LAST + 1), id="into-the-second-half"),
        pytest.param(LAST - 1, LAST, None, id="within-the-second-half"),
        pytest.param(LAST, 1, range(1, SECOND_HALF), id="round-to-the-first-half"),
    ],
)
def test_epochs_of_a_half_are_forgotten_before_it_is_entered(old: int, new: int, forgotten: range | None) -> None:
    kernel = at_epoch(old)
    sessions = Sessions(kernel)
    before = kernel.generation
    assert apply(kernel, sessions, TWO, ONE, REVOKE).epoch == new
    assert sessions.asked == ([(forgotten, before)] if forgotten else [])
    assert old not in (forgotten or ())


def test_change_waits_while_sessions_may_carry_its_epoch_and_then_comes() -> None:
    kernel = at_epoch(LAST)
    sessions, before = Sessions(kernel, tries=2), kernel.generation
    for _ in range(2):
        with pytest.raises(MarksError, match="1,234 sessions; the previous policy stays"):
            apply(kernel, sessions, TWO, ONE, REVOKE)
        assert kernel.generation == before
    assert apply(kernel, sessions, TWO, ONE, REVOKE).epoch == 1
    assert kernel.generation > before


def test_first_load_forgets_what_sessions_carry_from_an_earlier_life() -> None:
    kernel = FakeKernel()
    sessions, before = Sessions(kernel), kernel.generation
    report = apply(kernel, sessions, ONE, None, REVOKE)
    assert (sessions.asked, report.epoch, report.is_unsettled) == ([(ALL_EPOCHS, before)], 1, False)


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_first_load_waits_for_nothing_and_takes_another_epoch_once_that_is_clear(tries: int) -> None:
    kernel = FakeKernel()
    sessions, before = Sessions(kernel, tries), kernel.generation
    report = apply(kernel, sessions, ONE, None, REVOKE)
    others = frozenset(ALL_EPOCHS) - {1}
    assert [epochs for epochs, _ in sessions.asked] == [ALL_EPOCHS, others]
    assert sessions.asked[1][1] > before, "the policy is in force before the sessions are looked through again"
    while report.is_unsettled:
        assert (report.epoch, stamp_of(kernel.table(TABLE)).is_unsettled) == (1, True)
        held, report = kernel.generation, apply(kernel, sessions, ONE, ONE, REVOKE)
        assert (kernel.generation > held) == (not report.is_unsettled), "meanwhile nothing is written"
    assert (report.epoch, report.is_full_resync, len(sessions.asked)) == (
        2,
        False,
        max(2, 2 * tries - 1) - (tries == 3),
    )
    assert kernel.table(TABLE) == with_generation(with_epoch(table_of(ONE), 2), kernel.generation)


def test_change_of_an_unsettled_policy_comes_at_once_and_is_unsettled_too() -> None:
    kernel = FakeKernel()
    sessions = Sessions(kernel, tries=99)
    assert apply(kernel, sessions, ONE, None, KEEP).epoch == 1
    report = apply(kernel, sessions, TWO, ONE, KEEP)
    assert (report.epoch, report.is_unsettled, report.is_full_resync) == (2, True, False)
    assert sessions.asked[-2][0] == frozenset(ALL_EPOCHS) - {1}
    assert apply(kernel, Sessions(kernel), TWO, TWO, KEEP).epoch == 3


def test_repair_waits_for_nothing() -> None:
    """Others have changed the rules, when the next epoch is the first of a half."""
    kernel = at_epoch(LAST)
    for verb in (Verb.ADD, Verb.DELETE):
        kernel.run(Transaction(TABLE, (Operation(verb, Kind.CHAIN, Chain("theirs", ())),)))
    sessions = Sessions(kernel, tries=2)
    report = apply(kernel, sessions, ONE, ONE, REVOKE)
    assert (report.epoch, report.is_full_resync, report.is_unsettled) == (1, True, True)
    assert apply(kernel, Sessions(kernel), ONE, ONE, REVOKE).epoch == 2


@pytest.mark.parametrize("epoch", [0, LAST + 1])
def test_unusable_stamp_is_like_none(epoch: int) -> None:
    kernel = FakeKernel()
    apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    stamp = kernel.table(TABLE).map[STAMP_MAP]
    odd = replace(stamp, elements=((0, epoch),))
    kernel.run(
        Transaction(TABLE, (Operation(Verb.DELETE, Kind.ELEMENTS, odd), Operation(Verb.ADD, Kind.ELEMENTS, odd)))
    )
    sessions, before = Sessions(kernel), kernel.generation
    report = apply(kernel, sessions, ONE, ONE, REVOKE)
    assert (report.epoch, report.is_full_resync, report.is_unsettled) == (2, True, False)
    # after the rules until then, which marked with an unknown epoch, have gone
    (asked,) = sessions.asked
    assert asked[0] == frozenset(ALL_EPOCHS) - {1}
    assert before < asked[1] < kernel.generation


def test_somebodys_commit_makes_the_next_apply_a_refill_and_then_all_is_well() -> None:
    kernel = at_epoch(3)
    kernel.run(Transaction("other", (Operation(Verb.ADD, Kind.TABLE, kernel.table(TABLE)),)))
    assert apply(kernel, Sessions(kernel), ONE, ONE, REVOKE).is_full_resync
    assert not apply(kernel, Sessions(kernel), ONE, ONE, REVOKE).changed


@pytest.mark.parametrize("step", ["stage", "switch"])
@pytest.mark.parametrize("previous", [ONE, None], ids=["difference", "full-resync"])
def test_refused_before_it_is_in_force_leaves_everything_as_it_was(step: str, previous: Desired | None) -> None:
    kernel = RefusingKernel()
    apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    before = kernel.table(TABLE)
    kernel.refused = kernel.turn + {"stage": 1, "switch": 2}[step]
    with pytest.raises(KernelError, match="made up"):
        apply(kernel, Sessions(kernel), TWO, previous, REVOKE)
    assert kernel.table(TABLE) == before
    assert apply(kernel, Sessions(kernel), TWO, previous, REVOKE).changed
    assert kernel.table(TABLE).chains == with_epoch(table_of(TWO), 2).chains


@pytest.mark.parametrize("previous", [ONE, None], ids=["known", "unknown"])
def test_wrong_compile_is_refused_with_the_packet_and_nothing_is_changed(
    monkeypatch: pytest.MonkeyPatch, previous: Desired | None
) -> None:
    wrong, table, kernel = policy("ingress tcp 24/24 from 0.0.0.0/0"), table_of(TWO), FakeKernel()
    apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    before, generation = kernel.table(TABLE), kernel.generation
    monkeypatch.setattr("sgdataplane.enforce.proven.compile_policy", lambda *_, **__: table)
    with pytest.raises(ProofError) as caught:
        apply(kernel, Sessions(kernel), wrong, previous, REVOKE)
    assert "ingress at eth0: protocol tcp" in caught.value.difference
    assert (kernel.table(TABLE), kernel.generation) == (before, generation)
    assert apply(kernel, Sessions(kernel), wrong, previous, Settings(prove=False)).changed


@pytest.mark.parametrize("turn", [3, 4, 5], ids=["sweep", "second-stage", "second-switch"])
def test_refused_after_it_is_in_force_is_reported_and_tidied_up_later(turn: int) -> None:
    kernel = RefusingKernel()
    apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    kernel.refused = kernel.turn + turn
    report = apply(kernel, Sessions(kernel), TWO, None, REVOKE)
    assert report.leftover == "made up"
    again = apply(kernel, Sessions(kernel), TWO, None, REVOKE)
    assert (again.is_full_resync, again.leftover) == (True, "")
    expected = with_epoch(table_of(TWO), again.epoch)
    assert kernel.table(TABLE) == with_generation(expected, kernel.generation)


def test_packets_leave_before_each_switch_and_sweep_of_a_live_table() -> None:
    kernel = at_epoch(1)
    before = kernel.settled
    report = apply(kernel, Sessions(kernel), TWO, ONE, REVOKE)
    assert report.swept
    assert kernel.settled == before + 2


def test_stranger_goes_in_a_refill_and_not_before() -> None:
    kernel = at_epoch(1)
    theirs = (
        Operation(Verb.ADD, Kind.CHAIN, Chain("theirs", (rule(),))),
        Operation(Verb.ADD, Kind.MAP, Map("their-map", KeyType.IPV4, ())),
    )
    kernel.run(Transaction(TABLE, theirs))
    assert apply(kernel, Sessions(kernel), ONE, ONE, REVOKE).epoch == 2
    assert kernel.table(TABLE) == with_generation(with_epoch(table_of(ONE), 2), kernel.generation)


@pytest.mark.parametrize(("settings", "epoch"), [(REVOKE, 2), (KEEP, 1)], ids=["revoke", "keep"])
def test_sessions_that_others_may_have_let_in_meanwhile_are_judged_again(settings: Settings, epoch: int) -> None:
    """The rules of others may be gone again by now. With `keep`, these sessions stay, too."""
    kernel = at_epoch(1)
    for verb in (Verb.ADD, Verb.DELETE):
        kernel.run(Transaction(TABLE, (Operation(verb, Kind.CHAIN, Chain("theirs", ())),)))
    assert apply(kernel, Sessions(kernel), ONE, ONE, settings).epoch == epoch
    assert apply(kernel, Sessions(kernel), ONE, ONE, settings).epoch == epoch


def test_same_policy_has_the_same_digest_at_every_epoch() -> None:
    digests = {stamp_of(with_epoch(table_of(ONE), epoch)).digest for epoch in (1, 2, LAST)}
    assert len(digests) == 1


# the fence


class WithoutEgressHook(FakeKernel):
    """Refuses base chains at the netdev egress hook, as kernels before 5.16 do."""

    def check(self, transaction: Transaction, feature: str) -> None:
        if transaction.family == NETDEV:
            raise UnsupportedError("add chain netdev ...", "a kernel that has it")
        super().check(transaction, feature)


def test_kernel_that_can_not_fence_is_told_so_and_nothing_is_changed() -> None:
    kernel = WithoutEgressHook(["eth0"])
    with pytest.raises(UnsupportedError, match=r"egress hook.*Linux 5\.16.*CONFIG_NETFILTER_EGRESS"):
        apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    assert not kernel.inventory(TABLE).exists
    assert apply(kernel, Sessions(kernel), ONE, None, replace(REVOKE, fence=False)).fenced == ()


class InOrder(FakeKernel):
    """Notes the families of each commit, and each settling."""

    def __init__(self) -> None:
        super().__init__(["eth0", "eth1"])
        self.log: list[str] = []

    def run(self, *transactions: Transaction) -> None:
        super().run(*transactions)
        families = [entry.family for entry in transactions if entry.operations]
        self.log += ["+".join(families)] if families else []

    def settle(self) -> None:
        super().settle()
        self.log.append("settle")


def test_first_fence_comes_after_the_marks_and_later_ones_before() -> None:
    kernel = InOrder()
    assert apply(kernel, Sessions(kernel), ONE, None, REVOKE).fenced == ("eth0",)
    assert kernel.log == ["inet+netdev", "inet", "settle", "inet+netdev", "settle", "netdev"]
    assert kernel.inventory(TABLE).is_untouched
    kernel.log.clear()
    more = replace(ONE, interfaces={"eni-a": "eth1"})
    assert apply(kernel, Sessions(kernel), more, ONE, REVOKE).fenced == ("eth1",)
    assert kernel.log[:7] == ["netdev+inet", "settle", "netdev", "settle", "netdev+inet", "settle", "inet"]
    assert set(kernel.log[7:]) == {"settle", "inet"}
    assert kernel.inventory(TABLE).is_untouched
    kernel.log.clear()
    assert not apply(kernel, Sessions(kernel), more, None, REVOKE).changed
    assert kernel.log == []


def test_fence_that_lost_a_chain_with_its_interface_is_made_anew() -> None:
    """Some kernels remove the chain with the interface, without a commit."""
    kernel = FakeKernel(["eth0"])
    apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    held = kernel._tables[NETDEV, TABLE]
    good = kernel.table(TABLE, NETDEV).chains
    del held.chains["egress.eth0"]
    assert apply(kernel, Sessions(kernel), ONE, None, REVOKE).changed
    assert kernel.table(TABLE, NETDEV).chains == good


def test_secret_outlives_the_table_of_the_policy() -> None:
    """The fence that is there still needs it."""
    kernel = FakeKernel(["eth0"])
    apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    secret = stamp_of(kernel.table(TABLE)).secret
    kernel.run(Transaction(TABLE, (Operation(Verb.DELETE, Kind.TABLE, kernel.table(TABLE)),)))
    apply(kernel, Sessions(kernel), ONE, None, REVOKE)
    assert stamp_of(kernel.table(TABLE)).secret == stamp_of(kernel.table(TABLE, NETDEV)).secret == secret != 0

"""enforce() on the real kernel: the result is exact, others' objects stay, and so do counts and sessions."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.compile import with_epoch, with_stamp
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.contract.stamp import Stamp
from sgdataplane.contract.tables import ADOPTING, TABLE
from sgdataplane.enforce import DEFAULT_SETTINGS, ApplyReport, Desired, KernelSessions, Settings, remove
from sgdataplane.errors import KernelError
from sgdataplane.host import netns, sysctl
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address
from sgdataplane.nft.delta import plan
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Transaction
from sgdataplane.policy.resolve import interfaces_of
from tests.property.test_hard_policies import SMALL_POLICIES, WHOLE_POLICIES, small
from tests.support.inputs import gen
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import apply, enforce, table_of
from tests.support.inputs.edits import edited
from tests.support.inputs.hardpolicies import targets
from tests.support.kernel.nft import listing, nft
from tests.support.probes.flood import DenseFlood, wait_until
from tests.support.scenes.pair import HERE, Pair, Session

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).resolve().parents[2]
PLAIN = Settings(adoption_window=0)  # what the window adds goes by itself, so listings would depend on time


def policy(*rules: str, members: int = 1, enis: str = " ".join(HERE["instance"])) -> Desired:
    others = [make_eni(f"eni-{n}", str(Address(32, FIRST_MEMBER + n)), "sg-b") for n in range(members)]
    state = make_state([make_group("sg-a", rules), make_group("sg-b")], [make_eni("eni-a", enis, "sg-a"), *others])
    return Desired(state, {"eni-a": "eth0"})


FIRST_MEMBER = Address.parse("10.1.0.0").value
SSH, WEB = "ingress tcp 22/22 from sg-b", "ingress tcp 80/80 from 0.0.0.0/0"
ONE, TWO = policy(SSH, WEB), policy(WEB, "egress udp 53/53 to ::/0 drop", members=3)


def desired_of(state: CloudState) -> Desired:
    return Desired(state, interfaces_of(state, state.network_interfaces[0]))


Fresh = Callable[[Desired, Stamp], str]


def stamp_after(report: ApplyReport) -> Stamp:
    assert report.ageing is not None
    return report.ageing.stamp


@pytest.fixture
def fresh_listing(make_lab_name: Callable[[], str]) -> Iterator[Fresh]:
    """What nft lists when this policy is loaded, with the epochs of this stamp, where nothing was before."""
    name = make_lab_name()
    netns.create(name)
    kernel = NetlinkKernel(name)

    def load(desired: Desired, stamp: Stamp) -> str:
        remove(name)
        (change,) = plan(None, kernel.inventory(TABLE), with_stamp(table_of(desired), stamp)).changes
        kernel.run(change.stage)
        kernel.run(change.switch)
        kernel.run(change.sweep)
        return listing(name, TABLE)

    yield load
    kernel.close()
    netns.remove(name)


@pytest.mark.parametrize("examples", [3, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("resync", [False, True], ids=["differences", "full-resyncs"])
def test_after_any_changes_the_kernel_lists_what_a_fresh_load_would(
    namespace: str, fresh_listing: Fresh, resync: bool, examples: int
) -> None:
    full_resyncs = []

    @seed(7)
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.states(), st.integers(0, 1 << 32))
    def check(first: CloudState, other: CloudState, number: int) -> None:
        chance, previous = random.Random(number), None
        second = edited(first, chance)
        for state in (first, second, edited(second, chance), other, first):
            desired = desired_of(state)
            report = enforce(namespace, desired, previous, replace(PLAIN, resync=resync))
            full_resyncs.append(report.is_full_resync)
            assert listing(namespace, TABLE) == fresh_listing(desired, stamp_after(report))
            again = enforce(namespace, desired, None, PLAIN)
            assert (again.changed, again.epoch) == (False, report.epoch)
            previous = desired

    check()
    # between two examples the state before isn't told, so that one apply of each may be a full resync
    assert any(full_resyncs) if resync else sum(full_resyncs) <= len(full_resyncs) // 5


@pytest.mark.parametrize("settings_", [PLAIN, DEFAULT_SETTINGS], ids=["without-adoption", "with-adoption"])
def test_applying_twice_commits_nothing(namespace: str, settings_: Settings) -> None:
    enforce(namespace, ONE, settings=settings_)
    before = nft(namespace, "-a list ruleset")
    with NetlinkKernel(namespace) as kernel:
        generation = kernel.inventory(TABLE).generation
        for previous in (None, ONE, TWO):
            assert not enforce(namespace, ONE, previous, settings_).changed
        assert kernel.inventory(TABLE).generation == generation
    assert nft(namespace, "-a list ruleset").count("\n") == before.count("\n")


def test_an_eni_that_returns_gets_a_whole_adoption_window(namespace: str) -> None:
    """Its first one, of ten seconds, is still open then."""
    both = replace(ONE, interfaces={"eni-a": "eth0", "eni-0": "again"})
    short = replace(DEFAULT_SETTINGS, adoption_window=10.0)
    enforce(namespace, both, settings=short)
    with NetlinkKernel(namespace) as kernel:
        assert 0 < kernel.inventory(TABLE).expiring[ADOPTING]["again"] <= 10_000
        enforce(namespace, ONE, both, short)
        report = enforce(namespace, both, ONE, replace(short, adoption_window=3600.0))
        assert (report.adopting, report.is_full_resync) == (("again",), False)
        assert kernel.inventory(TABLE).expiring[ADOPTING]["again"] > 10_000


def test_others_tables_stay_byte_for_byte(namespace: str) -> None:
    nft(
        namespace,
        f"add table ip {TABLE}",
        f"add chain ip {TABLE} ingress {{ type filter hook prerouting priority -150; policy accept; }}",
        f"add rule ip {TABLE} ingress counter ct mark set 7 accept",
        "add table inet other",
        "add map inet other applied { type mark : mark; elements = { 0 : 9 } }",
        "add chain inet other c { type filter hook input priority 0; }",
        "add rule inet other c tcp dport { 1, 2 } counter drop",
    )
    theirs = [f"-a list table ip {TABLE}", "-a list table inet other"]
    before = [nft(namespace, command) for command in theirs]
    for desired in (ONE, TWO, ONE):
        enforce(namespace, desired, settings=PLAIN)
    enforce(namespace, TWO, ONE, replace(PLAIN, resync=True))
    assert [nft(namespace, command) for command in theirs] == before
    assert remove(namespace)
    assert [nft(namespace, command) for command in theirs] == before
    assert not remove(namespace)
    assert sorted(nft(namespace, "list tables").split("\n")) == ["", "table inet other", f"table ip {TABLE}"]


MEDDLING = [
    pytest.param("flush ruleset", id="all-flushed"),
    pytest.param(f"delete table inet {TABLE}", id="table-deleted"),
    pytest.param(f"flush table inet {TABLE}", id="all-rules-flushed"),
    pytest.param(f"flush chain inet {TABLE} ingress", id="base-chain-flushed"),
    pytest.param(f"insert rule inet {TABLE} ingress accept", id="everything-let-in"),
    pytest.param(f'delete element inet {TABLE} ingress-enis {{ "eth0" }}', id="interface-unknown"),
    pytest.param(f"flush map inet {TABLE} applied", id="stamp-flushed"),
    pytest.param(f"add element inet {TABLE} applied {{ 0x9 : 0x9 }}", id="stamp-with-more"),
    pytest.param(f"add chain inet {TABLE} ingress {{ policy accept; }}", id="policy-turned"),
    pytest.param(f"add table inet {TABLE} {{ flags dormant; }}", id="put-to-sleep"),
    pytest.param(
        f"add chain inet {TABLE} theirs {{ type filter hook output priority 5; }}\n"
        f"add rule inet {TABLE} theirs tcp dport {{ 1, 2 }} counter\n"
        f"add counter inet {TABLE} their-counter\n"
        f"add map inet {TABLE} their-map {{ type inet_service : verdict; flags interval; }}\n"
        f"add element inet {TABLE} their-map {{ 1-9 : goto theirs2 }}".replace(
            "add map", f"add chain inet {TABLE} theirs2\nadd map", 1
        ),
        id="strangers-added",
    ),
    pytest.param(
        f"flush chain inet {TABLE} ingress-gate\nflush map inet {TABLE} ingress-enis\n"
        f"delete map inet {TABLE} ingress-enis\nadd set inet {TABLE} ingress-enis {{ type ipv4_addr; }}",
        id="set-in-a-maps-place",
    ),
]


@pytest.mark.parametrize("meddling", MEDDLING)
@pytest.mark.parametrize("desired", [ONE, TWO], ids=["same-policy", "new-policy"])
def test_whatever_somebody_changed_is_put_right(
    namespace: str, fresh_listing: Fresh, meddling: str, desired: Desired
) -> None:
    enforce(namespace, ONE, settings=PLAIN)
    nft(namespace, *meddling.split("\n"))
    report = enforce(namespace, desired, ONE, PLAIN)
    assert report.changed
    assert report.leftover == ""
    assert listing(namespace, TABLE) == fresh_listing(desired, stamp_after(report))
    assert not enforce(namespace, desired, None, PLAIN).changed


@pytest.mark.parametrize("resync", [False, True], ids=["difference", "full-resync"])
def test_counts_and_their_rules_survive_changes(pair: Pair, resync: bool) -> None:
    allowed = "ingress udp 5000/5000 from 0.0.0.0/0"
    states = [policy(allowed), policy(allowed, WEB, members=2), policy(allowed, SSH, members=3)]
    previous = None
    for number, desired in enumerate(states, start=1):
        enforce(pair["instance"], desired, previous, Settings(resync=resync))
        with Session(pair, 5000) as session:
            session.must_pass()
        assert _count(pair["instance"], "ingress_udp_5000") == number
        previous = desired


def _count(namespace: str, rule: str) -> int:
    text = nft(namespace, f"list counters table inet {TABLE}")
    (block,) = (part for part in text.split("counter ") if rule in part.partition("{")[0])
    return int(block.partition("packets ")[2].split()[0])


@pytest.mark.parametrize("attempt", [0, *(pytest.param(again, marks=pytest.mark.slow) for again in (1, 2))])
def test_first_load_lets_all_or_only_the_allowed_pass(pair: Pair, tmp_path: Path, attempt: int) -> None:
    """While there is no table everything passes; when enforce() is back, only the allowed does; nothing is lost."""
    address, name = HERE["instance"][0], pair["instance"]
    flood = DenseFlood(tmp_path, pair["peer"], name, [(address, 5000)], [(address, 6000 + attempt)])
    with flood:
        wait_until(lambda: flood.denied.received > 10_000)
        enforce(name, policy("ingress udp 5000/5000 from 0.0.0.0/0"))
        at_once, sent = flood.denied.received, flood.denied.sent
        wait_until(lambda: flood.denied.sent > sent + 50_000)
        assert flood.denied.received == at_once
    assert flood.allowed.received == flood.allowed.sent


class MeddledKernel(NetlinkKernel):
    """Somebody commits between the stage and the switch."""

    meddling = ""

    def settle(self) -> None:
        super().settle()
        if self.meddling:
            nft(self.namespace, self.meddling)


@pytest.mark.parametrize("previous", [ONE, None], ids=["difference", "full-resync"])
def test_switch_that_the_kernel_refuses_leaves_no_trace(namespace: str, previous: Desired | None) -> None:
    enforce(namespace, ONE, settings=PLAIN)
    with MeddledKernel(namespace) as kernel:
        kernel.meddling = f"delete map inet {TABLE} applied"
        with pytest.raises(KernelError, match="No such file or directory") as caught:
            apply(kernel, KernelSessions(namespace, INSTANCE.marks), TWO, previous, PLAIN)
        after = listing(namespace, TABLE)
        assert " applied" in caught.value.operation
    remove(namespace)
    enforce(namespace, ONE, None, PLAIN)  # at the first epoch, as before
    nft(namespace, f"delete map inet {TABLE} applied")
    assert after == listing(namespace, TABLE)


class DyingKernel(NetlinkKernel):
    """The process ends after so many commits, and tidies nothing up."""

    left = 0

    def run(self, *transactions: Transaction) -> None:
        if not self.left:
            raise SystemExit
        super().run(*transactions)
        self.left -= 1


def die_after(namespace: str, commits: int, desired: Desired, previous: Desired | None) -> None:
    with DyingKernel(namespace) as kernel:
        kernel.left = commits
        with pytest.raises(SystemExit):
            apply(kernel, KernelSessions(namespace, INSTANCE.marks), desired, previous, PLAIN)


@pytest.mark.parametrize("commits", range(1, 8))
def test_first_load_that_is_killed_between_two_commits_judges_nothing_and_the_next_puts_it_right(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, fresh_listing: Fresh, commits: int
) -> None:
    monkeypatch.setattr("sgdataplane.nft.transaction.PART", 20)
    name, desired = pair["instance"], policy("ingress udp 5000/5000 from 0.0.0.0/0")
    with Session(pair, 5000) as allowed, Session(pair, 6000) as denied:
        die_after(name, commits, desired, None)
        assert f"table inet {TABLE}" in nft(name, "list tables")
        assert denied.passes(beside=allowed)
        report = enforce(name, desired, None, replace(PLAIN, fence=False))
        assert (report.leftover, report.is_full_resync) == ("", False)
        assert not denied.passes(beside=allowed)
    assert listing(name, TABLE) == fresh_listing(desired, stamp_after(report))


@pytest.mark.parametrize("commits", range(1, 6))
def test_change_that_is_killed_between_two_parts_leaves_the_policy_and_the_next_puts_it_right(
    monkeypatch: pytest.MonkeyPatch, namespace: str, fresh_listing: Fresh, commits: int
) -> None:
    enforce(namespace, ONE, settings=PLAIN)
    before = nft(namespace, f"list chain inet {TABLE} ingress", f"list map inet {TABLE} applied")
    monkeypatch.setattr("sgdataplane.nft.transaction.PART", 1)
    die_after(namespace, commits, TWO, ONE)
    assert nft(namespace, f"list chain inet {TABLE} ingress", f"list map inet {TABLE} applied") == before
    report = enforce(namespace, TWO, None, PLAIN)
    assert (report.leftover, report.is_full_resync) == ("", True)
    assert listing(namespace, TABLE) == fresh_listing(TWO, stamp_after(report))


def test_refused_stage_names_the_users_rule(namespace: str) -> None:
    """The counter that a staged leaf asks for is deleted by somebody just before."""
    enforce(namespace, ONE, settings=PLAIN)
    desired = policy(SSH, WEB, "ingress tcp 443/443 from 0.0.0.0/0 drop 7")
    with NetlinkKernel(namespace) as kernel:
        (change,) = plan(table_of(ONE), kernel.inventory(TABLE), with_epoch(table_of(desired), 2)).changes
        stage = change.stage
        short = replace(stage, operations=tuple(o for o in stage.operations if o.kind.value != "counter"))
        with pytest.raises(KernelError) as caught:
            kernel.run(short)
    assert "ingress_tcp_443" in caught.value.origin
    assert "priority 7 drop" in caught.value.origin


@pytest.mark.slow
def test_largest_group_loads_and_one_member_more_is_quick(namespace: str) -> None:
    """65,536 members of one advanced group's twin, a basic one: the size that the cloud allows."""
    large, larger = policy(SSH, members=65_536), policy(SSH, members=65_537)
    first = enforce(namespace, large)
    started = time.monotonic()
    with NetlinkKernel(namespace) as kernel:
        held, wanted = table_of(large), with_epoch(table_of(larger), 2)
        prepared = time.monotonic()
        (change,) = plan(held, kernel.inventory(TABLE), wanted).changes
        for step in (change.stage, change.switch, change.sweep):
            kernel.run(step)
        done = time.monotonic()
    print(f"first load {first.seconds:.1f} s, compile twice {prepared - started:.1f} s, delta {done - prepared:.3f} s")
    assert len(change.switch) < 100
    assert done - prepared < 2
    assert not enforce(namespace, larger).changed


def test_without_root_it_says_so_and_how(namespace: str) -> None:
    program = f"""
import os
from sgdataplane.errors import PrivilegeError
from tests.kernel.test_enforce import ONE
from tests.support.inputs.building import enforce
os.setuid(65534)
try:
    enforce({namespace!r}, ONE)
except PrivilegeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("not permitted: this needs CAP_")


@pytest.mark.parametrize("name", SMALL_POLICIES)
def test_kernel_takes_each_hard_policy(namespace: str, name: str) -> None:
    """It refuses chains that lead more than 16 deep, whatever packets go there."""
    state, _ = small(name)
    desired = Desired(state, interfaces_of(state, targets(state)[0]))
    assert enforce(namespace, desired, None, replace(PLAIN, prove=False)).changed


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{name}-1000-seed0" for name in ("five_tuple", "mixture", "port_lists", "fw")])
def test_kernel_takes_the_whole_quota(namespace: str, name: str) -> None:
    state = WHOLE_POLICIES[name]()
    desired = Desired(state, interfaces_of(state, targets(state)[0]))
    assert enforce(namespace, desired, None, replace(PLAIN, prove=False)).changed


def test_an_uplink_takes_more_memory_for_fragments(namespace: str) -> None:
    def find_room(*uplinks: str) -> int:
        enforce(namespace, replace(ONE, placement=Placement.HOST, uplinks=uplinks), None, PLAIN)
        with netns.inside(namespace):
            return int(sysctl.read("ipv4/ipfrag_high_thresh"))

    assert find_room() < find_room("out")

"""`python -m bench.hostcost`: what a full host costs: 1,000 ENIs in 50 combinations of groups, 65,536 addresses.

Owns the state, the changes and the measuring. It is given a number of ENIs. Must not know how a policy is compiled, nor
how the kernel is told of it.

    python -m bench.hostcost            1,000 ENIs, each in ten groups of 100 rules
    python -m bench.hostcost -n 100     a tenth of everything: ENIs, rules of each, combinations, addresses

Prints lines of JSON (costs.py), each as soon as it is known:

    compile   seconds of build() without the proof, in a process that has compiled nothing
    program   seconds of enforce(), with the fence at every host end, in a namespace without rules
    mb        the most memory of this process until then, the state included
    kernel_mb how much more memory the kernel uses than before `program`: its SUnreclaim, VmallocUsed and Percpu, which
              hold all that nftables allocates. They are the whole machine's, so nothing else should run
    prove     seconds of the proof of that table      mb_proven   as `mb`, after the proof
    rule      seconds until one rule of one combination is another, as the agent does it: build() with its proof,
              and enforce()
    member    the same for an address that joins one of the groups
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from bench.costs import begin, most_memory_mb, tell
from bench.isolation import isolate
from bench.path import add_ends
from sgdataplane.enforce import Desired, Proven, Settings, build, enforce
from sgdataplane.host import netns
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState, Eni, GroupRef, SecurityGroup
from sgdataplane.net.values import PortRange, Prefix
from tests.support.inputs.builders import make_eni
from tests.support.inputs.hardpolicies import host, targets

NAMESPACE, FAR, OWN = "host", "far", "sg-own"
CHANGES, FEWEST = 7, 50
KERNEL = ("SUnreclaim", "VmallocUsed", "Percpu")
SETTLES_S, ALIKE_MB = 10, 1.0


def base_state(enis: int) -> CloudState:
    """That of hardpolicies.host(), but the first combination has a group of its own, OWN, in the place of another one
    with the same rules. So one rule of OWN is one rule of one combination."""
    state = host(0, enis)
    combination = targets(state)[0].security_group_ids
    copied = combination[0]
    own = replace(state.group[copied], security_group_id=OWN)
    groups = sorted((*state.security_groups, own), key=lambda group: group.security_group_id)
    members = tuple(_moved(eni, combination, copied) for eni in state.network_interfaces)
    return replace(state, security_groups=tuple(groups), network_interfaces=members)


def _moved(eni: Eni, combination: tuple[str, ...], copied: str) -> Eni:
    if eni.security_group_ids != combination:
        return eni
    return replace(eni, security_group_ids=tuple(sorted(OWN if g == copied else g for g in combination)))


def with_rule(state: CloudState, turn: int) -> CloudState:
    """Another port in a rule of OWN's on a CIDR block: a port that it never had."""

    def changed(group: SecurityGroup) -> SecurityGroup:
        if group.security_group_id != OWN:
            return group
        place = next(n for n, rule in enumerate(group.rules) if rule.port_range and isinstance(rule.remote, Prefix))
        new = replace(group.rules[place], port_range=PortRange(30_000 + turn, 30_000 + turn))
        return replace(group, rules=(*group.rules[:place], new, *group.rules[place + 1 :]))

    return replace(state, security_groups=tuple(map(changed, state.security_groups)))


def with_member(state: CloudState, turn: int) -> CloudState:
    """One more ENI on another host, in the groups of one that a rule of OWN's combination is about."""
    own = next(eni for eni in targets(state) if OWN in eni.security_group_ids)
    rules = (rule for group in own.security_group_ids for rule in state.group[group].rules)
    named = {rule.remote.security_group_id for rule in rules if isinstance(rule.remote, GroupRef)}
    others = (eni for eni in reversed(state.network_interfaces) if named.intersection(eni.security_group_ids))
    groups = " ".join(next(others).security_group_ids)
    new = make_eni(f"eni-z{turn:05}", f"10.250.{turn}.9", groups)
    return replace(state, network_interfaces=(*state.network_interfaces, new))


def measure(enis: int) -> None:
    state = base_state(enis)
    interfaces = {eni.network_interface_id: f"h{number}" for number, eni in enumerate(targets(state))}
    _make_router(list(interfaces.values()))
    desired = Desired(state, interfaces, placement=Placement.HOST)
    begin("compile")
    began = time.perf_counter()
    compiled = build(desired, Settings(prove=False))
    tell(compile=time.perf_counter() - began)
    _tell_program(compiled)
    begin("prove")
    proven = build(desired, previous=compiled)
    assert proven.proof is not None
    tell(prove=proven.proof.seconds, mb_proven=most_memory_mb())
    enforce(NAMESPACE, proven, compiled)
    for turn in range(CHANGES + 1):
        for name, change in (("rule", with_rule), ("member", with_member)):
            state = change(state, turn)
            begin(name)
            took, proven = _put_in_force(replace(desired, state=state), proven)
            if turn:  # the first one finds what the load left behind
                tell(**{name: took})


def _make_router(ifnames: list[str]) -> None:
    """The namespace with these interfaces."""
    for namespace in (NAMESPACE, FAR):
        netns.create(namespace)
    add_ends(NAMESPACE, FAR, ifnames)


def _tell_program(compiled: Proven) -> None:
    before = settled_kernel_mb()
    begin("program")
    began = time.perf_counter()
    enforce(NAMESPACE, compiled)
    tell(program=time.perf_counter() - began, mb=most_memory_mb())
    tell(kernel_mb=settled_kernel_mb() - before)


def _put_in_force(desired: Desired, current: Proven) -> tuple[float, Proven]:
    began = time.perf_counter()
    proven = build(desired, previous=current)
    report = enforce(NAMESPACE, proven, current)
    took = time.perf_counter() - began
    assert report.changed
    assert not report.is_full_resync
    return took, proven


def settled_kernel_mb() -> float:
    """The kernel's own memory, once it has freed what it frees later."""
    last, now, deadline = kernel_mb() + 2 * ALIKE_MB, kernel_mb(), time.monotonic() + SETTLES_S
    while abs(last - now) > ALIKE_MB and time.monotonic() < deadline:
        time.sleep(0.3)
        last, now = now, kernel_mb()
    return now


def kernel_mb() -> float:
    """What nftables allocates is in there: small and large blocks, and a counter's part for each processor."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text("ascii").splitlines())
    return sum(int(words[1]) for words in lines if words[0].rstrip(":") in KERNEL) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostcost")
    parser.add_argument("-n", "--enis", type=int, default=1000, help=f"default 1,000, at least {FEWEST}")
    asked = parser.parse_args()
    if asked.enis < FEWEST:
        parser.error(f"at least {FEWEST}: with fewer, groups have no rules on groups")
    isolate("bench.hostcost")
    measure(asked.enis)


if __name__ == "__main__":
    main()

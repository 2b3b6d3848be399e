"""What any table must be before its packets are worth following: the kernel would refuse it otherwise.

Owns base chains, and where chains lead. Is given a table. Must not know what it is for, but for where these stand.
"""

from __future__ import annotations

from collections.abc import Iterator

from sgdataplane.compiler.site import Site
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import Table, Verdict, VerdictMap


def problem_of(table: Table, site: Site) -> str:
    """What is wrong with it, if it is to stand there; "" if nothing."""
    wanted = {side.value: site.hooks[side] for side in Direction}
    found = {chain.name: chain.hook for chain in table.chains if chain.hook is not None}
    if found != wanted:
        return f"base chains stand at {found}, not at {wanted}"
    targets = {chain.name: set(_targets(table, chain.name)) for chain in table.chains}
    missing = sorted({name for names in targets.values() for name in names} - targets.keys())
    if missing:
        return f"there is no chain {missing[0]}"
    return _circle(targets)


def _targets(table: Table, chain: str) -> Iterator[str]:
    """The chains that a chain's rules can go to. A map that isn't there leads nowhere."""
    for rule in table.chain[chain].rules:
        for statement in rule.statements:
            if isinstance(statement, Verdict):
                verdicts: Iterator[object] = iter((statement,))
            elif isinstance(statement, VerdictMap) and statement.name:
                verdicts = iter(table.elements_of(statement.name).values() if statement.name in table.map else ())
            elif isinstance(statement, VerdictMap):
                verdicts = (verdict for _, verdict in statement.entries)
            else:
                continue
            yield from {verdict.chain for verdict in verdicts if isinstance(verdict, Verdict) and verdict.chain}


def _circle(targets: dict[str, set[str]]) -> str:
    """Chains without a way into a circle are taken off, from the ends on; what is left is in one or leads to one."""
    sources: dict[str, list[str]] = {name: [] for name in targets}
    for name, others in targets.items():
        for other in others:
            sources[other].append(name)
    left = {name: len(others) for name, others in targets.items()}
    waiting = [name for name, count in left.items() if not count]
    while waiting:
        name = waiting.pop()
        del left[name]
        for source in sources[name]:
            left[source] -= 1
            if not left[source]:
                waiting.append(source)
    return f"chains go in a circle at {min(left)}" if left else ""

"""What any table must be before its packets are worth following: the kernel would refuse it otherwise.

Owns base chains, and where chains lead. Is given a table. Must not know what it is for, but for where these stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sgdataplane.compiler.site import Site
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import Table, Verdict, VerdictMap

MAX_DEPTH = 16  # NFT_JUMP_STACK_SIZE: of chains, gotos counted (nft_chain_validate)


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
    order = _order(targets)
    if len(order) < len(targets):
        return f"chains go in a circle at {min(targets.keys() - set(order))}"
    depth = _depth(targets, order)
    return f"chains lead {depth} deep, the kernel takes {MAX_DEPTH}" if depth > MAX_DEPTH else ""


def _depth(targets: dict[str, set[str]], order: Sequence[str]) -> int:
    """How many chains a packet can go through one after the other. `order`: each chain after all that it leads to."""
    found: dict[str, int] = {}
    for name in order:
        found[name] = 1 + max((found[other] for other in targets[name]), default=0)
    return max(found.values(), default=0)


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


def _order(targets: dict[str, set[str]]) -> list[str]:
    """Each chain after all that it leads to; those in a circle, or that lead to one, are left out."""
    sources: dict[str, list[str]] = {name: [] for name in targets}
    for name, others in targets.items():
        for other in others:
            sources[other].append(name)
    left = {name: len(others) for name, others in targets.items()}
    found = [name for name, count in left.items() if not count]
    for name in found:
        for source in sources[name]:
            left[source] -= 1
            if not left[source]:
                found.append(source)
    return found

"""Follows one rule from its state file to its counter: the example with which DESIGN.md begins.

Owns which rule that is, and how its steps are laid out. The product's own code takes each step, so `make docs` changes
the example when the code changes. Must not know what a table means.
"""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sgdataplane.cli.compile import HEADERS, rows_of
from sgdataplane.cli.main import main as sgdp
from sgdataplane.contract.fields import TCP_SYN, CtDirection, CtState, Field, Nfproto
from sgdataplane.enforce import Desired, Settings, build
from sgdataplane.enforce.preview import tables
from sgdataplane.net.values import TCP, Address, Direction
from sgdataplane.nft.interp import PacketOutcome, run
from sgdataplane.nft.ir import Count, Datum, Key, MapKey, Table, Verdict
from sgdataplane.nft.text import add_elements, rule_text
from sgdataplane.policy.resolve import resolve
from sgdataplane.statefile import load
from sgdataplane.terminal.output import render_table

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / "examples" / "shop.yaml"
RULE, ENI, LINK = "sgr-from-web", "eni-db1", "eth0"
SOURCE, TARGET, PORT = Address.parse("10.20.2.11"), Address.parse("10.20.3.21"), 5432
WIDTH = 118
BEGIN, END = "<!-- `make docs` writes the example. -->\n", "<!-- End of the example. -->\n"


def section() -> str:
    """Return the example as Markdown: each step, the file whose code takes it, and what comes out of it."""
    desired = Desired(load(STATE).state, {ENI: LINK})
    table = tables(build(desired, Settings()))[0]
    outcome = run(table, Direction.INGRESS.value, _opening())
    steps = (
        ("1. The state has a rule. Read by", "statefile/native.py", [_written()]),
        (
            "2. It becomes a permission, for all ENIs of that group. Made by `resolve()` in",
            "policy/resolve.py",
            _permission(desired),
        ),
        (
            (
                "3. It becomes elements of maps: the group set (a number) of an address, the rank of the strongest rule"
                " on a group set (module `group_sets`), and the leaf of a rank (`sides`). Made in"
            ),
            "compiler",
            list(_elements(table, outcome)),
        ),
        (
            (
                "4. A first packet from web1 to db1 meets base chain (`verdicts`), gate (`skeleton`), ENI (`eni`),"
                " rules (`sides`), leaf (`lower`). Its rank (`rank-`) is stronger than the default's (`rank.`). In"
            ),
            "compiler",
            textwrap.wrap(" > ".join(outcome.chains), WIDTH, break_long_words=False, break_on_hyphens=False),
        ),
        (
            (
                "5. The leaf counts the packet, and writes a code of the verdict for the base chain into the kernel's"
                " field `priority`, which is no rule's priority (`contract/priority.py`). Made by"
            ),
            "compiler/lower.py",
            _counting(table, outcome),
        ),
        (
            "6. `sgdp explain` asks `decide()`, which names the same rule. Said by",
            "analyse/explain.py",
            _explained(),
        ),
    )
    return "\n".join(_step(words, f"`sgdataplane/{place}`", lines) for words, place, lines in steps)


def _step(words: str, place: str, lines: Sequence[str]) -> str:
    told = textwrap.fill(f"{words} {place}:", WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join((told, "", "```", *lines, "```", ""))


def page(path: Path) -> str:
    """Return the page with its example made anew."""
    head, _, rest = path.read_text("utf-8").partition(BEGIN)
    return f"{head}{BEGIN}\n{section()}\n{END}{rest.partition(END)[2]}"


def _opening() -> Mapping[Field, Key]:
    return {
        Field.IIFNAME: LINK,
        Field.NFPROTO: Nfproto.IPV4,
        Field.IP_SADDR: SOURCE.value,
        Field.IP_DADDR: TARGET.value,
        Field.L4PROTO: TCP,
        Field.TH_SPORT: 40_000,
        Field.TH_DPORT: PORT,
        Field.TCP_FLAGS: TCP_SYN,
        Field.CT_STATE: CtState.NEW,
        Field.CT_DIRECTION: CtDirection.ORIGINAL,
        Field.CT_MARK: 0,
    }


def _written() -> str:
    return next(line for line in STATE.read_text("utf-8").splitlines() if RULE in line).strip()


def _permission(desired: Desired) -> list[str]:
    policy = resolve(desired.state, desired.interfaces, desired.options)
    permissions = policy.profiles[policy.enis[0].profile].permissions(Direction.INGRESS)
    of_rule = [permission for permission in permissions if permission.decision.security_group_rule_id == RULE]
    return render_table(HEADERS, rows_of(policy, of_rule)).splitlines()


def _elements(table: Table, outcome: PacketOutcome) -> Iterator[str]:
    """Yield the elements that lead from the source to the leaf: what one holds is the next one's key."""
    asked = {name for chain in outcome.chains for name in table.chain[chain].ways.maps}
    elements = {key: (each, value) for each in table.maps if each.name in asked for key, value in each.elements}
    key: MapKey | Datum = SOURCE.value
    while not isinstance(key, Verdict | Count):
        entry, value = elements[key]
        yield from add_elements(table, replace(entry, elements=((key, value),)))
        key = value


def _counting(table: Table, outcome: PacketOutcome) -> list[str]:
    (counter,) = outcome.counters
    return [
        f"{chain.name}: {rule_text(rule)}"
        for chain in map(table.chain.__getitem__, outcome.chains)
        for rule in chain.rules
        if f'"{counter}"' in rule_text(rule)
    ]


def _explained() -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        sgdp(["explain", str(STATE), "web1", "db1", f"tcp/{PORT}"])
    return said.getvalue().rpartition("\n\n")[2].splitlines()

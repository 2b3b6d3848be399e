"""Writes the pages of docs that are made from the code: `make docs`.

Owns which pages these are, and how each is laid out. Is given nothing: it reads the product's own tables, and the heads
of the decisions. Must not know what a table means. tests/unit/test_reference.py holds the pages to what is made here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sgdataplane.attach.report import OUTCOMES, EniOutcome
from sgdataplane.cli.apply import CODES
from sgdataplane.cli.main import EXIT_CODES
from sgdataplane.contract.counters import counter_name, eni_counter, name_fenced_counter
from sgdataplane.control.http.metrics import API_METRICS
from sgdataplane.control.http.metrics import PREFIX as API_PREFIX
from sgdataplane.daemon.metrics import METRICS, PREFIX
from sgdataplane.errors import SgDataplaneError
from sgdataplane.model.decision import DEFAULT, INNER_ACCEPT, RULE, Decision
from sgdataplane.model.words import CAUSES, DETAILS
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.observe.hits import FIXED
from sgdataplane.policy.findings import KINDS
from sgdataplane.relay.metrics import ABOUT, INFO, RELAY_METRICS, RELAY_PREFIX, SYNC_METRICS, SYNC_PREFIX, Told
from sgdataplane.statefile.schema import state_schema
from sgdataplane.terminal.output import EXIT_MEANINGS, Exit
from tools import apiactions, commands, schemas, worked_example
from tools.commands import table

ROOT = Path(__file__).resolve().parent.parent
MADE = "<!-- `make docs` writes this page. Don't edit it here. -->"
INGRESS, EGRESS, ACCEPT, DROP = Direction.INGRESS, Direction.EGRESS, Verdict.ACCEPT, Verdict.DROP
# Counters whose names depend on the state. Capitals stand for its names.
OF_STATES: tuple[tuple[str, str, str, str], ...] = (
    (
        counter_name(Decision(INGRESS, ACCEPT, RULE, "GROUP", "RULE")),
        "as the rule says",
        f"`{RULE}`",
        "this rule decided",
    ),
    *(
        (
            counter_name(Decision(side, ACCEPT, INNER_ACCEPT, "GROUP")),
            "accept",
            f"`{INNER_ACCEPT}`",
            "both ends are members",
        )
        for side in Direction
    ),
    *(
        (counter_name(Decision(side, verdict, DEFAULT)), verdict.value, f"`{DEFAULT}`", "no rule matched")
        for side in Direction
        for verdict in Verdict
    ),
    (eni_counter(INGRESS, "INTERFACE"), DROP.value, "any", "all packets dropped on their way to the ENI"),
    (eni_counter(EGRESS, "INTERFACE"), DROP.value, "any", "all packets dropped on their way from the ENI"),
    (
        name_fenced_counter("INTERFACE"),
        DROP.value,
        "any that begins with `fence.`",
        "all packets that the fence dropped at that interface",
    ),
)


def causes() -> str:
    fixed = (
        (f"`{counter}`", decision.verdict.value, f"`{decision.cause}`", _meaning(decision))
        for counter, decision in sorted(FIXED.items())
    )
    others = ((f"`{counter}`", *rest) for counter, *rest in OF_STATES)
    uncounted = ((f"`{cause}`", words) for cause, words in CAUSES.items() if cause not in _counted())
    return _page(
        "Causes and counters",
        "The policy counts each packet once by its cause, unless its session was accepted before. The fence counts"
        " what it drops. Words in capitals stand for the name of a group, a rule or an interface.",
        "`CLAUSES` in `model/semantics.py` has the conditions of the causes that `decide()` knows. A cause before rules"
        " is counted in the chain `HOOK-drop.CAUSE`. At an ENI, `compiler/eni.py` leads there; at"
        " an uplink of a router, `compiler/skeleton.py`; `compiler/fence.py` counts `fence.CAUSE`. What comes in by an"
        " uplink counts as egress. Each cause has a counter at both hooks, also where nothing leads to one of them.",
        table(("counter", "verdict", "cause", "means"), (*others, *fixed)),
        "## Causes without a counter of their own",
        "`discovery`, `dhcp` and `metadata` are counted together, as `always`. The others appear in comparisons of"
        " states and in replays.",
        table(("cause", "means"), uncounted),
    )


def _meaning(decision: Decision) -> str:
    if decision.cause != "spoofed":
        return CAUSES[decision.cause]
    detail = DETAILS[decision.cause, decision.direction].format(eni="the ENI", local="it", remote="it")
    at_uplink = (
        "; at an uplink: it is an address of an ENI on this host" if decision.direction is Direction.EGRESS else ""
    )
    return f"{CAUSES[decision.cause]}: {detail}{at_uplink}"


def _counted() -> set[str]:
    return {decision.cause for decision in FIXED.values()}


def metrics() -> str:
    rows = (
        (f"`{PREFIX}_{name}`", ", ".join(f"`{label}`" for label in kind.labels), _words(kind.words, kind.values))
        for name, kind in METRICS.items()
    )
    of_api = (
        (f"`{API_PREFIX}_{name}`", ", ".join(f"`{label}`" for label in labels), words)
        for name, (words, labels) in API_METRICS.items()
    )
    return _page(
        "Metrics",
        "The agent serves these to Prometheus if its configuration has `metrics`. `cycle_seconds` and"
        " `apply_seconds` are histograms. The library adds `process_...`: memory, CPU and descriptors.",
        table(("metric", "labels", "means"), rows),
        "## Of the API",
        "`sgdp api` serves these at `/metrics`. `request_seconds` is a histogram.",
        table(("metric", "labels", "means"), of_api),
        "## Of relays",
        "`sgdp relay` serves these if its configuration has `metrics`.",
        _of_hosts(RELAY_PREFIX, RELAY_METRICS),
        "## Of `sgdp sync`",
        "`sgdp sync` serves these, on each host, if its configuration has `metrics`.",
        _of_hosts(SYNC_PREFIX, SYNC_METRICS),
    )


def _of_hosts(prefix: str, metrics: Mapping[str, Told]) -> str:
    rows = [
        (f"`{prefix}_{name}`", f"`{kind.label}`" if kind.label else "", _words(kind.words, kind.values))
        for name, kind in metrics.items()
    ]
    about = (f"`{prefix}_{INFO}`", "`version`, `python`", ABOUT)
    return table(("metric", "labels", "means"), (*rows, about))


def _words(words: str, values: Iterable[str]) -> str:
    listed = ", ".join(f"`{value}`" for value in values)
    return f"{words} Values: {listed}." if listed else words


def findings() -> str:
    rows = (
        (f"`{code}`", ", ".join(severity.value for severity in kind.severities), kind.meaning, kind.advice)
        for code, kind in KINDS.items()
    )
    return _page(
        "Findings",
        "`sgdp check` reports what is odd about a state that isn't wrong.",
        table(("code", "severity", "means", "what to do"), rows),
    )


def api_catalogue() -> str:
    return _page("Catalogue of the API", *apiactions.catalogue_parts())


def exit_codes() -> str:
    raised = {code: [kind.__name__ for kind, of in EXIT_CODES if of is code] for code in Exit}
    rows = ((str(int(code)), EXIT_MEANINGS[code], ", ".join(f"`{name}`" for name in raised[code])) for code in Exit)
    base = SgDataplaneError.__name__
    return _page(
        "Exit codes",
        f"`{base}` stands for every error that no line above it names. `pydoc sgdataplane.errors` lists all errors.",
        table(("code", "means", "errors"), rows),
    )


def outcomes() -> str:
    codes = {**CODES, EniOutcome.DISTURBED: None}
    rows = (
        (f"`{each.value}`", said.why, said.passes, _status_of(each), _code(codes[each]), said.step)
        for each, said in OUTCOMES.items()
    )
    head = ("outcome", "why", "what passes", "`sgdp status`", "`sgdp apply` exits with", "what to do")
    return _page(
        "Outcomes",
        "`sgdp status` and `sgdp apply` show one of these for each attached ENI, and the metric `sgdataplane_enis`"
        " counts them. What always passes on a link (neighbour discovery, answers of the DHCP server) isn't"
        " repeated here.",
        table(head, rows),
    )


def _status_of(outcome: EniOutcome) -> str:
    return "healthy, 0" if outcome.is_fine else f"not healthy, {Exit.NO:d}"


def _code(code: Exit | None) -> str:
    return "only the agent finds it" if code is None else str(int(code))


def schema() -> str:
    return json.dumps(state_schema(), indent=2) + "\n"


def command_line() -> str:
    return _page("Commands", *commands.parts())


def json_output() -> str:
    return _page("JSON output", *schemas.output_parts())


def state() -> str:
    return _page("Keys and quotas of a state", *schemas.state_parts())


def api_actions() -> str:
    return _page("Actions of the API", *apiactions.parts())


def decisions() -> str:
    rows = map(_decision, sorted(_decisions_folder().glob("[0-9]*")))
    return _page(
        "Decisions",
        "Each page says what we chose, what else we tried or considered, and what we measured. Figures are as of"
        " the day of their commit; `netns-lab/bench/results` has the benchmark's last ones. Number 048 was never"
        " given, and 095 has become a [study](../measurements/rules-as-data.md).",
        table(("no.", "decision", "part", "date", "replaced by"), rows),
    )


def design() -> str:
    return worked_example.page(ROOT / "sgdataplane/DESIGN.md")


def _decisions_folder() -> Path:
    return ROOT / "docs" / "decisions"


def _decision(path: Path) -> tuple[str, ...]:
    """Return the index's row about a decision, by its title and the paragraph after it."""
    title, _, rest = path.read_text(encoding="utf-8").partition("\n")
    head = rest.strip().partition("\n\n")[0].replace("\n", " ")
    date = re.search(r"\d{4}-\d\d-\d\d", head)
    parts = re.search(r"Parts?: (.*?\))(?:[.,]? [A-Z(]|\.$|$)", head)
    later = re.search(r"Replaced by \[(\d+)\]\((.*?)\)", head)
    return (
        path.name[:3],
        f"[{title.removeprefix(f'# {path.name[:3]} ')}]({path.name})",
        parts[1] if parts else "",
        date[0] if date else "",
        f"[{later[1]}]({later[2]})" if later else "",
    )


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", MADE, *parts)) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "docs/reference/causes.md": causes,
    "docs/reference/metrics.md": metrics,
    "docs/reference/findings.md": findings,
    "docs/reference/exit-codes.md": exit_codes,
    "docs/reference/outcomes.md": outcomes,
    "docs/reference/commands.md": command_line,
    "docs/reference/json.md": json_output,
    "docs/reference/state.md": state,
    "docs/reference/api-actions.md": api_actions,
    "docs/reference/api-catalogue.md": api_catalogue,
    "docs/decisions/README.md": decisions,
    "sgdataplane/DESIGN.md": design,
    "sgdataplane/schemas/state.schema.json": schema,
}


def main() -> None:
    for name, made in PAGES.items():
        (ROOT / name).write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()

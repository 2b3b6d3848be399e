"""`sgdp apply`: attached ENIs obey a state, once.

Owns the arguments, the wording, and the JSON keys (sgdataplane/schemas/apply.schema.json). Must not know how a policy
is put in force.

    enis        of each attached ENI: the keys of cli/attach.py; outcome: "in force" | "closed" | "absent" | "refused" |
                "gone" | "stopped" | "misaddressed", explained in docs/reference/outcomes.md; router: the namespace that
                has its host end, null in instance placement; error: why it could not be done, or null; changed; and
                its own warnings
    warnings    foreign objects that carry sessions past the policy, by namespace; names of namespaces that now lead
                elsewhere, and aren't followed
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from sgdataplane.attach.names import WorkloadNames
from sgdataplane.attach.reconcile import reconcile
from sgdataplane.attach.registry import Registry
from sgdataplane.attach.report import OUTCOMES, EniOutcome, HostReport, Manner
from sgdataplane.cli.applying import Before, WayBack, find_applied_policies, require_way_back, say_change
from sgdataplane.cli.attach import add_verb, binding_as_json, config_or_default, registry_of
from sgdataplane.cli.times import read_span
from sgdataplane.enforce import Settings
from sgdataplane.errors import ContainedError
from sgdataplane.history.span import SPAN_WORDS
from sgdataplane.host.timeouts import describe_unknown_timeouts
from sgdataplane.model.choices import CHOICES
from sgdataplane.model.state import CloudState
from sgdataplane.observe.capacity import read_warnings
from sgdataplane.terminal.arguments import Verbs, choices_of, load_state, uplinks_of
from sgdataplane.terminal.output import Exit, complain, log_shown, paint, print_json, render_table, say, say_block, warn

HEADERS = ("ENI", "INTERFACE", "ENFORCED AT", "OUTCOME")
COLOURS = {"in force": "green", "closed": "yellow", "absent": "yellow", "gone": "red", "refused": "red"} | {
    "stopped": "green",
    "auditing": "yellow",
    "misaddressed": "yellow",
}
# `make docs` writes docs/reference/outcomes.md from this, too. Only the agent finds an ENI disturbed.
CODES = {
    EniOutcome.IN_FORCE: Exit.DONE,
    EniOutcome.AUDITING: Exit.DONE,
    EniOutcome.CLOSED: Exit.NO,
    EniOutcome.ABSENT: Exit.NO,
    EniOutcome.GONE: Exit.NO,
    EniOutcome.REFUSED: Exit.KERNEL,
    EniOutcome.STOPPED: Exit.DONE,
    EniOutcome.MISADDRESSED: Exit.NO,
}


def register(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "apply", run_apply, "Returns when it is in force; `sgdp agent` keeps it so.")
    parser.add_state()
    before = parser.add_mutually_exclusive_group()
    about = "only say which traffic changes its verdict, which live sessions would end, and what it costs"
    before.add_argument("--dry-run", action="store_true", help=about)
    before.add_argument("--diff", action="store_true", help="print that first, then apply")
    about = f"return to the previous policy unless you confirm within this time: {SPAN_WORDS} (at most 1d)"
    parser.add_argument("--confirm", type=read_span("1d"), metavar="TIME", help=about)
    parser.add_config()
    parser.add_uplinks()
    parser.add_choices(CHOICES)


def run_apply(arguments: argparse.Namespace) -> int:
    """Reconcile once.

    Exit 3 if the kernel refused anywhere, 1 if an ENI's policy isn't in force where it is bound.
    """
    if arguments.json and (arguments.dry_run or arguments.diff or arguments.confirm):
        arguments.parser.error("--json prints what apply did, so it takes no --dry-run, --diff or --confirm")
    choices, uplinks = choices_of(arguments), uplinks_of(arguments)
    registry = registry_of(arguments)
    manner = Manner(choices.options, Settings(on_change=choices.on_change), choices.placement, uplinks)
    state, past = load_state(arguments.state, choices.profile).state, find_applied_policies(registry)
    if arguments.dry_run or arguments.diff:
        say_change(Before.of(past), state, registry.load(), manner)
    if arguments.dry_run:
        return Exit.DONE
    apply = partial(_apply, arguments, registry, state, manner)
    code = apply() if arguments.confirm is None else _apply_if_confirmed(arguments, registry, manner, apply)
    if arguments.confirm is None or code == Exit.DONE:
        past.note(state, str(arguments.state), "")
    return code


def _apply_if_confirmed(
    arguments: argparse.Namespace, registry: Registry, manner: Manner, apply: Callable[[], int]
) -> int:
    """Apply, and go back unless all of it is in force and the user keeps it."""
    before = Before.of(find_applied_policies(registry))
    require_way_back(before, config_or_default(arguments))
    way_back = WayBack(lambda: not _is_refused(reconcile(registry, before.state, manner)), arguments.confirm)
    code = apply()
    way_back.report_applied()
    if code == Exit.DONE and way_back.ask():
        way_back.keep()
        say("kept")
        return code
    if not way_back.go_back():
        complain(f"{before.name} could not be put in force again: run `sgdp apply` with a state that is right")
        return Exit.KERNEL
    say(f"not kept: {before.name}, is in force again")
    return code or Exit.NO


def _is_refused(report: HostReport) -> bool:
    """Return whether the kernel refused the policy of an ENI."""
    return any(eni.outcome is EniOutcome.REFUSED for eni in report.everywhere)


def _apply(arguments: argparse.Namespace, registry: Registry, state: CloudState, manner: Manner) -> int:
    """Reconcile, print what came of it, and return the exit code."""
    with log_shown():
        report = reconcile(registry, state, manner)
    unrecorded = (report.unrecorded,) if report.unrecorded else ()
    told = map(str, (*report.refusals, *report.tampering, *report.warnings, *unrecorded))
    warnings = (*told, *read_warnings())
    names = WorkloadNames.of(eni.binding for eni in report.everywhere)
    if arguments.json:
        more = {"unknown_timeouts": report.unknown_timeouts, "warnings": warnings}
        print_json({"enis": [*map(names.add_to, _enis_as_json(report))], **more})
    else:
        _complain(report, warnings, names)
        _print_report(registry, report, names)
    if any(isinstance(namespace.error, ContainedError) for namespace in report.namespaces):
        return Exit.INTERNAL
    if report.unrecorded or _is_refused(report):
        return Exit.KERNEL
    return max((CODES[eni.outcome] for eni in report.enis), default=Exit.DONE) or (Exit.NO if report.refusals else 0)


def _print_report(registry: Registry, report: HostReport, names: WorkloadNames) -> None:
    """Print a row for each ENI, and what its outcome means if the policy isn't in force."""
    if not report.enis:
        say(f"no ENI is attached (in {registry.path}); run `sgdp attach` to bind an interface to one")
        return
    rows = []
    for eni in report.enis:
        outcome = paint(eni.outcome.value, COLOURS[eni.outcome.value])
        place = names.describe(eni.binding)
        enforced_at = place if eni.binding.host_end is None else eni.binding.enforced_at
        rows.append((eni.binding.eni_id, place, enforced_at, outcome))
    say_block(render_table(HEADERS, rows))
    found = {eni.outcome for eni in report.enis} - {EniOutcome.IN_FORCE}
    for each, meaning in OUTCOMES.items():
        if each in found:
            say(f"{each.value}: {meaning.why}. What passes: {meaning.passes}. Next: {meaning.step}.")


def _complain(report: HostReport, warnings: Sequence[str], names: WorkloadNames) -> None:
    """Say on stderr what isn't as it should be."""
    if report.unknown_timeouts:
        warn(describe_unknown_timeouts(report.unknown_timeouts))
    for namespace in report.namespaces:
        if namespace.error is not None:
            complain(f"{names.place(namespace.named)}: {namespace.error}")
        for refusal in (eni.refusal for eni in namespace.enis if eni.refusal is not None):
            complain(refusal)
        for ifname in namespace.unbound:
            warn(f"{ifname} of {names.place(namespace.named)}: no ENI is bound to it, so it passes nothing")
    for line in warnings:
        warn(line)
    for eni in report.enis:
        for line in eni.warnings:
            warn(f"{names.describe(eni.binding)}: {line}")


def _enis_as_json(report: HostReport) -> list[dict[str, object]]:
    return [
        {
            **binding_as_json(eni.binding),
            "outcome": eni.outcome.value,
            "router": None if eni.binding.host_end is None else eni.binding.host_end.router,
            "error": namespace.error_of(eni) or None,
            "changed": namespace.applied is not None and namespace.applied.changed,
            "warnings": namespace.warnings_of(eni),
        }
        for namespace in report.namespaces
        for eni in namespace.enis
        if not eni.binding.superseded
    ]

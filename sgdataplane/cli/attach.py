"""`sgdp attach`, `detach`, `apply`, `clear`: interfaces of existing workloads are bound to ENIs and obey a state.

Owns the arguments, the wording and the JSON keys. Must not know how namespaces are found or policies enforced.

`attach --json`, `detach --json` and each of `enis` in `apply --json` begin with these keys:

    eni, interface      what is bound
    namespace           as the user named it: "container web", "pid 4711", "netns /run/netns/web"
    inode               of the namespace, as in `ls -l /proc/<pid>/ns/net`

    attach              new: false if it was already bound so; warnings
    detach              host_end: where the host end of the link is, if it could not go home; else null
                        rules: "removed" | "kept" (other ENIs are bound in that namespace) | "gone" (it has ended)
    apply               outcome: "in force" | "closed" | "absent" | "refused" | "gone" | "stopped" |
                        "misaddressed", explained in
                        docs/reference/outcomes.md; router: the namespace that has its host end, null in instance
                        placement; error: why it could not be done, or null; changed; warnings
                        beside `enis`, warnings: who carries sessions past the policy, by namespace; names of
                        namespaces that now lead elsewhere, and aren't followed
    clear               {"enis": how many were detached, "left": what of ours stays, in words, "refused": ENI -> why it
                        is still attached}
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from sgdataplane.attach.manage import AttachRequest, Detached, attach, clear, detach
from sgdataplane.attach.reconcile import reconcile
from sgdataplane.attach.registry import ATTACHED_DIR, Binding, Registry
from sgdataplane.attach.report import OUTCOMES, EniOutcome, HostReport, Manner
from sgdataplane.attach.workload import Naming, Workload
from sgdataplane.cli.scopes import agent_config
from sgdataplane.daemon.config import Config
from sgdataplane.daemon.lookup import attached_eni, meant
from sgdataplane.enforce import Settings
from sgdataplane.errors import ConfigError, ContainedError
from sgdataplane.host.timeouts import complaint
from sgdataplane.model.choices import CHOICES
from sgdataplane.model.modes import Mode
from sgdataplane.model.naming import eni_of
from sgdataplane.model.words import counted
from sgdataplane.observe.capacity import read_complaints
from sgdataplane.terminal.arguments import (
    ENI_HELP,
    Parser,
    Run,
    Verbs,
    choices_of,
    load_state,
    require_root,
    uplinks_of,
)
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
    """Adds the four verbs."""
    _add_attach(verbs)
    _add_eni(_add(verbs, "detach", run_detach))
    parser = _add(verbs, "apply", run_apply, "Returns when it is in force; `sgdp agent` keeps it so.")
    parser.add_state()
    parser.add_uplinks()
    parser.add_choices(CHOICES)
    _add(verbs, "clear", run_clear)


def _add_attach(verbs: Verbs) -> None:
    more = "The interface is enforced from the next `sgdp apply` on, or at once if the agent runs."
    parser = _add(verbs, "attach", run_attach, more)
    _add_eni(parser)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--netns", metavar="PATH", help="its network namespace: a path, or a name of `ip netns`")
    where.add_argument("--pid", type=_pid, metavar="PID", help="or a process in that namespace")
    where.add_argument("--container", metavar="NAME", help="or a running container of podman or docker, by name or id")
    parser.add_argument("--ifname", required=True, metavar="IF", help="the interface's name in that namespace")
    parser.add_state("--state", "check that this state has the ENI, and the interface has its MAC")
    parser.add_argument("--set-mac", action="store_true", help="give the interface the MAC that the ENI has in STATE")
    more = "audit lets pass what its rules refuse, counted and logged (default: enforce, unless the state says audit)"
    parser.add_argument("--mode", choices=[mode.value for mode in Mode], default=Mode.ENFORCE.value, help=more)
    parser.add_choices(("profile",))


def _add_eni(parser: Parser) -> None:
    parser.add_argument("--eni", required=True, metavar="ENI", help=ENI_HELP)
    words = "the agent's configuration, which says where names of ENIs come from (default: /etc/sgdataplane/agent.toml)"
    parser.add_config(words)


def _add(verbs: Verbs, verb: str, run: Run, *more: str) -> Parser:
    parser = verbs.add(verb, run, *more, "Needs root.")
    parser.add_json(f"sgdataplane/schemas/{verb}.schema.json")
    parser.add_bindings()
    return parser


def _pid(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a process id")
    return int(text)


def _registry(arguments: argparse.Namespace) -> Registry:
    require_root(arguments.verb)
    return Registry(arguments.bindings or ATTACHED_DIR)


def run_attach(arguments: argparse.Namespace) -> int:
    """Binds the interface."""
    if arguments.set_mac and arguments.state is None:
        arguments.parser.error("--set-mac needs --state, which says what MAC the ENI has")
    registry = _registry(arguments)
    profile = choices_of(arguments).profile
    state = None if arguments.state is None else load_state(arguments.state, profile).state
    workload = _workload(arguments)
    if state is not None:
        eni, doubts = eni_of(state, arguments.eni), tuple[str, ...]()
    else:
        eni, doubts = meant(arguments.eni, registry, lambda: _config(arguments))
    asked = AttachRequest(eni, workload, arguments.ifname, state, arguments.set_mac, mode=Mode(arguments.mode))
    done = attach(registry, asked)
    warnings = (*doubts, *done.warnings)
    if arguments.json:
        print_json({**_as_json(done.binding), "new": done.is_new, "warnings": warnings})
        return Exit.DONE
    for line in warnings:
        warn(line)
    say(f"{done.binding.eni_id}: {'bound' if done.is_new else 'already bound'} to {done.binding}")
    if done.is_new:
        say("Not enforced yet: `sgdp apply STATE` does that, or the agent, if it runs.")
    return Exit.DONE


def _enis(registry: Registry) -> frozenset[str]:
    return frozenset(binding.eni_id for binding in registry.load())


def _config(arguments: argparse.Namespace) -> Config:
    """The agent's configuration. A bad one that wasn't named with --config keeps nobody from attaching or detaching."""
    try:
        return agent_config(arguments)
    except ConfigError:
        if arguments.config is not None:
            raise
        return Config()


def _workload(arguments: argparse.Namespace) -> Workload:
    return next(
        Workload(naming, str(value)) for naming in Naming if (value := getattr(arguments, naming.value)) is not None
    )


def run_detach(arguments: argparse.Namespace) -> int:
    """Unbinds the interface, and says what remains."""
    registry = _registry(arguments)
    done = detach(registry, attached_eni(_config(arguments), arguments.eni, _enis(registry)))
    rules = "gone" if done.is_gone else "kept" if done.others else "removed"
    if arguments.json:
        print_json({**_as_json(done.binding), "rules": rules, "host_end": done.end_at or None})
        return Exit.DONE
    if done.left:
        warn(done.left)
    if done.binding.means.is_label and not done.is_gone:
        word = done.binding.means.value
        warn(f"an agent that binds by {word} will bind it again if {done.binding} still has the ENI's {word}")
    say(f"{done.binding.eni_id}: no longer bound to {done.binding}; {_consequence(done, rules)}")
    return Exit.DONE


def _consequence(done: Detached, rules: str) -> str:
    if rules == "gone":
        return "its namespace had ended"
    if done.end_at:
        return (
            f"its host end stays, down, as {done.end_at}: its old place is gone, or has another interface of its name"
        )
    if done.binding.host_end is not None:
        return f"its host end is {done.binding.host_end.home_ifname} again, where it was before, and down"
    if rules == "kept":
        others, ifname = counted(done.others, "other ENI"), done.binding.ifname
        return f"the rules there stay, for {others}; from the next `sgdp apply` on, {ifname} passes nothing"
    return "sgdataplane's rules are removed there, so nothing is filtered any more"


def _cleared(bindings: int) -> str:
    if not bindings:
        return "nothing was attached here"
    return f"detached {counted(bindings, 'ENI')} and removed sgdataplane's rules there"


def run_apply(arguments: argparse.Namespace) -> int:
    """Reconciles once. Exit 3 if the kernel refused anywhere, 1 if an ENI's policy isn't in force where it is bound."""
    choices, uplinks = choices_of(arguments), uplinks_of(arguments)
    registry = _registry(arguments)
    manner = Manner(choices.options, Settings(on_change=choices.on_change), choices.placement, uplinks)
    with log_shown():
        report = reconcile(registry, load_state(arguments.state, choices.profile).state, manner)
    unrecorded = (report.unrecorded,) if report.unrecorded else ()
    told = map(str, (*report.refusals, *report.tampering, *report.warnings, *unrecorded))
    warnings = (*told, *read_complaints())
    if arguments.json:
        more = {"unknown_timeouts": report.unknown_timeouts, "warnings": warnings}
        print_json({"enis": _enis_as_json(report), **more})
    else:
        _print_report(registry, report, warnings)
    if any(isinstance(namespace.error, ContainedError) for namespace in report.namespaces):
        return Exit.INTERNAL
    if report.unrecorded or any(eni.outcome is EniOutcome.REFUSED for eni in report.everywhere):
        return Exit.KERNEL
    return max((CODES[eni.outcome] for eni in report.enis), default=Exit.DONE) or (Exit.NO if report.refusals else 0)


def _print_report(registry: Registry, report: HostReport, warnings: Sequence[str]) -> None:
    _complain(report, warnings)
    if not report.enis:
        say(f"no ENI is attached (by {registry.path}): `sgdp attach` binds an interface to one")
        return
    rows = []
    for eni in report.enis:
        outcome = paint(eni.outcome.value, COLOURS[eni.outcome.value])
        rows.append((eni.binding.eni_id, str(eni.binding), eni.binding.enforced_at, outcome))
    say_block(render_table(HEADERS, rows))
    found = {eni.outcome for eni in report.enis} - {EniOutcome.IN_FORCE}
    for each, meaning in OUTCOMES.items():
        if each in found:
            say(f"{each.value}: {meaning.why}. What passes: {meaning.passes}. Next: {meaning.step}.")


def _complain(report: HostReport, warnings: Sequence[str]) -> None:
    """Says on stderr what isn't as it should be."""
    if report.unknown_timeouts:
        warn(complaint(report.unknown_timeouts))
    for namespace in report.namespaces:
        if namespace.error is not None:
            complain(f"{namespace.named}: {namespace.error}")
        for refusal in (eni.refusal for eni in namespace.enis if eni.refusal is not None):
            complain(refusal)
        for ifname in namespace.unbound:
            warn(f"{ifname} of {namespace.named}: no ENI is bound to it, so it passes nothing")
    for line in warnings:
        warn(line)
    for eni in report.enis:
        for line in eni.warnings:
            warn(f"{eni.binding}: {line}")


def _enis_as_json(report: HostReport) -> list[dict[str, object]]:
    return [
        {
            **_as_json(eni.binding),
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


def _as_json(binding: Binding) -> dict[str, object]:
    return {
        "eni": binding.eni_id,
        "interface": binding.ifname,
        "namespace": binding.named,
        "inode": binding.identity.inode,
    }


def run_clear(arguments: argparse.Namespace) -> int:
    """Removes everything of ours. Exit 3 if the kernel refused some of it."""
    done = clear(_registry(arguments))
    if arguments.json:
        print_json({"enis": done.bindings, "left": done.left, "refused": dict(done.refused)})
    else:
        for eni, error in done.refused:
            complain(f"{eni} stays attached: {error}")
        for line in done.left:
            warn(line)
        if done.bindings or not done.refused:
            say(_cleared(done.bindings))
    return Exit.KERNEL if done.refused else Exit.DONE

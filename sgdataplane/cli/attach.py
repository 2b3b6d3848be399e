"""`sgdp attach`, `detach`, `apply`, `clear`: workloads that are there already, bound to ENIs, and made to obey a state.

Owns the arguments, the wording and the JSON keys. Must not know how namespaces are found or policies enforced.

`attach --json`, `detach --json` and each of `enis` in `apply --json` begin with these keys:

    eni, interface      what is bound
    namespace           as it was named: "container web", "pid 4711", "netns /run/netns/web"
    inode               of the namespace, as in `ls -l /proc/<pid>/ns/net`

    attach              new: false if it was bound so already; warnings
    detach              host_end: where it is if it could not go home, else null
                        rules: "removed" | "kept" (other ENIs are bound in that namespace) | "gone" (it has ended)
    apply               outcome: "in force" | "closed" | "absent" | "refused" | "gone", as sgdataplane.attach.report
                        says what each means; router: the namespace that has its host end, null in instance placement;
                        error: why it could not be done, or null; changed; warnings
                        beside `enis`, warnings: who carries sessions past the policy, by namespace; which names lead
                        elsewhere now, and aren't followed
    clear               {"enis": how many were detached, "left": what of ours stays, in words, "refused": by ENI, why
                        it is still attached}
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.arguments import (
    ENI_HELP,
    add_choices,
    add_state,
    add_uplinks,
    choices_of,
    eni_of,
    load_state,
    uplinks_of,
)
from sgdataplane.cli.command import Exit, Parser, Run, Subparsers, require_root
from sgdataplane.cli.output import complain, log_shown, paint, print_json, render_table, say, say_block, warn
from sgdataplane.model.choices import CHOICES

if TYPE_CHECKING:
    from sgdataplane.attach.manage import Detached
    from sgdataplane.attach.registry import Binding, Registry
    from sgdataplane.attach.report import HostReport
    from sgdataplane.attach.workload import Workload
    from sgdataplane.daemon.config import Config

HEADERS = ("ENI", "INTERFACE", "ENFORCED AT", "OUTCOME")
COLOURS = {"in force": "green", "closed": "yellow", "absent": "yellow", "gone": "red", "refused": "red"}


def register(verbs: Subparsers) -> None:
    """Add the four verbs."""
    _add_attach(verbs)
    detach = _add(verbs, "detach", run_detach, "undo `attach`; the last of a namespace takes our rules there with it")
    _add_eni(detach)
    apply = _add(verbs, "apply", run_apply, "make all attached ENIs obey a state, once; returns when they do")
    add_state(apply)
    add_uplinks(apply)
    add_choices(apply, CHOICES)
    _add(verbs, "clear", run_clear, "remove our rules from all attached namespaces, and forget what was attached")


def _add_attach(verbs: Subparsers) -> None:
    parser = _add(verbs, "attach", run_attach, "bind an existing interface, a container's for example, to an ENI")
    _add_eni(parser)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--netns", metavar="PATH", help="its network namespace, or a name as of `ip netns`")
    where.add_argument("--pid", type=_pid, metavar="PID", help="a process in it")
    where.add_argument("--container", metavar="NAME", help="a running container of podman or docker, by name or id")
    parser.add_argument("--ifname", required=True, metavar="IF", help="the interface in there")
    add_state(parser, "--state", "check the ENI and its MAC against this state")
    parser.add_argument("--set-mac", action="store_true", help="give the interface the MAC that the ENI has in STATE")
    add_choices(parser, ("profile",))


def _add_eni(parser: Parser) -> None:
    parser.add_argument("--eni", required=True, metavar="ENI", help=ENI_HELP)
    parser.add_argument("--config", type=Path, metavar="FILE", help="of the agent, which knows ENIs by their names")


def _add(verbs: Subparsers, verb: str, run: Run, words: str) -> Parser:
    parser = verbs.add_parser(verb, help=words, description=words)
    parser.add_argument("--json", action="store_true", help="for programs; the keys: pydoc sgdataplane.cli.attach")
    parser.add_argument("--bindings", type=Path, metavar="DIR", help="default: /run/sgdataplane/attached")
    parser.set_defaults(run=run, parser=parser, verb=verb)
    return parser


def _pid(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a process number")
    return int(text)


def _registry(arguments: argparse.Namespace) -> Registry:
    from sgdataplane.attach.registry import ATTACHED_DIR, Registry

    require_root(arguments.verb, "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))
    return Registry(arguments.bindings or ATTACHED_DIR)


def run_attach(arguments: argparse.Namespace) -> int:
    """Bind."""
    if arguments.set_mac and arguments.state is None:
        arguments.parser.error("--set-mac needs --state, which says what MAC the ENI has")
    registry = _registry(arguments)
    from sgdataplane.attach.manage import Request, attach

    profile = choices_of(arguments).profile
    state = None if arguments.state is None else load_state(arguments.state, profile).state
    workload = _workload(arguments)
    eni, doubts = (eni_of(state, arguments.eni), ()) if state is not None else _meant(arguments, registry)
    done = attach(registry, Request(eni, workload, arguments.ifname, state, arguments.set_mac))
    warnings = (*doubts, *done.warnings)
    if arguments.json:
        print_json({**_as_json(done.binding), "new": done.is_new, "warnings": warnings})
        return Exit.DONE
    for line in warnings:
        warn(line)
    say(f"{done.binding.eni_id}: {'bound' if done.is_new else 'already bound'} to {done.binding}")
    if done.is_new:
        say("Not enforced yet: `sgdp apply STATE` does that, or at once the agent, if it runs.")
    return Exit.DONE


def _meant(arguments: argparse.Namespace, registry: Registry) -> tuple[str, tuple[str, ...]]:
    """The ENI's id, where no state was given; a warning if nobody here knows it. An ENI may be attached before the
    state has it, and passes nothing until then; so what is no name of one is an id."""
    from sgdataplane.attach.claims import CLOUDS_OWN
    from sgdataplane.cli.named import UNKNOWN, named_here

    name = arguments.eni
    if CLOUDS_OWN.fullmatch(name):
        return name, ()
    named = named_here(_config(arguments), name, _enis(registry))
    if named.ids:
        return named.the_eni(*UNKNOWN), ()
    near = f" (near: {', '.join(named.near)})" if named.near else ""
    return name, (f"{name}: no ENI or instance that is known here{near}; it passes nothing before the state has it",)


def _enis(registry: Registry) -> frozenset[str]:
    return frozenset(binding.eni_id for binding in registry.load())


def _config(arguments: argparse.Namespace) -> Config:
    """The agent's. A bad one that nobody named keeps no ENI from being attached or detached."""
    from sgdataplane.daemon.config import CONFIG_FILE, Config, load_config
    from sgdataplane.errors import ConfigError

    if arguments.config is not None:
        return load_config(arguments.config, must_exist=True)
    try:
        return load_config(CONFIG_FILE, must_exist=False)
    except ConfigError:
        return Config()


def _workload(arguments: argparse.Namespace) -> Workload:
    from sgdataplane.attach.workload import Naming, Workload

    return next(
        Workload(naming, str(value)) for naming in Naming if (value := getattr(arguments, naming.value)) is not None
    )


def run_detach(arguments: argparse.Namespace) -> int:
    """Undo a binding, and say what that leaves."""
    registry = _registry(arguments)
    from sgdataplane.attach.manage import detach
    from sgdataplane.attach.registry import Means

    done = detach(registry, _attached(arguments, registry))
    rules = "gone" if done.is_gone else "kept" if done.others else "removed"
    if arguments.json:
        print_json({**_as_json(done.binding), "rules": rules, "host_end": done.end_at or None})
        return Exit.DONE
    if done.left:
        warn(done.left)
    if done.binding.means is not Means.ATTACH and not done.is_gone:
        word = done.binding.means.value
        warn(f"an agent that binds by {word} binds it again if {done.binding} still has the ENI's {word}")
    say(f"{done.binding.eni_id}: no longer bound to {done.binding}; {_consequence(done, rules)}")
    return Exit.DONE


def _attached(arguments: argparse.Namespace, registry: Registry) -> str:
    """The id of an ENI that is attached, or was when it was looked up."""
    from sgdataplane.cli.named import attached_eni

    return attached_eni(_config(arguments), arguments.eni, _enis(registry))


def _consequence(done: Detached, rules: str) -> str:
    if rules == "gone":
        return "its namespace had ended"
    if done.end_at:
        return f"its host end stays, down, as {done.end_at}: where it was is gone, or something else has its name there"
    if done.binding.host_end is not None:
        return f"its host end is {done.binding.host_end.home_ifname} again, where it was before, and down"
    if rules == "kept":
        others, ifname = _count(done.others, "other ENI"), done.binding.ifname
        return f"the rules there stay, for {others}; from the next `sgdp apply` on, {ifname} passes nothing"
    return "our rules are removed there, and nothing is judged any more"


def run_apply(arguments: argparse.Namespace) -> int:
    """One reconcile. Exit 3 if the kernel refused anywhere, 1 if an ENI's policy isn't in force where it is bound."""
    choices, uplinks = choices_of(arguments), uplinks_of(arguments.parser, arguments)
    registry = _registry(arguments)
    from sgdataplane.attach.reconcile import reconcile
    from sgdataplane.attach.report import Manner, Outcome
    from sgdataplane.enforce import Settings
    from sgdataplane.errors import ContainedError
    from sgdataplane.observe.capacity import read_complaints

    manner = Manner(choices.options, Settings(on_change=choices.on_change), choices.placement, uplinks)
    with log_shown():
        report = reconcile(registry, load_state(arguments.state, choices.profile).state, manner)
    warnings = (*map(str, report.refusals), *report.warnings, *read_complaints())
    if arguments.json:
        more = {"unknown_timeouts": report.unknown_timeouts, "warnings": warnings}
        print_json({"enis": _enis_as_json(report), **more})
    else:
        _print_report(report, warnings)
    outcomes = {eni.outcome for eni in report.enis}
    if any(isinstance(namespace.error, ContainedError) for namespace in report.namespaces):
        return Exit.INTERNAL
    if any(eni.outcome is Outcome.REFUSED for eni in report.everywhere):
        return Exit.KERNEL
    is_open = report.refusals or outcomes & {Outcome.CLOSED, Outcome.ABSENT, Outcome.GONE}
    return Exit.NO if is_open else Exit.DONE


def _print_report(report: HostReport, warnings: Sequence[str]) -> None:
    _complain(report, warnings)
    if not report.enis:
        say("no ENI is attached: `sgdp attach` binds an interface to one")
        return
    rows = []
    for eni in report.enis:
        outcome = paint(eni.outcome.value, COLOURS[eni.outcome.value])
        rows.append((eni.binding.eni_id, str(eni.binding), eni.binding.enforced_at, outcome))
    say_block(render_table(HEADERS, rows))
    _explain({eni.outcome.value for eni in report.enis})


def _complain(report: HostReport, warnings: Sequence[str]) -> None:
    """Everything that isn't as it should be, to standard error."""
    from sgdataplane.host.timeouts import complaint

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


def _explain(outcomes: set[str]) -> None:
    """What each outcome that isn't the wanted one means."""
    words = {
        "closed": "the state has no such ENI, so its interface passes nothing",
        "absent": "there is no such interface now; if it comes, `sgdp apply` again, which fences it",
        "refused": "what was in force there before still is, or its host end is down",
        "gone": "the namespace has ended; if its workload runs again, it is open; `sgdp attach` or `sgdp detach`",
    }
    for outcome, meaning in words.items():
        if outcome in outcomes:
            say(f"{outcome}: {meaning}")


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
    identity = binding.identity
    return {
        "eni": binding.eni_id,
        "interface": binding.ifname,
        "namespace": binding.named,
        "inode": identity.inode,
    }


def run_clear(arguments: argparse.Namespace) -> int:
    """Remove everything. Exit 3 if some of it refused."""
    registry = _registry(arguments)
    from sgdataplane.attach.manage import clear

    done = clear(registry)
    if arguments.json:
        print_json({"enis": done.bindings, "left": done.left, "refused": dict(done.refused)})
    else:
        for eni, error in done.refused:
            complain(f"{eni} stays attached: {error}")
        for line in done.left:
            warn(line)
        say(f"detached {_count(done.bindings, 'ENI')}; our rules are removed where they were attached")
    return Exit.KERNEL if done.refused else Exit.DONE


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"

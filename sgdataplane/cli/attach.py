"""`sgdp attach`, `detach`, `clear`: interfaces of existing workloads are bound to ENIs and obey a state.

Owns the arguments, the wording and the JSON keys. Must not know how namespaces are found or policies enforced.

`attach --json`, `detach --json` and each of `enis` in `apply --json` (cli/apply.py) begin with these keys:

    eni, interface      what is bound
    namespace           as the user named it: "container web", "pid 4711", "netns /run/netns/web"
    inode               of the namespace, as in `ls -l /proc/<pid>/ns/net`

    attach              new: false if it was already bound so; warnings
    detach              host_end: where the host end of the link is, if it could not go home; else null
                        rules: "removed" | "kept" (other ENIs are bound in that namespace) | "gone" (it has ended)
    clear               {"enis": how many were detached, "left": what of ours stays, in words, "refused": ENI -> why it
                        is still attached}
"""

from __future__ import annotations

import argparse
import re

from sgdataplane.attach.manage import AttachRequest, Detached, attach, clear, detach
from sgdataplane.attach.registry import ATTACHED_DIR, Binding, Registry
from sgdataplane.attach.workload import Naming, Workload
from sgdataplane.cli.scopes import agent_config
from sgdataplane.daemon import control
from sgdataplane.daemon.config import Config
from sgdataplane.daemon.lookup import find_attached_eni, resolve_eni_id
from sgdataplane.errors import ConfigError
from sgdataplane.model.modes import Mode
from sgdataplane.model.naming import eni_of
from sgdataplane.model.words import pluralize
from sgdataplane.terminal.arguments import (
    ENI_HELP,
    Parser,
    Run,
    Verbs,
    choices_of,
    load_state,
    require_root,
)
from sgdataplane.terminal.output import Exit, complain, print_json, say, warn


def register(verbs: Verbs) -> None:
    """Add the three verbs."""
    _add_attach(verbs)
    _add_eni(add_verb(verbs, "detach", run_detach))
    add_verb(verbs, "clear", run_clear)


def _add_attach(verbs: Verbs) -> None:
    more = "The interface is enforced from the next `sgdp apply` on, or at once if the agent runs."
    parser = add_verb(verbs, "attach", run_attach, more)
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


def add_verb(verbs: Verbs, verb: str, run: Run, *more: str) -> Parser:
    """Add a verb on bindings, with `--json` and `--bindings`."""
    parser = verbs.add(verb, run, *more, "Needs root.")
    parser.add_json(f"sgdataplane/schemas/{verb}.schema.json")
    parser.add_bindings()
    return parser


def _pid(text: str) -> int:
    """Return a process id as `--pid` takes it. ArgumentTypeError if it is none."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a process id")
    return int(text)


def registry_of(arguments: argparse.Namespace) -> Registry:
    """Return the bindings that a verb is about. PrivilegeError without root."""
    require_root(arguments.verb)
    return Registry(arguments.bindings or ATTACHED_DIR)


def run_attach(arguments: argparse.Namespace) -> int:
    """Bind an interface to an ENI."""
    if arguments.set_mac and arguments.state is None:
        arguments.parser.error("--set-mac needs --state, which says what MAC the ENI has")
    registry = registry_of(arguments)
    profile = choices_of(arguments).profile
    state = None if arguments.state is None else load_state(arguments.state, profile).state
    workload = _workload(arguments)
    if state is not None:
        eni, doubts = eni_of(state, arguments.eni), tuple[str, ...]()
    else:
        eni, doubts = resolve_eni_id(arguments.eni, registry, lambda: config_or_default(arguments))
    asked = AttachRequest(eni, workload, arguments.ifname, state, arguments.set_mac, mode=Mode(arguments.mode))
    done = attach(registry, asked)
    warnings = (*doubts, *done.warnings)
    if arguments.json:
        print_json({**binding_as_json(done.binding), "new": done.is_new, "warnings": warnings})
        return Exit.DONE
    for line in warnings:
        warn(line)
    mode = f", from now on in mode {done.binding.mode.value}" if done.has_other_mode else ""
    say(f"{done.binding.eni_id}: {'bound' if done.is_new else 'already bound'} to {done.binding}{mode}")
    if done.is_new:
        say(_next_step(registry, config_or_default(arguments)))
    return Exit.DONE


def _next_step(registry: Registry, config: Config) -> str:
    """Return what puts the policy in force: the agent, if it runs and follows these bindings, or the user."""
    if config.bindings == registry.folder and control.is_running(config.socket):
        return "The agent puts its policy in force now; `sgdp status` shows it."
    return "Not enforced yet. Run `sgdp apply STATE`, or start the agent."


def _enis(registry: Registry) -> frozenset[str]:
    return frozenset(binding.eni_id for binding in registry.load())


def config_or_default(arguments: argparse.Namespace) -> Config:
    """Return the agent's configuration.

    A bad one that wasn't named with --config keeps nobody from attaching or detaching.
    """
    try:
        return agent_config(arguments)
    except ConfigError:
        if arguments.config is not None:
            raise
        return Config()


def _workload(arguments: argparse.Namespace) -> Workload:
    """Return the workload that one of the options names."""
    return next(
        Workload(naming, str(value)) for naming in Naming if (value := getattr(arguments, naming.value)) is not None
    )


def run_detach(arguments: argparse.Namespace) -> int:
    """Unbind an interface, and say what remains."""
    registry = registry_of(arguments)
    done = detach(registry, find_attached_eni(config_or_default(arguments), arguments.eni, _enis(registry)))
    rules = "gone" if done.is_gone else "kept" if done.others else "removed"
    if arguments.json:
        print_json({**binding_as_json(done.binding), "rules": rules, "host_end": done.end_at or None})
        return Exit.DONE
    if done.left:
        warn(done.left)
    if done.binding.means.is_label and not done.is_gone:
        word = done.binding.means.value
        warn(f"an agent that binds by {word} will bind it again if {done.binding} still has the ENI's {word}")
    say(f"{done.binding.eni_id}: no longer bound to {done.binding}; {_consequence(done, rules)}")
    return Exit.DONE


def _consequence(done: Detached, rules: str) -> str:
    """Say what detaching has left of the host end and the rules."""
    if rules == "gone":
        return "its namespace had ended"
    if done.end_at:
        return (
            f"its host end stays, down, as {done.end_at}: its old place is gone, or has another interface of its name"
        )
    if done.binding.host_end is not None:
        return f"its host end is {done.binding.host_end.home_ifname} again, where it was before, and down"
    if rules == "kept":
        others, ifname = pluralize(done.others, "other ENI"), done.binding.ifname
        return f"the rules there stay, for {others}; from the next `sgdp apply` on, {ifname} passes nothing"
    return "sgdataplane's rules are removed there, so nothing is filtered any more"


def _describe_clearing(bindings: int) -> str:
    if not bindings:
        return "nothing was attached here"
    return f"detached {pluralize(bindings, 'ENI')} and removed sgdataplane's rules there"


def run_clear(arguments: argparse.Namespace) -> int:
    """Remove everything of sgdataplane. Exit 3 if the kernel refused some of it."""
    done = clear(registry_of(arguments))
    if arguments.json:
        print_json({"enis": done.bindings, "left": done.left, "refused": dict(done.refused)})
    else:
        for eni, error in done.refused:
            complain(f"{eni} stays attached: {error}")
        for line in done.left:
            warn(line)
        if done.bindings or not done.refused:
            say(_describe_clearing(done.bindings))
    return Exit.KERNEL if done.refused else Exit.DONE


def binding_as_json(binding: Binding) -> dict[str, object]:
    """Return the keys with which each binding begins in `--json`."""
    return {
        "eni": binding.eni_id,
        "interface": binding.ifname,
        "namespace": binding.named,
        "inode": binding.identity.inode,
    }

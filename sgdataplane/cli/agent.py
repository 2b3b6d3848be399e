"""`sgdp agent` and `sgdp status`: the daemon, and its health.

Owns the arguments and the wording. The keys of `status --json`: pydoc sgdataplane.daemon.status, and beside each ENI
`workload`, the name of its container or pod. Must not know how the agent works.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import Any

from sgdataplane.attach.names import WorkloadNames
from sgdataplane.cli.nextsteps import next_steps
from sgdataplane.cli.scopes import agent_config, names_here
from sgdataplane.model.choices import CHOICES, ON_HOSTS, read_choices
from sgdataplane.model.words import pluralize
from sgdataplane.terminal.arguments import Verbs, get_choices, require_root, say_choices
from sgdataplane.terminal.output import (
    Exit,
    complain,
    hanging,
    local_time,
    localize_times,
    paint,
    print_json,
    render_table,
    say,
    say_block,
    warn,
    whole_seconds,
)

HEADERS = ("ENI", "INTERFACE", "ENFORCED AT", "OUTCOME", "EPOCH", "SINCE")
CAUSES = {
    "start": "the agent started",
    "state": "the state changed",
    "bindings": "an ENI was attached or detached",
    "link": "an interface or namespace changed",
    "drift": "another program may have changed sgdataplane's rules",
    "timer": "its regular check was due",
    "retry": "the previous cycle could not finish its work",
    "reload": "somebody asked for a reload",
    "resync": "somebody asked to write all rules again",
    "mode": "the audit of an ENI is over",
    "undo": "somebody rolled back or resumed, or the time of a rollback is over",
    "turn": "it was the turn of a namespace that had to wait",
}  # of daemon/schedule.py
# Where the policy in force comes from, with the path of the state on disk.
POLICIES = {
    "held": "an earlier one, in place of {path}",
    "last good": "the last good one, because {path} can't be used",
    "closed": "none, because {path} can't be used; attached ENIs pass nothing",
}
COLOURS = {"in force": "green", "stopped": "green", "refused": "red"}


def register(verbs: Verbs) -> None:
    """Add both verbs."""
    more = (
        "It follows the state's file, the interfaces and the kernel's rules, and repairs what other programs change. "
        "systemd usually starts it: systemctl enable --now sgdataplane. Without systemd, run it in the background, or "
        "let another supervisor run it. Needs root."
    )
    agent = verbs.add("agent", run_agent, more)
    agent.add_config("its configuration (default: /etc/sgdataplane/agent.toml; the installed file explains each key)")
    once = "run one cycle and exit: 3 if an attached ENI isn't enforced as it must be, 5 if the state is refused"
    agent.add_argument("--once", action="store_true", help=once)
    agent.add_choices(CHOICES, None)
    status = verbs.add("status", run_status, "Needs root.")
    status.add_json("sgdataplane/schemas/status.schema.json")
    status.add_config()


def run_agent(arguments: argparse.Namespace) -> int:
    """Run the agent until SIGTERM, or for one cycle."""
    require_root("agent")
    from sgdataplane.daemon import agent
    from sgdataplane.daemon.config import CONFIG_FILE, load_config

    file, choices = arguments.config or CONFIG_FILE, get_choices(arguments)
    config = load_config(file, must_exist=arguments.config is not None, chosen=choices)
    status = agent.run_agent(config, file, choices, once=arguments.once)
    if not arguments.once:
        return Exit.DONE
    has_state = not status.is_state_refused and not status.is_waiting
    return Exit.KERNEL if not status.is_whole else Exit.DONE if has_state else Exit.INPUT


def run_status(arguments: argparse.Namespace) -> int:
    """Print the agent's status. Exit 0 if the agent is healthy, 1 if not, 3 if none runs."""
    require_root("status")
    from sgdataplane.daemon import control
    from sgdataplane.daemon.control import Request

    config = agent_config(arguments)
    status: Any = control.ask(config.socket, Request.STATUS)["status"]
    names = names_here(config)
    status["enis"] = [names.add_to(eni) for eni in status["enis"]]
    if arguments.json:
        print_json(status)
    else:
        _say_status(status, names)
        for step in next_steps(status, config.bindings, has_unit=control.has_unit()):
            say_block(hanging("next: ", step))
    return Exit.DONE if status["healthy"] else Exit.NO


def _say_status(status: dict[str, Any], names: WorkloadNames) -> None:
    """Print the status for people; what isn't well goes to stderr."""
    from sgdataplane.host.timeouts import describe_unknown_timeouts

    health = paint("healthy", "green") if status["healthy"] else paint("not healthy", "red")
    say(f"agent {status['version']}, pid {status['pid']}, since {local_time(status['started'])}: {health}")
    state, cycle, drift = status["state"], status["cycle"], status["drift"]
    if state["waiting"]:
        say(f"waiting for a state: {state['path']} doesn't exist yet (run `sgdp init` to write one)")
    else:
        say(f"policy: {POLICIES.get(state['origin'], '{path}').format(path=state['path'])}")
    say_choices(ON_HOSTS.over(read_choices(status["config"].get("choices", {}))))
    if cycle["at"]:
        say(f"last cycle: {cycle['number']}, at {local_time(cycle['at'])}, because {_because(cycle['causes'])}")
    for part in ("state", "cycle", "last_good", "config", "bind"):
        for block in _blocks(status[part]["error"] or ""):
            complain(localize_times(block))
    for entry in status["bind"]["refused"]:
        complain(f"{entry['eni']} is not bound: {entry['reason']}: {', '.join(entry['interfaces'])}")
    if status["config"]["restart"]:
        keys = ", ".join(status["config"]["restart"])
        warn(f"the agent reads these only when it starts; restart it to use their new values: {keys}")
    if status["unknown_timeouts"]:
        warn(describe_unknown_timeouts(status["unknown_timeouts"]))
    _say_what_others_did(drift, status["tampering"], names)
    _say_history(status["history"], names)
    _say_faults(status["kernel"])
    for line in status["warnings"]:
        warn(localize_times(line))
    _print_enis(status["enis"], names)


def _say_what_others_did(drift: dict[str, Any], tampering: dict[str, Any], names: WorkloadNames) -> None:
    """Say how often others have changed sgdataplane's rules, and links of its routers."""
    if drift["last"]:
        _say_drift(drift["last"], drift["count"], names)
    if tampering["last"]:
        _say_tampering(tampering)


def _say_history(history: dict[str, Any], names: WorkloadNames) -> None:
    """Say where history is kept and since when, or why it isn't."""
    if not history["on"]:
        return
    if history["error"]:
        warn(f"history is not kept: {history['error']}")
    for namespace, why in (history["silent"] or {}).items():
        warn(f"no history of {names.place(namespace)}: {why}")
    since = "" if history["since"] is None else f" since {whole_seconds(history['since'])}"
    size = "" if history["bytes"] is None else f", {history['bytes'] / 1e6:.1f} MB"
    say(f"history: {history['path']}{since}{size}")


def _say_drift(last: dict[str, str], count: int, names: WorkloadNames) -> None:
    """Say how often others have changed sgdataplane's rules, and what the last change was."""
    often = "once" if count == 1 else f"{count:,} times"
    where = f"at {local_time(last['at'])} in {names.place(last['namespace'])}"
    say(f"other programs changed sgdataplane's rules {often} since the agent started, last {where}")
    say(f"  {last['by']}: {last['changes']}; the agent repairs such changes")


def _say_faults(kernel: dict[str, Any]) -> None:
    """Print the kernel's faults that have an effect here; the JSON has all of them."""
    felt = [fault for fault in kernel["faults"] if fault["felt"]]
    if not felt:
        return
    said = kernel["version"]
    made_of = f" ({said})" if said and not kernel["release"].startswith(said) else ""
    say(f"kernel: Linux {kernel['release']}{made_of}, with faults that newer kernels don't have:")
    for fault in felt:
        perhaps = "" if fault["certain"] else "perhaps: "
        say_block(hanging(f"  {fault['name']}: ", f"{perhaps}{fault['effect']}; so {fault['answer']}"))


def _say_tampering(found: dict[str, Any]) -> None:
    """Say how often others have changed links of sgdataplane's routers, and who can have done the last change."""
    last, count = found["last"], found["count"]
    often = "once" if count == 1 else f"{count:,} times"
    when = f"{often} since the agent started, last at {local_time(last['at'])}"
    line = f"other programs changed links of sgdataplane's routers {when}"
    (complain if found["recent"] else say)(line)
    say(f"  {last['router']}: {last['what']}")
    say(f"  who may have done it: {last['by']}")


def _because(causes: Iterable[str]) -> str:
    """Return why a cycle ran, in words."""
    return " and ".join(CAUSES.get(cause, cause) for cause in causes)


def _blocks(errors: str) -> list[str]:
    """Split the errors of a refused state or configuration into a block for each.

    All lines of a block but the first are indented.
    """
    return re.split(r"\n(?! )", errors) if errors else []


def _print_enis(enis: list[dict[str, Any]], names: WorkloadNames) -> None:
    """Print a row for each attached ENI, and first what isn't well with it."""
    for eni in enis:
        for line in eni["warnings"]:
            warn(f"{eni['interface']} of {names.place(eni['namespace'])}: {localize_times(line)}")
        if eni["error"]:
            complain(f"{names.label(eni['eni'])}: {localize_times(eni['error'])}")
    if not enis:
        say("no ENI is attached; run `sgdp attach` to bind an interface to one")
        return
    rows = [
        (
            eni["eni"],
            place := f"{eni['interface']} of {names.place(eni['namespace'])}",
            place if eni["enforced_at"] == f"{eni['interface']} of {eni['namespace']}" else eni["enforced_at"],
            paint(eni["outcome"], COLOURS.get(eni["outcome"], "yellow")),
            "-" if eni["epoch"] is None else str(eni["epoch"]),
            whole_seconds(eni["since"]),
        )
        for eni in enis
    ]
    say_block(render_table(HEADERS, rows))
    for eni in enis:
        if eni.get("audited"):
            passed, at = pluralize(eni["audited"]["packets"], "denied packet"), whole_seconds(eni["audited"]["since"])
            say(f"{names.label(eni['eni'])} is in audit mode, which let {passed} pass{at and f' since {at}'}")

"""The next steps after what `sgdp status` shows: one line for each fault, with the command.

Owns these lines. Is given the document of `sgdp status --json`. Must not know how the agent found a fault, or what it
does about it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from sgdataplane.attach.registry import ATTACHED_DIR
from sgdataplane.model.choices import ON_HOSTS

Words: TypeAlias = tuple[str, ...]
LOG = ("journalctl", "-u", "sgdataplane", "-n", "20")
RELOAD, RESTART = ("systemctl", "reload", "sgdataplane"), ("systemctl", "restart", "sgdataplane")
DETACH = ("sgdp", "detach", "--eni", "{eni}")
OF_NONE = ("InvalidSource.NotFound",)  # there is no state
OF_OWNERS = ("InvalidSource.Owner", "InvalidSource.Writable")  # of a state whose text is well
# outcome -> what to do about such ENIs, and the command for the first of them
OF_ENIS: Mapping[str, tuple[str, Words]] = {
    "refused": ("find out why {enis} can't be enforced; the agent tries again by itself", (*LOG, "SGDP_ENI={eni}")),
    "disturbed": (
        "stop the program that changes the rules of {enis}, as the log says",
        (*LOG, "SGDP_EVENT=disturbed"),
    ),
    "gone": ("attach {enis} again where the workload runs now, or", DETACH),
    "misaddressed": ("give the interface of {enis} its address, or correct the state, or", DETACH),
    "absent": ("bring back the interface of {enis}, or", DETACH),
    "closed": ("add {enis} to the state, or", DETACH),
}


class Step(NamedTuple):
    """Something to do, and the command for it."""

    words: str
    """What to do, for people."""
    command: Words

    def text(self, status: Mapping[str, Any], *, has_unit: bool) -> str:
        """Return the step as a line. A shell takes the command as it is, whatever names are in it.

        `has_unit` says whether systemd runs the agent, by a unit of its own.
        """
        if has_unit or self.command[0] not in (LOG[0], RELOAD[0]):
            return f"{self.words}: {shlex.join(self.command)}"
        pid = str(status["pid"])
        if self.command == RELOAD:
            return f"{self.words}: kill -HUP {pid}"
        if self.command == RESTART:
            again = shlex.join(("sgdp", "agent", "--config", status["config"]["path"]))
            return f"{self.words}: kill {pid}, and then {again}"
        about = self.command[len(LOG) :]
        lines = f", in lines with {about[0].partition('=')[2]}" if about and "=" in about[0] else ""
        return f"{self.words}: see what the agent (pid {pid}) wrote to its stderr{lines}"


def next_steps(status: Mapping[str, Any], bindings: Path = ATTACHED_DIR, *, has_unit: bool = True) -> list[str]:
    """Return the steps as lines; those about files come first.

    There is at least one if the agent isn't healthy.

    Args:
        status: The document of `sgdp status --json`.
        bindings: The agent's folder of them.
        has_unit: Whether systemd runs the agent.
    """
    return [step.text(status, has_unit=has_unit) for step in _steps(status, bindings)]


def _steps(status: Mapping[str, Any], bindings: Path) -> list[Step]:
    where = () if bindings == ATTACHED_DIR else ("--bindings", str(bindings))
    more = (*_of_bindings(status["bind"], where), *_of_tampering(status["tampering"]))
    steps = [*_of_files(status), *more, *_of_all_enis(status, where)]
    if not steps and not status["healthy"]:  # e.g. before the end of the first cycle
        return [_step("find out what the agent does", *LOG)]
    return steps


def _of_files(status: Mapping[str, Any]) -> Iterator[Step]:
    """Yield the steps about the state, the configuration and what is kept."""
    state, config = status["state"], status["config"]
    if state["origin"] == "held":
        yield _step("when the state on disk is right", "sgdp", "resume")
    elif state["error"] and str(state["error"]).startswith(OF_OWNERS):
        yield _step("see that nobody but root and one user can change the state", "namei", "-l", state["path"])
    elif state["error"] and str(state["error"]).startswith(OF_NONE):
        yield _step("put a state there; this writes one to begin with", "sgdp", "init", state["path"])
    elif state["error"]:
        yield _step("correct the state; the agent reads it again by itself", *_check(state["path"], config))
    if config["error"]:
        yield _step(f"correct {config['path']}, and then", *RELOAD)
    if config["restart"]:
        yield _step("let the agent read its new values", *RESTART)
    if status["last_good"]["error"]:
        yield _step("make room for the last good policy", "df", "-h", str(Path(status["last_good"]["path"]).parent))
    if status["cycle"]["error"]:
        yield _step("find out why the last cycle failed", *LOG, "-p", "err")


def _check(path: str, config: Mapping[str, Any]) -> Words:
    """Return the command that checks a state as the agent judges it."""
    profile = config.get("choices", {}).get("profile", ON_HOSTS.profile)
    return ("sgdp", "check", path, *(() if profile == ON_HOSTS.profile else ("--profile", profile)))


def _of_bindings(bind: Mapping[str, Any], where: Words) -> Iterator[Step]:
    """Yield the steps about interfaces that the agent couldn't bind."""
    if bind["error"]:
        yield _step("find out why namespaces could not be searched", *LOG, "SGDP_EVENT=namespaces-not-searched")
    for entry in bind["refused"]:
        place = ("--netns", "NAMESPACE", "--ifname", "INTERFACE", *where)
        yield _step(f"say which interface carries {entry['eni']}", "sgdp", "attach", "--eni", entry["eni"], *place)


def _of_tampering(tampering: Mapping[str, Any]) -> Iterator[Step]:
    """Yield the step about changed routers, if they were changed lately."""
    if tampering["recent"]:
        words = (
            "stop the workload that changes sgdataplane's routers, or take its CAP_NET_ADMIN away; the log says more"
        )
        yield _step(words, *LOG, "SGDP_EVENT=tampering")


def _of_all_enis(status: Mapping[str, Any], where: Words) -> Iterator[Step]:
    """Yield a step for each outcome of ENIs that needs one.

    Without any policy all ENIs are closed, and that needs no step of its own.
    """
    for outcome in OF_ENIS:
        found = [eni["eni"] for eni in status["enis"] if eni["outcome"] == outcome]
        if found and (outcome, status["state"]["origin"]) != ("closed", "closed"):
            yield _of_enis(outcome, found, where)


def _of_enis(outcome: str, enis: list[str], where: Words) -> Step:
    """Return the step for ENIs with that outcome."""
    words, command = OF_ENIS[outcome]
    others = f" and {len(enis) - 1:,} more" if len(enis) > 1 else ""
    of_the_first = (word.format(eni=enis[0]) for word in command)
    return _step(words.format(enis=enis[0] + others), *of_the_first, *(where if command is DETACH else ()))


def _step(words: str, *command: str) -> Step:
    return Step(words, command)

"""The entry of `sgdp`: finds the verb, runs it, and turns whatever happens into one message and one exit code.

Owns the list of verbs, and the exit code of each error. Must not know what a verb does.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

from sgdataplane import __version__
from sgdataplane.errors import HostError, KernelError, PlatformError, PrivilegeError, SgDataplaneError, TerminatedError
from sgdataplane.terminal.anywhere import lacking, missing_here, refusing
from sgdataplane.terminal.arguments import Parser, Run, Summary, Verbs
from sgdataplane.terminal.bugs import bug_report
from sgdataplane.terminal.output import Exit, choose_colour, complain, guard_output, print_any_text, say_aside
from sgdataplane.terminal.progress import working

# module -> verb -> what `sgdp --help` says of it
VERBS: dict[str, dict[str, Summary]] = {
    "init": {
        "init": Summary(
            "write a commented state to begin with, or one of the containers that run here", "sgdp init state.yaml"
        ),
    },
    "state": {
        "check": Summary(
            "validate a state and report what is odd: open ports, dead rules, nearly used quotas",
            "sgdp check state.yaml --fail-on high",
        ),
        "schema": Summary("print the JSON Schema of state files, for editors", "sgdp schema > state.schema.json"),
        "import": Summary(
            "convert the cloud's API answers, those of AWS or OpenStack, or a Terraform state to a native state",
            "sgdp import answers/ -o state.yaml",
        ),
        "export": Summary(
            "write a state as the cloud's API answers, or as a native state",
            "sgdp export state.yaml --to ecs -o answers/",
        ),
    },
    "compile": {
        "compile": Summary("print the nftables rules that would be loaded", "sgdp compile state.yaml --eni web"),
    },
    "explain": {
        "explain": Summary(
            "say whether a packet passes, and which rule decides", "sgdp explain state.yaml web db tcp/5432"
        ),
    },
    "diff": {
        "diff": Summary(
            "list the traffic that another state would accept or drop instead",
            "sgdp diff before.yaml after.yaml --fail-on-open",
        ),
    },
    "suggest": {
        "suggest": Summary(
            "suggest a narrower policy that accepts the traffic seen, and list unused rules",
            "sgdp suggest state.yaml --capture traffic.pcap -o suggested",
        ),
    },
    "test": {
        "test": Summary(
            "check expectations (`web -> db tcp/5432 accept`) against a state, or with packets",
            "sgdp test expectations.txt --state state.yaml",
        ),
    },
    "report": {
        "report": Summary(
            "write one HTML page: who reaches whom, rules with hits, findings, sessions",
            "sgdp report state.yaml --html page.html",
        ),
    },
    "lab": {
        "lab": Summary(
            "build a state from network namespaces and send real packets through it",
            "sudo sgdp lab up state.yaml && sudo sgdp lab matrix",
        ),
    },
    "replay": {
        "replay": Summary(
            "send a capture's packets through a lab; show which flows pass, and by which rule",
            "sudo sgdp replay traffic.pcap --state state.yaml",
        ),
    },
    "attach": {
        "attach": Summary(
            "bind an existing interface, for example a container's, to an ENI",
            "sudo sgdp attach --eni web --container web --ifname eth0",
        ),
        "detach": Summary(
            "unbind an ENI's interface; with the last ENI of a namespace, its rules are removed, too",
            "sudo sgdp detach --eni web",
        ),
        "clear": Summary(
            "detach all ENIs and remove all of sgdataplane's rules from their namespaces", "sudo sgdp clear"
        ),
    },
    "apply": {
        "apply": Summary("enforce a state on all attached ENIs once, and exit", "sudo sgdp apply state.yaml"),
    },
    "agent": {
        "agent": Summary("run the daemon that keeps all attached ENIs enforced", "sudo sgdp agent --once"),
        "status": Summary("show what the running agent enforces; exit code 1 if it isn't healthy", "sudo sgdp status"),
    },
    "policies": {
        "policies": Summary(
            "list the policies that were in force before, or show what one of them changed", "sudo sgdp policies"
        ),
        "rollback": Summary(
            "put an earlier policy in force again, for a time or until the state changes",
            "sudo sgdp rollback 41 --for 10m",
        ),
        "resume": Summary("enforce the state on disk again", "sudo sgdp resume"),
    },
    "sessions": {
        "sessions": Summary(
            "list live sessions, and the rule that let each one in", "sudo sgdp sessions --eni web --port tcp/443"
        ),
    },
    "counters": {
        "counters": Summary(
            "show how many packets each rule decided about, and which rules never did",
            "sudo sgdp counters --unused",
        ),
    },
    "log": {
        "log": Summary(
            "show denied packets as they happen, and why each one was denied", "sudo sgdp log --follow --eni web"
        ),
    },
    "flows": {
        "flows": Summary(
            "show who talked to whom, and which rule decided, from the agent's history",
            "sudo sgdp flows --since 1h --by address",
        ),
    },
    "top": {
        "top": Summary("show new sessions and drops per second, as they happen", "sudo sgdp top"),
    },
    "history": {
        "history": Summary(
            "show how much history the agent keeps, or delete some of it", "sudo sgdp history forget --before 7d"
        ),
    },
    "api": {
        "api": Summary(
            "serve the cloud's API, so that its own SDKs and tools change what is enforced here",
            "sudo sgdp api --store cloud.db --lab demo",
        ),
    },
    "relay": {
        "relay": Summary(
            "distribute to each host its part of the policy",
            "sgdp relay --store cloud.db --listen [::]:8443 --tls-ca ca.pem ...",
        ),
    },
    "sync": {
        "sync": Summary(
            "get this host's part of the policy from a relay, for the agent",
            "sgdp sync --relay wss://relay:8443 --folder DIR ...",
        ),
    },
    "hosts": {
        "hosts": Summary(
            "list the hosts of the API's store, and what each one enforces", "sgdp hosts --store cloud.db --json"
        ),
        "wait": Summary(
            "wait until a revision of the API's store is in force at all hosts",
            "sgdp wait --store cloud.db --vpc vpc-1",
        ),
    },
    "group": {
        "group": Summary("change security groups through the cloud's API, without an SDK", "sgdp group show web"),
    },
    "call": {
        "call": Summary(
            "make any call of the cloud's API, signed, without an SDK", "sgdp call DescribeSecurityGroups --VpcId vpc-1"
        ),
    },
    "trial": {
        "trial": Summary(
            "count what a change would do to live traffic, without making it",
            "sudo sgdp trial start new.yaml && sudo sgdp trial show",
        ),
    },
    "trace": {
        "trace": Summary(
            "follow real packets through sgdataplane's chains, step by step", "sudo sgdp trace --eni web --port tcp/443"
        ),
    },
    "completion": {
        "completion": Summary(
            "print completions of sgdp's commands for bash, zsh or fish", "sgdp completion bash > ~/.sgdp-completion"
        ),
    },
}
# how `sgdp --help` groups them
GROUPS: dict[str, tuple[str, ...]] = {
    "write a policy": ("init", "check", "schema", "import", "export"),
    "review it (touches nothing)": ("explain", "diff", "test", "suggest", "compile", "report"),
    "try it in a lab (needs root)": ("lab", "replay"),
    "enforce it on this host (needs root)": (
        "attach",
        "detach",
        "apply",
        "clear",
        "agent",
        "status",
        "policies",
        "rollback",
        "resume",
    ),
    "see what happens (needs root)": ("sessions", "counters", "log", "flows", "top", "history", "trace", "trial"),
    "change it through the cloud's API": ("api", "group", "call"),
    "enforce it on many hosts": ("relay", "sync", "hosts", "wait"),
    "make it convenient": ("completion",),
}
TEXT_WIDTH = 66  # of what a verb does, beside its name
ABOUT = """\
Enforce cloud security groups in the Linux kernel, and try them in a lab.

A STATE is a file or folder with VPCs, security groups, rules, instances and
their ENIs (elastic network interfaces). Commands that only read a state need
no root and touch nothing. Commands that look at or change what the kernel
enforces need root."""
LAST_WORDS = """\
`sgdp COMMAND --help` says more about each command. SGDP_STATE and SGDP_LAB name
the state and the lab where a command names none. Exit codes: 0 done, 1 the
answer is no, 2 wrong usage, 3 the kernel refused or can't do it, 4 not root,
5 the input can't be used, 70 a bug in sgdataplane."""
# The verbs that say for how long they have been working. None of them becomes another program, as `lab exec` does.
CALCULATING = frozenset(
    ("check", "compile", "explain", "diff", "test", "report", "import", "export", "replay", "sessions", "counters")
).union(
    ("apply", "clear", "detach", "lab up", "lab apply", "lab down", "lab status", "lab probe", "lab matrix"),
    ("suggest",),
)
# What is left when Ctrl-C ends a verb that isn't in this list, and what when it ends one that is
NOTHING_CHANGED = "nothing was changed"
AFTER_INTERRUPT = {
    "lab up": "the lab is removed, nothing of it stays",
    "lab apply": "the lab has all of the old policy, or all of the new one",
    "lab down": "run it again, if `sgdp lab list` still shows the lab",
    "lab probe": "the lab stays, as it was",
    "lab matrix": "the lab stays, as it was",
    "replay": "a lab that was built for it is removed",
    "test": "a lab that was built for it is removed",
    "trace": "what traced the packets is removed",
    "apply": "each namespace has all of its old rules, or all of its new ones; run it again",
    "attach": "the interface is bound, or it isn't; `sgdp attach` says which if you run it again",
    "detach": "run it again to be sure that the rules are gone",
    "clear": "run it again to be sure that all rules are gone",
}
ENDS = (("interrupted", Exit.INTERRUPTED), ("terminated", Exit.TERMINATED))  # by Ctrl-C; by SIGTERM
# The first that fits decides, from the special to the general. Every other error of ours is about the input.
EXIT_CODES: tuple[tuple[type[SgDataplaneError], Exit], ...] = (
    (PrivilegeError, Exit.NOT_ROOT),
    (KernelError, Exit.KERNEL),
    (HostError, Exit.KERNEL),
    (PlatformError, Exit.KERNEL),
    (SgDataplaneError, Exit.INPUT),  # StateFileError, LimitError, BindingError; LabError: e.g. no such lab or node
)


def add_verbs(parser: Parser, argv: Sequence[str] | None) -> None:
    """Add all verbs to the parser.

    Only the module of `argv`'s verb is imported and adds its arguments; the other verbs are just listed. If `argv` is
    None, all modules are imported.
    """
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    named = next((word for word in argv or () if not word.startswith("-")), "")
    for module, summaries in VERBS.items():
        verbs = Verbs(subparsers, summaries)
        if argv is None or named in summaries:
            register(module, verbs)
        else:
            verbs.list()


def register(module: str, verbs: Verbs) -> None:
    """Add the verbs of a module.

    If this system lacks what the module needs, they say so when they are run.
    """
    try:
        found = import_module(f"sgdataplane.cli.{module}")
    except (ImportError, AttributeError) as error:
        if not missing_here(error):
            raise
        for name in verbs.summaries:
            verbs.add(name, refusing(name, error)).set_defaults(takes_anything=True)
    else:
        found.register(verbs)


class TopParser(Parser):
    """The parser of `sgdp` itself, whose help lists the verbs by group, each with an example."""

    def format_help(self) -> str:
        """Return the help, with the verbs by group."""
        summaries = {verb: summary for verbs in VERBS.values() for verb, summary in verbs.items()}
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for title, verbs in GROUPS.items():
            formatter.start_section(title)
            for verb in verbs:
                what = textwrap.wrap(summaries[verb].what, TEXT_WIDTH)
                lines = [f"{verb:12}{what[0]}", *(f"{'':12}{line}" for line in (*what[1:], summaries[verb].example))]
                formatter.add_text("\n".join(lines))
            formatter.end_section()
        formatter.start_section(self._optionals.title)
        formatter.add_arguments(self._optionals._group_actions)  # noqa: SLF001  # it has no other way
        formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()


def build_parser(argv: Sequence[str] | None = None) -> Parser:
    """Return the command line as far as it is needed to read `argv` (`add_verbs`); if that is None, all of it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = TopParser(prog="sgdp", description=ABOUT, epilog=LAST_WORDS, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"sgdp {__version__}")
    add_verbs(parser, argv)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `argv` (the process's own if None) and return the exit code; on a usage error argparse exits at once."""
    given = sys.argv[1:] if argv is None else argv
    print_any_text()
    with guard_output():
        arguments = build_parser(given).parse_args(given)
        choose_colour(getattr(arguments, "color", "auto"))
        verb = getattr(arguments, "verb", "")
        with working(verb) if verb in CALCULATING else nullcontext():
            return run_verb(arguments.run, arguments)


def run_verb(run: Run, arguments: argparse.Namespace) -> int:
    """Return what `run` returns.

    If it raises, print the message on stderr and return the exit code for that error.
    """
    try:
        code = run(arguments)
        sys.stdout.flush()  # now, so that a reader who went away is noticed in this function
    except BrokenPipeError:
        _discard_stdout()
        return Exit.BROKEN_PIPE
    except KeyboardInterrupt as interrupt:
        word, code = ENDS[isinstance(interrupt, TerminatedError)]
        say_aside(f"{word}: {AFTER_INTERRUPT.get(getattr(arguments, 'verb', ''), NOTHING_CHANGED)}")
        return code
    except Exception as error:  # noqa: BLE001  # the one place that must let nothing through
        if missing_here(error):
            error = lacking(getattr(arguments, "verb", ""), error)
        return report(error, debug=getattr(arguments, "debug", False))
    return code


def report(error: Exception, *, debug: bool) -> int:
    """Print what went wrong on stderr, with the traceback if `debug`; return the exit code."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, SgDataplaneError):
        complain(error)
        return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
    complain(bug_report(error), "internal error:")
    return Exit.INTERNAL


def _discard_stdout() -> None:
    """Give Python somewhere to write when it flushes stdout once more at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())

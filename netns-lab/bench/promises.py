"""What is promised of the figures that commands measure (costs.py): a limit for each, in the order of the report.

Owns this list as data. Must not know how a figure is measured or shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.costs import HARD
from tests.support.inputs.classbench_seeds import SEEDS as KINDS

MS, MEGA = 1000.0, 1e-6


@dataclass(frozen=True, slots=True)
class Promise:
    """One row: at most `limit`, or None if the row only informs. `figures`: whose samples it is about, each multiplied
    by `scale`; they are one pool, or with `is_worst`, the one with the worst median counts."""

    title: str
    unit: str
    limit: float | None
    figures: tuple[str, ...]
    scale: float = 1.0
    is_worst: bool = False


def _set(rules: int, what: str, unit: str, limit: float | None, name: str) -> Promise:
    """Of the five-tuple sets of that size."""
    figures = tuple(f"{kind}-{rules}.{name}" for kind in KINDS)
    scale = MEGA if name == "bytes" else 1.0
    return Promise(f"five-tuple set of {rules:,} rules: {what}", unit, limit, figures, scale, is_worst=True)


COMPILING = (
    Promise("typical policy of 1,000 rules: compile", "ms", 50, ("typical.compile",), MS),
    Promise("five_tuple, 1,000 rules: compile", "s", 0.6, ("five_tuple.compile",)),
    Promise("mixture, 1,000 rules: compile", "s", 0.6, ("mixture.compile",)),
    *(Promise(f"{name}, 1,000 rules: compile", "s", 1, (f"{name}.compile",)) for name in HARD),
    _set(500, "compile", "s", 0.5, "compile"),
    _set(500, "prove", "s", 0.5, "prove"),
    _set(500, "text", "MB", 2, "bytes"),
    _set(500, "memory of the process", "MB", None, "mb"),
    _set(1_000, "compile", "s", 1, "compile"),
    _set(1_000, "prove", "s", 1, "prove"),
    _set(1_000, "text", "MB", 4, "bytes"),
    _set(1_000, "memory of the process", "MB", None, "mb"),
    _set(10_000, "compile and prove", "s", 20, "both"),
    _set(10_000, "memory of the process", "MB", 500, "mb"),
    _set(10_000, "text", "MB", None, "bytes"),
)
CHANGES = (
    Promise("a member joins or leaves, of 65,536", "ms", 8, ("members.member",), MS),
    Promise(
        "a rule of 200 comes or goes, beside 65,536 members",
        "ms",
        20,
        ("members.rule on CIDR", "members.rule on group"),
        MS,
    ),
)
FULL_HOST = (
    Promise("compile", "s", 3, ("host.compile",)),
    Promise("program the kernel", "s", 3, ("host.program",)),
    Promise("memory of the process, compiled and programmed", "MB", 300, ("host.mb",)),
    Promise("memory of the kernel", "MB", 300, ("host.kernel_mb",)),
    Promise("prove", "s", None, ("host.prove",)),
    Promise("memory of the process, proven too", "MB", None, ("host.mb_proven",)),
    Promise("then one rule of one combination is another", "ms", 50, ("host.rule",), MS),
    Promise("then one member joins", "ms", 10, ("host.member",), MS),
)
AGENT = (
    Promise("cold start with 1,000 ENIs of 20 rules, until all are in force", "s", 10, ("agent.cold_start_s",)),
    Promise("restart with 1,000 ENIs of 20 rules in force", "s", 3, ("agent.restart_s",)),
    Promise("its processor time in that restart", "s", None, ("agent.restart_cpu_s",)),
    Promise("its memory after that restart", "MB", None, ("agent.restart_mb",)),
    Promise("its memory with 400 ENIs, after 300 changes of a rule", "MB", 150, ("churn.after_mb",)),
    Promise("its memory with 400 ENIs, before them", "MB", None, ("churn.before_mb",)),
    Promise("its threads with 400 ENIs, after 300 changes of a rule", "", None, ("churn.after_threads",)),
    Promise("a rule for 10 ENIs of 1,000, from the file to the last ENI", "ms", 60, ("agent.change_rule_ms",)),
    Promise("hot plug, instance placement: interface to in force", "ms", 40, ("plug-instance.plug_instance_ms",)),
    Promise("hot plug, host placement: interface to in force", "ms", 60, ("plug-host.plug_host_ms",)),
    Promise(
        "longest gap of a stream of packets while a table of 1,000 ENIs loads beside it: more than without",
        "ms",
        1,
        ("gaps.more_ms",),
    ),
)
HISTORY = (
    Promise(
        "history: its recorder while 300,000 packets a second are refused, of a processor",
        "%",
        5,
        ("history.recorder_percent",),
    ),
    Promise("history: packets a second that were refused", "million", None, ("history.refused_a_second",), MEGA),
    Promise("history: a change meanwhile : without history", "", 1.2, ("history.change_times",)),
)
API_CALLS = {
    "by_id": "a group by its id",
    "first_page": "the first page of groups",
    "by_name": "a page of groups by name",
    "of_instance": "the ENIs of an instance",
    "create": "CreateSecurityGroup",
    "authorize": "AuthorizeSecurityGroup",
    "explain": "SgdpExplain",
    "diff": "SgdpDiff",
}
AT_SOME = ("by_id", "first_page", "create", "authorize")
API = (
    *(Promise(f"{title}, at 50,000 : at 500", "", 3, (f"api.{kind}_times",)) for kind, title in API_CALLS.items()),
    *(Promise(f"{title}, at 50,000", "ms", None, (f"api.{kind}_ms",)) for kind, title in API_CALLS.items()),
    *(Promise(f"{API_CALLS[kind]}, at 1,000", "ms", None, (f"api.{kind}_some_ms",)) for kind in AT_SOME),
    Promise("start with 50,000 groups, until it serves", "s", 5, ("api.api_start_s",)),
    Promise("its memory then, after calls", "MB", 400, ("api.api_mb",)),
)
EVERYWHERE = (
    Promise("3 hosts: from a call to the first packet that obeys", "ms", 40, ("everywhere-3.packet_ms",)),
    Promise("3 hosts: from a call until SgdpWait says that all enforce it", "ms", 80, ("everywhere-3.enforced_ms",)),
    Promise("3 hosts: until the call is answered", "ms", None, ("everywhere-3.call_ms",)),
    Promise("16 hosts: from a call to the first packet that obeys", "ms", None, ("everywhere-16.packet_ms",)),
    Promise("16 hosts: from a call until SgdpWait says that all enforce it", "ms", 200, ("everywhere-16.enforced_ms",)),
)

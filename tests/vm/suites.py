"""What runs in the virtual machines, as shell for the guest.

Owns which suites these are and where each leaves its results. Must not know how a machine is made or started.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

BOOT_AGAIN = 75
SUITE_S, END_S = 3600, 600


@dataclass(frozen=True, slots=True)
class Suite:
    """One run of pytest; its results are in <name>.xml."""

    name: str
    tests: tuple[str, ...]
    marks: str = "not slow and not vm"


# Everything that depends on the kernel: what it does with our tables, sessions, frames and packets. What takes longest
# comes first, so that its failures are known early.
ON_ANY_KERNEL = (
    Suite("kernel", ("tests/kernel",)),
    Suite("sessions", ("tests/sessions",)),
    Suite("features", ("tests/features",)),
    Suite("fence", ("tests/fence",)),
    Suite("scenarios", ("tests/traffic/test_scenarios.py",)),
    Suite("edges", ("tests/edges",)),
)
# What depends more on us than on the kernel: one kernel of them all is enough, unless another one is asked for.
ON_ONE_KERNEL = (
    Suite("agent", ("tests/agent",)),
    Suite("hostile", ("tests/hostile",)),
)
# Once more with a module that changes how all bridges of a machine work, so that no test loads it.
WITH_BRIDGE_NETFILTER = Suite("bridges-netfilter", ("tests/features/test_bridge.py",))
COMMITS = "commits"  # the table of bench.commits
FLOWTABLES = "flowtables"  # what bench.flowtables prints; runs only if it is asked for
ALL_SUITES = (*ON_ANY_KERNEL, *ON_ONE_KERNEL)
SUITES = (*(suite.name for suite in ALL_SUITES), WITH_BRIDGE_NETFILTER.name, COMMITS, FLOWTABLES)
STOCK = (
    Suite("package", ("tests/vm/test_package.py",), "vm"),
    Suite("after-reboot", ("tests/vm/test_after_reboot.py",), "vm"),
    Suite("units", ("tests/vm/test_units.py",), "vm"),
    Suite("conntrack-size", ("tests/vm/test_conntracksize.py",), "vm"),
)
# One processor, but a third of their time tests wait for packets and the kernel. ALONE come first, beside the machines
# of stock kernels, which leave nothing idle.
IN_PAIRS = ("-n", "2", "--dist", "loadscope")
ALONE = {"kernel"}
NO_MODULES = """
lsmod > /job/results/modules-at-boot
if grep -qE '^(nf_conntrack|nf_tables) ' /job/results/modules-at-boot; then
    echo "this boot began with modules of netfilter loaded"
    exit 1
fi
"""


def on_user_mode_kernel(names: Collection[str]) -> str:
    """The job of a user-mode kernel: these suites, of SUITES."""
    parts = {suite.name: _pytest(suite, *(() if suite.name in ALONE else IN_PAIRS)) for suite in ALL_SUITES}
    bridges = _pytest(WITH_BRIDGE_NETFILTER, *IN_PAIRS)
    parts |= {WITH_BRIDGE_NETFILTER.name: f"modprobe br_netfilter || failed=$((failed | 2))\n{bridges}"}
    bench = f"PYTHONPATH=netns-lab timeout {SUITE_S} .venv/bin/python -m bench."
    parts |= {COMMITS: f"{bench}commits --json /job/results/commits.json || failed=$((failed | 2))"}
    parts |= {FLOWTABLES: f"{bench}flowtables all > /job/results/flowtables.txt || failed=$((failed | 2))"}
    return _job(part for name, part in parts.items() if name in names)


def usual(*, is_first: bool) -> list[str]:
    """The suites that a user-mode kernel runs if none is asked for. `is_first`: of all kernels."""
    left_out = {FLOWTABLES} if is_first else {FLOWTABLES, *(suite.name for suite in ON_ONE_KERNEL)}
    return [name for name in SUITES if name not in left_out]


def suite_of(module: str) -> str:
    """Which suite has this module of tests (`tests.kernel.test_x`), "" if none has."""
    path = f"{module.replace('.', '/')}.py"
    return next((suite.name for suite in ALL_SUITES if any(path.startswith(test) for test in suite.tests)), "")


def of_chosen(tests: Sequence[str]) -> str:
    """The job of a user-mode kernel that is asked for these tests alone."""
    return _job([_pytest(Suite("chosen", tuple(tests)))])


def _job(parts: Iterable[str]) -> str:
    """It ends with 1 if tests failed, which their results tell, with more if anything else went wrong.

    On the one processor of such a machine floods fill the queue that all links share: Linux 6.1 dropped 1,347 of a
    million packets there in 20 s without any change of ours, and no test knows of these. What tests wait for takes
    several times as long as elsewhere, and more where the host is busy.
    """
    waiting = "export SGDP_TIMEOUT_FACTOR=4"
    queue = "sysctl -q -w net.core.netdev_max_backlog=100000"
    return "\n".join(["uname -r > /job/results/kernel", waiting, queue, "failed=0", *parts, "exit $failed", ""])


def on_stock_debian(package: str) -> str:
    """The job of Debian's own kernel, over three boots; `package`: the file in /job that holds the product."""
    variables = f"export SGDP_VM=1 SGDP_DEB=/job/{shlex.quote(package)} SGDP_TIMEOUT_FACTOR=10"
    first = [NO_MODULES, "make demo > /job/results/demo 2>&1 || exit 2", f"exit {BOOT_AGAIN}"]
    second = [NO_MODULES, _pytest(STOCK[0]), f"[ $failed = 0 ] || exit $failed; exit {BOOT_AGAIN}"]
    third = [*map(_pytest, STOCK[1:]), "exit $failed"]
    lines = ["uname -r > /job/results/kernel", "failed=0", variables, 'case "$1" in']
    for number, boot in enumerate((first, second, third), 1):
        lines += [f"{number})", *boot, ";;"]
    return "\n".join([*lines, "esac", ""])


RACE_SWITCHES, RACE_MEMBERS = 60, 200  # each switch is a race, until enough have been forced
FLOODS = Suite("floods", ("tests/kernel/test_regroup_under_flood.py", "tests/kernel/test_edits_under_flood.py"))


def under_a_debugger(ways: Iterable[str]) -> str:
    """The job of a machine in which races are forced: first floods without, then changes of each of these ways, while
    the console says where the kernel's functions are."""
    racing = (
        f"timeout {SUITE_S} .venv/bin/python -m tests.vm.racing /dev/ttyS0 {way} {RACE_SWITCHES} {RACE_MEMBERS}"
        " || failed=$((failed | 2))"
        for way in ways
    )
    lines = ["uname -r > /job/results/kernel", "export SGDP_TIMEOUT_FACTOR=10", "failed=0", *racing, _pytest(FLOODS)]
    return "\n".join([*lines, "exit $failed", ""])


def _pytest(suite: Suite, *more: str) -> str:
    report = f"--junit-xml=/job/results/{suite.name}.xml"
    options = ["-q", "-p", "no:cacheprovider", "-m", suite.marks, *more, report]
    command = [".venv/bin/python", "-m", "pytest", *options, *suite.tests]
    # Interrupted, pytest still says what came of the tests that have run. A test of floods may take minutes to end.
    limit = f"timeout --signal=INT --kill-after={END_S} {SUITE_S}"
    return f"{limit} {shlex.join(command)} || failed=$((failed | ($? == 1 ? 1 : 2)))"

"""Options, the guard of the machine, and names: what every test of the suite gets."""

from __future__ import annotations

import gc
import itertools
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.run import isolation, mixed, paths
from tests.support.run.forked import still_running

# What a command says is looked for in lines that no terminal breaks; tests of the layout set a width of their own.
os.environ["COLUMNS"] = "200"
# Else gRPC's threads begin anew in each process that forks from a test's, and use files that are others' there.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# Kinds of test that need root and namespaces of their own; all must run where `--fail-on-skip` is given.
PLACEMENTS = ("instance", "host")
KERNEL_KINDS = ("kernel", "traffic", "replay", "daemon")
SLOW_S = 5400  # until a slow test fails as hanging


class Skips:
    """Collects the tests of the kernel kinds that skipped though they had to run."""

    def __init__(self, *, forbidden: bool) -> None:
        self._forbidden = forbidden
        self.found: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        must_run = "optional" not in report.keywords and any(kind in report.keywords for kind in KERNEL_KINDS)
        if must_run and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that skips itself has no markers yet; its folder says what it is."""
        if any(kind in report.nodeid.split("/") for kind in KERNEL_KINDS):
            self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if self._forbidden and report.skipped:
            self.found.append(f"{report.nodeid}: {report.longreprtext or report.longrepr}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name what fails at once: who ends a run before its summary knows it, too."""
    if report.failed and not os.environ.get("PYTEST_XDIST_WORKER"):
        print(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.0f} s)", flush=True)


# No limit of time for an example, nor for how long it takes to draw some: where others work beside, both mean nothing.
settings.register_profile("suite", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

MACHINE = pytest.StashKey[isolation.Machine]()
BEFORE = pytest.StashKey[Mapping[str, frozenset[str]]]()
SWEPT = pytest.StashKey[Sequence[str]]()
SKIPS = pytest.StashKey["Skips"]()
TOUCHED = pytest.StashKey[Sequence[str]]()
LAST_PATH = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sgdataplane")
    group.addoption("--update-golden", action="store_true", help="write golden files anew, and print what changed")
    both = "placement of the labs (default: each test in both)"
    group.addoption("--placement", choices=PLACEMENTS, action="append", help=both)
    words = "each namespace that tests make has tunl0, gre0, sit0 and the like, as where tunnel modules are loaded"
    group.addoption("--fallback-links", action="store_true", help=words)
    group.addoption(
        "--fail-on-skip", action="store_true", help=f"fail if a {'/'.join(KERNEL_KINDS)} test skips (unless optional)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background: tests of Ctrl-C need it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "placement(name): the one in which this test of labs makes sense")
    paths.watch()
    config.stash[SKIPS] = Skips(forbidden=config.getoption("--fail-on-skip"))
    config.pluginmanager.register(config.stash[SKIPS])
    run = isolation.run_of_this_process()
    if os.geteuid() != 0:
        return  # the tests that could touch the machine skip; the others can't
    config.stash[MACHINE] = isolation.find_machine()
    config.stash[BEFORE] = config.stash[MACHINE].snapshot()
    if run.startswith(f"{os.getpid()}."):
        config.stash[SWEPT] = isolation.sweep()
    if not _is_controller(config):
        isolation.isolate()
    if config.getoption("--fallback-links"):
        from tests.support.probes.links import imitate_fallback  # noqa: PLC0415  (the guard holds without the product)

        imitate_fallback()


def _is_controller(config: pytest.Config) -> bool:
    """True in the process that hands tests to xdist's workers and runs none itself."""
    return not hasattr(config, "workerinput") and config.getoption("dist", "no") != "no"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time than the rest before they fail as hanging, and mix the folders."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))
    turns = mixed.turns_of({item.path: None for item in items}, Path(__file__).parent)
    items.sort(key=lambda item: turns[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage meanwhile: what is made then stays until the end, so no collection ever has to walk it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep what earlier modules have left out of collections: else each that the product asks for takes seconds."""
    if item.config.stash.get(LAST_PATH, item.path) != item.path:
        gc.collect()
        gc.freeze()
    item.config.stash[LAST_PATH] = item.path


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if MACHINE in config.stash:
        config.stash[TOUCHED] = isolation.difference(config.stash[BEFORE], config.stash[MACHINE].snapshot())
    if config.stash.get(TOUCHED, ()) or config.stash[SKIPS].found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    sections: tuple[tuple[str, Sequence[str]], ...] = (
        ("swept after an earlier run that was killed", config.stash.get(SWEPT, ())),
        ("THE MACHINE'S OWN NETWORK CHANGED during this run", config.stash.get(TOUCHED, ())),
        ("SKIPPED, but must run here (--fail-on-skip)", config.stash[SKIPS].found),
    )
    for title, lines in sections:
        if lines:
            terminalreporter.section(title)
            for line in lines:
                terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def guard_of_the_machine(request: pytest.FixtureRequest, worker_id: str) -> Iterator[None]:
    """In each process that runs tests: at its end nothing of the machine's has changed, and nothing of ours is left."""
    yield
    config = request.config
    if MACHINE not in config.stash:
        return
    touched = isolation.difference(config.stash[BEFORE], config.stash[MACHINE].snapshot())
    assert not touched, "the machine's own network changed:\n" + "\n".join(touched)
    left = (*isolation.leftovers(isolation.run_of_this_process(), worker_id), *still_running())
    assert not left, "the tests left behind:\n" + "\n".join(left)


@pytest.fixture(autouse=True)
def _kernel_tests_stay_off_the_machine(request: pytest.FixtureRequest) -> None:
    """Tests that program the kernel skip without root, and are refused in the machine's own network namespace."""
    if not any(request.node.get_closest_marker(kind) for kind in KERNEL_KINDS):
        return
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    if request.config.stash[MACHINE].is_here():
        pytest.fail("this test would run in the machine's own network namespace")


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> isolation.Machine:
    """The machine's own network namespace, for tests of the isolation itself: to look at, never to change."""
    return request.config.stash[MACHINE]


@pytest.fixture(scope="session")
def unique_prefix(worker_id: str) -> str:
    """What all names of this worker begin with: nothing else on the machine has such names while this run lives."""
    return isolation.prefix_of(isolation.run_of_this_process(), worker_id)


@pytest.fixture(scope="session")
def make_lab_name(unique_prefix: str) -> Callable[[], str]:
    """Gives another unused name of a lab (or of anything else) at each call."""
    numbers = itertools.count(1)
    return lambda: f"{unique_prefix}-{next(numbers)}"


@pytest.fixture
def lab_name(make_lab_name: Callable[[], str]) -> str:
    """A name of a lab that is this test's alone."""
    return make_lab_name()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`placement`, of a test or one of its fixtures, is where labs enforce the policy: `instance` and `host`, each in
    turn, or what --placement says; a test marked with one runs in that one."""
    if "placement" not in metafunc.fixturenames:
        return
    wanted = metafunc.config.getoption("--placement") or PLACEMENTS
    own = metafunc.definition.get_closest_marker("placement")
    metafunc.parametrize("placement", [p for p in wanted if own is None or p in own.args], scope="module")


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written anew (--update-golden)."""
    return bool(request.config.getoption("--update-golden"))

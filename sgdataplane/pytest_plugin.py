"""pytest-sgdataplane: fixtures with a state, and with a lab in which packets are sent.

Owns the fixtures and their options. Is loaded by each pytest in an environment with this package, so it must not import
anything of ours before a fixture is used.

    sg_state   the state: `--sg-state`, the ini option `sg_state`, or a fixture of this name that you write
    sg_expect  holds expectations against sg_state: sg_expect("web -> db tcp/5432 accept")
    sg_lab     a lab that is up, with sg_state in force (root; else the test is skipped)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import sgdataplane

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sgdataplane.api import Lab
    from sgdataplane.model.state import CloudState

STATE_HELP = "the state that the fixture sg_state has: a file or folder, from where pytest was started"
INI_HELP = "the state that the fixture sg_state has: a file or folder, from the folder of this file"
PLACEMENT_HELP = "where the labs of sg_lab enforce: instance (default) or host"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sgdataplane")
    group.addoption("--sg-state", metavar="STATE", help=STATE_HELP)
    group.addoption("--sg-placement", choices=("instance", "host"), help=PLACEMENT_HELP)
    parser.addini("sg_state", INI_HELP, default="")
    parser.addini("sg_placement", PLACEMENT_HELP, default="instance")


class Labs:
    """The lab of one pytest process: built when it is first asked for, and kept until the end."""

    def __init__(self, placement: str) -> None:
        self._placement = placement
        self._stack = ExitStack()
        self._lab: Lab | None = None

    def with_state(self, state: CloudState) -> Lab:
        """The lab, with that state in force."""
        if self._lab is None:
            lab = sgdataplane.Lab(state, placement=self._placement)  # type: ignore[arg-type]
            self._lab = self._stack.enter_context(lab)
        elif self._lab.state != state:
            self._lab.apply(state)
        return self._lab

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session")
def sg_state(request: pytest.FixtureRequest) -> CloudState:
    """The state that `--sg-state` or the ini option names. Write a fixture of this name for another one."""
    return sgdataplane.load(_path(request.config))


@pytest.fixture
def sg_expect(sg_state: CloudState) -> Callable[..., None]:
    """Holds expectations against the state; nothing is sent. AssertionError with the reason of each that fails."""

    def hold(*rows: str) -> None:
        __tracebackhide__ = True
        sgdataplane.expect(sg_state, *rows)

    return hold


@pytest.fixture(scope="session")
def _sg_labs(request: pytest.FixtureRequest) -> Iterator[Labs]:
    placement = request.config.getoption("--sg-placement") or request.config.getini("sg_placement")
    labs = Labs(placement)
    yield labs
    labs.close()


@pytest.fixture
def sg_lab(sg_state: CloudState, _sg_labs: Labs) -> Lab:
    """A lab with that state in force. It stays up from test to test; a test that applied another state changes nothing
    for the next one."""
    if os.geteuid() != 0:
        pytest.skip("sg_lab needs root")
    return _sg_labs.with_state(sg_state)


def _path(config: pytest.Config) -> Path:
    given = config.getoption("--sg-state")
    if given:
        return Path(config.invocation_params.dir, given)
    of_file = config.getini("sg_state")
    if not of_file:
        raise pytest.UsageError("sg_state: name the state with --sg-state or the ini option sg_state")
    return Path(config.inipath.parent if config.inipath else config.rootpath, of_file)

"""pytest-sgdataplane: fixtures with a state, with a lab in which packets are sent, and with the cloud's API.

Owns the fixtures and their options. Each pytest in an environment with this package loads it, so it must not import
anything of the package before a fixture is used.

    sg_state   the state: `--sg-state`, the ini option `sg_state`, or a fixture of this name that you write
    sg_expect  checks expectations against sg_state: sg_expect("web -> db tcp/5432 accept")
    sg_lab     a lab that is up, with sg_state in force (root; else the test is skipped)
    sgdp_api   the API as a process of its own, with nothing in it but a default VPC; without root
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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
    """Add the options of the fixtures to pytest's."""
    group = parser.getgroup("sgdataplane")
    group.addoption("--sg-state", metavar="STATE", help=STATE_HELP)
    group.addoption("--sg-placement", choices=("instance", "host"), help=PLACEMENT_HELP)
    parser.addini("sg_state", INI_HELP, default="")
    parser.addini("sg_placement", PLACEMENT_HELP, default="instance")


class Labs:
    """The lab of one pytest process: built when it is first needed, and kept until the end."""

    def __init__(self, placement: str) -> None:
        self._placement = placement
        self._stack = ExitStack()
        self._lab: Lab | None = None

    def with_state(self, state: CloudState) -> Lab:
        """Return the lab, with that state in force."""
        if self._lab is None:
            lab = sgdataplane.Lab(state, placement=self._placement)  # type: ignore[arg-type]
            self._lab = self._stack.enter_context(lab)
        elif self._lab.state != state:
            self._lab.apply(state)
        return self._lab

    def close(self) -> None:
        """Remove the lab, if there is one."""
        self._stack.close()


class TestedApi:
    """An API for development (`sgdp api --dev`) of one pytest process.

    Attributes:
        url: https://127.0.0.1:PORT.
        access_key_id: the id of a key that may do everything.
        access_key_secret: the secret of that key.
        authority: the file of the certificate's authority, for clients that name one.
    """

    __test__ = False

    def __init__(self, folder: Path) -> None:
        command = (sys.executable, "-m", "sgdataplane", "api", "--dev", str(folder), "--listen", ":0")
        self._log = open(folder.with_suffix(".log"), "w+", encoding="utf-8")  # noqa: SIM115  # `close` closes it
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        said = self._read()
        self.url, self.authority = str(said["url"]), Path(said["authority"])
        self.access_key_id, self.access_key_secret = str(said["access_key_id"]), str(said["access_key_secret"])
        self._folder = folder

    def _read(self) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            pytest.fail(f"sgdp_api: the API didn't start:\n{self._log.read()}", pytrace=False)
        said: Mapping[str, Any] = json.loads(line)
        return said

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which Terraform, SDKs and `sgdp` find the API, as `sgdp api env` prints them."""
        from sgdataplane.control.http.development import read_endpoint  # noqa: PLC0415  # before a fixture is used, nothing

        endpoint = read_endpoint(self._folder)
        assert endpoint is not None
        return endpoint.environment()

    def ask(self, action: str, **parameters: object) -> dict[str, Any]:
        """Call an action of ECS, or one of sgdataplane's own, and return its answer.

        Raises:
            RefusedError: the API refuses it, with the cloud's code.
        """
        from sgdataplane.control.http.client import ApiClient  # noqa: PLC0415

        client = ApiClient(self.url, self.access_key_id, self.access_key_secret, self.authority)
        return client.ask(action, **parameters)

    def reset(self, state: CloudState | str | Path | None = None) -> str:
        """Remove everything except the key, and return the id of the new default VPC.

        Args:
            state: what is there afterwards besides that VPC: a state, such as the fixture sg_state, or its file.
        """
        if state is None:
            return str(self.ask("SgdpReset")["VpcId"])
        from sgdataplane.statefile.dump_native import dump_native  # noqa: PLC0415

        seed = sgdataplane.load(state) if isinstance(state, (str, Path)) else state
        return str(self.ask("SgdpReset", State=dump_native(seed))["VpcId"])

    def close(self) -> None:
        """End the API's process."""
        self._process.terminate()
        with self._process:
            pass
        self._log.close()


@pytest.fixture(scope="session")
def _sgdp_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestedApi]:
    served = TestedApi(tmp_path_factory.mktemp("sgdp") / "api")
    yield served
    served.close()


@pytest.fixture
def sgdp_api(_sgdp_api: TestedApi) -> TestedApi:
    """Return the API, with nothing in it but a default VPC. Each worker of pytest-xdist has one of its own."""
    _sgdp_api.reset()
    return _sgdp_api


@pytest.fixture(scope="session")
def sg_state(request: pytest.FixtureRequest) -> CloudState:
    """Return the state that `--sg-state` or the ini option names. Write a fixture of this name for another one."""
    return sgdataplane.load(_path(request.config))


@pytest.fixture
def sg_expect(sg_state: CloudState) -> Callable[..., None]:
    """Return a function that checks expectations against the state; nothing is sent.

    It raises AssertionError with the reason of each that fails.
    """

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
    """Return a lab with that state in force.

    It stays up from test to test. A test that applied another state changes nothing for the next one.
    """
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

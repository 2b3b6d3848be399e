"""Each action of ECS through the cloud's SDKs and its command line: each sends its own request, and reads the answer as
what it expects.

What became of each is in tests/data/tried-clients.json, from which the page of the actions says what was tried.
`--update-golden` renews it, with the SDKs of `make sdks`, and with `aliyun` where it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sgdataplane.control.access.signature import Verifier
from sgdataplane.control.actions import ACTIONS
from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.hosts.following import Following
from sgdataplane.control.http.accesslog import AccessLog
from sgdataplane.control.http.admission import Admission
from sgdataplane.control.http.api import Api
from sgdataplane.control.http.server import ApiServer, listen_at
from sgdataplane.control.http.tokenbuckets import TokenBuckets
from sgdataplane.control.service.analysis import HeavyAnswers
from sgdataplane.control.service.dispatch import ApiService
from tests.http.conftest import Cloud, Running
from tests.http.signing import KEY, KEYS, SECRET
from tests.support.inputs.everyaction import Ask, ask_everything, ask_products
from tests.support.run.memorystore import MemoryStore
from tests.support.servers.commandline import CommandLine
from tests.support.servers.sdks import CLIENTS, RefusedError, driver
from tools.apiactions import FORCED, PASSED, record_client, tried_clients

ROOT = Path(__file__).resolve().parents[2]
# Each SDK: its driver, and the package that has its requests.
SDKS = {
    "Python V1": ("drive_yesterday.py", "aliyun-python-sdk-ecs"),
    "Python V3": ("drive_today.py", "alibabacloud-ecs20140526"),
    "Node": ("drive_today.cjs", "@alicloud/ecs20140526"),
    "Go": ("drive.go", "github.com/alibabacloud-go/ecs-20140526/v7"),
}
COMMAND_LINE = "CLI"
OF_ECS = sorted(name for name in ACTIONS if ":" not in name and not name.startswith("Sgdp"))


@pytest.fixture
def endpoint() -> Iterator[str]:
    """An API with an empty store in memory."""
    store = MemoryStore()
    engine = Engine(store, "seed")
    admission = Admission(Verifier(KEYS.get), lambda _: True, TokenBuckets(1e6, 1e6))
    with Following(engine, []) as following:
        api = Api(
            ApiService(engine, store, following, heavy=HeavyAnswers(engine.profile)),
            admission,
            AccessLog(lambda _: None),
        )
        running = Running(ApiServer(api, listen_at("127.0.0.1:0")))
        yield urlsplit(running.url).netloc
        running.stop()


def outcomes(ask: Ask, ask_for: Callable[[Ask], None]) -> dict[str, str]:
    """What became of each action, in the order of their names: PASSED, or why not."""
    found: dict[str, str] = {}

    def note(action: str, **parameters: object) -> Mapping[str, Any]:
        try:
            answer = ask(action, **parameters)
        except RefusedError as error:
            found[action] = error.code
            return {}
        assert answer["RequestId"], action
        found.setdefault(action, PASSED)
        return answer

    ask_for(note)
    return dict(sorted(found.items()))


def version_of(package: str) -> str:
    """The version that `make sdks` installs."""
    name = re.escape(package)
    locks = (ROOT / "requirements-sdks.lock", rf"^{name}==(\S+)"), (CLIENTS / "go" / "go.mod", rf"\b{name} v(\S+)")
    for file, pattern in locks:
        locked = re.search(pattern, file.read_text("utf-8"), re.MULTILINE)
        if locked:
            return locked[1]
    return str(json.loads((CLIENTS / "package.json").read_text("utf-8"))["dependencies"][package])


@pytest.mark.parametrize("sdk", SDKS)
def test_what_became_of_each_action_is_recorded(sdk: str, endpoint: str, update_golden: bool) -> None:
    client, package = SDKS[sdk]
    with driver(client, endpoint, KEY, SECRET) as ask:
        found = {"version": version_of(package), "actions": outcomes(ask, ask_everything)}
    compare(sdk, found, renews=update_golden)


def compare(client: str, found: Mapping[str, Any], *, renews: bool) -> None:
    """With what is recorded of a client; or record it."""
    if renews:
        record_client(client, found)
    assert found == tried_clients()[client]


@pytest.mark.slow
@pytest.mark.optional
@pytest.mark.parametrize("kind", [ask_everything, ask_products])
def test_what_became_of_each_action_of_the_command_line_is_recorded(
    cloud: Cloud, tmp_path: Path, update_golden: bool, kind: Callable[[Ask], None]
) -> None:
    ask = CommandLine(cloud.environment, tmp_path)
    found = outcomes(ask, kind)
    actions = {name: FORCED if told == PASSED and name in ask.forced else told for name, told in found.items()}
    recorded = tried_clients().get(COMMAND_LINE, {"actions": {}})["actions"]
    compare(
        COMMAND_LINE,
        {"version": ask.version, "actions": dict(sorted((recorded | actions).items()))},
        renews=update_golden,
    )


def test_the_record_of_the_command_line_is_of_all_actions() -> None:
    assert [*tried_clients()[COMMAND_LINE]["actions"]] == sorted(
        name for name in ACTIONS if not name.startswith("Sgdp")
    )


@pytest.mark.parametrize("sdk", SDKS)
def test_the_record_is_of_the_versions_that_tests_use_and_of_all_actions(sdk: str) -> None:
    recorded = tried_clients()[sdk]
    assert recorded["version"] == version_of(SDKS[sdk][1])
    assert [*recorded["actions"]] == OF_ECS

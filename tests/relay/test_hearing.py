"""What a host reports follows each cycle of its agent, which is asked once a cycle and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from sgdataplane.daemon.control import parse_request, spell_answer
from sgdataplane.handover.agentplace import AgentPlace
from sgdataplane.handover.publishing import Publisher, name_of_generation
from sgdataplane.relay.sync import Folder, HostSync
from sgdataplane.relay.tls import HostTls
from sgdataplane.relay.wire import Reported
from sgdataplane.store.history import Version

VERSION = Version(0, 7)
DEADLINE_S = 30.0


class ScriptedAgent:
    """Answers as an agent whose cycles end when the test says so."""

    def __init__(self, path: Path, current: Path) -> None:
        self.path, self._current = path, current
        self.asked: list[int] = []
        self._cycle, self._outcomes = 0, dict[str, str]()
        self._ended = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        after = parse_request((await reader.readline()).rstrip()).after
        self.asked.append(after)
        async with self._ended:
            await self._ended.wait_for(lambda: self._cycle != after)
        writer.write(spell_answer(status=self._status()))
        writer.close()

    def _status(self) -> dict[str, object]:
        state = {"path": str(self._current), "generation": name_of_generation(VERSION), "refused": None, "error": None}
        enis = [{"eni": eni, "outcome": outcome, "error": None} for eni, outcome in self._outcomes.items()]
        return {"state": state, "cycle": {"number": self._cycle, "error": None}, "enis": enis, "trials": []}

    async def end_cycle(self, **outcomes: str) -> None:
        async with self._ended:
            self._cycle, self._outcomes = self._cycle + 1, outcomes
            self._ended.notify_all()


async def wait_until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():
            await asyncio.sleep(0.001)


def is_reported(sync: HostSync, wanted: Reported) -> bool:
    return sync.report == wanted


def test_the_agent_is_asked_once_a_cycle_and_each_change_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "generations"
    Publisher(path).publish(VERSION, {"version": 1})
    folder = Folder.open(path)

    async def follow() -> None:
        agent = ScriptedAgent(tmp_path / "agent.sock", folder.publisher.current)
        sync = HostSync([], cast(HostTls, None), folder, AgentPlace(folder.publisher, agent.path))
        async with await asyncio.start_unix_server(agent.serve, str(agent.path)):
            hearing = asyncio.create_task(sync._hear_agent())
            for outcome, failed in (("in force", ()), ("broken", (("a", "broken: "),)), ("in force", ())):
                wanted = Reported(VERSION, failed, claims=("a",))
                await agent.end_cycle(a=outcome)
                await wait_until(partial(is_reported, sync, wanted))
            await wait_until(lambda: len(agent.asked) == 4)
            hearing.cancel()
            await agent.end_cycle()  # so that its last answer doesn't keep the server open
        assert agent.asked == [0, 1, 2, 3]

    asyncio.run(follow())

"""A server as a process of its own: `python -m tests.http.alone CONNECTIONS`. Says what happens."""

from __future__ import annotations

import sys
import threading

from sgdataplane.control.access.signature import Verifier
from sgdataplane.control.calls.answers import Answer
from sgdataplane.control.http import server as serving
from sgdataplane.control.http.admission import Admission
from sgdataplane.control.http.api import Api
from sgdataplane.control.http.server import ApiServer, listen_at
from sgdataplane.store.call import Call
from tests.http.conftest import FakeEngine
from tests.http.signing import KEYS


def say(words: str) -> None:
    print(words, flush=True)


class Telling(FakeEngine):
    """Says when it has begun a call that blocks, which goes on when the server stops."""

    def call(self, call: Call) -> Answer:
        if call.parameters.get("SecurityGroupName") == "blocks":
            say("begun")
        return super().call(call)

    def wait(self, call: Call, is_stopping: threading.Event) -> Answer:
        say("begun")
        return super().wait(call, is_stopping)


class TellingApi(Api):
    """Says when it stops, and lets what blocks go on only then."""

    def stop(self) -> None:
        super().stop()
        if not ENGINE.is_open.is_set():
            say("stopping")
        ENGINE.is_open.set()


ENGINE = Telling()


def main() -> None:
    serving.MAX_CONNECTIONS = int(sys.argv[1])
    server = ApiServer(TellingApi(ENGINE, Admission(Verifier(KEYS.get))), listen_at("127.0.0.1:0"))
    say(server.url)
    server.serve_forever()
    say("closed")


if __name__ == "__main__":
    main()

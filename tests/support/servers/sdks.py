"""The cloud's official SDKs as their users have them: each in a process of its own, which does what it is told.

`make sdks` installs them (tools/setup-sdks.sh); tests/http/clients/ has the programs.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SDKS = Path(os.environ.get("SGDP_SDKS", "/var/tmp/sgdataplane-sdks"))
CLIENTS = Path(__file__).resolve().parents[2] / "http" / "clients"
LANGUAGES = {".py": "python", ".cjs": "node", ".go": "go"}


def command_of(client: str) -> tuple[list[str], dict[str, str]]:
    """How one of these programs is started, and its environment; the test skips if its SDK isn't there."""
    language = LANGUAGES[Path(client).suffix]
    folder = SDKS / language
    if not (folder / "installed.lock").is_file():
        pytest.skip(f"the SDK isn't in {folder}: `make sdks` installs it, if there is a network")
    if language == "python":
        return [str(folder / "bin" / "python"), "-I", str(CLIENTS / client)], {}
    if language == "node":
        return ["node", str(CLIENTS / client)], {"PATH": os.environ["PATH"], "NODE_PATH": str(folder / "node_modules")}
    return [str(folder / Path(client).stem)], {}  # `make sdks` has compiled it


class RefusedError(Exception):
    """The SDK has raised its own exception, of that kind."""

    def __init__(self, code: str, kind: str) -> None:
        super().__init__(code, kind)
        self.code, self.kind = code, kind


class Driver:
    """One SDK that waits for what to do. `again`: how many requests it has sent again, if it does that."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self.again = process, 0

    def __call__(self, action: str, **parameters: object) -> dict[str, Any]:
        """The answer's fields, and `revision` if the SDK shows one. RefusedError, with the code that its exception
        has."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"action": action, "parameters": parameters}) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, "the SDK's process has ended"
        said = json.loads(line)
        self.again = said.get("again", 0)
        if "refused" in said:
            raise RefusedError(said["refused"], said["kind"])
        body: dict[str, Any] = said["body"]
        return body | ({"revision": int(said["revision"])} if said.get("revision") else {})


@contextmanager
def driver(
    client: str,
    endpoint: str,
    key: str,
    secret: str,
    authority: Path | None = None,
    *,
    prefix: Sequence[str] = (),
) -> Iterator[Driver]:
    """`endpoint`: HOST:PORT. `authority`: of its certificate; the client then sends again what wasn't answered.
    `prefix`: what runs the client elsewhere."""
    command, environment = command_of(client)
    arguments = [*prefix, *command, endpoint, key, secret, *([] if authority is None else [str(authority)])]
    with subprocess.Popen(
        arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            yield Driver(process)
        finally:
            process.kill()

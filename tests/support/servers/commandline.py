"""The cloud's command line `aliyun`, as its users have it: a process for each call.

tests/README.md says where to get it; SGDP_ALIYUN names the program if it is elsewhere. Owns how a call is written. Must
not know what is called.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.control.calls.products import PRODUCTS, plain, service_of
from sgdataplane.control.http.client import flat
from tests.support.servers.sdks import SDKS, RefusedError

PROGRAM = Path(os.environ.get("SGDP_ALIYUN") or SDKS / "aliyun" / "aliyun")
ERROR = re.compile(r"^ErrorCode: (\S+)", re.MULTILINE)
# On a machine that others keep busy. By itself it gives up after 10 s, and tries once.
PATIENCE = ("--read-timeout=60", "--connect-timeout=60", "--retry-count=5")
# What it says before it sends anything, if its own list of parameters doesn't have one, or says that one is missing.
UNLISTED = re.compile(r"is not a valid (?:parameter or flag|api|command or product)|required parameters not assigned")
VERSIONS = {product.service: product.version for product in PRODUCTS}


class CommandLine:
    """The program, with these variables. `forced`: actions that it called only with --force."""

    def __init__(self, environment: Mapping[str, str], home: Path) -> None:
        if not PROGRAM.is_file():
            pytest.skip(f"the cloud's command line isn't at {PROGRAM}: tests/README.md says where to get it")
        alone = {"HOME": str(home), "ALIBABA_CLOUD_IGNORE_PROFILE": "TRUE", "NO_COLOR": "1"}
        self._environment = {**environment, **alone}
        self.forced: set[str] = set()

    @property
    def version(self) -> str:
        return self._run("version").stdout.strip()

    def __call__(self, action: str, **parameters: object) -> dict[str, Any]:
        """The answer's fields. RefusedError, with the code of the API's error."""
        service = service_of(action)
        words = (service, plain(action), *(f"--{name}={value}" for name, value in flat(parameters)), *PATIENCE)
        done = self._run(*words)
        if UNLISTED.search(done.stderr):
            self.forced.add(action)
            done = self._run(*words, f"--version={VERSIONS[service]}", "--force")
        if found := ERROR.search(done.stderr):
            raise RefusedError(found[1], "ServerError")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command, environment = [str(PROGRAM), *words], self._environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

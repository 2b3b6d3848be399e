"""Runs a network's CNI plugins as libcni does, and so every container runtime that uses it.

Owns what libcni owns: environment and standard input of each plugin, the chain with `prevResult`, capabilities, the
cached result that CHECK and DEL get, the reverse order of DEL. Must not know what the plugins do.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.run.forked import Forked

ROOT = Path(__file__).resolve().parents[3]
Result = dict[str, Any]


class PluginError(Exception):
    """What a plugin answered."""

    def __init__(self, answer: Result) -> None:
        super().__init__(answer)
        self.code, self.message = int(answer["code"]), str(answer["msg"])
        self.version, self.details = answer["cniVersion"], str(answer.get("details", ""))


@dataclass(frozen=True)
class Runtime:
    """One attachment, as libcni's RuntimeConf."""

    container: str
    netns: str
    ifname: str = "eth0"
    arguments: str = ""
    capabilities: Mapping[str, object] = field(default_factory=dict)


Inner = Callable[[str, Mapping[str, Any], Runtime], Result | None]
Main = Callable[[], int]


@dataclass
class Network:
    """`path`: the folders of the plugins. `inner`: plugins that are functions of the tests, by type: they get the
    command, the configuration and the attachment. `forked`: plugins that are processes which fork from this one, by
    type: what they run, and their arguments."""

    name: str
    plugins: Sequence[Mapping[str, object]]
    path: Sequence[Path]
    version: str = "1.0.0"
    inner: Mapping[str, Inner] = field(default_factory=dict)
    forked: Mapping[str, tuple[Main, Sequence[str]]] = field(default_factory=dict)
    cache: dict[tuple[str, str], Result] = field(default_factory=dict)

    def add(self, runtime: Runtime) -> Result:
        result: Result | None = None
        for plugin in self.plugins:
            result = self.run("ADD", plugin, runtime, result)
            assert result is not None
            assert result["cniVersion"] == self.version, result
        assert result is not None
        self.cache[runtime.container, runtime.ifname] = result
        return result

    def check(self, runtime: Runtime) -> None:
        """In order, each with the result of the whole list."""
        for plugin in self.plugins:
            assert self.run("CHECK", plugin, runtime, self.cache[runtime.container, runtime.ifname]) is None

    def delete(self, runtime: Runtime) -> None:
        """In reverse order. An ADD that failed left nothing in the cache."""
        for plugin in reversed(self.plugins):
            self.run("DEL", plugin, runtime, self.cache.get((runtime.container, runtime.ifname)))
        self.cache.pop((runtime.container, runtime.ifname), None)

    def collect(self, valid: Sequence[Runtime]) -> None:
        """The GC of the plugins that are ours; those of Debian know no GC yet."""
        listed = [{"containerID": one.container, "ifname": one.ifname} for one in valid]
        for plugin in self._ours:
            self.run("GC", {**plugin, "cni.dev/valid-attachments": listed}, None, None)

    def status(self) -> None:
        for plugin in self._ours:
            self.run("STATUS", plugin, None, None)

    @property
    def _ours(self) -> Sequence[Mapping[str, object]]:
        return [plugin for plugin in self.plugins if plugin["type"] == "sgdataplane"]

    def run(
        self, command: str, plugin: Mapping[str, object], runtime: Runtime | None, previous: Result | None
    ) -> Result | None:
        inner = self.inner.get(str(plugin["type"]))
        if inner is not None:
            assert runtime is not None
            return inner(command, self._config(plugin, runtime, previous), runtime)
        with self.start(command, plugin, runtime, previous) as process:
            out, errors = process.communicate()
        if process.returncode != 0:
            assert out, errors
            raise PluginError(json.loads(out))
        found: Result | None = json.loads(out) if out else None
        return found

    def start(
        self, command: str, plugin: Mapping[str, object], runtime: Runtime | None, previous: Result | None
    ) -> subprocess.Popen[bytes]:
        kind, pipes = str(plugin["type"]), dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        around: dict[str, Any] = {"env": {**os.environ, **self._environment(command, runtime)}, **pipes}
        if kind in self.forked:
            process: subprocess.Popen[bytes] = Forked(*self.forked[kind], **around)
        else:
            process = subprocess.Popen([str(self.find(kind))], **around)
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._config(plugin, runtime, previous)).encode())
        process.stdin.close()
        process.stdin = None  # communicate() would close it once more
        return process

    def _config(
        self, plugin: Mapping[str, object], runtime: Runtime | None, previous: Result | None
    ) -> Mapping[str, object]:
        """What one plugin gets: its part of the list, and what is the whole list's and the attachment's."""
        declared = plugin.get("capabilities", {})
        assert isinstance(declared, dict)
        given = {} if runtime is None else runtime.capabilities
        handed = {key: value for key, value in given.items() if declared.get(key)}
        more = {"runtimeConfig": handed} if handed else {}
        more |= {} if previous is None else {"prevResult": previous}
        return {**plugin, "name": self.name, "cniVersion": self.version, **more}

    def _environment(self, command: str, runtime: Runtime | None) -> dict[str, str]:
        made = {"CNI_COMMAND": command, "CNI_PATH": ":".join(map(str, self.path))}
        if runtime is None:
            return made
        one = {"CNI_CONTAINERID": runtime.container, "CNI_NETNS": runtime.netns, "CNI_IFNAME": runtime.ifname}
        return made | one | {"CNI_ARGS": runtime.arguments}

    def find(self, kind: str) -> Path:
        return next(folder / kind for folder in self.path if (folder / kind).exists())


def install(folder: Path, kind: str, *command: str) -> None:
    """A plugin of that type, which is this command."""
    script = folder / kind
    script.write_text(f'#!/bin/sh\ncd {ROOT} && exec {" ".join(command)} "$@"\n', "utf-8")
    script.chmod(0o755)

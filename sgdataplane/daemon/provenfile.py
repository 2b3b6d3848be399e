"""The summaries of what is in force, on disk: proven.json in the state directory. With them a restart needs no build.

Owns that file: its form, its limits, and when it is refused. Must not know how a policy is built.

    {"version": 1, "program": "<digest>", "counters": [["<name>", ...], ...],
     "tables": {"<digest of the inputs>": ["<digest of the table>", <place in counters>, <paths>], ...}}

A file of another program, or one that isn't complete, is ignored: then all is built at the start. Only root can write
it.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sgdataplane.daemon.statefolder import PROVEN, make_state_folder
from sgdataplane.enforce import TableSummary
from sgdataplane.enforce.inputs import program
from sgdataplane.errors import HostError
from sgdataplane.host.files import Survives, replace_file

VERSION = 1
MAX_BYTES = 64 << 20


class ProvenFile:
    """The file of summaries. It is never needed, so no error is raised."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / PROVEN
        self._program = program()

    def load(self) -> Mapping[str, TableSummary]:
        """Return the summaries; none of them if the file isn't this program's."""
        try:
            if self.path.parent.exists():
                make_state_folder(self.path.parent)  # who else can write there could say what was proven
            found = self.path.stat()
            if not self._program or not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
                return {}
            return self._decode(json.loads(self.path.read_bytes()))
        except (HostError, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, MemoryError):
            return {}

    def _decode(self, document: dict[str, object]) -> Mapping[str, TableSummary]:
        """Return the summaries of the file's document.

        Raises:
            TypeError: It isn't such a document. There may be other errors for the same reason.
        """
        if (document["version"], document["program"]) != (VERSION, self._program):
            return {}
        named, tables = document["counters"], document["tables"]
        if not isinstance(named, list) or not isinstance(tables, dict):
            return {}
        counters = [frozenset(map(str, names)) for names in named]
        rows = tables.items()
        return {
            inputs: TableSummary(str(digest), counters[place], int(paths)) for inputs, (digest, place, paths) in rows
        }

    def store(self, summaries: Mapping[str, TableSummary]) -> None:
        """Write the summaries in one step, or no file."""
        places: dict[frozenset[str], int] = {}
        tables = {
            inputs: (known.digest, places.setdefault(known.counters, len(places)), known.paths)
            for inputs, known in summaries.items()
        }
        counters = [sorted(names) for names in places]
        document = {"version": VERSION, "program": self._program, "counters": counters, "tables": tables}
        with suppress(HostError, OSError):
            make_state_folder(self.path.parent)
            data = json.dumps(document, separators=(",", ":")).encode("ascii")
            replace_file(self.path, data, Survives.THE_WRITER, mode=0o600)

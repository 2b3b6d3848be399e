"""The log of requests: a line of JSON each, and their counts.

Owns the lines' fields. What clients chose (action, code, addresses) is made safe here, and nowhere else. Must not know
HTTP's server or the engine. The lines of writes are kept elsewhere too: the store's audit.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sgdataplane.control.calls.parameters import tables
from sgdataplane.control.http.admission import Asker
from sgdataplane.control.http.metrics import ApiMetrics
from sgdataplane.visible import json_text

INTERNAL = 500  # statuses from here on are our fault


@dataclass(slots=True)
class Access:
    """One request, as it is logged."""

    request_id: str
    source: str
    method: str
    host: str
    began: float  # monotonic seconds
    client: str = ""  # the name that the client gives itself
    is_xml: bool = False  # whether the client reads XML
    asker: Asker = field(default_factory=Asker)
    status: int = 0
    code: str = ""  # the cloud's error; "" if the call was done
    revision: int | None = None  # the call's commit, if it has made one


class AccessLog:
    """Logs and counts requests, in one thread.

    `write` takes one line, without its end. If it `is_quiet`, only faults of ours are written, and actions that don't
    exist.
    """

    def __init__(
        self,
        write: Callable[[str], object] = lambda _: None,
        metrics: ApiMetrics | None = None,
        *,
        is_quiet: bool = False,
    ) -> None:
        self._write, self.metrics, self._is_quiet = write, metrics or ApiMetrics(), is_quiet

    def note(self, access: Access) -> None:
        """Log and count a request that was answered."""
        seconds, action = time.monotonic() - access.began, access.asker.action
        self.metrics.note(action if action in tables() else "", access.code, seconds)
        if self._is_quiet and access.status < INTERNAL and access.code != "InvalidAction.NotFound":
            return
        self._line(
            request_id=access.request_id,
            source=access.source,
            key=access.asker.key,
            method=access.method,
            action=action,
            version=access.asker.version,
            client=access.client,
            status=access.status,
            code=access.code,
            revision=access.revision,
            seconds=round(seconds, 6),
        )

    def note_bug(self, access: Access) -> None:
        """Log the exception that is being caught, with its traceback."""
        self._line(request_id=access.request_id, action=access.asker.action, traceback=traceback.format_exc())

    def _line(self, **fields: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write(json_text({"time": now, **fields}))

"""Labs that belong to one process: nothing of them is left, however that process ends.

Owns their removal. It is given a record and a state. Must not know what the lab is for.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from sgdataplane.lab import manage
from sgdataplane.lab.fleet import start_python
from sgdataplane.lab.manage import Enforcer, Lab
from sgdataplane.lab.reaper import DONE
from sgdataplane.lab.record import LabRecord
from sgdataplane.model.state import CloudState


@contextmanager
def temporary_lab(record: LabRecord, state: CloudState, enforce: Enforcer) -> Iterator[Lab]:
    """Build a lab that is up while the block runs."""
    with take_down_afterwards(record.name):
        yield manage.up(record, state, enforce)


@contextmanager
def take_down_afterwards(name: str) -> Iterator[None]:
    """Remove that lab after the block.

    If this process dies instead, another one waits for that and removes the lab.
    """
    reaper = start_python("sgdataplane.lab.reaper", name, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        manage.down(name)
        reaper.communicate(DONE)

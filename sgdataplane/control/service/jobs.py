"""What the API hands to the process that computes a heavy answer: the call, and the documents.

Owns the form in which they are written and read. Must not know how they are sent.
"""

from __future__ import annotations

import pickle
from typing import IO

from sgdataplane.store.call import Call
from sgdataplane.store.documents import SECTIONS, Documents, path_of
from sgdataplane.store.interface import Revision


def write_job(file: IO[bytes], documents: Documents, call: Call) -> None:
    """Write a call, and the documents that its answer follows from.

    Documents are written one by one, so that other threads run in between.
    """
    bodies = [(path_of(kind, name), body) for kind in SECTIONS for name, body in documents.of_kind[kind].items()]
    pickle.dump((documents.revision, call, len(bodies)), file)
    for put in bodies:
        pickle.dump(put, file)
    file.flush()


def read_job(file: IO[bytes]) -> tuple[Documents, Call]:
    """Return what `write_job` has written."""
    file.seek(0)
    revision, call, count = pickle.load(file)
    puts = dict(pickle.load(file) for _ in range(count))
    return Documents().after(Revision(revision, puts, frozenset(), frozenset())), call

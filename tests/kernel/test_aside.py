"""What is let go aside keeps no namespace."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sgdataplane.host import netns, nfsocket

pytestmark = pytest.mark.kernel


def test_threads_keep_no_namespace_that_the_caller_is_in(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, done = [], threading.Event()

    def look() -> None:
        seen.append(Path(netns.OWN_NETNS).stat().st_ino)
        done.set()

    monkeypatch.setattr(nfsocket, "_ASIDE", nfsocket._Aside())  # so that its first thread is made here
    with netns.inside(namespace):
        nfsocket.call_aside(look)
        assert done.wait(20)
    assert seen != [netns.path_of(namespace).stat().st_ino]

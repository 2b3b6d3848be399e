"""Long work runs in a thread, while the caller keeps serving."""

from __future__ import annotations

import threading

import pytest

from sgdataplane.daemon.meanwhile import Meanwhile


def test_the_caller_serves_until_the_work_is_done() -> None:
    served, threads = threading.Event(), set[int]()

    def serve() -> None:
        threads.add(threading.get_ident())
        served.set()

    meanwhile = Meanwhile(serve)
    assert meanwhile.run(lambda: served.wait(60)) is True
    assert threads == {threading.get_ident()}
    assert meanwhile.run(threading.get_ident) not in threads
    meanwhile.close()


def test_what_the_work_raises_is_raised() -> None:
    meanwhile = Meanwhile(lambda: None)
    with pytest.raises(ZeroDivisionError):
        meanwhile.run(lambda: 1 / 0)
    meanwhile.close()

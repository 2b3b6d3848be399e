"""If a link to a folder is turned while the folder is read, everything is read from the first folder."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from sgdataplane.statefile import load, source
from tests.support.inputs.generations import turn, write_generation
from tests.support.scenes.attachbench import state_of

OLD, NEW = state_of(443), state_of(80, 8080)


def test_a_generation_is_read_whole_though_its_link_is_turned_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old interfaces with new groups would be a policy that nobody wrote."""
    write_generation(tmp_path / "1", OLD)
    write_generation(tmp_path / "2", NEW)
    link = tmp_path / "current"
    link.symlink_to("1")
    opened: list[str] = []
    real = source.open_stream

    def opening(file: Path, *rest: object, **more: object) -> BinaryIO:
        if len(opened) == 1:
            turn(link, "2")
        opened.append(str(file))
        return real(file, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(source, "open_stream", opening)
    assert load(link).state == OLD
    assert opened == [f"{link}/a.yaml", f"{link}/b.yaml"], "by the names that the user knows"
    assert load(link).state == NEW, "and then the next one"

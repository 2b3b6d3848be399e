"""What a reconcile leaves behind in the process. Of what it does in the kernel: tests/kernel/test_attach.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.attach.reconcile import reconcile
from sgdataplane.attach.registry import Registry
from sgdataplane.model.state import CloudState


def test_what_is_kept_encoded_is_trimmed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[bool] = []
    monkeypatch.setattr("sgdataplane.attach.reconcile.trim_encoded", lambda: trimmed.append(True))
    reconcile(Registry(tmp_path), CloudState())
    assert trimmed == [True]

"""The notebook of the documents says what it says: it is executed, and prints what it shows."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
TIMEOUT_S = 120


def outputs(notebook: nbformat.NotebookNode) -> list[list[dict[str, Any]]]:
    """Of each cell, without numbers of executions."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [[{"text": out.get("text"), "data": out.get("data")} for out in cell.outputs] for cell in cells]


def test_it_prints_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shown = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    executed = copy.deepcopy(shown)
    client = NotebookClient(executed, timeout=TIMEOUT_S, resources={"metadata": {"path": ROOT / "examples"}})
    client.execute(env=dict(os.environ))
    assert outputs(executed) == outputs(shown)
    assert len(outputs(shown)) > 3
    assert all(outputs(shown)), "each cell shows something"

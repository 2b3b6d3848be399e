"""`sgdp top` on terminals of several sizes: nothing is wider or longer, and each table has its part."""

from __future__ import annotations

from typing import Any

import pytest

from sgdataplane.cli.top import LEAST_LINES, TABLES, screen

SHORT, LONG = (
    ("eni-web", "sgr-web of sg-web", "192.0.2.7"),
    (
        "eni-bp14v2sdd3v8htln0000 (shop/web-5d9c7b6f4d-x2x7k)",
        "sgr-bp67acfmxazb4p00000000 of sg-bp67acfmxazb4p00000000 of the shop",
        "2001:db8:1234:5678:9abc:def0:1234:5678",
    ),
)
SIZES = [(80, 24), (200, 50)]


def look(names: tuple[str, ...], rows: int = 100) -> dict[str, Any]:
    found: dict[str, Any] = {"time": "2026-12-01T10:00:00Z", "seconds": 2.0}
    for table, name in zip(TABLES, names, strict=True):
        row = {"direction": "ingress", "verdict": "drop", "per_second": 1234.5}
        found[table] = [row | {"name": f"{name}{number}"} for number in range(rows)]
    return found


@pytest.mark.parametrize(("columns", "lines"), SIZES, ids=["80 columns", "200 columns"])
@pytest.mark.parametrize("names", [SHORT, LONG], ids=["short names", "long names"])
def test_it_fits_and_each_table_has_rows(
    names: tuple[str, ...], columns: int, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = screen(look(names), columns, lines)
    assert len(shown) < lines
    assert max(map(len, shown)) <= columns
    starts = [number for number, line in enumerate(shown) if line.startswith(tuple(TABLES.values()))]
    assert len(starts) == len(TABLES)
    for start, end in zip(starts, [*starts[1:], len(shown) + 1], strict=True):
        assert sum("1,234.5" in line for line in shown[start:end]) >= 1
    if names is SHORT or columns > 100:
        assert sum("1,234.5" in line for line in shown) == len(TABLES) * max(LEAST_LINES, (lines - 2) // 3 - 2)


def test_without_traffic_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = screen(look(SHORT, 0), 80, 24)
    assert shown[0].startswith("sgdp top ")
    assert "0.0 new sessions a second, 0.0 drops a second" in shown[0]
    assert sum(line.startswith("-") for line in shown) == len(TABLES)

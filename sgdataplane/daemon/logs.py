"""How the agent logs: a line an event on stderr, as `event key=value ...`, which journald takes.

Owns the form. Must not know events.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping

from sgdataplane.visible import json_text, visible

LOGGER = logging.getLogger("sgdataplane.agent")
PLAIN = re.compile(r"[^\s\"=]+")
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}  # sd-daemon


class _Formatter(logging.Formatter):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._is_journal = "JOURNAL_STREAM" in environment

    def format(self, record: logging.LogRecord) -> str:
        """One line, a traceback included; for journald with its level in front, else in words."""
        text = record.getMessage()
        if record.exc_info:
            text += f" traceback={spelt(self.formatException(record.exc_info))}"
        text = visible(text)
        if self._is_journal:
            return f"<{PRIORITIES.get(record.levelno, 6)}>{text}"
        return f"{record.levelname.lower()} {text}"


def set_up(level: str) -> None:
    """Log from here on; also what other parts of the product log."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(os.environ))
    logger = logging.getLogger("sgdataplane")
    logger.handlers[:] = [handler]
    logger.propagate = False
    set_level(level)


def set_level(level: str) -> None:
    logging.getLogger("sgdataplane").setLevel(level.upper())


def event(level: int, word: str, **fields: object) -> None:
    """One line; values with spaces are quoted as in JSON."""
    LOGGER.log(level, "%s", " ".join([word, *(f"{key}={spelt(value)}" for key, value in fields.items())]))


def spelt(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if PLAIN.fullmatch(text) and visible(text) == text else json_text(text)

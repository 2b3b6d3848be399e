"""The listeners for samples of trials: one in each namespace that is counted, up to MAX_LISTENED.

Owns the listeners. Its input is scopes, and what to do with a sample. Must not know trials.

A listener keeps its namespace alive, so it is released once nobody else is there.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from sgdataplane.errors import SgDataplaneError
from sgdataplane.trial.samples import Sample, SampleListener
from sgdataplane.trial.trial import TrialScope

MAX_LISTENED = 64
TOO_MANY = f"samples are taken in {MAX_LISTENED} namespaces already, which is the most"


@dataclass
class Sampling:
    """The listeners, for a selector whose entries are called."""

    selector: selectors.BaseSelector
    hear: Callable[[Sample], None]  # gets each sample
    now: Callable[[], float]  # returns seconds since 1970
    silent: dict[object, str] = field(default_factory=dict)  # where nobody listens though somebody should, and why
    _listeners: dict[object, SampleListener] = field(default_factory=dict)

    @property
    def listened(self) -> tuple[object, ...]:
        """The namespaces where somebody listens."""
        return tuple(self._listeners)

    def follow(self, scopes: Iterable[TrialScope]) -> None:
        """Listen in these namespaces and no others. Where that fails, it is tried again at the next call."""
        wanted = {scope.key: scope for scope in scopes}
        for key in self._listeners.keys() - wanted.keys():
            self.release(key)
        self.silent.clear()
        for key in wanted.keys() - self._listeners.keys():
            if len(self._listeners) >= MAX_LISTENED:
                self.silent[key] = TOO_MANY
            else:
                self._listen(wanted[key])

    def _listen(self, scope: TrialScope) -> None:
        try:
            with scope.held() as path:
                if path is not None:
                    self._add(scope.key, SampleListener(path, scope.desired.site))
        except (SgDataplaneError, OSError) as error:
            self.silent[scope.key] = str(error)

    def _add(self, key: object, listener: SampleListener) -> None:
        self._listeners[key] = listener
        self.selector.register(listener, selectors.EVENT_READ, partial(self._read, listener))

    def _read(self, listener: SampleListener) -> None:
        with suppress(SgDataplaneError, OSError):
            for sample in listener.read(self.now()):
                self.hear(sample)

    def release(self, key: object) -> None:
        """Stop listening there."""
        listener = self._listeners.pop(key, None)
        if listener is not None:
            with suppress(KeyError, ValueError):
                self.selector.unregister(listener)
            listener.close()

    def close(self) -> None:
        """Stop listening everywhere."""
        for key in self.listened:
            self.release(key)

"""The namespaces that the agent's trials count in: how each is held, whether it is still there, what it obeys.

Owns these looks. Its input is the reports of cycles. Must not know trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from sgdataplane.attach.report import NamespaceReport
from sgdataplane.enforce import Desired
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host import identity, netns
from sgdataplane.trial.trial import TrialScope


@dataclass(frozen=True, slots=True)
class TrialPlaceAt:
    """A namespace where a policy is in force, as the last cycle reported it."""

    scope: TrialScope
    report: NamespaceReport

    @classmethod
    def of(cls, report: NamespaceReport, desired: Desired) -> TrialPlaceAt:
        """Return the place of a namespace that obeys `desired`."""
        return cls(TrialScope(report.key, partial(_hold_namespace, report), desired), report)

    @property
    def is_there(self) -> bool:
        """Whether the namespace exists for others than us."""
        key = self.report.key
        if isinstance(key, str):
            return netns.exists(key)
        with suppress(SgDataplaneError, OSError):
            return identity.is_there(key, self.report.enis[0].binding.path)
        return True


@contextmanager
def _hold_namespace(report: NamespaceReport) -> Iterator[str | None]:
    """Yield a path to the namespace, which is held while the block runs; None if it has ended."""
    key = report.key
    with ExitStack() as stack:
        if not isinstance(key, str):
            yield stack.enter_context(identity.find_namespace(key, report.enis[0].binding.path))
            return
        path = None
        with suppress(FileNotFoundError):
            path = f"/proc/self/fd/{stack.enter_context(netns.open_fd(key))}"
        yield path


def list_desired(places: Mapping[object, TrialPlaceAt]) -> dict[object, Desired]:
    """Return what each of them obeys."""
    return {key: place.scope.desired for key, place in places.items()}


def obey_the_same(before: Mapping[object, Desired], now: Mapping[object, Desired]) -> bool:
    """Whether the same namespaces obey the same."""
    return before.keys() == now.keys() and all(
        before[key] is now[key] or (before[key].state is now[key].state and before[key] == now[key]) for key in now
    )

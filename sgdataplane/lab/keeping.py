"""A process that keeps a lab's trials: it listens for samples, and ends trials whose time is over.

Owns its own life: one process for each lab, from the first trial to the end of the last one, or of the lab. trials.py
starts it. Must not count anything: the kernel counts, and the process that shows a trial reads the counters.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from contextlib import closing, suppress

from sgdataplane.contract.sites import Site
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.private import open_lock, wait_for_lock
from sgdataplane.lab import manage, trials
from sgdataplane.lab.record import LabFolder
from sgdataplane.trial.samples import SampleListener, Samples

ROUND_S = 0.2


def _places_of(name: str) -> list[tuple[str, Site]]:
    """Return the namespaces that enforce policy now. LabError if there is no such lab."""
    return [(at.netns, at.desired.site) for at in manage.look(name).enforced]


def _expire(name: str) -> None:
    """End trials whose time is over. LabError if there is no such lab."""
    folder = trials.folder_of(name)
    if trials.list_expired(folder):
        with manage.watch(name) as lab, folder.lock():
            trials.end_expired(lab, folder)


class LabKeeper:
    """The listener at each place where the lab's policy is enforced, for as long as there are trials."""

    def __init__(self, name: str) -> None:
        self._name, self._folder = name, trials.folder_of(name)
        self._samples = Samples.of(trials.read_keeper(self._folder).get("samples"))
        self._waiting: dict[str, Site] = {}  # where we have to listen, and don't yet
        self._silent: dict[str, str] = {}  # why
        self._selector = selectors.EpollSelector()
        self._record = ""
        self._is_new = False

    def close(self) -> None:
        """Stop listening everywhere."""
        for key in list(self._selector.get_map().values()):
            self._deafen(key.data)
        self._selector.close()

    def listen(self) -> None:
        """Listen in the lab's present namespaces. Where that fails, the next call tries again."""
        record = LabFolder(self._name).load()
        if record is None or not record.is_up:
            return
        if record.state_file != self._record:
            self._record = record.state_file
            for key in list(self._selector.get_map().values()):
                self._deafen(key.data)
            self._waiting = dict(_places_of(self._name))
        before, self._silent = self._silent, {}
        for place, site in tuple(self._waiting.items()):
            self._listen(place, site)
        self._is_new |= self._silent != before

    def _listen(self, place: str, site: Site) -> None:
        try:
            listener = SampleListener(place, site)
        except (SgDataplaneError, OSError) as error:
            self._silent[place] = str(error)
            return
        self._selector.register(listener, selectors.EVENT_READ, listener)
        del self._waiting[place]

    def _deafen(self, listener: SampleListener) -> None:
        self._selector.unregister(listener)
        listener.close()

    def run(self) -> None:
        """Note samples and end expired trials, until there is no trial."""
        while self._folder.names():
            for key, _ in self._selector.select(ROUND_S):
                self._hear(key.data)
            with suppress(SgDataplaneError, OSError):
                self.listen()
                self._store()
                _expire(self._name)

    def _hear(self, listener: SampleListener) -> None:
        """Note the samples that have come to a listener."""
        with suppress(SgDataplaneError, OSError):
            for sample in listener.read(time.time()):
                self._samples.note(sample)
                self._is_new = True

    def _store(self) -> None:
        """Write the samples, and where listening fails, to the trials' folder, if either changed."""
        if self._is_new and self._folder.names():
            text = json.dumps(
                {
                    "samples": self._samples.as_json(),
                    "silent": [f"{place}: {why}" for place, why in self._silent.items()],
                }
            )
            replace_file(self._folder.path / trials.SAMPLES_FILE, text.encode(), Survives.THE_WRITER, mode=0o600)
            self._is_new = False


def main(name: str) -> int:
    """Become a process that nobody waits for, unless another one keeps the lab's trials.

    The caller gets control back when the process listens.
    """
    folder = trials.folder_of(name).path
    with open(open_lock(folder / trials.KEEPER), encoding="ascii") as lock:
        if not wait_for_lock(lock.fileno(), 0.0):
            return 0
        with closing(LabKeeper(name)) as keeper:
            keeper.listen()
            if os.fork():
                os._exit(0)
            os.setsid()
            keeper.run()
        os._exit(0)  # whoever waits for the lock finds no process any more


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""The fork server of heavy answers, with ENIs at which an explanation goes wrong.

It is `python -m tests.support.variants.slowforks`.

Owns what goes wrong at which ENI. All else is the product's.
"""

from __future__ import annotations

import os
import signal
from threading import Event

from sgdataplane.control.service import forkserver
from sgdataplane.control.service.analysis import HeavyAnswers
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents
from sgdataplane.store.interface import Body

SPINS, HUNGRY, KILLED, BREAKS, TALKS = "eni-spins", "eni-hungry", "eni-killed", "eni-breaks", "eni-talks"
MEMORY = 64 << 20  # enough to go wrong
SECRET = "a secret of the inside"


class SlowAnswers(HeavyAnswers):
    """Heavy answers that don't all come."""

    def compute(self, documents: Documents, call: Call, is_ended: Event | None = None) -> Body:
        match call.parameters.get("NetworkInterfaceId"):
            case "eni-spins":
                while not (is_ended and is_ended.is_set()):
                    pass
            case "eni-hungry":
                taken = []
                while True:
                    taken.append(bytes(1 << 20))
            case "eni-killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "eni-breaks":
                raise RuntimeError(SECRET)
            case "eni-talks":
                return {"Text": "a" * (4 << 20)}
        return super().compute(documents, call, is_ended)


if __name__ == "__main__":
    forkserver.MEMORY = MEMORY
    forkserver.main(SlowAnswers)

"""The measures of this process that Prometheus' library has, also from within the units' sandbox.

Owns nothing but the machine's boot time. Must not know what else is measured.
"""

from __future__ import annotations

import time

from prometheus_client import ProcessCollector


class ProcessUsage(ProcessCollector):
    """The library's measures, with the boot time by the clocks.

    The library reads the boot time in /proc/stat, and measures nothing if it can't. A unit with ProcSubset=pid has no
    such file.
    """

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

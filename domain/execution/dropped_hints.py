"""Reports hints that were dropped: the first at once, then one warning for all of an interval."""

import logging
from time import monotonic
from typing import Final

log = logging.getLogger(__name__)

REPORT_SECONDS: Final = 30.0


class DroppedHints:
    def __init__(self) -> None:
        self._reasons: dict[str, int] = {}
        self._report_at = 0.0

    def count(self, reason: str) -> None:
        self._reasons[reason] = self._reasons.get(reason, 0) + 1
        if monotonic() >= self._report_at:
            log.warning("hints dropped", extra={"reasons": self._reasons})
            self._reasons = {}
            self._report_at = monotonic() + REPORT_SECONDS

"""Counts events in windows of time, to limit how often they happen."""


class EventLimit:
    """A limit of events per window of time."""

    __slots__ = ("_count", "_ends_at", "_limit", "_seconds")

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._count = 0
        self._ends_at = float("-inf")

    def is_exceeded(self, now: float, count: int = 1) -> bool:
        """Count an event at a time in seconds. Return whether there were too many in the window."""
        if now >= self._ends_at:
            self._count = 0
            self._ends_at = now + self._seconds
        self._count += count
        return self._count > self._limit

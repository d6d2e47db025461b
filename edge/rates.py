"""How often something may happen."""


class RateLimit:
    """Counts within windows of time: what keeps to the limit in any window never exceeds it."""

    __slots__ = ("_count", "_ends_at", "_limit", "_seconds")

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._count = 0
        self._ends_at = float("-inf")

    def is_exceeded(self, now: float, count: int = 1) -> bool:
        """Count what has happened, at a time in seconds; return whether it was too much."""
        if now >= self._ends_at:
            self._count = 0
            self._ends_at = now + self._seconds
        self._count += count
        return self._count > self._limit

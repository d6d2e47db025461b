"""How much of something there may be at the same time in this process."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack


class Tally:
    """Counts what clients hold, up to a limit for each."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(self._held.values())

    def enter(self, client: str) -> Callable[[], None] | None:
        """Count one more. Return what ends it, which may be called again, or None at a limit."""
        if self._held[client] >= self._limit:
            return None
        self._held[client] += 1
        stack = ExitStack()
        stack.callback(self._leave, client)
        return stack.close

    def _leave(self, client: str) -> None:
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]

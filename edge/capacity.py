"""Limits for what clients hold at the same time in this process."""

from collections import Counter
from collections.abc import Callable


class Tally:
    """Counts what clients hold, up to a limit for each."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(self._held.values())

    def enter(self, client: str) -> Callable[[], None] | None:
        """Count one more. Return a function that counts it off again (a second call does nothing),
        or None where the client is at its limit.
        """
        if self._held[client] >= self._limit:
            return None
        self._held[client] += 1
        return _Place(self, client)

    def leave(self, client: str) -> None:
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]


class _Place:
    """Counts one off again. It takes little memory, since each socket has several."""

    __slots__ = ("_client", "_tally")

    def __init__(self, tally: Tally, client: str) -> None:
        self._tally: Tally | None = tally
        self._client = client

    def __call__(self) -> None:
        tally, self._tally = self._tally, None
        if tally is not None:
            tally.leave(self._client)

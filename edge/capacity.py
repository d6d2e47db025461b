"""Limits how much each client uses at the same time in this process."""

from collections import Counter
from collections.abc import Callable


class Tally:
    """Counts what each client uses, such as sockets, up to a limit per client."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(self._held.values())

    def enter(self, client: str) -> Callable[[], None] | None:
        """Count one more. Return a function that releases it (a second call does nothing), or None
        if the client is at its limit.
        """
        if self._held[client] >= self._limit:
            return None
        self._held[client] += 1
        return _Release(self, client)

    def leave(self, client: str) -> None:
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]


class _Release:
    """Releases one. It takes little memory, since each socket has several."""

    __slots__ = ("_client", "_tally")

    def __init__(self, tally: Tally, client: str) -> None:
        self._tally: Tally | None = tally
        self._client = client

    def __call__(self) -> None:
        tally, self._tally = self._tally, None
        if tally is not None:
            tally.leave(self._client)

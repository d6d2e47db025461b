"""Resolves the names of hosts that viewers or providers choose, each in a thread of its own.

The system's resolver blocks, for half a minute where the servers of a name do not answer, and
cannot be stopped. In asyncio's threads, which everything shares, a few such names would keep the
whole process from resolving others.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Final, TypeAlias

MAX_LOOKUPS: Final = 64
"""Of one `Names` at the same time."""
_Host: TypeAlias = tuple[str, int]


class TooManyLookups(OSError):
    """As many names are being resolved as are allowed, or as the system has threads for."""


class Names:
    """Those who ask for the same name at the same time wait for one answer."""

    def __init__(
        self,
        *,
        max_lookups: int = MAX_LOOKUPS,
        look_up: Callable[[str, int], Sequence[str]] | None = None,
    ) -> None:
        self._max_lookups = max_lookups
        self._look_up = look_up or _look_up
        self._running: dict[_Host, asyncio.Future[Sequence[str]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name, in the order in which they are to be tried.

        Raise OSError as the system's resolver does, and UnicodeError for what cannot be a name.
        """
        running = self._running.get((host, port))
        if running is None:
            if len(self._running) >= self._max_lookups:
                raise TooManyLookups
            running = self._begin((host, port))
        # Others may wait for it, and the thread goes on in any case.
        return await asyncio.shield(running)

    def _begin(self, host: _Host) -> "asyncio.Future[Sequence[str]]":
        loop = asyncio.get_running_loop()
        running: asyncio.Future[Sequence[str]] = loop.create_future()

        def end(result: Sequence[str] | Exception) -> None:
            del self._running[host]
            if isinstance(result, Exception):
                running.set_exception(result)
                running.exception()  # Perhaps nobody waits for it any more.
            else:
                running.set_result(result)

        def work() -> None:
            result: Sequence[str] | Exception
            try:
                result = self._look_up(*host)
            except Exception as error:
                result = error
            with suppress(RuntimeError):  # The loop has been closed.
                loop.call_soon_threadsafe(end, result)

        # A daemon: the end of the process does not wait for it.
        thread = Thread(target=work, name="name", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise TooManyLookups from error
        self._running[host] = running
        return running


def _look_up(host: str, port: int) -> Sequence[str]:
    result = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in result))

"""Ports for servers that are started later, or again: nothing else on this machine takes them.

A port that the system chooses may be given to a client's connection or to another test's server
before its own server listens, or while that is restarted.
"""

import atexit
import socket
from collections import deque
from collections.abc import Iterator
from typing import Final

HOST: Final = "127.0.0.1"
FIRST_PORT: Final = 12_000
END_PORT: Final = 32_768
"""From here on systems choose ports themselves: Linux from 32768, others from 49152."""
BLOCK_PORTS: Final = 256


class Ports:
    """Gives the ports of its own blocks, each again only after all others of them."""

    def __init__(self) -> None:
        self._blocks = _blocks()
        self._held: list[socket.socket] = []
        self._next: deque[int] = deque()

    def free(self) -> int:
        """A port on which nobody listens."""
        for _ in range(len(self._next)):
            self._next.rotate(-1)
            if holder := _held(self._next[-1]):
                holder.close()
                return self._next[-1]
        self._take_a_block()
        return self.free()

    def close(self) -> None:
        for holder in self._held:
            holder.close()

    def _take_a_block(self) -> None:
        """Listen on the first port of a block: other processes see that the block is taken."""
        for block in self._blocks:
            if holder := _held(block[0]):
                holder.listen()
                self._held.append(holder)
                self._next.extend(block[1:])
                return
        raise RuntimeError(f"All ports from {FIRST_PORT} to {END_PORT - 1} are taken.")


def _blocks() -> Iterator[range]:
    for first in range(FIRST_PORT, END_PORT - BLOCK_PORTS + 1, BLOCK_PORTS):
        yield range(first, first + BLOCK_PORTS)


def _held(port: int) -> socket.socket | None:
    """A socket bound to this port, unless the port is in use."""
    holder = socket.socket()
    try:
        holder.bind((HOST, port))
    except OSError:
        holder.close()
        return None
    return holder


PORTS: Final = Ports()
"""Those of this process."""
atexit.register(PORTS.close)

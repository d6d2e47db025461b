"""ZIP files that are written as a stream: nothing of them is kept but the list of their entries."""

import asyncio
import io
import json
import zipfile
from typing import Any, Final

STREAMED_BYTES: Final = 4_000_000
"""About how much is held back before it is passed on."""


class ArchiveWriter:
    """Writes entries, and gives out the bytes of the archive as they come."""

    def __init__(self) -> None:
        self._out = _Outgoing()
        self._archive = zipfile.ZipFile(self._out, "w", zipfile.ZIP_STORED)
        self.byte_size = 0
        """Of what was taken."""

    async def add(self, name: str, data: bytes) -> None:
        """Add a file that is compressed already."""
        await asyncio.to_thread(self._archive.writestr, name, data)

    async def add_json(self, name: str, value: Any) -> None:
        def write() -> None:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            self._archive.writestr(name, text, zipfile.ZIP_DEFLATED)

        await asyncio.to_thread(write)

    def end(self) -> None:
        """Add the directory."""
        self._archive.close()

    def take(self, *, at_least: int = 0) -> bytes:
        """What was written and not taken before; nothing where it is less than wanted."""
        taken = self._out.take() if self._out.size >= at_least else b""
        self.byte_size += len(taken)
        return taken


class _Outgoing(io.RawIOBase):
    """A file that cannot be read, and is forgotten once it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self.size += len(data)
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts, self.size = [], 0
        return taken

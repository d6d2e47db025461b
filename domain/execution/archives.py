"""Writes ZIP files as a stream, keeping only the list of entries in memory; reads ZIP files from
anywhere, and trusts nothing in them.
"""

import asyncio
import io
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep
from typing import Any, Final

from domain.import_format.facts import NotAnExport

STREAMED_BYTES: Final = 4_000_000
"""How many bytes are collected before they are passed on."""


class ArchiveWriter:
    """Writes the entries of an archive, and gives its bytes as they are written."""

    def __init__(self) -> None:
        self._out = _OutputBuffer()
        self._archive = zipfile.ZipFile(self._out, "w", zipfile.ZIP_STORED)
        self.byte_size = 0
        """Of what was taken."""

    async def add(self, name: str, data: bytes) -> None:
        """Add a file whose content is compressed already."""
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
        """The bytes that were written since the last call; none where there are fewer
        than wanted.
        """
        data = self._out.take() if self._out.size >= at_least else b""
        self.byte_size += len(data)
        return data


class _OutputBuffer(io.RawIOBase):
    """A file that is only written, and forgets what has been taken from it."""

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
        data = b"".join(self._parts)
        self._parts, self.size = [], 0
        return data


_ALLOWED_NAMES: Final = re.compile(
    r"manifest\.json|(?:images|posts|albums)/part-[0-9]{4,6}\.json|images/img_[0-9a-z]{26}\.(?:png|jpg|webp)|"
    r"conversations/conv_[0-9a-z]{26}/turns-[0-9]{4,6}\.json"
)
_BLOCK_BYTES: Final = 1_000_000
_MAX_DIRECTORY_BYTES: Final = 5_000_000
"""The size of a directory of some 40,000 entries."""
_MAX_JSON_BYTES: Final = 8_000_000
"""The size of one part: twice that of the largest turns."""
_MAX_JSON_MARKS: Final = 150_000
"""Commas, colons and brackets in one part, outside of strings: more than 50 turns, 5,000
conversations or ten albums of 10,000 images have. The decoder keeps other threads waiting until it
has read the values between them, for some 50 ms at most.
"""
_MAX_NUMBER_LENGTH: Final = 25
"""Characters of one number, in JSON: those of any that is exported. The decoder keeps other threads
waiting while it reads one, and a long one takes it a thousand times longer.
"""
_MAX_ALL_JSON_BYTES: Final = 200_000_000
_MAX_JSON_RATIO: Final = 200
"""How many times larger an entry may be than its compressed form."""
_MAX_IMAGE_RATIO: Final = 2
"""The same for images, which are compressed already."""
_IS_ENCRYPTED: Final = 0x1
_BUSY_SECONDS: Final = 0.001
_PAUSE_SECONDS: Final = 0.003
"""How long the reader goes on, and then pauses: it reads thousands of entries in Python, and would
otherwise take half of the time from the event loop whenever that has something to do.
"""


class ArchiveReader:
    """Reads an archive from an untrusted source. Its methods block, and are to be called in a
    thread.

    Nothing is unpacked to a file system. All entries are checked before any is read, and no more of
    an entry is read than its declared size.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        byte_size: int,
        *,
        demand_time: Callable[[], None] = lambda: None,
    ) -> None:
        """`read` returns a number of bytes from a position. `demand_time` is called before each
        entry, and may raise what ends the reading: many entries may come from one read.

        Raise NotAnExport if this is no ZIP.
        """
        self._demand_time = demand_time
        try:
            self._archive = zipfile.ZipFile(_BlockReader(read, byte_size))
            self._entries = {one.filename: one for one in self._archive.infolist()}
            if len(self._entries) != len(self._archive.infolist()):
                raise NotAnExport("The file has two entries with the same name.")
            self._check_entries(byte_size)
        except (*_BROKEN, UnicodeError) as error:
            raise NotAnExport("The file is not a complete ZIP.") from error

    def read_json(self, name: str) -> object:
        """Read an entry as JSON. Raise NotAnExport if it is missing, too large or not JSON."""
        data = self.read(name, max_bytes=_MAX_JSON_BYTES)
        if _has_too_many_values(data):
            raise NotAnExport(f"{name} has too many values.")
        try:
            return json.loads(data, parse_int=_read_int, parse_float=_read_float)
        except (ValueError, RecursionError) as error:
            raise NotAnExport(f"{name} is not valid JSON.") from error

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Read an entry. Raise NotAnExport if it is missing, damaged or larger than this."""
        self._demand_time()
        entry = self._entries.get(name)
        if entry is None:
            raise NotAnExport(f"The file has no entry {name[:100]}.")
        if entry.file_size > max_bytes:
            raise NotAnExport(f"{name} is too large.")
        try:
            with self._archive.open(entry) as file:
                # No more than the declared size, even where there is more.
                data = b"".join(iter(partial(file.read, _BLOCK_BYTES), b""))
        except _BROKEN as error:
            raise NotAnExport(f"{name} cannot be read.") from error
        if len(data) != entry.file_size:
            raise NotAnExport(f"{name} does not have its declared size.")
        return data

    def _check_entries(self, byte_size: int) -> None:
        stored = in_json = 0
        for name, entry in self._entries.items():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            stored += entry.compress_size
            is_json = name.endswith(".json")
            in_json += entry.file_size if is_json else 0
            ratio = _MAX_JSON_RATIO if is_json else _MAX_IMAGE_RATIO
            if (
                _ALLOWED_NAMES.fullmatch(name) is None
                # The part of a name before its first NUL is not the whole name.
                or entry.orig_filename != name
                or kind not in (0, stat.S_IFREG)
                or entry.flag_bits & _IS_ENCRYPTED
                or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                or entry.file_size > ratio * max(entry.compress_size, 1)
            ):
                raise NotAnExport(f"The file has an entry that no export has: {name[:100]!r}.")
        if in_json > _MAX_ALL_JSON_BYTES:
            raise NotAnExport("The file has more turns and images than can be read.")
        if stored > byte_size:
            raise NotAnExport("The file has entries that overlap.")


_BROKEN: Final = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError, struct.error, OverflowError),
)


def _read_int(text: str) -> int:
    return int(_demand_short(text))


def _read_float(text: str) -> float:
    return float(_demand_short(text))


def _demand_short(number: str) -> str:
    if len(number) > _MAX_NUMBER_LENGTH:
        raise ValueError("A number is too long.")
    return number


def _has_too_many_values(data: bytes) -> bool:
    if _count_marks(data) <= _MAX_JSON_MARKS:
        return False
    # Prompts may have many marks themselves, for example if they are JSON.
    unescaped = data.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') > 2 * _MAX_JSON_MARKS:
        return True
    return _count_marks(b"".join(unescaped.split(b'"')[::2])) > _MAX_JSON_MARKS


def _count_marks(data: bytes) -> int:
    return sum(map(data.count, (b",", b":", b"[", b"{")))


class _BlockReader(io.RawIOBase):
    """A file that is read in blocks by a function."""

    def __init__(self, read: Callable[[int, int], bytes], byte_size: int) -> None:
        self._read_source = read
        self._byte_size = byte_size
        self._position = 0
        self._block, self._block_start = b"", 0
        self._busy_since = monotonic()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._byte_size}[whence]
        if base + offset < 0:
            raise ValueError("A position before the file.")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        self._pause()
        available = max(0, self._byte_size - self._position)
        remaining = available if size is None or size < 0 else min(size, available)
        if remaining > _MAX_DIRECTORY_BYTES:
            # Entries are read in smaller parts. A larger read can only be for a directory that does
            # not fit into memory.
            raise zipfile.BadZipFile("The directory is too large.")
        parts = []
        while remaining:
            part = self._read_block()[:remaining]
            parts.append(part)
            self._position += len(part)
            remaining -= len(part)
        return b"".join(parts)

    def _pause(self) -> None:
        """Let other threads go on, if this one has been busy for a while."""
        if monotonic() - self._busy_since > _BUSY_SECONDS:
            sleep(_PAUSE_SECONDS)
            self._busy_since = monotonic()

    def _read_block(self) -> bytes:
        """The bytes that are known from the position on, at least one."""
        if not self._block_start <= self._position < self._block_start + len(self._block):
            count = min(_BLOCK_BYTES, self._byte_size - self._position)
            self._block, self._block_start = (
                self._read_source(self._position, count),
                self._position,
            )
        return self._block[self._position - self._block_start :]

"""Unpacks the body of a response as it arrives, as the clients of all providers do.

httpx2 reads the first member of a gzip only, and does not know gzip by its older name.
"""

import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final

import httpx2

_GZIP: Final = (["gzip"], ["x-gzip"])
_GZIP_BITS: Final = zlib.MAX_WBITS + 16
_PIECE_BYTES: Final = 2**18
"""A small piece may unpack to a large one."""


async def unpack_body(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The body's decoded bytes. Raise `httpx2.DecodingError`."""
    values = response.headers.get_list("content-encoding", split_commas=True)
    encodings = [value.strip().lower() for value in values]
    if [one for one in encodings if one != "identity"] not in _GZIP:
        async with aclosing(response.aiter_bytes()) as pieces:
            async for piece in pieces:
                yield piece
        return
    members = _GzipMembers()
    async with aclosing(response.aiter_raw()) as packed:
        async for piece in packed:
            for unpacked in members.unpack(piece):
                yield unpacked


class _GzipMembers:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_BITS)
        self._is_first = True

    def unpack(self, packed: bytes) -> Iterator[bytes]:
        while packed:
            try:
                unpacked = self._member.decompress(packed, _PIECE_BYTES)
            except zlib.error as error:
                if self._is_first:
                    raise httpx2.DecodingError(str(error)) from error
                return  # What follows a member is ignored if it is none.
            if unpacked:
                yield unpacked
            packed = self._member.unconsumed_tail
            if self._member.eof:
                packed, self._is_first = self._member.unused_data, False
                self._member = zlib.decompressobj(_GZIP_BITS)

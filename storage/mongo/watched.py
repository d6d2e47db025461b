"""The database as the change feed reads it: by a blocking client of its own, since an open change
stream holds a connection and would starve commands of theirs.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import pymongo
from bson import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from storage.mongo.stream_reader import StreamReader, Token

_SILENCE_SECONDS: Final = 8
"""After this time an unanswered read of a change stream is given up. A quiet one answers sooner."""
_MAX_STREAMS: Final = 8
_END_SECONDS: Final = 1.5
"""How long the end waits for the answers to the last reads, and then for the client to close."""


class WatchedDatabase:
    def __init__(self, uri: str, name: str, **options: Any) -> None:
        self._client = MongoClient[RawBSONDocument](
            uri,
            connect=False,
            maxPoolSize=_MAX_STREAMS,
            socketTimeoutMS=_SILENCE_SECONDS * 1000,
            # Whatever happens to the server, its change stream tells first.
            serverMonitoringMode="poll",
            **options,
        )
        # Documents stay bytes until they are read.
        in_bytes = CodecOptions(document_class=RawBSONDocument)
        self.database = self._client.get_database(
            name, codec_options=in_bytes, read_concern=ReadConcern("majority")
        )
        self._readers: set[StreamReader] = set()

    def open_stream(
        self,
        pipeline: Sequence[Mapping[str, Any]],
        *,
        longest_answer_ms: int,
        resume_after: Token | None,
        start_after: Token | None,
    ) -> StreamReader:
        """Begin to open a change stream. `opened` waits until it is."""
        watch = partial(
            self.database.watch,
            pipeline,
            full_document="updateLookup",
            max_await_time_ms=longest_answer_ms,
            resume_after=resume_after,
            start_after=start_after,
        )
        reader = StreamReader(watch)
        self._readers.add(reader)
        reader.ended.add_done_callback(lambda _: self._readers.discard(reader))
        return reader

    async def close(self) -> None:
        """Close all streams and the client, without waiting long."""
        for reader in self._readers:
            reader.close()
        if self._readers:
            await asyncio.wait([one.ended for one in self._readers], timeout=_END_SECONDS)
        with pymongo.timeout(_END_SECONDS):
            await asyncio.to_thread(self._client.close)

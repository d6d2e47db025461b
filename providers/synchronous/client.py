"""The call that is a whole run: its response contains the images, or the caption.

What must stay true: a request is sent once; nothing of a response is kept except its images and
short texts.
"""

import codecs
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from math import inf
from typing import Final, TypeVar

import httpx2
import orjson

from providers.failures import BAD_RESPONSE, OUTCOME_UNKNOWN, TIMED_OUT, explain_silence
from providers.http import (
    MAX_BYTES,
    Answer,
    AnswerLate,
    AnswerLost,
    AnswerUnusable,
    Form,
    Unanswered,
    open_client,
    open_response,
    read_pieces,
)
from providers.polling import PollingPolicy
from providers.sse import DONE, read_events
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import Body, Dialect, Reply

PartialT = TypeVar("PartialT")
ANSWERED: Final = frozenset({200, 201, 202, 203})
"""The status of a successful response: 200, unless something between the provider and this server
changes it.
"""
READ_SECONDS: Final = 900.0
"""A model is silent while it works: the output's deadline ends the wait."""
WRITE_SECONDS: Final = 120.0
_MAX_STRING_BYTES: Final = 2**17
"""Longer texts are not for clients: signatures of thoughts have megabytes."""
_MAX_ERROR_BYTES: Final = 2**20
_ERROR_SECONDS: Final = 10.0
_TEXT_PER_PICTURE: Final = 2
"""An image is a third longer as text; what surrounds it has a limit of its own."""
_PICTURES_IN_A_STREAM: Final = 4
"""Previews are as large as what follows them."""
_JSON_PREFIXES: Final = (b"{", b"[")
_EVENT_PREFIXES: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_ENCODED_LENGTH: Final = 4
_MAX_PREFIX_LENGTH: Final = 6
"""In bytes: as long as the longest of these."""


class SynchronousClient:
    """Requests with the key, each on its own connection."""

    def __init__(
        self, dialect: Dialect, *, last_words_seconds: float, max_bytes: int = MAX_BYTES
    ) -> None:
        """`last_words_seconds`: how long an answer may be silent after it has said why it ends."""
        self._dialect = dialect
        self._last_words_seconds = last_words_seconds
        self._max_bytes = max_bytes
        self._client = open_client(
            reuse=False, read_seconds=READ_SECONDS, write_seconds=WRITE_SECONDS
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def ask(
        self,
        url: str,
        body: Body,
        reply: Reply[PartialT],
        *,
        show: Callable[[PartialT], Awaitable[None]],
        policy: PollingPolicy,
    ) -> Answer:
        """Send the request, and give a successful response to the reply: its one document, or those
        of its events. Show each partial result.

        Return the response without its body, except that of an error. Raise `NotSubmitted` where
        the request cannot have been read, TIMED_OUT where the deadline ends a response that has
        begun, OUTCOME_UNKNOWN where one is incomplete for another reason, PROVIDER_BAD_RESPONSE
        where it cannot be used.
        """
        headers = {**self._dialect.headers, "accept": "application/json, text/event-stream"}
        if isinstance(body, Form):
            content: bytes | Form = body
        else:
            content, headers["content-type"] = orjson.dumps(body), "application/json"
        has_started = False
        try:
            async with open_response(
                self._client,
                "POST",
                url,
                within=policy.within(inf),
                headers=headers,
                content=content,
            ) as response:
                if response.status_code not in ANSWERED:
                    return await _read_error(response, policy)
                has_started = True
                await self._read(response, reply, show=show, policy=policy)
                return Answer(response.status_code, response.headers, b"")
        except AnswerUnusable as nonsense:
            raise BAD_RESPONSE.failure(str(nonsense)) from nonsense
        except Unanswered as silence:
            if has_started and isinstance(silence, AnswerLate) and policy.is_over:
                raise TIMED_OUT.failure("the deadline has passed") from silence
            raise explain_silence(silence) from silence

    async def _read(
        self,
        response: httpx2.Response,
        reply: Reply[PartialT],
        *,
        show: Callable[[PartialT], Awaitable[None]],
        policy: PollingPolicy,
    ) -> None:
        says_events = _names_events(response.headers.get("content-type", ""))
        pieces = self._pieces(
            response, reply, policy, pictures=_PICTURES_IN_A_STREAM if says_events else 1
        )
        async with aclosing(pieces):
            # The beginning of a body is more reliable than its content type.
            texts = _recode_as_utf8(pieces)
            start = await _read_start(texts)
            async with aclosing(texts), aclosing(_resume(start, texts)) as rest:
                if start.startswith(_JSON_PREFIXES) or not (
                    says_events or start.startswith(_EVENT_PREFIXES)
                ):
                    await self._read_document(rest, reply, show)
                    return
                try:
                    await self._read_events(rest, reply, show)
                except AnswerUnusable:
                    # A result that has arrived completely has been paid for.
                    if not reply.has_result:
                        raise
                except AnswerLost:
                    if reply.is_empty:
                        raise
                    return
        if not reply.is_whole:
            raise OUTCOME_UNKNOWN.failure("a stream that ends without a result")

    async def _read_document(
        self,
        pieces: AsyncGenerator[bytes, None],
        reply: Reply[PartialT],
        show: Callable[[PartialT], Awaitable[None]],
    ) -> None:
        document = self._document()
        async for piece in pieces:
            document.feed(piece)
        fields = document.fields()
        if fields is None:
            raise AnswerUnusable("an answer that is not a JSON object")
        for partial in reply.take(document, fields):
            await show(partial)

    async def _read_events(
        self,
        pieces: AsyncGenerator[bytes, None],
        reply: Reply[PartialT],
        show: Callable[[PartialT], Awaitable[None]],
    ) -> None:
        """What is not a JSON object is left out; raise `AnswerUnusable` if nothing else
        has come.
        """
        nonsense = False
        async with aclosing(read_events(pieces, self._document)) as events:
            async for event in events:
                words = event.body.words.strip()
                if words.startswith(DONE):
                    reply.end()
                    break
                fields = event.body.fields()
                if fields is None:
                    nonsense = nonsense or (event.is_whole and bool(words))
                    continue
                typed = fields if fields.get("type") else {**fields, "type": event.name}
                for partial in reply.take(event.body, typed):
                    await show(partial)
                if reply.has_ended:
                    return
        if nonsense and not reply.is_whole:
            raise AnswerUnusable("events that are not JSON objects")

    def _document(self) -> InlineJson:
        return InlineJson(
            self._dialect.picture_names, max_bytes=self._max_bytes, max_string=_MAX_STRING_BYTES
        )

    def _pieces(
        self,
        response: httpx2.Response,
        reply: Reply[object],
        policy: PollingPolicy,
        *,
        pictures: int,
    ) -> AsyncGenerator[bytes, None]:
        usual = self._dialect.pause_seconds
        usual = inf if usual is None else usual
        return read_pieces(
            response,
            within=policy.within(inf),
            pause=lambda: min(usual, self._last_words_seconds) if reply.is_ending else usual,
            max_bytes=pictures * _TEXT_PER_PICTURE * self._max_bytes,
        )


def _names_events(content_type: str) -> bool:
    return content_type.strip().lower().startswith("text/event-stream")


async def _recode_as_utf8(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same text in UTF-8. Its first bytes show which of the encodings of JSON it has."""
    start, decode = b"", None
    async for piece in pieces:
        if decode is not None:
            yield decode(piece).encode()
            continue
        start += piece
        if len(start) < _ENCODED_LENGTH:
            continue
        encoding = json.detect_encoding(start)
        if encoding.startswith("utf-8"):
            yield start
            async for rest in pieces:
                yield rest
            return
        decode = codecs.getincrementaldecoder(encoding)("replace").decode
        yield decode(start).encode()
    if decode is None:
        yield start


async def _read_start(pieces: AsyncGenerator[bytes, None]) -> bytes:
    """The first bytes of a response, without blanks before them: enough to tell events
    from JSON.
    """
    start = b""
    async for piece in pieces:
        start = (start + piece).lstrip().removeprefix(codecs.BOM_UTF8).lstrip()
        if len(start) >= _MAX_PREFIX_LENGTH:
            break
    return start


async def _resume(start: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield start
    async for piece in pieces:
        yield piece


async def _read_error(response: httpx2.Response, policy: PollingPolicy) -> Answer:
    """Read an error. If its body cannot be read, the status is enough."""
    body = b""
    within = policy.within(_ERROR_SECONDS)
    try:
        async with aclosing(
            read_pieces(response, within=within, max_bytes=_MAX_ERROR_BYTES)
        ) as pieces:
            body = b"".join([piece async for piece in pieces])
    except Unanswered:
        pass
    return Answer(response.status_code, response.headers, body)

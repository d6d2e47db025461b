"""The call that is a whole run: its answer brings the pictures.

What must stay true: a request is sent once; nothing is kept of an answer except its pictures and
short texts.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from math import inf
from typing import Final

import httpx2
import orjson

from domain.generation import GenerationRequest
from domain.ports.providers import RunObserver
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
from providers.synchronous.dialect import Body, Dialect, Fields, Partial, Reply

READ_SECONDS: Final = 900.0
"""A model is silent while it works: the output's deadline ends the wait."""
WRITE_SECONDS: Final = 120.0
_MAX_STRING_BYTES: Final = 2**17
"""Longer ones are not meant for us: signatures of thoughts have megabytes."""
_MAX_ERROR_BYTES: Final = 2**20
_ERROR_SECONDS: Final = 10.0
_TEXT_PER_PICTURE: Final = 2
"""A picture is a third longer as text; what stands around it has its own limit."""
_PICTURES_IN_A_STREAM: Final = 4
"""Previews are as large as what follows them."""


class SynchronousClient:
    """Requests with the key, each on its own connection."""

    def __init__(self, dialect: Dialect, *, max_bytes: int = MAX_BYTES) -> None:
        self._dialect = dialect
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
        reply: Reply,
        *,
        request: GenerationRequest,
        observer: RunObserver,
        policy: PollingPolicy,
    ) -> Answer:
        """Send it, and give a good answer to the reply: its one document, or those of its events.

        Return the answer without its body, except that of an error. Raise `NotSubmitted` where the
        request cannot have been read, TIMED_OUT where the deadline ends an answer that has begun,
        OUTCOME_UNKNOWN where one is incomplete for another reason, PROVIDER_BAD_RESPONSE where it
        makes no sense.
        """
        headers = {**self._dialect.headers, "accept": "application/json, text/event-stream"}
        if isinstance(body, Form):
            content: bytes | Form = body
        else:
            content, headers["content-type"] = orjson.dumps(body), "application/json"
        previews, has_begun = _Previews(observer, request.preview_count), False
        try:
            async with open_response(
                self._client,
                "POST",
                url,
                within=policy.within(inf),
                headers=headers,
                content=content,
            ) as response:
                if response.status_code != httpx2.codes.OK:
                    return await _read_error(response, policy)
                has_begun = True
                await self._read(response, reply, previews=previews, policy=policy)
                return Answer(response.status_code, response.headers, b"")
        except AnswerUnusable as nonsense:
            raise BAD_RESPONSE.failure(str(nonsense)) from nonsense
        except Unanswered as silence:
            if has_begun and isinstance(silence, AnswerLate) and policy.is_over:
                raise TIMED_OUT.failure("the deadline has passed") from silence
            raise explain_silence(silence) from silence

    async def _read(
        self,
        response: httpx2.Response,
        reply: Reply,
        *,
        previews: "_Previews",
        policy: PollingPolicy,
    ) -> None:
        kind = response.headers.get("content-type", "")
        if not kind.lower().startswith("text/event-stream"):
            document = self._document()
            async with aclosing(self._pieces(response, policy)) as pieces:
                async for piece in pieces:
                    document.feed(piece)
            await previews.show(reply.take(document, _fields_of(document)))
            return
        try:
            await self._read_events(response, reply, previews=previews, policy=policy)
        except AnswerLost:
            # A picture that has arrived whole has been paid for, and is what the run was for.
            if reply.is_empty:
                raise
        if reply.is_empty:
            raise OUTCOME_UNKNOWN.failure("a stream that ends without a result")

    async def _read_events(
        self,
        response: httpx2.Response,
        reply: Reply,
        *,
        previews: "_Previews",
        policy: PollingPolicy,
    ) -> None:
        pieces = self._pieces(response, policy, pictures=_PICTURES_IN_A_STREAM)
        async with aclosing(read_events(pieces, self._document)) as events:
            async for event in events:
                if event.body.words.strip() == DONE:
                    return
                fields = {"type": event.name, **_fields_of(event.body)}
                await previews.show(reply.take(event.body, fields))
                if reply.has_ended:
                    return

    def _document(self) -> InlineJson:
        return InlineJson(
            self._dialect.picture_names, max_bytes=self._max_bytes, max_string=_MAX_STRING_BYTES
        )

    def _pieces(
        self, response: httpx2.Response, policy: PollingPolicy, *, pictures: int = 1
    ) -> AsyncGenerator[bytes, None]:
        return read_pieces(
            response,
            within=policy.within(inf),
            pause=self._dialect.pause_seconds,
            max_bytes=pictures * _TEXT_PER_PICTURE * self._max_bytes,
        )


class _Previews:
    """Shows as many of a run's partial pictures as are wanted."""

    def __init__(self, observer: RunObserver, wanted: int) -> None:
        self._observer = observer
        self._left = wanted

    async def show(self, partials: Iterable[Partial]) -> None:
        for partial in partials:
            if self._left > 0:
                self._left -= 1
                if partial.progress is not None:
                    await self._observer.progress(partial.progress)
                await self._observer.preview(partial.data)


def _fields_of(document: InlineJson) -> Fields:
    fields = document.fields()
    if fields is None:
        raise AnswerUnusable("an answer that is not a JSON object")
    return fields


async def _read_error(response: httpx2.Response, policy: PollingPolicy) -> Answer:
    """Read an error. Where its body cannot be read, the status is enough."""
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

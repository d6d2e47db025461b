"""The call that is a whole run: its answer brings the pictures.

What must stay true: a request is sent once; all that is kept of an answer are its pictures and few
words.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Final, Protocol

import httpx2

from domain.generation import Delivery, GenerationRequest
from domain.ports import Watcher
from providers.failures import bad, of_silence, unknown
from providers.http import (
    MAX_BYTES,
    Answer,
    AnswerLost,
    AnswerUnusable,
    Unanswered,
    open_client,
    opened,
    pieces_of,
)
from providers.inline import InlineJson
from providers.patience import Patience
from providers.sse import DONE, read_events

READ_SECONDS: Final = 900.0
"""A model is silent while it paints: what ends the wait is the output's deadline."""
_MAX_STRING_BYTES: Final = 2**17
"""Longer ones say nothing to anybody: signatures of thoughts have megabytes."""
_MAX_ERROR_BYTES: Final = 2**20
_ERROR_SECONDS: Final = 10.0
_BODIES_IN_A_STREAM: Final = 5
"""Previews are as large as what follows them."""

Fields = Mapping[str, object]


class Reply(Protocol):
    """What comes of a run, as far as it has been answered."""

    @property
    def is_empty(self) -> bool:
        """Whether neither a picture has come, nor a reason why there is none."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to come that anybody would wait for."""

    def take(self, document: InlineJson, fields: Fields) -> Iterable[bytes]:
        """Take in an answer, or one of its events, and give the partial pictures in it.

        Raise `GenerationFailed` where it tells of an error, or makes no sense.
        """

    def delivery(self) -> Delivery:
        """The pictures, or raise `GenerationFailed` with the reason why there are none."""


class OneCall:
    """Requests with the key, each on a connection of its own."""

    def __init__(
        self,
        *,
        headers: Mapping[str, str],
        picture_names: frozenset[str],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._headers = {"content-type": "application/json", **headers}
        self._picture_names = picture_names
        self._max_bytes = max_bytes
        self._client = open_client(reuse=False, read_seconds=READ_SECONDS)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def ask(
        self,
        url: str,
        body: bytes,
        reply: Reply,
        *,
        request: GenerationRequest,
        watcher: Watcher,
        patience: Patience,
    ) -> Answer:
        """Send it, and give a good answer to the reply: its one document, or those of its events.

        Return the answer without these: a body is kept where it is an error. Raise `NotSubmitted`
        where nobody can have read the request, OUTCOME_UNKNOWN where the answer does not come to
        its end, PROVIDER_BAD_RESPONSE where nobody could make use of it.
        """
        previews = _Previews(watcher, request.preview_count)
        try:
            async with opened(
                self._client,
                "POST",
                url,
                within=patience.within(patience.seconds_left),
                headers=self._headers,
                content=[body],
            ) as response:
                if response.status_code != httpx2.codes.OK:
                    return await _error(response, patience)
                await self._read(response, reply, previews, patience)
                return Answer(response.status_code, response.headers, b"")
        except AnswerUnusable as nonsense:
            raise bad(str(nonsense)) from nonsense
        except Unanswered as silence:
            raise of_silence(silence) from silence

    async def _read(
        self, response: httpx2.Response, reply: Reply, previews: "_Previews", patience: Patience
    ) -> None:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            document = self._document()
            async with aclosing(_pieces(response, patience, self._max_bytes)) as pieces:
                async for piece in pieces:
                    document.feed(piece)
            await previews.show(reply.take(document, _fields_of(document)))
            return
        try:
            await self._read_events(response, reply, previews, patience)
        except AnswerLost:
            # What has come whole has been paid for, and is what the run was for.
            if reply.is_empty:
                raise
        if reply.is_empty:
            raise unknown("a stream that ends without a result")

    async def _read_events(
        self, response: httpx2.Response, reply: Reply, previews: "_Previews", patience: Patience
    ) -> None:
        pieces = _pieces(response, patience, _BODIES_IN_A_STREAM * self._max_bytes)
        async with aclosing(read_events(pieces, self._document)) as events:
            async for event in events:
                if event.body.words.strip() == DONE:
                    return
                await previews.show(reply.take(event.body, _fields_of(event.body)))
                if reply.has_ended:
                    return

    def _document(self) -> InlineJson:
        return InlineJson(
            self._picture_names, max_bytes=self._max_bytes, max_string=_MAX_STRING_BYTES
        )


class _Previews:
    """Shows so many of a run's partial pictures."""

    def __init__(self, watcher: Watcher, wanted: int) -> None:
        self._watcher = watcher
        self._left = wanted

    async def show(self, pictures: Iterable[bytes]) -> None:
        for picture in pictures:
            if self._left > 0:
                self._left -= 1
                await self._watcher.preview(picture)


def _fields_of(document: InlineJson) -> Fields:
    fields = document.fields()
    if fields is None:
        raise AnswerUnusable("an answer that is no JSON object")
    return fields


async def _error(response: httpx2.Response, patience: Patience) -> Answer:
    """Where the words cannot be read, the status tells enough."""
    body = b""
    within = patience.within(_ERROR_SECONDS)
    try:
        async with aclosing(
            pieces_of(response, within=within, max_bytes=_MAX_ERROR_BYTES)
        ) as pieces:
            body = b"".join([piece async for piece in pieces])
    except Unanswered:
        pass
    return Answer(response.status_code, response.headers, body)


def _pieces(
    response: httpx2.Response, patience: Patience, max_bytes: int
) -> AsyncGenerator[bytes, None]:
    return pieces_of(response, within=patience.within(patience.seconds_left), max_bytes=max_bytes)

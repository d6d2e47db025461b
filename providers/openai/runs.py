"""One run: ask once, show what is there already, take what comes.

What must stay true: a run asks once; whether it was obeyed is never guessed; neither prompts nor
the key get into a log; a picture is never held as text.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from math import inf
from typing import Final

import httpx2

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.ports import Watcher
from providers.failures import bad, of_silence, unknown
from providers.http import (
    Answer,
    AnswerLate,
    AnswerUnusable,
    Unanswered,
    pieces_of,
    quoted,
)
from providers.inline import InlineJson
from providers.openai import failures
from providers.openai.calls import OpenAICalls
from providers.openai.doors import Door, Verb
from providers.openai.wire import (
    MODELS,
    PICTURES,
    Fields,
    Result,
    partial_images_of,
    question_of,
    read_completed,
    read_result,
)
from providers.patience import Pace, Patience
from providers.references import Reference
from providers.sse import DONE, read_events

PAUSE_SECONDS: Final = 120.0
"""For so long an answer that has begun may be silent."""

_MAX_ERROR_BYTES: Final = 2**20
_ERROR_SECONDS: Final = 10.0
_TEXT_PER_PICTURE: Final = 2
"""A picture is a third longer as text; what stands around it has its own limit."""


class OpenAIRun:
    """One run on its way to its pictures."""

    def __init__(
        self,
        request: GenerationRequest,
        watcher: Watcher,
        *,
        calls: OpenAICalls,
        door: Door,
        pace: Pace,
        max_bytes: int,
    ) -> None:
        self._request = request
        self._watcher = watcher
        self._calls = calls
        self._door = door
        self._pace = pace
        self._max_bytes = max_bytes
        self._patience = Patience(pace, request.seconds_left)
        self._leave_out = (door.key, request.prompt)
        self._partial_images = partial_images_of(request)
        self._has_begun = False
        """Whether a success has begun to come."""

    async def make(self, references: list[Reference]) -> Delivery:
        model = self._request.model.endpoint or self._request.model.id
        if model not in MODELS:
            raise GenerationFailed(
                GenerationErrorCode.INTERNAL, retryable=False, detail=f"{model} is no model"
            )
        question = question_of(
            self._request,
            model=model,
            model_name=self._door.model_name(model),
            references=references,
        )
        self._patience.check()
        await self._watcher.submitting()
        try:
            async with self._calls.ask(
                Verb.EDIT if references else Verb.GENERATE,
                model,
                question.parts,
                content_type=question.content_type,
                within=self._patience.within(inf),
            ) as response:
                result = await self._result(response)
        except Unanswered as silence:
            raise self._meaning(silence) from silence
        pictures = result.pictures[: self._request.image_count]
        return Delivery(images=tuple(map(DeliveredImage, pictures)), usage=result.usage)

    async def _result(self, response: httpx2.Response) -> Result:
        if response.status_code != httpx2.codes.OK:
            raise failures.of_answer(await self._refusal(response), leave_out=self._leave_out)
        self._has_begun = True
        kind = response.headers.get("content-type", "")
        if kind.lower().startswith("text/event-stream"):
            return await self._streamed(response)
        answer = self._new_body()
        async with aclosing(self._pieces(response, pictures=1)) as pieces:
            async for piece in pieces:
                answer.feed(piece)
        fields = self._checked(answer.fields(), response)
        return read_result(answer, fields)

    async def _refusal(self, response: httpx2.Response) -> Answer:
        """The status tells enough where the rest cannot be read."""
        body = b""
        try:
            async with aclosing(
                pieces_of(
                    response,
                    within=self._patience.within(_ERROR_SECONDS),
                    max_bytes=_MAX_ERROR_BYTES,
                )
            ) as pieces:
                body = b"".join([piece async for piece in pieces])
        except Unanswered:
            pass
        return Answer(response.status_code, response.headers, body)

    async def _streamed(self, response: httpx2.Response) -> Result:
        pieces = self._pieces(response, pictures=self._partial_images + 1)
        async with aclosing(read_events(pieces, self._new_body)) as events:
            async for event in events:
                if event.body.words.strip() == DONE:
                    break
                fields = self._checked(event.body.fields(), response)
                kind = str(fields.get("type", event.name))
                if kind.endswith(".completed"):
                    return read_completed(event.body, fields)
                if kind.endswith(".partial_image"):
                    await self._show(event.body, fields)
        raise unknown("the stream ended without its picture")

    async def _show(self, event: InlineJson, fields: Fields) -> None:
        """Show a partial image, which is a whole picture that the next one replaces."""
        index, picture = fields.get("partial_image_index"), event.take(fields.get("b64_json"))
        if isinstance(index, int) and 0 <= index < self._partial_images:
            await self._watcher.progress((index + 1) / (self._partial_images + 1))
        if picture and self._partial_images:
            await self._watcher.preview(picture)

    def _checked(self, fields: Fields | None, response: httpx2.Response) -> Fields:
        """Fields that tell of no error."""
        if fields is None:
            kind = response.headers.get("content-type", "unnamed")
            raise bad(quoted(f"no JSON object, but {kind}"))
        error = failures.error_in(fields)
        if error is not None:
            raise failures.of_error(error, response.headers, leave_out=self._leave_out)
        return fields

    def _new_body(self) -> InlineJson:
        return InlineJson(PICTURES, max_bytes=self._max_bytes)

    def _pieces(self, response: httpx2.Response, *, pictures: int) -> AsyncGenerator[bytes, None]:
        return pieces_of(
            response,
            within=self._patience.within(inf),
            pause=PAUSE_SECONDS,
            max_bytes=pictures * _TEXT_PER_PICTURE * self._max_bytes,
        )

    def _meaning(self, silence: Unanswered) -> GenerationFailed:
        if isinstance(silence, AnswerUnusable):
            return bad(str(silence))
        is_over = self._patience.seconds_left <= 2 * self._pace.spare
        if self._has_begun and isinstance(silence, AnswerLate) and is_over:
            # It was at work, and has not come to its end.
            return GenerationFailed(
                GenerationErrorCode.TIMED_OUT, retryable=True, detail="the deadline is over"
            )
        return of_silence(silence)

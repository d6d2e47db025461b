"""A writer whose answer to one call is the whole run, in any dialect."""

import asyncio
from typing import Final

from domain.captions import CaptionDelivery, CaptionRequest
from domain.ports.providers import CaptionObserver
from providers.alerts import alert_operator
from providers.captions import MAX_REFERENCE_BYTES, is_refusal, tidy_caption
from providers.failures import OUTCOME_UNKNOWN, REFUSED
from providers.polling import Pace, PollingPolicy
from providers.references import References
from providers.synchronous.client import ANSWERED, SynchronousClient
from providers.synchronous.dialect import CaptionDialect

_SHOW_EVERY_SECONDS: Final = 0.1
_REFERENCE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/webp"})


class SynchronousWriter:
    """A `CaptionWriter` in some dialect."""

    def __init__(
        self,
        dialect: CaptionDialect,
        references: References,
        *,
        max_concurrent_runs: int,
        pace: Pace | None = None,
    ) -> None:
        self._dialect = dialect
        self._references = references
        self._max_concurrent_runs = max_concurrent_runs
        self._pace = pace or Pace()
        self._call = SynchronousClient(dialect, last_words_seconds=self._pace.last_words)

    @property
    def name(self) -> str:
        return self._dialect.name

    @property
    def max_concurrent_runs(self) -> int:
        return self._max_concurrent_runs

    async def aclose(self) -> None:
        """Close the connections. Unfinished runs must have been cancelled before."""
        await self._call.aclose()

    async def write(self, request: CaptionRequest, observer: CaptionObserver) -> CaptionDelivery:
        with alert_operator(request.model):
            return await self._write(request, observer)

    async def _write(self, request: CaptionRequest, observer: CaptionObserver) -> CaptionDelivery:
        if request.job is not None:
            raise OUTCOME_UNKNOWN.failure("a stored job, but this provider has no jobs")
        policy = PollingPolicy(self._pace, request.seconds_left)
        url = self._dialect.url(request)
        # Everything that can fail here fails before the provider is asked.
        references = await self._references.read(
            request.references[: request.model.max_references],
            max_bytes=MAX_REFERENCE_BYTES,
            content_types=_REFERENCE_TYPES,
        )
        body = self._dialect.body(request, references)
        policy.check()
        await observer.submitting()
        leave_out = (self._dialect.key, request.message, *request.reference_prompts)
        reply = self._dialect.reply(request, leave_out)
        draft = _Draft(request, observer)
        answer = await self._call.ask(url, body, reply, show=draft.show, policy=policy)
        if answer.status not in ANSWERED:
            raise self._dialect.failure(answer, leave_out)
        if is_refusal(reply.text):
            raise REFUSED.failure("the model says that it does not write this caption")
        text = tidy_caption(reply.text, request, is_cut=reply.is_cut)
        if not text:
            raise reply.failure()
        return CaptionDelivery(text=text, usage=reply.usage)


class _Draft:
    """Shows what is written so far, no more often than anyone could read it."""

    def __init__(self, request: CaptionRequest, observer: CaptionObserver) -> None:
        self._request = request
        self._observer = observer
        self._next_at = 0.0
        self._shown = ""

    async def show(self, text: str) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._next_at or is_refusal(text, is_draft=True):
            return
        tidied = tidy_caption(text, self._request, is_draft=True)
        if tidied and tidied != self._shown:
            self._next_at, self._shown = now + _SHOW_EVERY_SECONDS, tidied
            await self._observer.text(tidied)

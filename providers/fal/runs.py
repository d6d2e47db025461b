"""One run on fal's queue: submit, follow the job, fetch what it made.

What must stay true: a run submits once; a job that was taken is told before it is asked about;
whether one was taken is never guessed; neither prompts nor the key get into a log.
"""

import asyncio
from typing import Final

import orjson
import structlog

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.ports import Watcher
from providers.downloads import DownloadBroke, Downloader
from providers.fal import failures
from providers.fal.calls import FalCalls
from providers.fal.jobs import FalJob
from providers.fal.wire import ENDPOINTS, Fields, Result, payload_of, read_result
from providers.http import Answer, AnswerUnusable, NotSent, Unanswered
from providers.patience import Pace, Patience
from providers.seeds import seed_of

log = structlog.get_logger(__name__)

_TRIES: Final = 5
"""How often in a row an answer is asked for that makes no sense, or that may be final."""


class FalRun:
    """One run on its way to its pictures."""

    def __init__(
        self,
        request: GenerationRequest,
        watcher: Watcher,
        *,
        calls: FalCalls,
        downloader: Downloader,
        pace: Pace,
        leave_out: tuple[str, ...],
    ) -> None:
        self._request = request
        self._watcher = watcher
        self._calls = calls
        self._downloader = downloader
        self._pace = pace
        self._leave_out = leave_out
        self._patience = Patience(pace, request.seconds_left)
        self._told_position: int | None = None
        self.job_has_ended = False
        """Whether fal has said so."""

    async def submit(self, reference_links: list[str]) -> FalJob:
        name = self._request.model.endpoint or self._request.model.id
        endpoint = ENDPOINTS.get(name)
        if endpoint is None:
            raise GenerationFailed(
                GenerationErrorCode.INTERNAL, retryable=False, detail=f"{name} is no endpoint"
            )
        payload = payload_of(self._request, endpoint, reference_links=reference_links)
        body = orjson.dumps(payload)
        self._patience.check()
        await self._watcher.submitting()
        job, fields = await self._submitted(name, body)
        await self._watcher.submitted(job.saved())
        await self._tell_position(fields)
        await self._patience.until_next()
        return job

    async def _submitted(self, name: str, body: bytes) -> tuple[FalJob, Fields]:
        try:
            answer = await self._calls.submit(
                name,
                body,
                within=self._patience.within(self._pace.submit),
                start_within=self._patience.seconds_left,
            )
        except NotSent as silence:
            raise NotSubmitted(
                GenerationErrorCode.PROVIDER_UNAVAILABLE, detail=f"not connected: {silence}"
            ) from silence
        except Unanswered as silence:
            raise _unknown(f"submission: {silence}") from silence
        if 200 <= answer.status < 300:
            fields = answer.fields() or {}
            job = self._calls.queue.job_in(fields, endpoint=name)
            if job is not None:
                return job, fields
        found = await self._listed(answer, name)
        if found is not None:
            return found, {}
        raise failures.of_submission(answer, leave_out=self._leave_out)

    async def _listed(self, answer: Answer, name: str) -> FalJob | None:
        """The job that an answer names in its head only, if the queue knows it.

        fal's front names what it has let in, also where it then fails. Such a submission may have
        become a job, and the queue can tell.
        """
        request_id = answer.headers.get("x-fal-request-id")
        job = self._calls.queue.job_called(request_id, endpoint=name)
        if job is None or 400 <= answer.status < 500:
            return None
        try:
            status = await self._calls.status(job, within=self._patience.within(self._pace.call))
        except Unanswered as silence:
            raise _unknown(f"HTTP {answer.status}, then {silence}") from silence
        if _status_in(status) is not None:
            return job
        if status.status != 404:
            raise _unknown(f"HTTP {answer.status}, then HTTP {status.status}")
        return None

    async def follow(self, job: FalJob) -> Result:
        """Wait for the job's end, and read what came of it."""
        while True:
            status = await self._status(job)
            if status["status"] == "COMPLETED":
                self.job_has_ended = True
                return await self._result(job, failed=bool(status.get("error")))
            await self._tell_position(status)
            await self._patience.until_next()

    async def _status(self, job: FalJob) -> Fields:
        while True:
            try:
                answer = await self._calls.status(
                    job, within=self._patience.within(self._pace.call)
                )
            except AnswerUnusable as nonsense:
                await self._patience.wait_out(_bad(f"status: {nonsense}"), tries=_TRIES)
                continue
            except Unanswered as silence:
                await self._patience.wait_out(_unavailable(silence))
                continue
            fields = _status_in(answer)
            if fields is not None:
                self._patience.went_well()
                return fields
            if answer.status < 300:
                await self._patience.wait_out(self._failure(answer), tries=_TRIES)
            elif answer.status == 404:
                # It has given us this id. Whether the job runs, or ever did, nobody can tell.
                await self._patience.wait_out(_unknown("status: HTTP 404"), tries=_TRIES)
            elif failures.is_transient(answer):
                await self._patience.wait_out(
                    self._failure(answer), wish=answer.retry_after_seconds
                )
            else:
                raise self._failure(answer)

    async def _result(self, job: FalJob, *, failed: bool) -> Result:
        """The answer of a job that has ended. There is no status for failure: this tells.

        An error is the job's own, unless it may come from something on the way: then it is asked
        for again, as it costs nothing, and the job has been paid.
        """
        while True:
            try:
                answer = await self._calls.result(
                    job, within=self._patience.within(self._pace.call)
                )
            except AnswerUnusable as nonsense:
                raise _bad(f"result: {nonsense}") from nonsense
            except Unanswered as silence:
                await self._patience.wait_out(_unavailable(silence))
                continue
            fields = answer.fields()
            if answer.status == 200 and fields is not None:
                return read_result(fields)
            failure = self._failure(answer)
            if answer.status < 300 or failures.is_unclear(answer):
                await self._patience.wait_out(failure, tries=_TRIES)
            elif failures.is_the_jobs(answer, failed=failed):
                raise failure
            elif failures.is_in_fals_words(answer) and answer.status >= 500:
                await self._patience.wait_out(failure, tries=_TRIES)
            else:
                await self._patience.wait_out(failure, wish=answer.retry_after_seconds)

    async def fetch(self, result: Result) -> Delivery:
        """Fetch the pictures. Those that cannot be had are left out if there are others."""
        # More may have come than were asked for, or were charged for.
        links = result.links[: self._request.image_count]
        async with asyncio.TaskGroup() as group:
            fetches = [group.create_task(self._fetched(link)) for link in links]
        fetched = [fetch.result() for fetch in fetches]
        seed = result.seed
        if seed is None and (sent := seed_of(self._request)) is not None:
            seed = str(sent)
        images = tuple(DeliveredImage(data, seed) for data in fetched if isinstance(data, bytes))
        for failure in fetched:
            if isinstance(failure, GenerationFailed):
                if not images:
                    raise failure
                log.warning("picture left out", provider="fal", reason=str(failure))
        return Delivery(images=images, text=result.text)

    async def _fetched(self, link: str) -> bytes | GenerationFailed:
        tries = Patience(self._pace, self._patience.seconds_left)
        while True:
            try:
                return await self._downloader.fetch(link)
            except DownloadBroke as broken:
                try:
                    await tries.wait_out(broken, tries=_TRIES)
                except GenerationFailed as end:
                    return end
            except GenerationFailed as refusal:
                return refusal

    async def _tell_position(self, status: Fields) -> None:
        """Tell how many are before the job, when that has changed. Once it runs, nobody is."""
        position = status.get("queue_position")
        if status.get("status") == "IN_PROGRESS":
            position = 0 if self._told_position else None
        if isinstance(position, bool) or not isinstance(position, int) or position < 0:
            return
        if position != self._told_position:
            self._told_position = position
            await self._watcher.queued(position)

    def _failure(self, answer: Answer) -> GenerationFailed:
        return failures.of_answer(answer, leave_out=self._leave_out)


def _status_in(answer: Answer) -> Fields | None:
    """The fields of a status; None where the answer is none."""
    fields = answer.fields() if answer.status in (200, 202) else None
    return fields if fields is not None and isinstance(fields.get("status"), str) else None


def _unavailable(silence: Unanswered) -> GenerationFailed:
    return GenerationFailed(
        GenerationErrorCode.PROVIDER_UNAVAILABLE, retryable=True, detail=str(silence)
    )


def _unknown(detail: str) -> GenerationFailed:
    return GenerationFailed(GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True, detail=detail)


def _bad(detail: str) -> GenerationFailed:
    return GenerationFailed(
        GenerationErrorCode.PROVIDER_BAD_RESPONSE, retryable=True, detail=detail
    )

"""One run on fal's queue: submit, follow the job, fetch what it made.

What must stay true: a run submits once; a job that was taken is told before it is asked about;
whether one was taken is never guessed; neither prompts nor the key get into a log.
"""

import orjson

from domain.errors import GenerationFailed
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.ports.providers import RunObserver
from providers.failures import bad, unavailable, unknown
from providers.fal import failures
from providers.fal.client import FalCalls
from providers.fal.jobs import FalJob
from providers.fal.wire import Fields, Result, endpoint_asked, payload_of, read_result
from providers.http import Answer, AnswerUnusable, Unanswered
from providers.polling import Pace, PollingPolicy
from providers.references import References
from providers.result_downloads import fetch_pictures
from providers.safe_http import Downloader
from providers.seeds import seed_of
from providers.submit_and_poll import TRIES, submitted, told_of_job


class FalRun:
    """One run on its way to its pictures."""

    def __init__(
        self,
        request: GenerationRequest,
        observer: RunObserver,
        *,
        calls: FalCalls,
        downloader: Downloader,
        pace: Pace,
        leave_out: tuple[str, ...],
    ) -> None:
        self._request = request
        self._watcher = observer
        self._calls = calls
        self._downloader = downloader
        self._pace = pace
        self._leave_out = leave_out
        self._patience = PollingPolicy(pace, request.seconds_left)
        self._told_position: int | None = None
        self.job_has_ended = False
        """Whether fal has said so."""

    async def submit(self, references: References) -> FalJob:
        name, endpoint = endpoint_asked(self._request)
        # Whatever can go wrong on our side goes wrong before fal is asked.
        read = await references.read(
            self._request.references, max_bytes=endpoint.max_reference_bytes
        )
        reference_links = [one.as_link() for one in read]
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
        answer = await submitted(
            self._calls.submit(
                name,
                body,
                within=self._patience.within(self._pace.submit),
                start_within=self._patience.seconds_left,
            )
        )
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
            raise unknown(f"HTTP {answer.status}, then {silence}") from silence
        if _status_in(status) is not None:
            return job
        if status.status != 404:
            raise unknown(f"HTTP {answer.status}, then HTTP {status.status}")
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
        return await told_of_job(
            lambda: self._calls.status(job, within=self._patience.within(self._pace.call)),
            _status_in,
            failure_of=self._failure,
            wish_of=lambda answer: answer.retry_after_seconds,
            policy=self._patience,
        )

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
                raise bad(f"result: {nonsense}") from nonsense
            except Unanswered as silence:
                await self._patience.wait_out(unavailable(silence))
                continue
            fields = answer.fields()
            if answer.status == 200 and fields is not None:
                return read_result(fields)
            failure = self._failure(answer)
            if answer.status < 300 or failures.is_unclear(answer):
                await self._patience.wait_out(failure, tries=TRIES)
            elif failures.is_the_jobs(answer, failed=failed):
                raise failure
            elif failures.is_in_fals_words(answer) and answer.status >= 500:
                await self._patience.wait_out(failure, tries=TRIES)
            else:
                await self._patience.wait_out(failure, wish=answer.retry_after_seconds)

    async def fetch(self, result: Result) -> Delivery:
        """Fetch the pictures. Those that cannot be had are left out if there are others."""
        pictures = await fetch_pictures(
            # More may have come than were asked for, or were charged for.
            result.links[: self._request.image_count],
            self._downloader,
            pace=self._pace,
            seconds_left=self._patience.seconds_left,
            provider="fal",
        )
        seed = result.seed
        if seed is None and (sent := seed_of(self._request)) is not None:
            seed = str(sent)
        return Delivery(
            images=tuple(DeliveredImage(data, seed) for data in pictures), text=result.text
        )

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

"""One run on fal's queue: submit, poll the job, fetch its images.

What must stay true: a run submits once; a job is reported to the observer before it is polled;
whether a job was accepted is never guessed; neither prompts nor the key get into a log.
"""

import orjson

from domain.errors import GenerationFailed
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.ports.providers import RunObserver
from providers.failures import BAD_RESPONSE, OUTCOME_UNKNOWN, UNAVAILABLE
from providers.fal import failures
from providers.fal.client import FalClient
from providers.fal.jobs import FalJob
from providers.fal.wire import Result, endpoint_asked, payload_of, read_result
from providers.http import Answer, AnswerUnusable, Unanswered
from providers.lenient import Fields, count_of, state_of
from providers.polling import Pace, PollingPolicy
from providers.references import References
from providers.result_downloads import fetch_pictures
from providers.safe_http import Downloader
from providers.seeds import seed_of
from providers.submit_and_poll import TRIES, await_answer, poll_job


class FalRun:
    """One run, from its submission to its images."""

    def __init__(
        self,
        request: GenerationRequest,
        observer: RunObserver,
        *,
        calls: FalClient,
        downloader: Downloader,
        pace: Pace,
        leave_out: tuple[str, ...],
    ) -> None:
        self._request = request
        self._observer = observer
        self._calls = calls
        self._downloader = downloader
        self._pace = pace
        self._leave_out = leave_out
        self._policy = PollingPolicy(pace, request.seconds_left)
        self._reported_position: int | None = None
        self.job_has_ended = False
        """Whether fal has reported that the job has failed."""

    async def submit(self, references: References) -> FalJob:
        name, endpoint = endpoint_asked(self._request)
        # Everything that can fail here fails before fal is asked.
        read = await references.read(
            self._request.references,
            max_bytes=endpoint.max_reference_bytes,
            mask=self._request.mask if endpoint.mask else None,
        )
        payload = payload_of(self._request, endpoint, references=read)
        body = orjson.dumps(payload)
        self._policy.check()
        await self._observer.submitting()
        job, fields = await self._submit(name, body)
        await self._observer.submitted(job.to_stored())
        await self._report_position(fields)
        await self._policy.pause()
        return job

    async def _submit(self, name: str, body: bytes) -> tuple[FalJob, Fields]:
        answer = await await_answer(
            self._calls.submit(
                name,
                body,
                within=self._policy.within(self._pace.submit),
                start_within=self._policy.seconds_left,
            )
        )
        if 200 <= answer.status < 300:
            fields = answer.fields() or {}
            job = self._calls.queue.read_job(fields, endpoint=name)
            if job is not None:
                return job, fields
        found = await self._find_named_job(answer, name)
        if found is not None:
            return found, {}
        raise failures.explain_submission(answer, leave_out=self._leave_out)

    async def _find_named_job(self, answer: Answer, name: str) -> FalJob | None:
        """Find the job that only the headers of a response name, if the queue knows it.

        fal's gateway names what it has accepted, even if it fails afterwards. Such a submission may
        have become a job, and the queue knows.
        """
        request_id = answer.headers.get("x-fal-request-id")
        job = self._calls.queue.build_job(request_id, endpoint=name)
        if job is None or 400 <= answer.status < 500:
            return None
        try:
            status = await self._calls.get_status(job, within=self._policy.within(self._pace.call))
        except Unanswered as silence:
            raise OUTCOME_UNKNOWN.failure(f"HTTP {answer.status}, then {silence}") from silence
        if _status_in(status) is not None:
            return job
        if status.status != 404:
            raise OUTCOME_UNKNOWN.failure(f"HTTP {answer.status}, then HTTP {status.status}")
        return None

    async def follow(self, job: FalJob) -> Result:
        """Wait for the job's end, and read its result."""
        while True:
            status = await self._get_status(job)
            if state_of(status) == "completed":
                self.job_has_ended = True
                return await self._get_result(job, failed=bool(status.get("error")))
            await self._report_position(status)
            await self._policy.pause()

    async def _get_status(self, job: FalJob) -> Fields:
        return await poll_job(
            lambda: self._calls.get_status(job, within=self._policy.within(self._pace.call)),
            _status_in,
            explain=self._explain,
            retry_hint=lambda answer: answer.retry_after_seconds,
            policy=self._policy,
        )

    async def _get_result(self, job: FalJob, *, failed: bool) -> Result:
        """Read the result of a job that has ended.

        Only here fal says whether the job has failed. An error is the job's own, unless it may come
        from a server in between: then the result is requested again, since that costs nothing, and
        the job has been paid for.
        """
        while True:
            try:
                answer = await self._calls.get_result(
                    job, within=self._policy.within(self._pace.call)
                )
            except AnswerUnusable as nonsense:
                raise BAD_RESPONSE.failure(f"result: {nonsense}") from nonsense
            except Unanswered as silence:
                await self._policy.wait_out(UNAVAILABLE.failure(str(silence)))
                continue
            fields = answer.fields()
            if 200 <= answer.status < 300 and fields is not None:
                return read_result(fields)
            failure = self._explain(answer)
            if answer.status < 300 or failures.is_unclear(answer):
                await self._policy.wait_out(failure, tries=TRIES)
            elif failures.is_final(answer, failed=failed):
                raise failure
            elif failures.is_in_fals_words(answer) and answer.status >= 500:
                await self._policy.wait_out(failure, tries=TRIES)
            else:
                await self._policy.wait_out(failure, retry_after=answer.retry_after_seconds)

    async def fetch(self, result: Result) -> Delivery:
        """Fetch the images. Those that cannot be fetched are left out if there are others."""
        pictures = await fetch_pictures(
            # There may be more than were requested and charged.
            result.links[: self._request.image_count],
            self._downloader,
            pace=self._pace,
            seconds_left=self._policy.seconds_left,
            provider="fal",
        )
        seed = result.seed
        if seed is None and (sent := seed_of(self._request)) is not None:
            seed = str(sent)
        return Delivery(
            images=tuple(DeliveredImage(data, seed) for data in pictures), text=result.text
        )

    async def _report_position(self, status: Fields) -> None:
        """Report the number of jobs before this one, when it has changed; none once it runs."""
        position = count_of(status.get("queue_position"))
        if state_of(status) == "in_progress":
            position = 0 if self._reported_position else None
        if position is not None and position != self._reported_position:
            self._reported_position = position
            await self._observer.queued(position)

    def _explain(self, answer: Answer) -> GenerationFailed:
        return failures.explain_answer(answer, leave_out=self._leave_out)


def _status_in(answer: Answer) -> Fields | None:
    """The fields of a status; None where the response is not a status."""
    fields = answer.fields() if 200 <= answer.status < 300 else None
    return fields if fields is not None and state_of(fields) else None

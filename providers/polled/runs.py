"""One run of a prediction: submit, poll the job, fetch its images.

What must stay true: a run submits once; a job is reported to the observer before it is polled;
whether a job was accepted is never guessed; neither prompts nor the key get into a log.
"""

from collections.abc import Sequence
from dataclasses import replace

from domain.errors import GenerationFailed
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.ports.providers import RunObserver
from providers import failures
from providers.http import Answer
from providers.polled.client import PolledClient
from providers.polled.dialect import Dialect, Prediction
from providers.polling import Pace, PollingPolicy
from providers.result_downloads import fetch_pictures
from providers.safe_http import Downloader
from providers.seeds import seed_of
from providers.submit_and_poll import await_answer, poll_job


class PolledRun:
    """One run, from its submission to its images."""

    def __init__(
        self,
        request: GenerationRequest,
        observer: RunObserver,
        *,
        dialect: Dialect,
        calls: PolledClient,
        downloader: Downloader,
        pace: Pace,
        leave_out: tuple[str, ...],
    ) -> None:
        self._request = request
        self._observer = observer
        self._dialect = dialect
        self._calls = calls
        self._downloader = downloader
        self._pace = pace
        self._leave_out = leave_out
        self._policy = PollingPolicy(pace, request.seconds_left)
        self._reported_progress = 0.0
        self.job_has_ended = False
        """Whether the provider has reported that the job has ended."""

    async def submit(self, reference_links: Sequence[str]) -> Prediction:
        submission = self._dialect.submission(self._request, reference_links)
        self._policy.check()
        await self._observer.submitting()
        answer = await await_answer(
            self._calls.submit(submission, within=self._policy.within(self._pace.submit))
        )
        prediction = self._read_submission(answer)
        if prediction is None:
            raise self._explain_submission(answer)
        await self._observer.submitted({"id": prediction.id})
        return prediction

    async def follow(self, prediction: Prediction) -> Prediction:
        """Wait for the job's end, and raise its failure. It may have ended already."""
        while not prediction.has_ended:
            await self._report_progress(prediction)
            await self._policy.pause()
            prediction = await self.ask(prediction.id)
        self.job_has_ended = True
        if prediction.failure is not None:
            raise prediction.failure
        return prediction

    async def ask(self, job_id: str) -> Prediction:
        return await poll_job(
            lambda: self._calls.get_status(job_id, within=self._policy.within(self._pace.call)),
            lambda answer: self._read_status(answer, job_id),
            explain=self._explain,
            retry_hint=self._dialect.retry_hint,
            policy=self._policy,
        )

    async def fetch(self, prediction: Prediction) -> Delivery:
        """Fetch the images. Those that cannot be fetched are left out if there are others."""
        pictures = await fetch_pictures(
            # There may be more than were requested and charged.
            prediction.links[: self._request.image_count],
            self._downloader,
            pace=self._pace,
            seconds_left=self._policy.seconds_left,
            provider=self._dialect.name,
        )
        sent = seed_of(self._request)
        seed = None if sent is None else str(sent)
        return Delivery(images=tuple(DeliveredImage(data, seed) for data in pictures))

    def _read_submission(self, answer: Answer) -> Prediction | None:
        """The job that the response to a submission names.

        An error of the provider may name one too, and it runs: submitting again would mean paying
        twice.
        """
        if 300 <= answer.status < 500:
            return None
        prediction = self._dialect.read(answer, leave_out=self._leave_out)
        if prediction is None or not prediction.id:
            return None
        if self._dialect.submission_tells_state:
            return prediction
        return Prediction(id=prediction.id, has_ended=False)

    def _read_status(self, answer: Answer, job_id: str) -> Prediction | None:
        if not 200 <= answer.status < 300:
            return None
        prediction = self._dialect.read(answer, leave_out=self._leave_out)
        # The URL has named the job, so this response is about it, whatever id it contains.
        return replace(prediction, id=job_id) if prediction is not None else None

    async def _report_progress(self, prediction: Prediction) -> None:
        progress = prediction.progress
        if progress is not None and self._reported_progress < progress <= 1:
            self._reported_progress = progress
            await self._observer.progress(progress)

    def _explain_submission(self, answer: Answer) -> GenerationFailed:
        return failures.explain_submission(
            answer.status, self._explain(answer), retry_after=self._dialect.retry_hint(answer)
        )

    def _explain(self, answer: Answer) -> GenerationFailed:
        return self._dialect.failure(answer, leave_out=self._leave_out)

"""One run of a prediction: submit, follow the job, fetch what it made.

What must stay true: a run submits once; a job that was taken is told before it is asked about;
whether one was taken is never guessed; neither prompts nor the key get into a log.
"""

from collections.abc import Sequence

from domain.errors import GenerationFailed
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.ports.providers import RunObserver
from providers import failures
from providers.http import Answer
from providers.polled.client import PredictionCalls
from providers.polled.dialect import Dialect, Prediction
from providers.polling import Pace, PollingPolicy
from providers.result_downloads import fetch_pictures
from providers.safe_http import Downloader
from providers.seeds import seed_of
from providers.submit_and_poll import submitted, told_of_job


class PredictionRun:
    """One run on its way to its pictures."""

    def __init__(
        self,
        request: GenerationRequest,
        observer: RunObserver,
        *,
        dialect: Dialect,
        calls: PredictionCalls,
        downloader: Downloader,
        pace: Pace,
        leave_out: tuple[str, ...],
    ) -> None:
        self._request = request
        self._watcher = observer
        self._dialect = dialect
        self._calls = calls
        self._downloader = downloader
        self._pace = pace
        self._leave_out = leave_out
        self._patience = PollingPolicy(pace, request.seconds_left)
        self._told_progress = 0.0
        self.job_has_ended = False
        """Whether the provider has said so."""

    async def submit(self, reference_links: Sequence[str]) -> Prediction:
        submission = self._dialect.submission(self._request, reference_links)
        self._patience.check()
        await self._watcher.submitting()
        answer = await submitted(
            self._calls.submit(submission, within=self._patience.within(self._pace.submit))
        )
        prediction = self._taken(answer)
        if prediction is None:
            raise self._not_taken(answer)
        await self._watcher.submitted({"id": prediction.id})
        return prediction

    async def follow(self, prediction: Prediction) -> Prediction:
        """Wait for the job's end, and raise what it failed with. It may be over already."""
        while not prediction.over:
            await self._tell_progress(prediction)
            await self._patience.until_next()
            prediction = await self.asked(prediction.id)
        self.job_has_ended = True
        if prediction.failure is not None:
            raise prediction.failure
        return prediction

    async def asked(self, job_id: str) -> Prediction:
        return await told_of_job(
            lambda: self._calls.status(job_id, within=self._patience.within(self._pace.call)),
            lambda answer: self._told(answer, job_id),
            failure_of=self._failure,
            wish_of=self._dialect.wish,
            policy=self._patience,
        )

    async def fetch(self, prediction: Prediction) -> Delivery:
        """Fetch the pictures. Those that cannot be had are left out if there are others."""
        pictures = await fetch_pictures(
            # More may have come than were asked for, or were charged for.
            prediction.links[: self._request.image_count],
            self._downloader,
            pace=self._pace,
            seconds_left=self._patience.seconds_left,
            provider=self._dialect.name,
        )
        sent = seed_of(self._request)
        seed = None if sent is None else str(sent)
        return Delivery(images=tuple(DeliveredImage(data, seed) for data in pictures))

    def _taken(self, answer: Answer) -> Prediction | None:
        """The job that a submission has led to. An error of the provider's own may name one too,
        which goes on: to submit again would be to pay twice.
        """
        if 300 <= answer.status < 500:
            return None
        return self._dialect.read(answer, leave_out=self._leave_out)

    def _told(self, answer: Answer, job_id: str) -> Prediction | None:
        if not 200 <= answer.status < 300:
            return None
        prediction = self._dialect.read(answer, leave_out=self._leave_out)
        return prediction if prediction is not None and prediction.id == job_id else None

    async def _tell_progress(self, prediction: Prediction) -> None:
        progress = prediction.progress
        if progress is not None and self._told_progress < progress <= 1:
            self._told_progress = progress
            await self._watcher.progress(progress)

    def _not_taken(self, answer: Answer) -> GenerationFailed:
        return failures.of_submission(
            answer.status, self._failure(answer), wish=self._dialect.wish(answer)
        )

    def _failure(self, answer: Answer) -> GenerationFailed:
        return self._dialect.failure(answer, leave_out=self._leave_out)

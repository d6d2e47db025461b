"""Calls to fal's queue, with the key. The callers interpret the responses."""

from typing import Final

from providers.fal.jobs import FalJob, FalQueue
from providers.http import MAX_BYTES, Answer, ask, open_client

_MAX_WORDS_BYTES: Final = 2**20
"""The size of a response that contains only text."""


class FalClient:
    """All calls raise `Unanswered` where no response came."""

    def __init__(self, *, key: str, url: str, max_bytes: int = MAX_BYTES) -> None:
        self.queue = FalQueue(url)
        self._headers = {"authorization": f"Key {key}", "accept": "application/json"}
        self._max_bytes = max_bytes
        self._submissions = open_client(reuse=False)
        self._questions = open_client()

    async def aclose(self) -> None:
        await self._submissions.aclose()
        await self._questions.aclose()

    async def submit(
        self, endpoint: str, body: bytes, *, within: float, start_within: float
    ) -> Answer:
        """Submit a job, on a connection of its own.

        fal drops a job that it has not started after `start_within` seconds, free of charge.
        `X-Fal-No-Retry` is not sent: when one of fal's machines fails, fal runs the job again, and
        it stays one job with one bill.
        """
        return await ask(
            self._submissions,
            "POST",
            self.queue.submit_url(endpoint),
            within=within,
            headers=self._headers
            | {
                "content-type": "application/json",
                "x-fal-request-timeout": str(max(1, int(start_within))),
            },
            content=body,
            max_bytes=_MAX_WORDS_BYTES,
        )

    async def get_status(self, job: FalJob, *, within: float) -> Answer:
        """Without logs, which have no structure that could be used."""
        return await self._ask("GET", job.status_url, within=within, max_bytes=_MAX_WORDS_BYTES)

    async def get_result(self, job: FalJob, *, within: float) -> Answer:
        return await self._ask("GET", job.response_url, within=within, max_bytes=self._max_bytes)

    async def cancel(self, job: FalJob, *, within: float) -> Answer:
        return await self._ask("PUT", job.cancel_url, within=within, max_bytes=_MAX_WORDS_BYTES)

    async def _ask(self, method: str, url: str, *, within: float, max_bytes: int) -> Answer:
        return await ask(
            self._questions,
            method,
            url,
            within=within,
            headers=self._headers,
            max_bytes=max_bytes,
        )

"""Calls to a polled provider, with the key. The callers interpret the responses.

What must stay true: the key is sent only below the configured URL. URLs in responses are not
followed: all are built from the job's id.
"""

import re
from typing import Final

import orjson

from providers.http import MAX_BYTES, Answer, ask, open_client
from providers.lenient import Fields, id_of
from providers.polled.dialect import Dialect, Submission

_MAX_ANSWER_BYTES: Final = 6 * 2**20
"""Responses may repeat the references that were sent, and twenty runs may be answered at once."""
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")


def is_job_id(value: str) -> bool:
    """Whether the id may be part of a path."""
    return _JOB_ID.fullmatch(value) is not None


def job_id_in(fields: Fields) -> str:
    """The id of a prediction; empty where there is none that may be part of a path."""
    job_id = id_of(fields.get("id"))
    return job_id if is_job_id(job_id) else ""


class PolledClient:
    """All calls raise `Unanswered` where no response came."""

    def __init__(self, dialect: Dialect, *, key: str, url: str, max_bytes: int = MAX_BYTES) -> None:
        self._dialect = dialect
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}", "accept": "application/json"}
        self._max_bytes = min(max_bytes, _MAX_ANSWER_BYTES)
        self._submissions = open_client(reuse=False)
        self._questions = open_client()

    async def aclose(self) -> None:
        await self._submissions.aclose()
        await self._questions.aclose()

    async def submit(self, submission: Submission, *, within: float) -> Answer:
        """Submit a job, on a connection of its own."""
        answer = await ask(
            self._submissions,
            "POST",
            f"{self._url}/{submission.path}",
            within=within,
            headers=self._headers | {"content-type": "application/json"} | dict(submission.headers),
            content=orjson.dumps(submission.body),
            max_bytes=self._max_bytes,
        )
        return self._dialect.plain(answer)

    async def get_status(self, job_id: str, *, within: float) -> Answer:
        return await self._ask("GET", self._dialect.status_path, job_id, within=within)

    async def cancel(self, path: str, job_id: str, *, within: float) -> Answer:
        return await self._ask("POST", path, job_id, within=within)

    async def _ask(self, method: str, path: str, job_id: str, *, within: float) -> Answer:
        answer = await ask(
            self._questions,
            method,
            f"{self._url}/{path.format(id=job_id)}",
            within=within,
            headers=self._headers,
            max_bytes=self._max_bytes,
        )
        return self._dialect.plain(answer)

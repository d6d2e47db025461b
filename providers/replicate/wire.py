"""The wire format of Replicate's models.

A model is named `owner/name`, or `owner/name:version` if it is pinned to a version.
"""

import re
from collections.abc import Sequence
from math import ceil
from typing import Final

from domain.errors import GenerationFailed
from domain.generation import GenerationRequest
from domain.models import ImageFormat
from providers.failures import BAD_RESPONSE, NO_IMAGE, TIMED_OUT
from providers.http import Answer
from providers.lenient import Fields, state_of
from providers.links import links_in
from providers.polled.client import job_id_in
from providers.polled.dialect import Prediction, Submission
from providers.polled.payloads import payload_of
from providers.replicate import failures
from providers.vocabulary import FORMATS

_MIN_CANCEL_SECONDS: Final = 5
_SUCCEEDED: Final = "succeeded"
_STATES: Final = frozenset({"starting", "processing", _SUCCEEDED, *failures.ENDS})
_FORMATS: Final = {**FORMATS, ImageFormat.JPEG: "jpg"}
_PROGRESS: Final = re.compile(r"^\s*(\d{1,3})%\s*\|", re.MULTILINE)
_MAX_LOGS_LENGTH: Final = 2_000
"""The size of the end of logs, which has the newest lines."""


class ReplicateDialect:
    """A `Dialect`: responses are predictions, or problem details (RFC 7807)."""

    name: Final = "replicate"
    max_references_bytes: Final = 3_000_000
    """Replicate advises against more than 256 KB for one, and its own client takes no more than 10
    MB together. Each response repeats them.
    """
    status_path: Final = "predictions/{id}"
    cancel_path: Final = "predictions/{id}/cancel"
    submission_tells_state: Final = True

    def submission(self, request: GenerationRequest, links: Sequence[str]) -> Submission:
        """Without `Prefer: wait`: the job's id would be unknown until the wait has ended."""
        name = request.model.endpoint or request.model.id
        path, _, version = name.partition(":")
        payload = payload_of(request, links, formats=_FORMATS)
        # Replicate itself ends a job that no process has resumed.
        headers = {"cancel-after": f"{max(_MIN_CANCEL_SECONDS, ceil(request.seconds_left))}s"}
        if version:
            body = {"version": name, "input": payload}
            return Submission(path="predictions", body=body, headers=headers)
        return Submission(
            path=f"models/{path}/predictions", body={"input": payload}, headers=headers
        )

    def plain(self, answer: Answer) -> Answer:
        return answer

    def read(self, answer: Answer, *, leave_out: Sequence[str]) -> Prediction | None:
        fields = answer.fields() or {}
        job_id, status = job_id_in(fields), state_of(fields)
        if not job_id and status not in _STATES:
            return None
        if status not in failures.ENDS and status != _SUCCEEDED:
            return Prediction(id=job_id, has_ended=False, progress=_progress_in(fields.get("logs")))
        try:
            links = _links_of(fields, leave_out=leave_out)
        except GenerationFailed as failure:
            return Prediction(id=job_id, has_ended=True, failure=failure)
        return Prediction(id=job_id, has_ended=True, links=tuple(links))

    def failure(self, answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
        return failures.explain_answer(answer, leave_out=leave_out)

    def retry_hint(self, answer: Answer) -> float | None:
        return failures.retry_hint(answer)


def _links_of(fields: Fields, *, leave_out: Sequence[str]) -> list[str]:
    """Raise `GenerationFailed` where there is nothing to fetch."""
    if state_of(fields) != _SUCCEEDED:
        raise failures.explain_prediction(fields, leave_out=leave_out)
    links = links_in(fields.get("output")) or links_in(fields)
    if links:
        return links
    if fields.get("data_removed") is True:
        raise TIMED_OUT.failure("succeeded, but asked for too late: data_removed")
    if "output" in fields and not fields["output"]:
        raise NO_IMAGE.failure("no output")
    raise BAD_RESPONSE.failure(f"a prediction without links, but {len(fields)} other fields")


def _progress_in(logs: object) -> float | None:
    """The progress in a progress bar, which some models write into their logs."""
    found = _PROGRESS.findall(logs[-_MAX_LOGS_LENGTH:]) if isinstance(logs, str) else []
    return int(found[-1]) / 100 if found else None

"""The wire format of Wavespeed's models."""

from collections.abc import Sequence
from typing import Final

from domain.errors import GenerationFailed
from domain.generation import GenerationRequest
from providers.failures import BAD_RESPONSE, NO_IMAGE, REFUSED
from providers.http import Answer
from providers.lenient import Fields, count_of, items_of, state_of
from providers.links import links_in, without_refused
from providers.polled.client import job_id_in
from providers.polled.dialect import Prediction, Submission
from providers.polled.payloads import payload_of
from providers.vocabulary import FORMATS
from providers.wavespeed import failures

_COMPLETED: Final = "completed"
_STATES: Final = frozenset({"created", "processing", _COMPLETED, *failures.ENDS})


class WavespeedDialect:
    """A `Dialect`: responses are envelopes around `data`, with a code of their own."""

    name: Final = "wavespeed"
    max_references_bytes: Final = 0
    status_path: Final = "predictions/{id}/result"
    cancel_path: Final = None
    submission_tells_state: Final = False

    def submission(self, request: GenerationRequest, links: Sequence[str]) -> Submission:
        """Without `enable_sync_mode`: a job that exceeds its time there continues, and its id is
        unknown.
        """
        model = request.model.endpoint or request.model.id
        return Submission(path=model, body=payload_of(request, links, formats=FORMATS))

    def plain(self, answer: Answer) -> Answer:
        fields = answer.fields() if answer.status == 200 else None
        code = count_of((fields or {}).get("code")) or 0
        # A prediction that has arrived counts for more than the code of the envelope.
        if 400 <= code < 600 and not _has_prediction(failures.data_of(answer)):
            return Answer(code, answer.headers, answer.body)
        return answer

    def read(self, answer: Answer, *, leave_out: Sequence[str]) -> Prediction | None:
        data = failures.data_of(answer)
        if not _has_prediction(data):
            return None
        job_id, status = job_id_in(data), state_of(data)
        if status not in failures.ENDS and status != _COMPLETED:
            return Prediction(id=job_id, has_ended=False)
        try:
            links = _links_of(data, leave_out=leave_out)
        except GenerationFailed as failure:
            return Prediction(id=job_id, has_ended=True, failure=failure)
        return Prediction(id=job_id, has_ended=True, links=tuple(links))

    def failure(self, answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
        return failures.explain_answer(answer, leave_out=leave_out)

    def retry_hint(self, answer: Answer) -> float | None:
        return answer.retry_after_seconds


def _has_prediction(data: Fields) -> bool:
    return bool(job_id_in(data)) or state_of(data) in _STATES


def _links_of(data: Fields, *, leave_out: Sequence[str]) -> list[str]:
    """Raise `GenerationFailed` where there is nothing to fetch."""
    if state_of(data) != _COMPLETED:
        raise failures.explain_prediction(data, leave_out=leave_out)
    if "outputs" not in data:
        raise BAD_RESPONSE.failure(f"a prediction without outputs, but {len(data)} other fields")
    outputs, flags = items_of(data.get("outputs")), data.get("has_nsfw_contents")
    if not outputs and isinstance(flags, list) and True in flags:
        raise REFUSED.failure("has_nsfw_contents")
    if not outputs:
        raise NO_IMAGE.failure("outputs: []")
    firsts = [next(iter(links_in(output)), None) for output in outputs]
    return without_refused(firsts, flags, named="has_nsfw_contents")

"""How Wavespeed's models want to be asked, and how they answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import GenerationRequest
from providers.http import Answer
from providers.links import links_in, without_refused
from providers.polled.client import is_job_id
from providers.polled.dialect import Prediction, Submission
from providers.seeds import seed_of
from providers.wavespeed import failures

Fields = Mapping[str, object]


def _imagen(request: GenerationRequest) -> Fields:
    payload: dict[str, object] = {
        "prompt": request.prompt,
        "aspect_ratio": str(request.aspect_ratio),
        "num_images": request.image_count,
        # With true, pictures would come inside of the prediction instead of links.
        "enable_base64_output": False,
    }
    if request.negative_prompt is not None:
        payload["negative_prompt"] = request.negative_prompt
    seed = seed_of(request)
    if seed is not None:
        payload["seed"] = seed
    return payload


MODELS: Final[Mapping[str, Callable[[GenerationRequest], Fields]]] = {"google/imagen3": _imagen}


class WavespeedDialect:
    """A `Dialect`: answers are envelopes around `data`, with a code of their own."""

    name: Final = "wavespeed"
    max_references_bytes: Final = 0
    status_path: Final = "predictions/{id}/result"
    cancel_path: Final = None

    def submission(self, request: GenerationRequest, links: Sequence[str]) -> Submission:
        """Without `enable_sync_mode`: what runs out of time there goes on, and is not named."""
        model = request.model.endpoint or request.model.id
        payload_of = MODELS.get(model)
        if payload_of is None or links:
            raise GenerationFailed(
                GenerationErrorCode.INTERNAL, retryable=False, detail=f"{model} is no such model"
            )
        return Submission(path=model, body=payload_of(request))

    def plain(self, answer: Answer) -> Answer:
        fields = answer.fields() if answer.status == 200 else None
        code = (fields or {}).get("code")
        if isinstance(code, int) and 400 <= code < 600:
            return Answer(code, answer.headers, answer.body)
        return answer

    def read(self, answer: Answer, *, leave_out: Sequence[str]) -> Prediction | None:
        data = failures.data_of(answer)
        job_id, status = data.get("id"), data.get("status")
        if not isinstance(job_id, str) or not is_job_id(job_id) or not isinstance(status, str):
            return None
        if status not in failures.ENDS and status != "completed":
            return Prediction(id=job_id, over=False)
        try:
            links = _links_of(data, leave_out=leave_out)
        except GenerationFailed as failure:
            return Prediction(id=job_id, over=True, failure=failure)
        return Prediction(id=job_id, over=True, links=tuple(links))

    def failure(self, answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
        return failures.of_answer(answer, leave_out=leave_out)

    def wish(self, answer: Answer) -> float | None:
        return answer.retry_after_seconds


def _links_of(data: Fields, *, leave_out: Sequence[str]) -> list[str]:
    """Raise `GenerationFailed` where there is nothing to fetch."""
    if data["status"] != "completed":
        raise failures.of_prediction(data, leave_out=leave_out)
    outputs, flags = data.get("outputs"), data.get("has_nsfw_contents")
    if not isinstance(outputs, list):
        raise GenerationFailed(
            GenerationErrorCode.PROVIDER_BAD_RESPONSE,
            retryable=True,
            detail=f"a prediction without outputs, but {len(data)} other fields",
        )
    if not outputs and isinstance(flags, list) and True in flags:
        raise GenerationFailed(
            GenerationErrorCode.CONTENT_REFUSED, retryable=False, detail="has_nsfw_contents"
        )
    if not outputs:
        raise GenerationFailed(GenerationErrorCode.NO_IMAGE, retryable=True, detail="outputs: []")
    firsts = [next(iter(links_in(output)), None) for output in outputs]
    return without_refused(firsts, flags, named="has_nsfw_contents")

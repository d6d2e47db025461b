"""How Replicate's models want to be asked, and how they answer: one row for each model.

A model is named `owner/name`, or `owner/name:version` where it is held to a version.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import GenerationRequest
from domain.models import ImageFormat, Resolution
from providers.http import Answer
from providers.links import links_in
from providers.polled.client import is_job_id
from providers.polled.dialect import Prediction, Submission
from providers.replicate import failures
from providers.seeds import seed_of

Fields = Mapping[str, object]

_MIN_CANCEL_SECONDS: Final = 5
_RESOLUTIONS: Final = {Resolution.ONE_K: "1K", Resolution.TWO_K: "2K", Resolution.FOUR_K: "4K"}
_FORMATS: Final = {ImageFormat.PNG: "png", ImageFormat.JPEG: "jpg", ImageFormat.WEBP: "webp"}
_PROGRESS: Final = re.compile(r"^\s*(\d{1,3})%\s*\|", re.MULTILINE)
_MAX_LOGS_LENGTH: Final = 2_000
"""Of their end, where the newest lines stand."""


def _flux(request: GenerationRequest) -> Fields:
    seed = seed_of(request)
    if seed is None:
        return {"num_outputs": request.image_count}
    # The fast way makes another picture each time, whatever the seed is.
    return {"num_outputs": request.image_count, "seed": seed, "go_fast": False}


def _seedream(request: GenerationRequest) -> Fields:
    """One image: several in one prediction would be a story that the model makes up."""
    return {
        "size": _RESOLUTIONS[request.resolution],
        "sequential_image_generation": "disabled",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """In what one model differs from others."""

    own: Callable[[GenerationRequest], Fields] = lambda _: {}
    takes_references: bool = True


MODELS: Final[Mapping[str, Model]] = {
    "black-forest-labs/flux-schnell": Model(own=_flux, takes_references=False),
    "google/nano-banana": Model(),
    "bytedance/seedream-4": Model(own=_seedream),
}


def input_of(request: GenerationRequest, model: Model, links: Sequence[str]) -> Fields:
    """What a prediction is to be made from. A ratio is always told: with references, that of the
    first one would be taken.
    """
    made: dict[str, object] = {
        "prompt": request.prompt,
        "aspect_ratio": str(request.aspect_ratio),
        **model.own(request),
    }
    if links:
        made["image_input"] = list(links)
    if request.format is not None:
        made["output_format"] = _FORMATS[request.format]
    return made


class ReplicateDialect:
    """A `Dialect`: answers are predictions, or problems in the words of RFC 7807."""

    name: Final = "replicate"
    max_references_bytes: Final = 3_000_000
    """Replicate advises against more than 256 KB for one, and its own client takes no more than
    10 MB together. Each answer repeats them.
    """
    status_path: Final = "predictions/{id}"
    cancel_path: Final = "predictions/{id}/cancel"

    def submission(self, request: GenerationRequest, links: Sequence[str]) -> Submission:
        """Without `Prefer: wait`: until the wait was over nobody would know the job's id."""
        name = request.model.endpoint or request.model.id
        path, _, version = name.partition(":")
        model = MODELS.get(path)
        if model is None or (links and not model.takes_references):
            raise GenerationFailed(
                GenerationErrorCode.INTERNAL, retryable=False, detail=f"{name} is no such model"
            )
        made = input_of(request, model, links)
        # A job that nobody has come back to is ended by Replicate itself.
        headers = {"cancel-after": f"{max(_MIN_CANCEL_SECONDS, ceil(request.seconds_left))}s"}
        if version:
            body = {"version": name, "input": made}
            return Submission(path="predictions", body=body, headers=headers)
        return Submission(path=f"models/{path}/predictions", body={"input": made}, headers=headers)

    def plain(self, answer: Answer) -> Answer:
        return answer

    def read(self, answer: Answer, *, leave_out: Sequence[str]) -> Prediction | None:
        fields = answer.fields() or {}
        job_id, status = fields.get("id"), fields.get("status")
        if not isinstance(job_id, str) or not is_job_id(job_id) or not isinstance(status, str):
            return None
        if status not in failures.ENDS and status != "succeeded":
            return Prediction(id=job_id, over=False, progress=_progress_in(fields.get("logs")))
        try:
            links = _links_of(fields, leave_out=leave_out)
        except GenerationFailed as failure:
            return Prediction(id=job_id, over=True, failure=failure)
        return Prediction(id=job_id, over=True, links=tuple(links))

    def failure(self, answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
        return failures.of_answer(answer, leave_out=leave_out)

    def wish(self, answer: Answer) -> float | None:
        return failures.wish_of(answer)


def _links_of(fields: Fields, *, leave_out: Sequence[str]) -> list[str]:
    """Raise `GenerationFailed` where there is nothing to fetch."""
    if fields["status"] != "succeeded":
        raise failures.of_prediction(fields, leave_out=leave_out)
    links = links_in(fields)
    if links:
        return links
    if fields.get("data_removed") is True:
        raise GenerationFailed(
            GenerationErrorCode.TIMED_OUT,
            retryable=True,
            detail="succeeded, but asked for too late: data_removed",
        )
    if "output" in fields and not fields["output"]:
        raise GenerationFailed(GenerationErrorCode.NO_IMAGE, retryable=True, detail="no output")
    raise GenerationFailed(
        GenerationErrorCode.PROVIDER_BAD_RESPONSE,
        retryable=True,
        detail=f"a prediction without links, but {len(fields)} other fields",
    )


def _progress_in(logs: object) -> float | None:
    """What a model's own progress bar says, which some write into their logs."""
    found = _PROGRESS.findall(logs[-_MAX_LOGS_LENGTH:]) if isinstance(logs, str) else []
    return int(found[-1]) / 100 if found else None

"""A simulated OpenRouter: its Image API and its chats over real HTTP, with a script and a bill.

`python -m tests.simulators.openrouter --port N --bill FILE` serves it on loopback. What models take
is written down from OpenRouter's records of them, not from our own code; what a record does not
list is refused, as OpenRouter does.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from starlette.requests import Request
from starlette.responses import Response

from tests.simulators.answers import json
from tests.simulators.chats import CHAT_ENDS, answer_chat, question_in
from tests.simulators.jobs import Job
from tests.simulators.one_call import (
    Fields,
    OneCallSimulator,
    ParsedRequest,
    encoded,
    partial,
    ratio_in,
)
from tests.simulators.simulator import run_as_program

KEY: Final = "sk-or-simulator"
PATH: Final = "api/v1"

Check = Callable[[Any], bool]


def _one_of(*values: str) -> Check:
    return lambda value: value in values


def _up_to(maximum: int) -> Check:
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= maximum
    )


def _references(maximum: int) -> Check:
    return lambda value: (
        isinstance(value, list)
        and 1 <= len(value) <= maximum
        and all(
            image["type"] == "image_url" and image["image_url"]["url"].startswith("data:image/")
            for image in value
        )
    )


def _seed(value: Any) -> bool:
    return isinstance(value, int)


_GEMINI_RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_LONG_RATIOS: Final = ("1:4", "1:8", "4:1", "8:1")
_FLUX: Final[Mapping[str, Check]] = {
    "aspect_ratio": _one_of(*("1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16", "21:9", "auto")),
    "input_references": _references(8),
    "n": _up_to(1),
    "output_format": _one_of("png", "jpeg"),
    "seed": _seed,
}
_PRO: Final[Mapping[str, Check]] = {
    "aspect_ratio": _one_of(*_GEMINI_RATIOS),
    "input_references": _references(14),
    "n": _up_to(1),
    "resolution": _one_of("1K", "2K", "4K"),
}
_FLASH: Final[Mapping[str, Check]] = {
    **_PRO,
    "aspect_ratio": _one_of(*_GEMINI_RATIOS, *_LONG_RATIOS),
}
_MODELS: Final[Mapping[str, Mapping[str, Check]]] = {
    "google/gemini-2.5-flash-image": {
        "aspect_ratio": _one_of(*_GEMINI_RATIOS),
        "input_references": _references(3),
        "n": _up_to(1),
    },
    "google/gemini-3-pro-image": _PRO,
    "google/gemini-3.1-flash-image": {**_FLASH, "resolution": _one_of("512", "1K", "2K", "4K")},
    "google/gemini-nano-banana-2.1": _FLASH,
    "bytedance-seed/seedream-4.5": {
        "aspect_ratio": _one_of(
            *("1:1", "1:2", "2:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9"),
            *("9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9", "auto"),
        ),
        "input_references": _references(14),
        "n": _up_to(10),
        "resolution": _one_of("1K", "2K", "4K"),
        "seed": _seed,
    },
    "black-forest-labs/flux.2-flex": _FLUX,
    "black-forest-labs/flux.2-max": _FLUX,
    "openai/gpt-5-image": {
        "background": _one_of("auto", "transparent", "opaque"),
        "input_references": _references(16),
        "n": _up_to(10),
        "output_compression": _up_to(100),
        "quality": _one_of("auto", "low", "medium", "high"),
    },
}
MODELS: Final = frozenset(_MODELS)
_CHAT_MODELS: Final[Mapping[str, frozenset[str]]] = {
    "openai/gpt-6-luna": frozenset({"none", "low", "medium", "high", "xhigh", "max"}),
    "openai/gpt-4.1": frozenset(),
    "google/gemini-3.6-flash": frozenset({"minimal", "low", "medium", "high"}),
}
"""How much each can be asked to think."""
CHAT_MODELS: Final = frozenset(_CHAT_MODELS)
_WAIT: Final = b": OPENROUTER PROCESSING\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_STREAMING: Final = frozenset({"openai/gpt-5-image"})


def _called(code: int | str, **more: Any) -> Fields:
    return {"code": code, **more}


def _typed(code: int, error_type: str) -> Fields:
    return _called(code, metadata={"error_type": error_type, "provider_name": "Somebody"})


def _unavailable(code: int, availability: str, **more: Any) -> Fields:
    return _called(code, availability={"code": availability, "fallback_models": [], **more})


_ERRORS: Final[Mapping[str, tuple[int, Fields]]] = {
    "key": (401, _called(401)),
    "no-key": (401, _called(401)),
    "moderation": (
        403,
        _called(
            403,
            metadata={
                "reasons": ["violence"],
                "flagged_input": "…",
                "provider_name": "OpenAI",
                "model_slug": "openai/gpt-5-image",
            },
        ),
    ),
    "policy": (400, _typed(400, "content_policy_violation")),
    "refusal": (400, _typed(400, "refusal")),
    "blocked": (400, _called("moderation_blocked", type="image_generation_user_error")),
    "policy-late": (502, _typed(502, "content_policy_violation")),
    "image": (400, _typed(400, "invalid_image")),
    "credit": (402, _typed(402, "payment_required")),
    "capacity": (503, _unavailable(503, "capacity_exhausted", retryable=True, retry_after=21)),
    "away": (503, _unavailable(503, "temporarily_unavailable", retryable=True)),
    "deprecated": (400, _unavailable(400, "model_deprecated", retryable=False)),
    "unknown-model": (404, _unavailable(404, "model_not_found", retryable=False)),
    "private": (404, _unavailable(404, "privacy_restricted", retryable=False)),
    "upstream-limit": (429, _typed(429, "rate_limit_exceeded")),
    "dropped": (502, _called("server_error")),
    "as-text": (502, _called("502")),
    "limit-as-text": (429, _called("429")),
    "limit-as-word": (429, _called("rate_limit_exceeded")),
    "unnamed": (500, _called(None)),  # type: ignore[arg-type]
    **{
        str(status): (status, _called(status))
        for status in (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 524, 529)
    },
}


_CHATTY: Final = frozenset({"content_filter", "stop"})
"""Refusals as a chat has them: a good answer with words, and without pictures."""


class OpenRouterSimulator(OneCallSimulator):
    """One OpenRouter, with a few of its models."""

    provider: ClassVar = "openrouter"
    key: ClassVar = KEY
    errors: ClassVar = frozenset(_ERRORS)
    max_request_bytes: ClassVar = 50_000_000
    failures: ClassVar = frozenset({*_ERRORS, *_CHATTY, *CHAT_ENDS})

    def key_in(self, request: Request) -> str:
        return request.headers.get("authorization", "").removeprefix("Bearer ")

    def failed(self, kind: str, *, prompt: str = "") -> Response:
        status, error = _ERRORS[kind]
        sent = {**error, "message": f"It failed: {prompt}"}
        return json({"error": sent, "user_id": "user_1"}, status)

    def failed_late(self, kind: str, asked: ParsedRequest, job: Job) -> Response:
        error = {**_ERRORS[kind][1], "message": f"It failed: {asked.prompt}"}
        if asked.endpoint in CHAT_MODELS:
            return answer_chat(job, self.settle, error=error)
        if _is_streamed(asked):
            sent = [*_events(job, []), {"type": "error", "error": error}]
            return self.events(sent, job.script, start=_WAIT, end=_DONE)
        return json({"id": "gen-1", "error": error})

    def asked(self, path: str, payload: Fields) -> ParsedRequest | Response:
        if path == f"{PATH}/chat/completions":
            return self._chat_asked(payload)
        if path != f"{PATH}/images":
            return self.failed("404")
        model, prompt = str(payload.get("model")), payload.get("prompt")
        if model not in _MODELS:
            return self.failed("unknown-model")
        if not isinstance(prompt, str) or not prompt:
            return self.failed("400", prompt="prompt")
        for name, value in payload.items():
            if name in ("model", "prompt", "stream"):
                continue
            check = _MODELS[model].get(name)
            if check is None or not check(value):
                return self.failed("400", prompt=f"{name} is not one of the model's")
        return ParsedRequest(
            model, prompt, ratio_in(str(payload.get("aspect_ratio", "1:1"))), payload
        )

    def writes(self, asked: ParsedRequest) -> bool:
        return asked.endpoint in CHAT_MODELS

    def _chat_asked(self, payload: Fields) -> ParsedRequest | Response:
        model = str(payload.get("model"))
        if model not in _CHAT_MODELS:
            return self.failed("unknown-model")
        try:
            prompt, _ = question_in(payload["messages"])
            if set(payload) - {"model", "messages", "stream", "max_tokens", "reasoning"}:
                raise ValueError("a field that there is not")
            if not 16 <= payload["max_tokens"] <= 4_000 or payload["stream"] is not True:
                raise ValueError("max_tokens")
            reasoning = payload.get("reasoning", {})
            if set(reasoning) - {"effort", "exclude"} or (
                reasoning and reasoning["effort"] not in _CHAT_MODELS[model]
            ):
                raise ValueError("reasoning")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return self.failed("400", prompt=repr(error))
        return ParsedRequest(model, prompt, 1.0, payload)

    def result(self, asked: ParsedRequest, job: Job) -> Response:
        script = job.script
        if asked.endpoint in CHAT_MODELS:
            return answer_chat(job, self.settle, error={})
        pictures = [
            {"b64_json": encoded(job, index), "media_type": f"image/{job.spec.format}"}
            for index in range(job.count)
        ]
        if _is_streamed(asked):
            answer = self.events(_events(job, pictures), script, start=_WAIT, end=_DONE)
        elif script.fail:
            refusal = "I would rather not." if script.fail == "stop" else None
            message = {"role": "assistant", "content": "", "refusal": refusal}
            choice = {"index": 0, "message": message, "finish_reason": script.fail}
            answer = self.body({"id": "gen-1", "choices": [choice]}, script)
        else:
            sent = {"created": 1_795_000_000, "data": pictures, "usage": _USAGE}
            answer = self.body(sent, script)
        answer.headers["x-generation-id"] = "gen-1"
        return answer


def _is_streamed(asked: ParsedRequest) -> bool:
    """Models that cannot do it ignore it."""
    return asked.payload.get("stream") is True and asked.endpoint in _STREAMING


def _events(job: Job, pictures: list[dict[str, str]]) -> list[object]:
    sent: list[object] = [
        {
            "type": "image_generation.partial_image",
            "partial_image_index": index,
            "b64_json": partial(job, index),
        }
        for index in range(job.script.partials or 0)
    ]
    completed = {"type": "image_generation.completed", "created": 1, "usage": _USAGE}
    return sent + [completed | picture for picture in pictures]


_USAGE: Final = {
    "prompt_tokens": 16,
    "completion_tokens": 4175,
    "total_tokens": 4191,
    "cost": 0.04,
}

if __name__ == "__main__":
    run_as_program(OpenRouterSimulator)

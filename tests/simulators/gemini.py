"""A simulated Gemini API: `generateContent` over real HTTP, with a script and a bill.

`python -m tests.simulators.gemini --port N --bill FILE` serves it on loopback. What models take is
written down again from Google's texts, not from our own code; fields that they do not list are
refused, as Google does.
"""

import asyncio
import binascii
import re
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tests.simulators.answers import json
from tests.simulators.chats import CHAT_ENDS, INPUT_TOKENS, OUTPUT_TOKENS, pieces_of, words_of
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

KEY: Final = "simulator-gemini-key"
MAX_REQUEST_BYTES: Final = 20_000_000
_RATIOS: Final = {"1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"}
_MORE_RATIOS: Final = _RATIOS | {"1:4", "4:1", "1:8", "8:1"}
_SIZES: Final = {"1K", "2K", "4K"}
_TYPES: Final = {"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}
_MODELS: Final[Mapping[str, tuple[set[str], set[str], int]]] = {
    "gemini-2.5-flash-image": (_RATIOS, set(), 3),
    "gemini-3-pro-image": (_RATIOS, _SIZES, 14),
    "gemini-3.1-flash-image": (_MORE_RATIOS, _SIZES | {"512"}, 14),
    "gemini-nano-banana-2.1": (_MORE_RATIOS, _SIZES, 14),
}
"""Aspect ratios, sizes, and how many references each takes."""
MODELS: Final = frozenset(_MODELS)
CHAT_MODELS: Final = frozenset({"gemini-3.6-flash"})
_LEVELS: Final = frozenset({"minimal", "low", "medium", "high"})
_PATH: Final = re.compile(r"v1(?:beta)?/models/([^/:]+):(generateContent|streamGenerateContent)")
_RPC: Final = "type.googleapis.com/google.rpc"


def _info(reason: str) -> Fields:
    return {"@type": f"{_RPC}.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def _quota(quota_id: str) -> Fields:
    return {"@type": f"{_RPC}.QuotaFailure", "violations": [{"quotaId": quota_id}]}


_RETRY: Final = {"@type": f"{_RPC}.RetryInfo", "retryDelay": "34.5s"}
_ERRORS: Final[Mapping[str, tuple[int, str, tuple[Fields, ...]]]] = {
    "key": (400, "INVALID_ARGUMENT", (_info("API_KEY_INVALID"),)),
    "no-key": (403, "PERMISSION_DENIED", ()),
    "location": (400, "FAILED_PRECONDITION", ()),
    "quota": (429, "RESOURCE_EXHAUSTED", (_quota("RequestsPerMinutePerProject"), _RETRY)),
    "quota-today": (429, "RESOURCE_EXHAUSTED", (_quota("RequestsPerDayPerProject"), _RETRY)),
    "400": (400, "INVALID_ARGUMENT", ()),
    "401": (401, "UNAUTHENTICATED", ()),
    "402": (402, "PERMISSION_DENIED", ()),
    "403": (403, "PERMISSION_DENIED", ()),
    "404": (404, "NOT_FOUND", ()),
    "413": (413, "INVALID_ARGUMENT", ()),
    "429": (429, "RESOURCE_EXHAUSTED", ()),
    "499": (499, "CANCELLED", ()),
    "500": (500, "INTERNAL", ()),
    "503": (503, "UNAVAILABLE", ()),
    "504": (504, "DEADLINE_EXCEEDED", ()),
}


FINISHES: Final = frozenset(
    {
        *("SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT", "SPII"),
        *("BLOCKLIST", "RECITATION", "IMAGE_RECITATION", "ESCALATION", "LANGUAGE", "NO_IMAGE"),
        *("IMAGE_OTHER", "OTHER", "MALFORMED_RESPONSE", "MAX_TOKENS", "PUP_LIMITED_DISABLED"),
    }
)
"""Reasons why an answer has no picture."""
BLOCKS: Final = frozenset({"SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY"})
"""Reasons why a prompt is not answered: `fail=prompt-SAFETY`."""
_BLOCK: Final = "prompt-"


class GeminiSimulator(OneCallSimulator):
    """One Gemini API."""

    provider: ClassVar = "gemini"
    key: ClassVar = KEY
    errors: ClassVar = frozenset(_ERRORS)
    max_request_bytes: ClassVar = MAX_REQUEST_BYTES
    failures: ClassVar = frozenset(
        {*_ERRORS, *FINISHES, *CHAT_ENDS, *(_BLOCK + reason for reason in BLOCKS)}
    )

    def key_in(self, request: Request) -> str:
        return request.headers.get("x-goog-api-key") or request.query_params.get("key", "")

    def failed(self, kind: str, *, prompt: str = "") -> Response:
        return json(_error(kind, prompt), _ERRORS[kind][0])

    def failed_late(self, kind: str, asked: ParsedRequest, job: Job) -> Response:
        answer = _error(kind, asked.prompt)
        if self.writes(asked):
            return StreamingResponse(self._written(job, error=answer), media_type=_EVENTS)
        if "streamed" in asked.payload:
            return self.events([*(_candidate([part]) for part in _parts(job)), answer], job.script)
        return json(answer)

    def asked(self, path: str, payload: Fields) -> ParsedRequest | Response:
        match = _PATH.fullmatch(path)
        if match is None or match[1] not in MODELS | CHAT_MODELS:
            return self.failed("404")
        try:
            if match[1] in CHAT_MODELS:
                return ParsedRequest(match[1], _checked_chat(payload), 1.0, payload)
            prompt, ratio = _checked(payload, match[1])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return self.failed("400", prompt=repr(error))
        streamed = {"streamed": True} if match[2].startswith("stream") else {}
        return ParsedRequest(match[1], prompt, ratio, {**payload, **streamed})

    def writes(self, asked: ParsedRequest) -> bool:
        return asked.endpoint in CHAT_MODELS

    def result(self, asked: ParsedRequest, job: Job) -> Response:
        script = job.script
        if self.writes(asked):
            return StreamingResponse(self._written(job), media_type=_EVENTS)
        answer: list[Fields] = []
        if script.fail.startswith(_BLOCK):
            block = {"blockReason": script.fail.removeprefix(_BLOCK)}
            answer.append({"promptFeedback": block, "usageMetadata": _USAGE})
        else:
            parts = _parts(job)
            if "streamed" in asked.payload:
                answer += [_candidate([part]) for part in parts]
            end = _candidate([] if answer else parts, finish=script.fail or "STOP")
            answer.append({**end, "usageMetadata": _USAGE})
        answers = [{**chunk, "modelVersion": "simulated", "responseId": "r1"} for chunk in answer]
        if "streamed" in asked.payload:
            return self.events(answers, script)
        return self.body(answers[0], script)

    async def _written(self, job: Job, error: Fields | None = None) -> AsyncIterator[bytes]:
        """With a pause after each piece: a job's seconds are shared out."""
        script, pieces = job.script, pieces_of(words_of(job))
        if script.fail.startswith(_BLOCK):
            block = {"blockReason": script.fail.removeprefix(_BLOCK)}
            yield _event({"promptFeedback": block, "usageMetadata": _CHAT_USAGE})
            return
        is_half = error is not None or script.hang or script.early or script.fail in FINISHES
        yield _event(_candidate([{"text": "I think of it.", "thought": True}]))
        for piece in pieces[: len(pieces) // 2] if is_half else pieces:
            yield _event({**_candidate([{"text": piece}]), "usageMetadata": _CHAT_USAGE})
            await asyncio.sleep((script.seconds or 0.0) / len(pieces))
        if script.hang:
            await asyncio.Event().wait()
        self.settle(job, time.time())
        if error is not None:
            yield _event(error)
        elif not script.early:
            finish = script.fail if script.fail in FINISHES else _CHAT_FINISHES.get(script.fail)
            end = _candidate([], finish=finish or "STOP")
            yield _event({**end, "usageMetadata": _CHAT_USAGE})


_EVENTS: Final = "text/event-stream"
_CHAT_FINISHES: Final = {"chat-length": "MAX_TOKENS", "chat-filter": "SAFETY"}
_CHAT_USAGE: Final = {
    "promptTokenCount": INPUT_TOKENS,
    "candidatesTokenCount": OUTPUT_TOKENS,
    "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _event(value: Fields) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\r\n\r\n"


def _checked_chat(payload: Fields) -> str:
    """The prompt. Raise ValueError, or what wrong types raise."""
    _only(payload, {"systemInstruction", "contents", "generationConfig"})
    (task,) = payload["systemInstruction"]["parts"]
    (content,) = payload["contents"]
    first, *images = content["parts"]
    config = payload["generationConfig"]
    _only(config, {"maxOutputTokens", "thinkingConfig"})
    for image in images:
        _data_of(image["inlineData"]["data"])
        if image["inlineData"]["mimeType"] not in _TYPES:
            raise ValueError("mimeType")
    thinking = config.get("thinkingConfig", {})
    _only(thinking, {"thinkingLevel", "thinking_level"})
    level = str(thinking.get("thinkingLevel", thinking.get("thinking_level", "minimal"))).lower()
    if not task["text"] or level not in _LEVELS or not 16 <= config["maxOutputTokens"] <= 4_000:
        raise ValueError("generationConfig")
    return str(first["text"])


def _error(kind: str, prompt: str) -> Fields:
    status, word, details = _ERRORS[kind]
    answer: dict[str, Any] = {"code": status, "message": f"It failed: {prompt}", "status": word}
    if details:
        answer["details"] = details
    return {"error": answer}


def _parts(job: Job) -> list[Fields]:
    script = job.script
    parts: list[Fields] = [{"text": script.text}] if script.text else []
    for index in range(script.partials or 0):
        parts.append({"text": "I might paint it so.", "thought": True})
        parts.append({**_inline(partial(job, index)), "thought": True})
    for index in range(0 if script.fail else job.count):
        signature = "c2ln" * (1 + script.signature // 4)
        parts.append({**_inline(encoded(job, index)), "thoughtSignature": signature})
    return parts


_USAGE: Final = {
    "promptTokenCount": 12,
    "candidatesTokenCount": 1290,
    "thoughtsTokenCount": 100,
    "totalTokenCount": 1402,
}


def _candidate(parts: list[Fields], *, finish: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        answer["finishReason"] = finish
    return {"candidates": [answer]}


def _inline(data: str) -> dict[str, Any]:
    kind = "image/png" if data.startswith("iVBOR") else "image/jpeg"
    return {"inlineData": {"mimeType": kind, "data": data}}


def _checked(payload: Fields, model: str) -> tuple[str, float]:
    """The prompt and the picture's shape. Raise ValueError, or what wrong types raise."""
    ratios, sizes, max_references = _MODELS[model]
    _only(payload, {"contents", "generationConfig"})
    *earlier, content = payload["contents"]
    for one in earlier:
        _only(one, {"role", "parts"})
        (part,) = one["parts"]
        if one["role"] != "user" or not part["text"] or set(part) != {"text"}:
            raise ValueError("contents")
    _only(content, {"role", "parts"})
    texts = [part["text"] for part in content["parts"] if "text" in part]
    images = [part["inlineData"] for part in content["parts"] if "inlineData" in part]
    if len(texts) != 1 or not texts[0] or len(images) > max_references:
        raise ValueError("parts")
    for image in images:
        _only(image, {"mimeType", "data"})
        _data_of(image["data"])
        if image["mimeType"] not in _TYPES:
            raise ValueError(image["mimeType"])
    config = payload.get("generationConfig", {})
    _only(config, {"responseModalities", "imageConfig", "seed", "thinkingConfig"})
    if set(config.get("responseModalities", ["IMAGE"])) - {"TEXT", "IMAGE"}:
        raise ValueError("responseModalities")
    if not isinstance(config.get("seed", 1), int):
        raise ValueError("seed")
    # Google takes either spelling; its own client has some of both.
    thinking = config.get("thinkingConfig", {})
    _only(thinking, {"includeThoughts", "include_thoughts"})
    if not all(isinstance(value, bool) for value in thinking.values()):
        raise ValueError("thinkingConfig")
    shape = config.get("imageConfig", {})
    _only(shape, {"aspectRatio", "imageSize"})
    if shape.get("aspectRatio", "1:1") not in ratios:
        raise ValueError("aspectRatio")
    if "imageSize" in shape and shape["imageSize"] not in sizes:
        raise ValueError("imageSize")
    return texts[0], ratio_in(shape.get("aspectRatio", "1:1"))


def _only(value: Fields, names: set[str]) -> None:
    if set(value) - names:
        raise ValueError(f"Unknown name {set(value) - names}")


def _data_of(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("data") from error


if __name__ == "__main__":
    run_as_program(GeminiSimulator)

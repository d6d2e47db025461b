"""A simulated OpenAI and a simulated Azure: the Images API, and OpenAI's chats, over real HTTP,
with a script and a bill.

`python -m tests.simulators.openai --port N --bill FILE` serves it on loopback; see `simulator.py`.
OpenAI's base URL is its `/v1`; a resource of Azure's is its origin.
"""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar, Final

import orjson
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tests.simulators.answers import json, never
from tests.simulators.bill import Entry
from tests.simulators.chats import CHAT_ENDS, Fields, answer_chat, question_in
from tests.simulators.forms import parts_of
from tests.simulators.jobs import Job, JobSpec
from tests.simulators.one_call import shortened
from tests.simulators.openai_answers import FAILURES, error, error_of, event, failure
from tests.simulators.openai_models import (
    DEPLOYMENTS,
    MAX_REFERENCES,
    SERVED,
    fault_in,
    ratio_of,
)
from tests.simulators.pictures import picture
from tests.simulators.script import Script
from tests.simulators.simulator import Simulator, run_as_program

KEY: Final = "sk-simulator"
TOKENS_PER_PICTURE: Final = 4160
TOKENS_PER_PARTIAL: Final = 100
_CHAT: Final = "chat"
_CHAT_MODELS: Final[Mapping[str, frozenset[str]]] = {
    "gpt-6-luna": frozenset({"none", "low", "medium", "high", "xhigh", "max"}),
    "gpt-4.1": frozenset(),
}
"""How much each can be asked to think."""
CHAT_DEPLOYMENTS: Final[Mapping[str, str]] = {"our-words": "gpt-4.1"}
"""At Azure: names of deployments, and their models."""
CHAT_MODELS: Final = frozenset(_CHAT_MODELS)
_CHAT_FIELDS: Final = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "max_completion_tokens"),
        "reasoning_effort",
    }
)
_SWITCHES: Final = {"true": True, "false": False}
_NUMBERS: Final = frozenset({"n", "output_compression", "partial_images"})
_EVENTS: Final = {"generations": "image_generation", "edits": "image_edit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """What a request's address says."""

    verb: str
    azure: bool
    deployment: str | None = None


class OpenAISimulator(Simulator):
    """One OpenAI, which is also an Azure."""

    provider: ClassVar = "openai"
    key: ClassVar = KEY
    failures: ClassVar = FAILURES | CHAT_ENDS
    references: ClassVar = "image[]"

    def error(self, status: int, script: Script) -> Response:
        return error(status, script)

    def job_spec_of(self, entry: Entry) -> JobSpec:
        return JobSpec(
            format=str(entry.payload.get("output_format", "png")),
            ratio=ratio_of(entry.payload),
            count=int(entry.payload.get("n", 1)),
        )

    async def answer(self, request: Request, path: str) -> Response:
        asked = _asked(path, request.query_params.get("api-version"))
        if asked is None or request.method != "POST":
            return json({"error": {"code": "404", "message": "Resource not found"}}, 404)
        sent = request.headers.get("api-key" if asked.azure else "authorization", "")
        if sent != (self._key if asked.azure else f"Bearer {self._key}"):
            wrong = {"message": "Incorrect API key provided", "code": "invalid_api_key"}
            return json({"error": wrong}, 401)
        if asked.verb == _CHAT:
            return await self._written(request, asked, orjson.loads(await request.body()))
        try:
            fields = await _fields(request, asked.verb)
        except (KeyError, TypeError, ValueError):
            return json({"error": {"message": "no such body", "code": None}}, 400)
        return await self._made(request, asked, fields)

    async def _written(self, request: Request, asked: ParsedRequest, fields: Fields) -> Response:
        name = str(fields.get("model"))
        model = CHAT_DEPLOYMENTS.get(name, "") if asked.azure else name
        if model not in _CHAT_MODELS:
            kind = "DeploymentNotFound" if asked.azure else "model_not_found"
            return failure(kind, prompt="", script=Script())
        try:
            prompt, _ = question_in(fields["messages"])
            if set(fields) - _CHAT_FIELDS:
                raise ValueError("a field that there is not")
            if not 16 <= fields["max_completion_tokens"] <= 4_000:
                raise ValueError("max_completion_tokens")
            if "reasoning_effort" in fields and (
                fields["reasoning_effort"] not in _CHAT_MODELS[model]
            ):
                raise ValueError("reasoning_effort")
            if fields["stream"] is not True or fields["stream_options"] != {"include_usage": True}:
                raise ValueError("stream")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            wrong = {"message": f"{error} is wrong", "code": "invalid_value"}
            return json({"error": wrong | {"type": "invalid_request_error"}}, 400)
        kept = {"prompt": prompt, "stream": True, "sent": shortened(fields)}

        async def answered(job: Job) -> Response:
            script = job.script
            if script.fail and script.fail not in CHAT_ENDS and not script.late:
                self.settle(job, time.time())
                return failure(script.fail, prompt=prompt, script=script)
            late = script.fail if script.fail in FAILURES else "server_error"
            return answer_chat(job, self.settle, error=error_of(late, prompt=prompt))

        return await self.submission(request, model, kept, answered)

    async def _made(
        self, request: Request, asked: ParsedRequest, fields: dict[str, Any]
    ) -> Response:
        prompt = str(fields.get("prompt", ""))
        model = _model(asked, fields)
        if model is None:
            kind = "DeploymentNotFound" if asked.azure else "model_not_found"
            return failure(kind, prompt=prompt, script=Script())
        files = (self.references, "mask")
        scalars = {name: value for name, value in fields.items() if name not in files}
        odd = fault_in(scalars, model=model, azure=asked.azure)
        if odd is None and asked.verb == "edits":
            odd = _fault_of_files(fields[self.references], azure=asked.azure)
            odd = odd or _fault_of_mask(fields.get("mask"))
        if odd is not None:
            wrong = {"message": f"{odd} is wrong", "param": odd, "code": "invalid_value"}
            return json({"error": wrong | {"type": "invalid_request_error"}}, 400)

        async def answered(job: Job) -> Response:
            return await self._answered(request, asked, job)

        return await self.submission(request, model, fields, answered)

    async def _answered(self, request: Request, asked: ParsedRequest, job: Job) -> Response:
        script = job.script
        odd = await self.faulty(request, job, "result")
        if odd is not None:
            return odd
        if script.fail and not script.late:
            self.settle(job, time.time())
            return failure(script.fail, prompt=job.entry.prompt, script=script)
        if job.entry.payload.get("stream") and not script.plain:
            return StreamingResponse(self._events(asked, job), media_type="text/event-stream")
        if script.hang:
            return await never(request)
        await asyncio.sleep(max(0.0, job.ends_at - time.time()))
        self.settle(job, time.time())
        if script.fail:
            return json({"error": error_of(script.fail, prompt=job.entry.prompt)})
        return json(_whole(job))

    async def _events(self, asked: ParsedRequest, job: Job) -> AsyncIterator[bytes]:
        """With a pause before each: a job's seconds are shared out."""
        script, name = job.script, _EVENTS[asked.verb]
        count = script.partials
        if count is None:
            count = int(job.entry.payload.get("partial_images", 0))
        pause = (script.seconds or 0.0) / (count + 1)
        yield b": keep-alive\n\n"
        for index in range(count):
            await asyncio.sleep(pause)
            data = picture(f"{job.entry.request_id} partial {index}", format=job.spec.format)
            shown = {"partial_image_index": index, **_described(job, data)}
            yield event(f"{name}.partial_image", {"type": f"{name}.partial_image", **shown})
        if script.hang:
            await asyncio.Event().wait()
        await asyncio.sleep(pause)
        self.settle(job, time.time())
        if script.fail:
            sent = {"error": error_of(script.fail, prompt=job.entry.prompt)}
            yield event("error", {"type": "error", **sent})
        elif not script.early:
            made = {**_described(job, job.inline_picture(0)), "usage": _usage(job)}
            if script.bare:
                del made["b64_json"]
            yield event(f"{name}.completed", {"type": f"{name}.completed", **made})
        yield b"data: [DONE]\n\n"


def _asked(path: str, api_version: str | None) -> ParsedRequest | None:
    match path.split("/"):
        case ["v1", "chat", "completions"]:
            return ParsedRequest(verb=_CHAT, azure=False)
        case ["openai", "v1", "chat", "completions"] if api_version in (None, "preview"):
            return ParsedRequest(verb=_CHAT, azure=True)
        case ["v1", "images", ("generations" | "edits") as verb] if api_version is None:
            return ParsedRequest(verb=verb, azure=False)
        case ["openai", "v1", "images", ("generations" | "edits") as verb]:
            known = api_version in (None, "preview")
            return ParsedRequest(verb=verb, azure=True) if known else None
        case ["openai", "deployments", name, "images", ("generations" | "edits") as verb]:
            dated = api_version is not None and api_version[:2] == "20"
            return ParsedRequest(verb=verb, azure=True, deployment=name) if dated else None
    return None


def _model(asked: ParsedRequest, fields: Mapping[str, Any]) -> str | None:
    name = asked.deployment or str(fields.get("model", ""))
    if asked.azure:
        return DEPLOYMENTS.get(name)
    return name if name in SERVED else None


async def _fields(request: Request, verb: str) -> dict[str, Any]:
    """The body's fields; each file as its name, type, length and first bytes."""
    body = await request.body()
    if verb == "generations":
        return dict(orjson.loads(body))
    fields: dict[str, Any] = {"image[]": []}
    first = b""
    for part in parts_of(request.headers.get("content-type", ""), body):
        if part.name in ("image", "image[]"):
            sent = f"{part.file_name} {part.content_type} {len(part.data)} {part.data[:4].hex()}"
            fields["image[]"].append(sent)
            first = first or part.data
            continue
        if part.name == "mask":
            mask, base = (Image.open(BytesIO(data)) for data in (part.data, first))
            same = "as the image" if mask.size == base.size else "another size"
            fields["mask"] = f"{part.file_name} {part.content_type} {mask.mode} {same}"
            continue
        value = part.data.decode()
        fields[part.name] = int(value) if part.name in _NUMBERS else _SWITCHES.get(value, value)
    return fields


def _fault_of_files(files: list[str], *, azure: bool) -> str | None:
    if not 1 <= len(files) <= MAX_REFERENCES:
        return "image"
    taken = {"image/png", "image/jpeg"} | (set() if azure else {"image/webp"})
    named = [file.split(" ") for file in files]
    good = all(name not in ("", "None") and kind in taken for name, kind, *_ in named)
    return None if good else "image"


def _fault_of_mask(mask: str | None) -> str | None:
    """A PNG with alpha, of the size of the first image."""
    return None if mask in (None, "mask.png image/png RGBA as the image") else "mask"


def _whole(job: Job) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    for index in range(job.count):
        if job.is_black(index):
            data.append({"content_filter_results": {"sexual": {"filtered": True}}})
        else:
            text = b64encode(job.inline_picture(index)).decode()
            data.append({} if job.script.bare else {"b64_json": text})
    payload = job.entry.payload
    return {
        "created": int(job.entry.received_at),
        "background": "opaque",
        "output_format": job.spec.format,
        "quality": payload.get("quality", "high"),
        "size": payload.get("size", "1024x1024"),
        "data": data,
        "usage": _usage(job),
    }


def _described(job: Job, data: bytes) -> dict[str, Any]:
    payload = job.entry.payload
    return {
        "b64_json": b64encode(data).decode(),
        "created_at": int(job.entry.received_at),
        "size": payload.get("size", "1024x1024"),
        "quality": payload.get("quality", "high"),
        "background": "opaque",
        "output_format": job.spec.format,
    }


def _usage(job: Job) -> dict[str, Any]:
    partials = int(job.entry.payload.get("partial_images", 0))
    output = TOKENS_PER_PICTURE * job.count + TOKENS_PER_PARTIAL * partials
    return {
        "input_tokens": 40,
        "output_tokens": output,
        "total_tokens": 40 + output,
        "input_tokens_details": {"text_tokens": 40, "image_tokens": 0},
    }


if __name__ == "__main__":
    run_as_program(OpenAISimulator)

"""Shared by simulators of caption models: the text, and OpenAI's chat completions, which OpenRouter
uses as well.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.responses import Response, StreamingResponse

from tests.simulators.answers import json
from tests.simulators.jobs import Job

Fields = Mapping[str, Any]

CHAT_ENDS: Final = frozenset(
    {"chat-filter", "chat-refusal", "chat-sign", "chat-length", "chat-nothing"}
)
"""Good answers without a whole caption: `finish_reason`, a refusal in its own field, one in words
with the sign that models are instructed to use, a limit, no words.
"""
INPUT_TOKENS: Final = 120
OUTPUT_TOKENS: Final = 40
_FINISHES: Final = {"chat-filter": "content_filter", "chat-length": "length"}
_PIECE_LETTERS: Final = 12


def words_of(job: Job) -> str:
    """What a model writes: a caption, in an untidy answer if the script says so."""
    if job.script.fail == "chat-nothing":
        return ""
    if job.script.fail == "chat-sign":
        return "[No caption] I am sorry, I cannot help with that."
    about = " ".join(job.entry.prompt.split("[")[0].split())[:40].strip()
    caption = f"About {about}. It was written by a model, piece by piece. Read on!"
    if job.script.fail == "chat-length":
        return caption.removesuffix(" on!")
    return f'**Caption:** "{caption}"\n\n#one #two #three' if job.script.garbled else caption


def pieces_of(text: str) -> list[str]:
    return [text[at : at + _PIECE_LETTERS] for at in range(0, len(text), _PIECE_LETTERS)]


def question_in(messages: Sequence[Fields]) -> tuple[str, int]:
    """The user's words and how many pictures there are. Raise what wrong shapes raise."""
    system, user = messages
    if system["role"] != "system" or not system["content"] or user["role"] != "user":
        raise ValueError("messages")
    first, *others = user["content"]
    if first["type"] != "text" or not first["text"]:
        raise ValueError("content")
    for other in others:
        if other["type"] != "image_url":
            raise ValueError("content")
        if not other["image_url"]["url"].startswith("data:image/"):
            raise ValueError("image_url")
    return first["text"], len(others)


def answer_chat(job: Job, settle: Callable[[Job, float], None], *, error: Fields) -> Response:
    """The answer to one chat. `error` is the form of a failure that is reported late."""
    if job.entry.payload.get("stream") and not job.script.plain:
        events = _events(job, settle, error=error)
        return StreamingResponse(events, media_type="text/event-stream")
    settle(job, time.time())
    if job.script.fail and job.script.late:
        return json({"error": error})
    message = {"role": "assistant", "content": words_of(job), "refusal": _refusal(job)}
    choice = {"index": 0, "message": message, "finish_reason": _finish(job)}
    return json(
        {"id": "gen-1", "object": "chat.completion", **_named(job), "choices": [choice]}
        | {"usage": _USAGE}
    )


async def _events(
    job: Job, settle: Callable[[Job, float], None], *, error: Fields
) -> AsyncIterator[bytes]:
    """With a pause after each piece: a job's seconds are shared out."""
    script, pieces = job.script, pieces_of(words_of(job))
    late = script.late and script.fail not in CHAT_ENDS
    yield b": PROCESSING\n\n"
    yield _event(job, {"role": "assistant", "content": ""})
    for piece in pieces[: len(pieces) // 2] if late or script.hang or script.early else pieces:
        yield _event(job, {"content": piece})
        await asyncio.sleep((script.seconds or 0.0) / len(pieces))
    if script.hang:
        await asyncio.Event().wait()
    settle(job, time.time())
    if late:
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        yield _data({**_KIND, **_named(job), "error": error, "choices": [choice]})
        return
    if script.early:
        return
    if (refusal := _refusal(job)) is not None:
        yield _event(job, {"refusal": refusal})
    yield _event(job, {}, finish=_finish(job))
    yield _data({**_KIND, **_named(job), "choices": [], "usage": _USAGE})
    yield b"data: [DONE]\n\n"


def _refusal(job: Job) -> str | None:
    return "I would rather not." if job.script.fail == "chat-refusal" else None


def _finish(job: Job) -> str:
    return _FINISHES.get(job.script.fail, "stop")


def _named(job: Job) -> dict[str, Any]:
    return {"created": int(job.entry.received_at), "model": job.entry.endpoint}


def _event(job: Job, delta: Fields, *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _data({**_KIND, **_named(job), "choices": [choice]})


def _data(value: Fields) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


_KIND: Final = {"id": "gen-1", "object": "chat.completion.chunk"}
_USAGE: Final = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}

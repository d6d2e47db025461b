"""Undocumented responses of caption models from which the caption is read."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from domain.captions import CaptionDelivery
from domain.errors import GenerationErrorCode, GenerationFailed
from domain.outputs import Usage
from providers.references import References
from storage.imaging.threaded import ThreadedImageProcessor
from tests.providers.pictures import Shelf
from tests.providers.runs import QUICK
from tests.providers.writers import WRITERS, WritingWitness, a_caption, model_of
from tests.simulators import canned_responses
from tests.simulators.canned_responses import CannedResponses, Exchange, http, http_open

Code = GenerationErrorCode
BOM = b"\xef\xbb\xbf"
CHATS = ["openai", "openrouter"]
CAPTION = "Soap, at last."


class Answers:
    """Writers whose answers are canned."""

    def __init__(self, url: str, served: CannedResponses, stack: AsyncExitStack) -> None:
        self._url = url
        self._canned = served
        self._stack = stack

    async def write(self, name: str, answer: bytes) -> CaptionDelivery:
        vendor = WRITERS[name]
        self._canned.exchanges.append(Exchange(submission=answer))
        image_processor = ThreadedImageProcessor(threads=1)
        self._stack.push_async_callback(image_processor.aclose)
        writer = vendor.open(
            References(Shelf(), image_processor),
            key="a-key",
            url=self._url,
            max_concurrent_runs=5,
            pace=QUICK,
        )
        self._stack.push_async_callback(writer.aclose)
        words = f"exchange {len(self._canned.exchanges) - 1}"
        request = a_caption(words, model=model_of(vendor.model, name))
        return await writer.write(request, WritingWitness())

    async def failure(self, name: str, answer: bytes) -> GenerationFailed:
        with pytest.raises(GenerationFailed) as failed:
            await self.write(name, answer)
        return failed.value


@pytest_asyncio.fixture
async def answers() -> AsyncIterator[Answers]:
    served = CannedResponses()
    async with AsyncExitStack() as stack:
        yield Answers(await stack.enter_async_context(served.served()), served, stack)


def piece(content: Any, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


def native(content: str, reason: str) -> dict[str, Any]:
    """What OpenRouter reports about the end of another provider's answer."""
    delta = {"delta": {"content": content}, "finish_reason": "stop"}
    return {"choices": [{**delta, "native_finish_reason": reason}]}


def chat(*values: Any, done: bool = True) -> bytes:
    return canned_responses.events(*values, done=done)


WHOLE = {"choices": [{"message": {"content": CAPTION}, "finish_reason": "stop"}]}
SPLIT = (piece("Soap,"), piece(" at last."), piece(None, "stop"))
CHAT_ANSWERS: dict[str, bytes] = {
    "as documented": chat(*SPLIT),
    "without the last word": chat(*SPLIT, done=False),
    "without a reason, but with the last word": chat(piece("Soap,"), piece(" at last.")),
    "the reason with the last piece": chat(piece("Soap,"), piece(" at last.", "stop")),
    "content in parts": chat(piece([{"type": "text", "text": CAPTION}]), piece("", "stop")),
    "whole instead of a stream": canned_responses.json(WHOLE),
    "whole in one event": chat(WHOLE),
    "whole, as a stream's type": http(json.dumps(WHOLE).encode(), content_type="text/event-stream"),
    "a stream as JSON's type": http_open(
        b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in SPLIT),
        content_type="application/json",
    ),
    "as text of older completions": chat({"choices": [{"text": CAPTION, "finish_reason": "stop"}]}),
    "with comments and other events": http_open(
        b": PROCESSING\n\nevent: ping\ndata: {}\n\n"
        + b"".join(b"data:" + json.dumps(one).encode() + b"\r\n\r\n" for one in SPLIT)
    ),
    "a byte order mark": http_open(
        BOM + b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in SPLIT)
    ),
    "no choices in some": chat({"choices": []}, *SPLIT, {"choices": None, "usage": None}),
    "an empty error": chat({**SPLIT[0], "error": None}, *SPLIT[1:]),
    "thoughts beside it": chat(
        {"choices": [{"delta": {"reasoning": "Hm.", "content": None}}]}, *SPLIT
    ),
    "another choice beside it": chat(
        *SPLIT[:2],
        {
            "choices": [
                {"index": 0, "delta": {}, "finish_reason": "stop"},
                {"delta": {"content": "x"}},
            ]
        },
    ),
    "an odd usage": chat(*SPLIT, {"choices": [], "usage": {"prompt_tokens": "many"}}),
    "a status between": http(json.dumps(WHOLE).encode(), status=201),
}


@pytest.mark.parametrize("name", CHATS)
async def test_a_caption_is_read_in_any_form(answers: Answers, name: str) -> None:
    for odd, answer in CHAT_ANSWERS.items():
        delivery = await answers.write(name, answer)
        assert delivery.text == CAPTION, odd


@pytest.mark.parametrize("name", CHATS)
async def test_usage_is_read_from_any_place(answers: Answers, name: str) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": "5", "total_tokens": 12.0}
    after = chat(*SPLIT, {"choices": [], "usage": usage})
    beside = chat(*SPLIT[:2], {**SPLIT[2], "usage": usage})

    for answer in (after, beside, canned_responses.json({**WHOLE, "usage": usage})):
        assert (await answers.write(name, answer)).usage == Usage(7, 5, 12)


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (chat(*SPLIT[:2], done=False), Code.OUTCOME_UNKNOWN),
        (canned_responses.json({"choices": []}), Code.PROVIDER_BAD_RESPONSE),
        (canned_responses.json({}), Code.PROVIDER_BAD_RESPONSE),
        (http(b"<html>", content_type="text/html"), Code.PROVIDER_BAD_RESPONSE),
        (chat(piece("", "stop")), Code.PROVIDER_BAD_RESPONSE),
        (chat(piece(" \u200b ", "stop")), Code.PROVIDER_BAD_RESPONSE),
        (chat(piece("Soap", "content_filter")), Code.CONTENT_REFUSED),
        (chat(native("Sorry.", "SAFETY")), Code.CONTENT_REFUSED),
        (chat(native("Sorry.", "refusal")), Code.CONTENT_REFUSED),
        (chat(native("", "MALFORMED_RESPONSE")), Code.PROVIDER_BAD_RESPONSE),
        (chat(piece("Sorry. [no"), piece(" caption]", "stop")), Code.CONTENT_REFUSED),
        (
            canned_responses.json({"error": {"message": "no", "code": "content_filter"}}),
            Code.CONTENT_REFUSED,
        ),
        (chat(SPLIT[0], piece("", "error")), None),
        (canned_responses.json({"error": "broken"}), None),
    ],
    ids=range(14),
)
async def test_a_response_without_a_caption_has_a_reason(
    answers: Answers, name: str, answer: bytes, code: Code | None
) -> None:
    failure = await answers.failure(name, answer)

    assert code is None or failure.code is code, failure.detail
    assert not failure.nothing_taken


def gemini(*parts: Any, finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return {"candidates": [candidate], **more}


GEMINI_ANSWERS: dict[str, bytes] = {
    "in pieces": chat(
        gemini({"text": "Soap,"}, finish=None), gemini({"text": " at last."}), done=False
    ),
    "in one": chat(gemini({"text": CAPTION}), done=False),
    "as JSON": canned_responses.json(gemini({"text": CAPTION})),
    "the reason alone": chat(
        gemini({"text": CAPTION}, finish=None), {"candidates": [{"finishReason": "STOP"}]}
    ),
    "in other spellings": canned_responses.json(
        {
            "candidates": [{"content": {"parts": [{"text": CAPTION}]}, "finish_reason": "STOP"}],
            "usage_metadata": {"promptTokenCount": 7},
        }
    ),
    "thoughts before it": chat(
        gemini({"text": "Hm.", "thought": True}, finish=None), gemini({"text": CAPTION})
    ),
}


async def test_a_caption_of_gemini_is_read_in_any_form(answers: Answers) -> None:
    for odd, answer in GEMINI_ANSWERS.items():
        delivery = await answers.write("gemini", answer)
        assert delivery.text == CAPTION, odd


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (chat(gemini({"text": "Soap"}, finish=None), done=False), Code.OUTCOME_UNKNOWN),
        (canned_responses.json({}), Code.PROVIDER_BAD_RESPONSE),
        (canned_responses.json({"candidates": []}), Code.PROVIDER_BAD_RESPONSE),
        (canned_responses.json(gemini()), Code.PROVIDER_BAD_RESPONSE),
        (canned_responses.json(gemini({"text": "Soap"}, finish="SAFETY")), Code.CONTENT_REFUSED),
        (canned_responses.json({"promptFeedback": {"blockReason": "OTHER"}}), Code.CONTENT_REFUSED),
        (
            canned_responses.json({"error": {"code": 503, "status": "UNAVAILABLE"}}),
            Code.PROVIDER_UNAVAILABLE,
        ),
    ],
    ids=range(7),
)
async def test_a_response_of_gemini_without_a_caption_has_a_reason(
    answers: Answers, answer: bytes, code: Code
) -> None:
    failure = await answers.failure("gemini", answer)

    assert failure.code is code, failure.detail

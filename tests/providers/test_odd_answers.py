"""Undocumented responses from which providers' own clients get the image.

What stands beside an image, and how it is written, never costs it.
"""

import gzip
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

import pytest
import pytest_asyncio

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import Delivery
from domain.outputs import Usage
from providers.http import MAX_BYTES
from providers.polling import Pace
from providers.references import References
from storage.imaging.threaded import ThreadedImageProcessor
from tests.providers.pictures import Shelf
from tests.providers.runs import QUICK, Witness
from tests.providers.vendors import SYNCHRONOUS, VENDORS
from tests.simulators import canned_responses
from tests.simulators.canned_responses import (
    CannedResponses,
    Exchange,
    file_of,
    http,
    http_open,
    link_to,
)
from tests.simulators.pictures import picture

Code = GenerationErrorCode

PNG: Final = picture("an odd answer")
"""In base64 it has both characters that the alphabet for URLs spells otherwise, and padding."""
TEXT: Final = b64encode(PNG).decode()
OTHER: Final = picture("another one")
OTHER_TEXT: Final = b64encode(OTHER).decode()
BROKEN_TEXT: Final = TEXT[:41]
"""No base64 has this length."""
CUT_TEXT: Final = TEXT[: len(TEXT) // 8 * 4]
"""Good base64 of the first half of the picture."""
HASTY: Final = replace(QUICK, last_words=0.05)
BOM: Final = b"\xef\xbb\xbf"


class Answers:
    """Providers whose answers are canned."""

    def __init__(self, url: str, served: CannedResponses, stack: AsyncExitStack) -> None:
        self.url = url
        self._canned = served
        self._stack = stack
        self.witness = Witness()

    async def run(
        self, name: str, exchange: Exchange, *, pace: Pace = QUICK, **options: Any
    ) -> Delivery:
        vendor = VENDORS[name]
        self._canned.exchanges.append(exchange)
        image_processor = ThreadedImageProcessor(threads=1)
        self._stack.push_async_callback(image_processor.aclose)
        provider = vendor.open(
            References(Shelf(), image_processor),
            key="a-key",
            url=f"{self.url}{vendor.path}",
            max_concurrent_runs=5,
            pace=pace,
            max_bytes=MAX_BYTES,
        )
        self._stack.push_async_callback(provider.aclose)
        words = f"exchange {len(self._canned.exchanges) - 1}"
        run = vendor.run_streamed if options.get("preview_count") else vendor.run
        return await provider.generate(run(words=words, **options), self.witness)

    async def call(self, name: str, answer: bytes, **options: Any) -> Delivery:
        """A run of a provider of which one call is all."""
        return await self.run(name, Exchange(submission=answer), **options)

    async def failure(self, name: str, answer: bytes, **options: Any) -> GenerationFailed:
        with pytest.raises(GenerationFailed) as failed:
            await self.call(name, answer, **options)
        return failed.value

    async def result(self, name: str, result: Any, **changed: Any) -> Delivery:
        """A run of a provider with jobs; `result` is as each provider names it, or an answer."""
        return await self.run(name, exchange_of(name, self.url, 0, result, **changed))


@pytest_asyncio.fixture
async def answers() -> AsyncIterator[Answers]:
    served = CannedResponses()
    async with served.served() as url, AsyncExitStack() as stack:
        yield Answers(url, served, stack)


def exchange_of(
    name: str,
    url: str,
    number: int,
    result: Any,
    *,
    submission: bytes | None = None,
    status: Sequence[bytes] = (),
    files: dict[int, Sequence[bytes]] | None = None,
) -> Exchange:
    """What a provider with jobs answers when its result is this: of fal the result's fields, of
    Wavespeed and Replicate the prediction's.
    """
    job_id = f"exchange-{number}"
    last = result if isinstance(result, bytes) else http(_dumped(_finished(name, job_id, result)))
    if name == "fal":
        return Exchange(
            submission=submission or canned_responses.json({"request_id": job_id}),
            status=status or [canned_responses.json({"status": "COMPLETED"})],
            result=[last],
            files=files,
        )
    started = {"id": job_id, "status": "starting"}
    first = canned_responses.json(
        started if name == "replicate" else {"code": 200, "data": started}
    )
    return Exchange(submission=submission or first, status=[*status, last], files=files)


def _finished(name: str, job_id: str, result: Any) -> Any:
    if name == "replicate":
        return {"id": job_id, "status": "succeeded", **result}
    if name == "wavespeed":
        return {"code": 200, "data": {"id": job_id, "status": "completed", **result}}
    return result


def _dumped(value: Any) -> bytes:
    """JSON with lone surrogates as escapes, and with NaN."""
    return json.dumps(value).encode()


def candidate(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}


def inline(text: str = TEXT, kind: str = "image/png") -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": text}}


def stream(*sent: Any, done: bool = False) -> bytes:
    """Events; what is bytes already is none of ours."""
    lines = [one if isinstance(one, bytes) else b"data: " + _dumped(one) + b"\n\n" for one in sent]
    return http_open(b"".join(lines) + (b"data: [DONE]\n\n" if done else b""))


STOP: Final = {"finishReason": "STOP"}
USAGE: Final = {
    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}
}
SNAKE: Final = {"inline_data": {"mime_type": "image/png", "data": TEXT}}
URL_SAFE: Final = urlsafe_b64encode(PNG).decode().rstrip("=")


GEMINI: dict[str, list[Any]] = {
    "gemini-lone": [candidate({"text": "nice \ud83d"}, inline(), **STOP)],
    "gemini-stop-each": [
        candidate({"text": "Here it is."}, **STOP) | USAGE,
        candidate(inline(), **STOP) | USAGE,
        candidate(**STOP) | USAGE,
    ],
    "gemini-text-inline": [candidate(inline("aGVsbG8=", "text/plain"), inline(), **STOP) | USAGE],
    "gemini-urlsafe": [candidate(inline(URL_SAFE), **STOP)],
    "a picture after two reasons": [
        candidate({"text": "a"}, **STOP),
        candidate({"text": "b"}, finishReason="OTHER"),
        candidate(inline()),
    ],
    "a refusal beside the picture": [candidate(inline(), finishReason="IMAGE_SAFETY")],
    "a reason before the picture that means a refusal": [
        candidate(finishReason="SAFETY"),
        candidate(inline(), **STOP),
    ],
    "a block beside the picture": [
        candidate(inline(), **STOP) | {"promptFeedback": {"blockReason": "OTHER"}}
    ],
    "an error beside the picture": [candidate(inline(), **STOP) | {"error": {"code": 500}}],
    "snake case": [candidate(SNAKE, finish_reason="STOP")],
    "a type in capitals": [candidate(inline(kind="IMAGE/PNG"), **STOP)],
    "no type": [candidate({"inlineData": {"data": TEXT}}, **STOP)],
    "a type that is null": [candidate({"inlineData": {"mimeType": None, "data": TEXT}}, **STOP)],
    "a picture that calls itself a text": [candidate(inline(kind="text/plain"), **STOP)],
    "text after the picture": [candidate(inline(), inline("aGVsbG8=", "text/plain"), **STOP)],
    "empty parts": [
        candidate(
            *({"inlineData": {}}, {"inlineData": None}, {"inlineData": {"data": ""}}, {}, None),
            *(inline(), {"inlineData": {"mimeType": "image/png", "data": None}}, 7, "text", []),
            **STOP,
        )
    ],
    "a broken picture before it": [candidate(inline(BROKEN_TEXT), inline(), **STOP)],
    "half a picture before it": [candidate(inline(CUT_TEXT), inline(), **STOP)],
    "half a picture in an event before it": [
        candidate(inline(CUT_TEXT), **STOP),
        candidate(inline(), **STOP),
    ],
    "texts of odd types": [
        candidate({"text": 7}, {"text": None}, {"text": ["a"]}, inline(), **STOP)
    ],
    "no list of parts": [{"candidates": [{"content": {"parts": inline()}, **STOP}]}],
    "no list of candidates": [{"candidates": {"content": {"parts": [inline()]}, **STOP}}],
    "the picture in the second candidate": [
        {"candidates": [{"content": None}, {"content": {"parts": [inline()]}}]}
    ],
    "a thought that says so in words": [
        candidate(
            {**inline(OTHER_TEXT), "thought": "true"}, {**inline(), "thought": "false"}, **STOP
        )
    ],
    "odd values everywhere": [
        candidate(
            {"text": "x", "thoughtSignature": 7, "videoMetadata": []},
            {**inline(), "thought": None, "thoughtSignature": {"a": float("nan")}},
            **STOP,
            safetyRatings=None,
            avgLogprobs=float("-inf"),
            tokenCount="many",
            index="0",
        )
        | {"modelVersion": 3, "responseId": None, "usageMetadata": [], "promptFeedback": None}
    ],
    "lone surrogates everywhere": [
        candidate(
            {"text": "\udfff"},
            {**inline(), "thoughtSignature": "\ud800"},
            finishReason="STOP",
            finishMessage="\udcff",
        )
        | {"responseId": "\ud83d", "\ud83d": 1}
    ],
    "base64 in lines": [candidate(inline(TEXT[:76] + "\r\n" + TEXT[76:] + "\n"), **STOP)],
    "a data link": [candidate(inline(f"data:image/png;base64,{TEXT}"), **STOP)],
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", GEMINI)
async def test_an_unusual_answer_of_gemini_is_delivered(
    answers: Answers, name: str, streamed: bool
) -> None:
    sent = GEMINI[name]
    if streamed:
        delivery = await answers.call("gemini", stream(*sent), preview_count=1)
    elif len(sent) > 1:
        pytest.skip("only a stream has several parts")
    else:
        delivery = await answers.call("gemini", http(_dumped(sent[0])))

    assert [image.data for image in delivery.images] == [PNG]
    assert "\ud83d" not in (delivery.text or "")
    (delivery.text or "").encode()


async def test_text_beside_a_picture_is_stored_with_replacement_characters(
    answers: Answers,
) -> None:
    delivery = await answers.call("gemini", http(_dumped(GEMINI["gemini-lone"][0])))

    assert delivery.text == "nice \ufffd"


async def test_token_counts_of_an_early_end_are_kept(answers: Answers) -> None:
    delivery = await answers.call("gemini", stream(*GEMINI["gemini-stop-each"]), preview_count=1)

    assert delivery.usage == Usage(5, 7, 12)


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        # gemini-empty-cands
        ([{"candidates": [], **USAGE}], Code.NO_IMAGE, "no candidates, no reason"),
        ([{"candidates": None, **USAGE}], Code.NO_IMAGE, "no candidates"),
        ([USAGE], Code.NO_IMAGE, "no candidates"),
        ([candidate({"text": "Sorry."}, **STOP)], Code.NO_IMAGE, "STOP, 6 characters of text"),
        ([candidate(), candidate(**STOP), candidate(**STOP)], Code.NO_IMAGE, "STOP, 0 characters"),
        (
            [candidate({"text": "a"}, **STOP), candidate(finishReason="NO_IMAGE")],
            Code.NO_IMAGE,
            "STOP, NO_IMAGE, 1",
        ),
        (
            [candidate({"text": "a"}, **STOP), candidate(finishReason="IMAGE_SAFETY")],
            Code.CONTENT_REFUSED,
            "STOP, IMAGE_SAFETY",
        ),
        (
            [candidate(finishReason="OTHER", finishMessage="The \ud83d is worn out.")],
            Code.NO_IMAGE,
            "The \ufffd is worn out.",
        ),
        (
            [{"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "Not that."}}],
            Code.CONTENT_REFUSED,
            "OTHER; Not that.",
        ),
        ([candidate(inline(BROKEN_TEXT), **STOP)], Code.PROVIDER_BAD_RESPONSE, "without any bytes"),
        ([candidate(inline("aGVsbG8=", "text/plain"), **STOP)], Code.NO_IMAGE, "STOP"),
    ],
)
async def test_a_reason_of_gemini_for_no_picture_is_classified(
    answers: Answers, sent: list[Any], code: Code, words: str
) -> None:
    failure = await answers.failure("gemini", stream(*sent), preview_count=1)

    assert failure.code is code
    assert words in str(failure)


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [candidate({"text": "I am drawing"})],
        [b": waiting\n\n"],
        [b'data: {"candidates": [{"co'],
    ],
)
async def test_a_truncated_stream_is_no_refusal(answers: Answers, sent: list[Any]) -> None:
    failure = await answers.failure("gemini", stream(*sent), preview_count=1)

    assert failure.code is Code.OUTCOME_UNKNOWN


async def test_a_stream_that_ended_without_a_picture_is_closed_soon(answers: Answers) -> None:
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
    body = b"data: " + _dumped(candidate({"text": "a"}, **STOP)) + b"\n\n"

    failure = await answers.failure("gemini", head.encode() + body, pace=HASTY, preview_count=1)

    assert failure.code is Code.NO_IMAGE


IMAGES_USAGE: Final = {
    "input_tokens": 10,
    "output_tokens": 20,
    "total_tokens": 30,
    "prompt_tokens": 10,
    "completion_tokens": 20,
}
IMAGES: dict[str, Any] = {
    "openai-lone": {
        "created": 1,
        "revised_prompt": "a \ud83d",
        "data": [{"b64_json": TEXT, "revised_prompt": "cat \ud83d"}],
    },
    "openai-nan": {"data": [{"b64_json": TEXT}], "usage": IMAGES_USAGE, "score": float("nan")},
    "infinities": {"data": [{"b64_json": TEXT, "score": float("-inf")}], "a": float("inf")},
    "lone surrogates in names": {"\ud83d": 1, "data": [{"\udfff": "", "b64_json": TEXT}]},
    "URL-safe and unpadded": {"data": [{"b64_json": URL_SAFE}]},
    "a data link": {"data": [{"b64_json": f"data:image/png;base64,{TEXT}"}]},
    "a data link as a link": {"data": [{"url": f"data:image/png;base64,{TEXT}"}]},
    "null beside it": {"data": [None, {"b64_json": None}, {"b64_json": TEXT}, 7, "x", []]},
    "a broken one before it": {"data": [{"b64_json": BROKEN_TEXT}, {"b64_json": TEXT}]},
    "half of it before it": {"data": [{"b64_json": CUT_TEXT}, {"b64_json": TEXT}]},
    "a broken link beside it": {"data": [{"b64_json": TEXT, "url": "http://192.168.0.1/a.png"}]},
    "no list": {"data": {"b64_json": TEXT}},
    "a type": {"type": "list", "object": "list", "data": [{"b64_json": TEXT}]},
    "an error beside it": {"error": {"code": "moderation_blocked"}, "data": [{"b64_json": TEXT}]},
    "an error in words": {"error": "a warning", "data": [{"b64_json": TEXT}]},
    "a refusal beside it": {
        "data": [
            {"b64_json": "", "content_filter_results": {"violence": {"filtered": True}}},
            {"b64_json": TEXT},
        ]
    },
    "odd values everywhere": {
        "created": None,
        "background": [],
        "size": 7,
        "usage": "free",
        "data": [{"b64_json": TEXT, "revised_prompt": 7, "url": None, "media_type": []}],
    },
    "tokens that are odd": {
        "data": [{"b64_json": TEXT}],
        "usage": {"input_tokens": "ten", "output_tokens": -1, "total_tokens": 10**400},
    },
}
IMAGES_PROVIDERS: Final = [name for name in SYNCHRONOUS if name != "gemini"]


@pytest.mark.parametrize("provider", IMAGES_PROVIDERS)
@pytest.mark.parametrize("name", IMAGES)
async def test_an_object_with_images_is_delivered(
    answers: Answers, provider: str, name: str
) -> None:
    delivery = await answers.call(provider, http(_dumped(IMAGES[name])))

    assert [image.data for image in delivery.images] == [PNG]


@pytest.mark.parametrize("provider", IMAGES_PROVIDERS)
async def test_token_counts_are_read_in_any_form(answers: Answers, provider: str) -> None:
    counts = {name: str(count) for name, count in IMAGES_USAGE.items()}
    sent = {"data": [{"b64_json": TEXT}], "usage": {**counts, "total_tokens": 2**31}}

    delivery = await answers.call(provider, http(_dumped(sent)))

    assert delivery.usage == Usage(10, 20, None)


@pytest.mark.parametrize("provider", IMAGES_PROVIDERS)
async def test_urls_are_downloaded_instead_of_inline_images(
    answers: Answers, provider: str
) -> None:
    links = [{"url": link_to(answers.url, 0, index)} for index in range(2)]
    sent = {"data": [links[0], {"b64_json": TEXT}, links[1]]}
    missing = [http(b"", status=410)]

    exchange = Exchange(submission=http(_dumped(sent)), files={1: missing})
    delivery = await answers.run(provider, exchange, image_count=3)

    # One that cannot be fetched is left out.
    assert [image.data for image in delivery.images] == [file_of(0, 0), PNG]


@pytest.mark.parametrize("provider", IMAGES_PROVIDERS)
@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:1/a.png", "https://192.168.0.1/a.png", "file:///etc/passwd"]
)
async def test_a_url_of_an_unknown_host_is_not_followed(
    answers: Answers, provider: str, link: str
) -> None:
    failure = await answers.failure(provider, canned_responses.json({"data": [{"url": link}]}))

    assert failure.code is Code.PROVIDER_BAD_RESPONSE
    assert "result link" in str(failure)


COMPLETED: Final = {"type": "image_generation.completed", "b64_json": TEXT, "usage": IMAGES_USAGE}
PARTIAL: Final = {"type": "image_generation.partial_image", "partial_image_index": 0}
STREAMS: dict[str, tuple[list[Any], int]] = {
    # Events, and how many previews they have.
    "openai-s-partial-bad64": ([PARTIAL | {"b64_json": BROKEN_TEXT}, COMPLETED], 0),
    "openrouter-s-ping": ([b"event: ping\ndata: {}\n\n", COMPLETED], 0),
    "pings": ([{"type": "ping"}, {}, b"data:\n\n", b"data\n\n", b"data: ping\n\n", COMPLETED], 0),
    "no objects": ([b"data: null\n\n", b"data: []\n\n", b"data: 7\n\n", COMPLETED], 0),
    "unknown events": ([{"type": "image_generation.pondering", "b64_json": None}, COMPLETED], 0),
    "unknown events with lists": ([{"type": "news", "data": None}, COMPLETED], 0),
    "a type that is no text": ([{"type": 30.0, "b64_json": OTHER_TEXT}, COMPLETED], 0),
    "a partial image": ([PARTIAL | {"b64_json": OTHER_TEXT}, COMPLETED], 1),
    "an edit's events": (
        [
            {
                "type": "image_edit.partial_image",
                "partial_image_index": "0",
                "b64_json": OTHER_TEXT,
            },
            {"type": "image_edit.completed", "b64_json": TEXT},
        ],
        1,
    ),
    "empty partial images": (
        [PARTIAL, PARTIAL | {"b64_json": None}, PARTIAL | {"b64_json": ""}, COMPLETED],
        0,
    ),
    "types in the event's name": (
        [
            b"event: image_generation.partial_image\ndata: "
            + _dumped({"b64_json": OTHER_TEXT})
            + b"\n\n",
            b"event: image_generation.completed\ndata: "
            + _dumped({"type": None, "b64_json": TEXT})
            + b"\n\n",
        ],
        1,
    ),
    "no types": ([{"partial_image_index": 0, "b64_json": OTHER_TEXT}, {"b64_json": TEXT}], 1),
    "a whole answer as an event": ([{"created": 1, "data": [{"b64_json": TEXT}]}], 0),
    "half a partial image": ([PARTIAL | {"b64_json": CUT_TEXT}, COMPLETED], 0),
    "half a picture before the end": ([COMPLETED | {"b64_json": CUT_TEXT}, COMPLETED], 0),
    "a broken end before the end": ([COMPLETED | {"b64_json": BROKEN_TEXT}, COMPLETED], 0),
    "lone surrogates": ([PARTIAL | {"note": "\ud83d"}, COMPLETED | {"\ud83d": "\udfff"}], 0),
    "NaN": ([COMPLETED | {"usage": {"input_tokens": float("nan")}}], 0),
    "a byte order mark": ([BOM, COMPLETED], 0),
    "a byte order mark in the data": ([b"data: " + BOM + _dumped(COMPLETED) + b"\n\n"], 0),
    "no end": ([b"data: " + _dumped(COMPLETED)], 0),
    "blank lines first": ([b"\n\r\n\n", COMPLETED], 0),
    "more after the end": ([COMPLETED, b"data: [DONE]\n\n", b"data: {]\n\n"], 0),
    "an end that goes on": ([COMPLETED, b"data: [DONE] really\n\n"], 0),
    "in several lines": (
        [b"data: " + json.dumps(COMPLETED, indent=1).replace("\n", "\ndata: ").encode() + b"\n\n"],
        0,
    ),
}


@pytest.mark.parametrize("provider", IMAGES_PROVIDERS)
@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_of_images_is_delivered(answers: Answers, provider: str, name: str) -> None:
    sent, previews = STREAMS[name]

    delivery = await answers.call(provider, stream(*sent), preview_count=2)

    assert [image.data for image in delivery.images] == [PNG]
    assert answers.witness.previews == [OTHER] * previews


@pytest.mark.parametrize("provider", IMAGES_PROVIDERS)
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([PARTIAL | {"b64_json": OTHER_TEXT}], Code.OUTCOME_UNKNOWN),
        ([b"event: ping\ndata: {}\n\n"], Code.OUTCOME_UNKNOWN),
        ([b"data: ping\n\n"], Code.PROVIDER_BAD_RESPONSE),
        ([COMPLETED | {"b64_json": BROKEN_TEXT}], Code.PROVIDER_BAD_RESPONSE),
        ([COMPLETED | {"b64_json": None}], Code.PROVIDER_BAD_RESPONSE),
        ([{"data": []}], Code.NO_IMAGE),
        ([{"data": None}], Code.NO_IMAGE),
    ],
)
async def test_a_stream_without_an_image_delivers_nothing(
    answers: Answers, provider: str, sent: list[Any], code: Code
) -> None:
    failure = await answers.failure(provider, stream(*sent), preview_count=2)

    assert failure.code is code


async def test_a_stream_that_stays_open_after_an_invalid_end_is_closed(answers: Answers) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
    body = b"data: " + _dumped(COMPLETED | {"b64_json": ""}) + b"\n\n"

    failure = await answers.failure("openai", head + body, pace=HASTY, preview_count=1)

    assert failure.code is Code.PROVIDER_BAD_RESPONSE


WHOLE: Final[dict[str, Any]] = {
    **{name: {"data": [{"b64_json": TEXT}]} for name in IMAGES_PROVIDERS},
    "gemini": candidate(inline(), **STOP),
}
END: Final[dict[str, Any]] = {
    **dict.fromkeys(IMAGES_PROVIDERS, COMPLETED),
    "gemini": WHOLE["gemini"],
}
ODD_HEADS: dict[str, Callable[[bytes], bytes]] = {
    "a byte order mark": lambda body: http(BOM + body),
    "blanks": lambda body: http(b"\r\n \t" + body + b"\n\n"),
    "gzip": lambda body: http(gzip.compress(body), "content-encoding: gzip"),
    "an encoding that is none": lambda body: http(body, "content-encoding: aws-chunked"),
    "text/plain": lambda body: http(body, content_type="text/plain"),
    "no content type": lambda body: http_open(body, content_type=""),
    "events that are none": lambda body: http_open(body, content_type="text/event-stream"),
    "201": lambda body: http(body, status=201),
    "slashes escaped": lambda body: http(body.replace(b"/", b"\\/")),
    "all escaped": lambda body: http(
        body.replace(b"b64_json", b"b64\\u005fjson").replace(b"inlineData", b"\\u0069nlineData")
    ),
    "bytes that are no text": lambda body: http(body[:-1] + b',"x":"\xff\xed\xa0\xbd"}'),
    "control characters": lambda body: http(body[:-1] + b',"x":"a\n\x00\t"}'),
}


@pytest.mark.parametrize("provider", SYNCHRONOUS)
@pytest.mark.parametrize("name", ODD_HEADS)
async def test_a_response_is_read_in_any_envelope(
    answers: Answers, provider: str, name: str
) -> None:
    body = _dumped(WHOLE[provider])

    delivery = await answers.call(provider, ODD_HEADS[name](body))
    streamed = await answers.call(provider, ODD_HEADS[name](body), preview_count=1)

    assert [image.data for image in delivery.images + streamed.images] == [PNG] * 2


@pytest.mark.parametrize("provider", SYNCHRONOUS)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "TEXT/EVENT-STREAM ; a=b"])
@pytest.mark.parametrize(
    "begin", [b"", b": wait\n\n", b"id: 1\n", b"retry: 5\n", b"event: x\n", BOM]
)
async def test_events_are_read_whatever_their_names(
    answers: Answers, provider: str, kind: str, begin: bytes
) -> None:
    body = begin + b"data: " + _dumped(END[provider]) + b"\n\n"

    delivery = await answers.call(provider, http_open(body, content_type=kind), preview_count=1)

    assert [image.data for image in delivery.images] == [PNG]


async def test_a_received_picture_is_kept_if_invalid_data_follows(answers: Answers) -> None:
    sent = [candidate(inline()), b"data: {" + b" " * 2**21]

    delivery = await answers.call("gemini", stream(*sent), preview_count=1)

    assert [image.data for image in delivery.images] == [PNG]


JOBS: dict[str, dict[str, Any]] = {
    # For each provider with jobs, results that name one image; `{link}` is the link to it.
    "fal": {
        "fal-result-lone": {"images": [{"url": "{link}"}], "description": "x \ud83d"},
        "one image": {"image": {"url": "{link}"}},
        "one image, and no list": {"images": None, "image": {"url": "{link}"}},
        "one image, and an empty list": {"images": [], "image": {"url": "{link}"}},
        "no list": {"images": {"url": "{link}"}},
        "links alone": {"images": ["{link}"]},
        "other links in it": {"images": [{"output": "data:,x", "data": "a://b", "url": "{link}"}]},
        "null beside it": {"images": [None, {}, {"url": None}, {"url": "{link}"}, 7]},
        "odd values everywhere": {
            "images": [{"url": "{link}", "width": "wide", "content_type": None}],
            "seed": [],
            "description": 7,
            "timings": float("nan"),
            "has_nsfw_concepts": None,
        },
        "flags of another length": {
            "images": [{"url": "{link}"}],
            "has_nsfw_concepts": [False, True, True],
        },
        "an error beside it": {"images": [{"url": "{link}"}], "detail": "a warning", "error": "x"},
    },
    "replicate": {
        "a link": {"output": "{link}"},
        "a list": {"output": ["{link}"]},
        "null beside it": {"output": [None, "", "{link}", 7]},
        "an object": {"output": {"image": "{link}", "seed": None}},
        "other links beside it": {"url": "http://127.0.0.1:9/a.png", "output": "{link}"},
        "lone surrogates": {"output": ["{link}"], "logs": "\ud83d 43%|\udfff", "\ud83d": 1},
        "odd values everywhere": {
            "output": ["{link}"],
            "error": [],
            "logs": {"a": float("nan")},
            "metrics": None,
            "data_removed": "no",
            "urls": 7,
        },
        "a state in capitals": {"output": "{link}", "status": "Succeeded"},
    },
    "wavespeed": {
        "a list": {"outputs": ["{link}"]},
        "no list": {"outputs": "{link}"},
        "null beside it": {"outputs": [None, "{link}", 7]},
        "an object": {"outputs": [{"url": "{link}"}]},
        "lone surrogates": {"outputs": ["{link}"], "error": "\ud83d"},
        "odd values everywhere": {
            "outputs": ["{link}"],
            "error": [],
            "code": "0",
            "has_nsfw_contents": "no",
            "timings": float("inf"),
        },
        "a state in capitals": {"outputs": ["{link}"], "status": "COMPLETED"},
    },
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in JOBS for kind in JOBS[name]])
async def test_the_image_of_a_job_is_delivered(answers: Answers, name: str, kind: str) -> None:
    sent = json.loads(json.dumps(JOBS[name][kind]).replace("{link}", link_to(answers.url, 0)))

    delivery = await answers.result(name, sent)

    assert [image.data for image in delivery.images] == [file_of(0, 0)]


async def test_the_text_of_a_job_is_stored_with_replacement_characters(answers: Answers) -> None:
    sent = {"images": [{"url": link_to(answers.url, 0)}], "description": "x \ud83d"}

    assert (await answers.result("fal", sent)).text == "x \ufffd"


async def test_a_result_takes_precedence_over_its_envelope(answers: Answers) -> None:
    data = {"id": "exchange-0", "status": "completed", "outputs": [link_to(answers.url, 0)]}

    delivery = await answers.result("wavespeed", canned_responses.json({"code": 500, "data": data}))

    assert [image.data for image in delivery.images] == [file_of(0, 0)]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"data": {"status": "failed", "error": "It failed."}}, id="failed"),
        pytest.param({"data": {"status": "completed", "outputs": []}}, id="completed"),
        pytest.param({"code": 400, "data": {"status": "created"}}, id="an error's code"),
    ],
)
async def test_a_submission_to_wavespeed_only_names_the_job(
    answers: Answers, odd: dict[str, Any]
) -> None:
    job_id = "exchange-0"
    submission = canned_responses.json({"code": 200, **odd, "data": {**odd["data"], "id": job_id}})
    result = {"outputs": [link_to(answers.url, 0)]}

    delivery = await answers.run(
        "wavespeed", exchange_of("wavespeed", answers.url, 0, result, submission=submission)
    )

    assert [image.data for image in delivery.images] == [file_of(0, 0)]


async def test_a_running_job_of_wavespeed_is_polled_whatever_its_envelope_says(
    answers: Answers,
) -> None:
    running = {"id": "exchange-0", "status": "processing"}
    result = _finished("wavespeed", "exchange-0", {"outputs": [link_to(answers.url, 0)]})
    exchange = Exchange(
        submission=canned_responses.json({"code": 200, "data": running}),
        status=[
            canned_responses.json({"code": 401, "data": running}),
            canned_responses.json(result),
        ],
    )

    delivery = await answers.run("wavespeed", exchange)

    assert [image.data for image in delivery.images] == [file_of(0, 0)]


@pytest.mark.parametrize("name", JOBS)
async def test_a_job_id_can_be_a_number(answers: Answers, name: str) -> None:
    number = 10**15
    job = {"id": number, "request_id": number, "status": "starting"}
    submission = canned_responses.json({**job, "data": job})
    exchange = exchange_of(name, answers.url, 0, {}, submission=submission)

    # The canned responses do not have this job, so that polling it fails.
    with pytest.raises(GenerationFailed):
        await answers.run(name, exchange)

    (job_known,) = [value for kind, value in answers.witness.events if kind == "submitted"]
    assert str(number) in job_known.values()


@pytest.mark.parametrize(
    ("position", "sent"),
    [
        (2147483649, []),  # fal-status-pos-2e31
        (2**31, []),
        (2**63, []),
        (10**400, []),
        (2**31 - 1, [2**31 - 1]),
        ("3", [3]),
        (3.0, [3]),
        (3, [3]),
        (-1, []),
        (True, []),
        (None, []),
        ("many", []),
        ([3], []),
    ],
)
async def test_a_queue_position_out_of_range_is_not_reported(
    answers: Answers, position: object, sent: list[int]
) -> None:
    queued = http(_dumped({"status": "IN_QUEUE", "queue_position": position}))
    ended = http(_dumped({"status": "completed"}), status=202)

    result = {"images": [{"url": link_to(answers.url, 0)}]}
    delivery = await answers.result("fal", result, status=[queued, queued, ended])

    assert answers.witness.positions == sent
    assert len(delivery.images) == 1


FILE: Final = file_of(0, 0)
FILES: dict[str, list[bytes]] = {
    "file-403once": [
        http(b"<Error>AccessDenied</Error>", status=403, content_type="application/xml"),
        http(FILE, content_type="image/png"),
    ],
    "file-enc-gzip": [http(gzip.compress(FILE), "content-encoding: gzip")],
    "file-enc-awschunked": [http(FILE, "content-encoding: aws-chunked")],
    "404 once": [http(b"", status=404), http(FILE)],
    "in two encodings": [http(gzip.compress(FILE), "content-encoding: aws-chunked, gzip")],
    "no content type": [http(FILE, content_type="")],
    "no length": [http_open(FILE, content_type="image/png")],
}


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("kind", FILES)
async def test_the_file_of_a_job_is_downloaded(answers: Answers, name: str, kind: str) -> None:
    link = link_to(answers.url, 0)
    sent = {"images": [{"url": link}], "output": link, "outputs": [link]}

    delivery = await answers.result(name, sent, files={0: FILES[kind]})

    assert [image.data for image in delivery.images] == [FILE]


WRAPS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda body: http(BOM + body),
    lambda body: http(body.decode().encode("utf-16")),
    lambda body: http(b"\r\n" + body + b"\n"),
    lambda body: http(gzip.compress(body), "content-encoding: gzip"),
    lambda body: http(body, content_type="text/html"),
    lambda body: http(body, status=201),
)


@pytest.mark.parametrize("name", JOBS)
async def test_responses_about_a_job_are_read_in_any_envelope(answers: Answers, name: str) -> None:
    link = link_to(answers.url, 0)
    sent = {"images": [{"url": link}], "output": link, "outputs": [link], "x": float("nan")}
    for number, wrap in enumerate(WRAPS):
        finished = wrap(_dumped(_finished(name, f"exchange-{number}", sent)))

        delivery = await answers.run(name, exchange_of(name, answers.url, number, finished))

        assert [image.data for image in delivery.images] == [FILE]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "429"}, Code.PROVIDER_RATE_LIMITED),
        ([{"code": 404}], Code.MODEL_RETIRED),
        ({"code": 400, "details": [{"reason": []}, {"reason": {}}]}, Code.PROVIDER_REJECTED_INPUT),
        ({"code": 400, "details": {"reason": "API_KEY_INVALID"}}, Code.PROVIDER_AUTHENTICATION),
        ({"code": {}, "message": "\ud83d"}, Code.PROVIDER_UNAVAILABLE),
    ],
)
async def test_an_error_of_gemini_is_read_in_any_form(
    answers: Answers, error: object, code: Code
) -> None:
    failure = await answers.failure("gemini", http(_dumped({"error": error})))

    assert failure.code is code
    str(failure).encode()

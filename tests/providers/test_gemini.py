"""Gemini, against its simulator: requests, and how responses are classified."""

import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image as Pictures

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.generation import GenerationRequest
from domain.images import Image
from domain.models import Resolution
from domain.outputs import Usage
from domain.ports.providers import Provider
from providers.gemini.wire import MAX_REQUEST_BYTES, bytes_for_references
from providers.references import fair_share
from tests.official import ask_sdk
from tests.providers.pictures import a_reference
from tests.providers.runs import Played, Witness
from tests.providers.vendors import VENDORS, rows_of
from tests.simulators.gemini import BLOCKS, FINISHES, KEY, MODELS
from tests.simulators.pictures import padded, picture

Code = GenerationErrorCode
a_run = VENDORS["gemini"].run
MODEL = "img-nano-banana-2-1"


async def a_picture(gemini: Played, shade: int = 0) -> Image:
    return await a_reference(gemini.shelf, Pictures.new("RGB", (8, 8), (shade, 0, 0)))


def test_every_model_can_be_requested() -> None:
    rows = {model.endpoint for model in rows_of("gemini")}

    assert rows == MODELS


PAYLOADS: list[Any] = [
    pytest.param(
        a_run(model=MODEL, aspect_ratio="8:1", resolution=Resolution.FOUR_K),
        {"imageConfig": {"aspectRatio": "8:1", "imageSize": "4K"}},
        id="Nano Banana 2.1",
    ),
    pytest.param(
        a_run(model=MODEL, preview_count=1, seed="7"),
        {
            "imageConfig": {"aspectRatio": "1:1", "imageSize": "1K"},
            "seed": 7,
            "thinkingConfig": {"includeThoughts": True},
        },
        id="Nano Banana 2.1 with previews",
    ),
    pytest.param(
        a_run(model="img-nano-banana-2", resolution=Resolution.TWO_K),
        {"imageConfig": {"aspectRatio": "1:1", "imageSize": "2K"}},
        id="Nano Banana 2",
    ),
    pytest.param(
        a_run(model="img-nano-banana", seed="not a number", preview_count=1),
        {"imageConfig": {"aspectRatio": "1:1"}, "seed": 514902779},
        id="Nano Banana",
    ),
    pytest.param(
        a_run(model="img-nano-banana-edit", aspect_ratio="4:5"),
        {"imageConfig": {"aspectRatio": "4:5"}},
        id="Nano Banana Edit",
    ),
    pytest.param(
        a_run(model="img-nano-banana-pro", resolution=Resolution.FOUR_K),
        {"imageConfig": {"aspectRatio": "1:1", "imageSize": "4K"}},
        id="Nano Banana Pro",
    ),
    pytest.param(
        a_run(model="img-nano-banana-pro-edit"),
        {"imageConfig": {"aspectRatio": "1:1", "imageSize": "1K"}},
        id="Nano Banana Pro Edit",
    ),
]


@pytest.mark.parametrize(("request_", "expected"), PAYLOADS)
async def test_a_payload_has_exactly_the_fields_of_the_model(
    gemini: Played, request_: GenerationRequest, expected: dict[str, object]
) -> None:
    edits = request_.model.max_references > 0
    references = [await a_picture(gemini, shade) for shade in (0, 200)] if edits else []

    await gemini.made(replace(request_, references=tuple(references)))

    (entry,) = gemini.bill
    (content,) = entry.payload["sent"]["contents"]
    text, *images = content["parts"]
    assert entry.endpoint == request_.model.endpoint
    assert entry.payload["sent"]["generationConfig"] == {
        "responseModalities": ["TEXT", "IMAGE"],
        **expected,
    }
    assert (content["role"], text) == ("user", {"text": "A lighthouse"})
    assert len(images) == len(references)
    for image in images:
        assert set(image) == {"inlineData"}
        assert image["inlineData"]["mimeType"] == "image/png"
        assert image["inlineData"]["data"].startswith("iVBORw0KGgo")
    assert len({str(image) for image in images}) == len(images)


async def test_the_key_is_only_in_the_header(gemini: Played) -> None:
    await gemini.made(a_run(model=MODEL))
    await gemini.made(a_run(model=MODEL, preview_count=2))

    assert gemini.calls == [
        "POST /v1beta/models/gemini-nano-banana-2.1:generateContent",
        "POST /v1beta/models/gemini-nano-banana-2.1:streamGenerateContent",
    ]
    assert {seen.headers["x-goog-api-key"] for seen in gemini.simulator.seen} == {KEY}


@pytest.mark.parametrize("preview_count", [0, 1])
async def test_thought_images_are_no_results(gemini: Played, preview_count: int) -> None:
    witness = Witness()
    run = a_run("partials=2 text=Gladly", model=MODEL, preview_count=preview_count)

    delivery = await gemini.provider().generate(run, witness)
    thoughtful = await gemini.failed(
        a_run("partials=2 images=0", model=MODEL, preview_count=preview_count)
    )

    assert len(delivery.images) == 1
    assert delivery.images[0].data not in witness.previews
    assert len(witness.previews) == preview_count
    assert delivery.text == "Gladly"
    assert thoughtful.code is Code.NO_IMAGE


@pytest.mark.parametrize("preview_count", [0, 1])
async def test_token_counts_include_thoughts(gemini: Played, preview_count: int) -> None:
    delivery = await gemini.made(a_run(model=MODEL, preview_count=preview_count))

    assert delivery.usage == Usage(input_tokens=12, output_tokens=1390, total_tokens=1402)


@pytest.mark.parametrize("preview_count", [0, 1])
async def test_a_thought_signature_of_megabytes_is_skipped(
    gemini: Played, preview_count: int
) -> None:
    run = a_run("signature=3000000", model=MODEL, preview_count=preview_count)

    assert len((await gemini.made(run)).images) == 1


async def test_a_complete_picture_is_kept_if_the_stream_breaks_off(
    gemini: Played,
) -> None:
    provider = gemini.provider()
    whole = await provider.generate(a_run(model=MODEL, preview_count=1), Witness())
    byte_count = 4 * len(whole.images[0].data) // 3 + 600

    broken = await provider.generate(
        a_run(f"cut={byte_count}", model=MODEL, preview_count=1), Witness()
    )

    assert len(broken.images) == 1
    assert broken.usage is None  # it would have come with the end
    assert [entry.billed for entry in gemini.bill] == [True, True]


MEANINGS = {
    **dict.fromkeys(FINISHES, (Code.CONTENT_REFUSED, False)),
    **dict.fromkeys(
        ("NO_IMAGE", "IMAGE_OTHER", "OTHER", "MALFORMED_RESPONSE", "MAX_TOKENS"),
        (Code.NO_IMAGE, True),
    ),
    "LANGUAGE": (Code.PROVIDER_REJECTED_INPUT, False),
    "PUP_LIMITED_DISABLED": (Code.PROVIDER_AUTHENTICATION, False),
    **dict.fromkeys((f"prompt-{reason}" for reason in BLOCKS), (Code.CONTENT_REFUSED, False)),
    "images=0": (Code.NO_IMAGE, True),
}


@pytest.mark.parametrize("preview_count", [0, 1])
@pytest.mark.parametrize("kind", sorted(MEANINGS))
async def test_every_reason_for_no_picture_is_classified(
    gemini: Played, kind: str, preview_count: int
) -> None:
    script = f"{kind if '=' in kind else f'fail={kind}'} text=Sorry"

    failure = await gemini.failed(a_run(script, model=MODEL, preview_count=preview_count))

    assert (failure.code, failure.retryable) == MEANINGS[kind]
    assert not isinstance(failure, NotSubmitted)
    assert "Sorry" not in str(failure)
    assert len(gemini.calls) == 1


async def test_a_rejected_key_is_reported_as_a_bad_request(gemini: Played) -> None:
    failure = await gemini.failed(a_run(model=MODEL), provider=gemini.provider(key="wrong"))

    assert failure.code is Code.PROVIDER_AUTHENTICATION
    assert not failure.retryable


@pytest.mark.parametrize(
    ("script", "code", "wait"),
    [
        pytest.param("fail=quota", Code.PROVIDER_RATE_LIMITED, 34.5, id="RetryInfo"),
        pytest.param("fail=location", Code.PROVIDER_AUTHENTICATION, None, id="country or bill"),
        pytest.param("fail=quota-today", Code.PROVIDER_RATE_LIMITED, None, id="quota of a day"),
        pytest.param("fail=504", Code.OUTCOME_UNKNOWN, None, id="504"),
    ],
)
async def test_an_error_of_gemini_is_classified(
    gemini: Played, script: str, code: Code, wait: float | None
) -> None:
    failure = await gemini.failed(a_run(script, model=MODEL))

    assert failure.code is code
    assert isinstance(failure, NotSubmitted) == (wait is not None)
    if isinstance(failure, NotSubmitted):
        assert failure.retry_after_seconds == wait


@pytest.mark.parametrize("preview_count", [0, 1])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("429", Code.PROVIDER_RATE_LIMITED),
        ("500", Code.PROVIDER_UNAVAILABLE),
        ("503", Code.PROVIDER_UNAVAILABLE),
        ("key", Code.PROVIDER_AUTHENTICATION),
        ("400", Code.PROVIDER_REJECTED_INPUT),
        ("404", Code.MODEL_RETIRED),
    ],
)
async def test_an_error_inside_a_success_ends_the_run(
    gemini: Played, kind: str, code: Code, preview_count: int
) -> None:
    failure = await gemini.failed(
        a_run(f"fail={kind} late", model=MODEL, preview_count=preview_count)
    )

    assert failure.code is code
    assert not isinstance(failure, NotSubmitted)


async def test_all_references_fit_into_one_request(gemini: Played) -> None:
    sizes = (9_000_000, 100_000, 9_000_000)
    references = [
        await a_reference(
            gemini.shelf,
            Pictures.new("RGB", (64, 64)),
            data=padded(picture(f"{size}"), size),
        )
        for size in sizes
    ]

    await gemini.made(a_run("", *references, model=MODEL))

    (seen,) = gemini.simulator.seen
    assert int(seen.headers["content-length"]) <= MAX_REQUEST_BYTES
    parts = gemini.bill[0].payload["sent"]["contents"][0]["parts"]
    kinds = [part["inlineData"]["mimeType"] for part in parts[1:]]
    assert kinds == ["image/jpeg", "image/png", "image/jpeg"]


@pytest.mark.parametrize(
    ("sizes", "share"),
    [((), 100), ((10,), 100), ((50, 50), 50), ((90, 90), 50), ((10, 80, 80), 45), ((99, 2), 98)],
)
async def test_large_references_may_use_the_space_that_small_ones_leave(
    gemini: Played, sizes: tuple[int, ...], share: int
) -> None:
    image = await a_picture(gemini)

    assert fair_share([replace(image, byte_size=size) for size in sizes], 100) == share
    assert bytes_for_references(a_run(model=MODEL)) * 4 / 3 < MAX_REQUEST_BYTES


SCRIPTS = [
    *("", "text=Gladly partials=1", "fail=IMAGE_SAFETY", "fail=prompt-PROHIBITED_CONTENT"),
    *("images=0 text=Sorry", "fail=quota", "fail=400", "fail=404", "fail=503", "fail=key"),
]


async def test_the_official_client_reads_the_same(gemini: Played) -> None:
    provider = gemini.provider()
    runs = [
        a_run(script, model=MODEL, preview_count=count) for script in SCRIPTS for count in (0, 1)
    ]
    asked = [(run.prompt, run.preview_count > 0) for run in runs]

    ours = [await outcome(provider, run) for run in runs]
    from_sdk = await ask_sdk("gemini", gemini.url, KEY, "gemini-nano-banana-2.1", json.dumps(asked))

    assert [understood(one) for one in from_sdk] == ours
    assert len({str(one) for one in ours}) == 9


async def outcome(provider: Provider, run: GenerationRequest) -> dict[str, object]:
    try:
        delivery = await provider.generate(run, Witness())
    except GenerationFailed as failure:
        return {"failure": str(failure.code)}
    return {"images": len(delivery.images), "text": delivery.text}


def understood(from_sdk: dict[str, Any]) -> dict[str, object]:
    """What the client has read, in our terms."""
    if "status" in from_sdk:
        words = {
            "RESOURCE_EXHAUSTED": Code.PROVIDER_RATE_LIMITED,
            "INVALID_ARGUMENT": Code.PROVIDER_REJECTED_INPUT,
            "NOT_FOUND": Code.MODEL_RETIRED,
            "UNAVAILABLE": Code.PROVIDER_UNAVAILABLE,
        }
        bad_key = "API_KEY_INVALID" in from_sdk["reasons"]
        return {
            "failure": str(Code.PROVIDER_AUTHENTICATION if bad_key else words[from_sdk["status"]])
        }
    if from_sdk["block"] or "SAFETY" in from_sdk["finish"]:
        return {"failure": str(Code.CONTENT_REFUSED)}
    if not from_sdk["images"]:
        return {"failure": str(Code.NO_IMAGE)}
    return {"images": from_sdk["images"], "text": from_sdk["text"] or None}

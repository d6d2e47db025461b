"""OpenRouter, against its simulator: requests, and how responses are classified."""

import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image as Pictures

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.generation import GenerationRequest
from domain.images import Image
from domain.models import ImageFormat, Quality, Resolution
from domain.outputs import Usage
from domain.ports.providers import Provider
from tests.official import ask_sdk
from tests.providers.pictures import a_reference
from tests.providers.runs import Played, Witness
from tests.providers.vendors import VENDORS, rows_of
from tests.simulators.chats import CHAT_ENDS
from tests.simulators.openrouter import KEY, MODELS, PATH
from tests.simulators.pictures import padded, picture

Code = GenerationErrorCode
a_run = VENDORS["openrouter"].run
MODEL = "img-flux-2-flex"
STREAMING = "img-gpt-5-image"


async def a_picture(openrouter: Played, shade: int = 0) -> Image:
    return await a_reference(openrouter.shelf, Pictures.new("RGB", (8, 8), (shade, 0, 0)))


def test_every_model_can_be_requested() -> None:
    rows = {model.endpoint for model in rows_of("openrouter")}

    assert rows == MODELS


PAYLOADS: list[Any] = [
    pytest.param(
        a_run(model=MODEL, aspect_ratio="21:9", format=ImageFormat.JPEG, seed="a word"),
        {"aspect_ratio": "21:9", "output_format": "jpeg", "seed": 423256403},
        id="Flux 2 Flex",
    ),
    pytest.param(
        a_run(model=STREAMING, quality=Quality.LOW, image_count=3, preview_count=2),
        {"quality": "low", "n": 3},
        id="GPT-5 Image",
    ),
    pytest.param(
        a_run(model=STREAMING, preview_count=1),
        {"n": 1, "stream": True},
        id="GPT-5 Image with previews",
    ),
    pytest.param(
        a_run(model="img-nano-banana"),
        {"aspect_ratio": "1:1"},
        id="Nano Banana",
    ),
    pytest.param(
        a_run(model="img-nano-banana-edit", preview_count=2),
        {"aspect_ratio": "1:1"},
        id="Nano Banana Edit",
    ),
    pytest.param(
        a_run(model="img-nano-banana-pro", resolution=Resolution.FOUR_K),
        {"aspect_ratio": "1:1", "resolution": "4K"},
        id="Nano Banana Pro",
    ),
    pytest.param(
        a_run(model="img-nano-banana-pro-edit", resolution=Resolution.TWO_K),
        {"aspect_ratio": "1:1", "resolution": "2K"},
        id="Nano Banana Pro Edit",
    ),
    pytest.param(
        a_run(model="img-nano-banana-2-1", aspect_ratio="1:8"),
        {"aspect_ratio": "1:8", "resolution": "1K"},
        id="Nano Banana 2.1",
    ),
    pytest.param(
        a_run(model="img-nano-banana-2"),
        {"aspect_ratio": "1:1", "resolution": "1K"},
        id="Nano Banana 2",
    ),
    pytest.param(
        a_run(model="img-seedream-v45", image_count=4, seed="7"),
        {"aspect_ratio": "1:1", "resolution": "2K", "n": 4, "seed": 7},
        id="Seedream v4.5",
    ),
    pytest.param(
        a_run(model="img-seedream-v45-edit", resolution=Resolution.FOUR_K),
        {"aspect_ratio": "1:1", "resolution": "4K", "n": 1},
        id="Seedream v4.5 Edit",
    ),
    pytest.param(
        a_run(model="img-flux-2-max", format=ImageFormat.PNG),
        {"aspect_ratio": "1:1", "output_format": "png"},
        id="Flux 2 Max",
    ),
    pytest.param(
        a_run(model="img-flux-2-max-edit"),
        {"aspect_ratio": "1:1"},
        id="Flux 2 Max Edit",
    ),
]


@pytest.mark.parametrize(("request_", "expected"), PAYLOADS)
async def test_a_payload_has_exactly_the_fields_of_the_model(
    openrouter: Played, request_: GenerationRequest, expected: dict[str, object]
) -> None:
    edits = request_.model.max_references > 0
    references = [await a_picture(openrouter, shade) for shade in (0, 200)] if edits else []

    await openrouter.made(replace(request_, references=tuple(references)))

    (entry,) = openrouter.bill
    sent = dict(entry.payload["sent"])
    images = sent.pop("input_references", [])
    assert sent == {
        "model": request_.model.endpoint,
        "prompt": "A lighthouse",
        **expected,
    }
    links = [image["image_url"]["url"] for image in images]
    assert len(set(links)) == len(references)
    assert all(link.startswith("data:image/png;base64,iVBORw0KGgo") for link in links)


async def test_a_request_has_the_key(openrouter: Played) -> None:
    await openrouter.made(a_run(model=MODEL))

    (seen,) = openrouter.simulator.seen
    assert (seen.method, seen.path) == ("POST", f"/{PATH}/images")
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["content-type"] == "application/json"


@pytest.mark.parametrize("preview_count", [0, 1])
async def test_token_counts_are_reported(openrouter: Played, preview_count: int) -> None:
    delivery = await openrouter.made(a_run(model=STREAMING, preview_count=preview_count))

    assert delivery.usage == Usage(input_tokens=16, output_tokens=4175, total_tokens=4191)
    assert delivery.text is None


async def test_several_pictures_are_delivered_without_previews(openrouter: Played) -> None:
    witness = Witness()
    run = a_run("partials=2", model=STREAMING, preview_count=2, image_count=2)

    delivery = await openrouter.provider().generate(run, witness)

    assert witness.previews == []
    assert len(delivery.images) == 2


MEANINGS: dict[str, tuple[Code, bool]] = {
    **dict.fromkeys(
        ("moderation", "policy", "refusal", "blocked", "policy-late", "content_filter", "stop"),
        (Code.CONTENT_REFUSED, False),
    ),
    **dict.fromkeys(
        ("key", "no-key", "credit", "private", "401", "402", "403"),
        (Code.PROVIDER_AUTHENTICATION, False),
    ),
    **dict.fromkeys(("deprecated", "unknown-model", "404"), (Code.MODEL_RETIRED, False)),
    **dict.fromkeys(("image", "400", "413", "422"), (Code.PROVIDER_REJECTED_INPUT, False)),
    **dict.fromkeys(
        ("upstream-limit", "limit-as-text", "limit-as-word", "429"),
        (Code.PROVIDER_RATE_LIMITED, True),
    ),
    **dict.fromkeys(
        ("capacity", "away", "unnamed", "500", "503", "529"), (Code.PROVIDER_UNAVAILABLE, True)
    ),
    **dict.fromkeys(
        ("dropped", "as-text", "408", "502", "504", "524"), (Code.OUTCOME_UNKNOWN, True)
    ),
}
"""Of answers whose status is an error's, and of refusals."""


@pytest.mark.parametrize("kind", sorted(MEANINGS))
async def test_every_failure_is_classified(openrouter: Played, kind: str) -> None:
    failure = await openrouter.failed(a_run(f"fail={kind}", model=MODEL))

    assert set(MEANINGS) == openrouter.simulator.failures - CHAT_ENDS
    assert (failure.code, failure.retryable) == MEANINGS[kind]
    assert isinstance(failure, NotSubmitted) == (
        failure.code in (Code.PROVIDER_RATE_LIMITED, Code.PROVIDER_UNAVAILABLE)
    )


@pytest.mark.parametrize("preview_count", [0, 1])
@pytest.mark.parametrize("kind", sorted(set(MEANINGS) - {"content_filter", "stop"}))
async def test_an_error_inside_a_success_ends_the_run(
    openrouter: Played, kind: str, preview_count: int
) -> None:
    failure = await openrouter.failed(
        a_run(f"fail={kind} late partials=1", model=STREAMING, preview_count=preview_count)
    )

    code, retryable = MEANINGS[kind]
    # It has been answered: what is left is that it did not work.
    unknown = code is Code.OUTCOME_UNKNOWN
    assert failure.code is (Code.PROVIDER_UNAVAILABLE if unknown else code)
    assert failure.retryable == retryable
    assert not isinstance(failure, NotSubmitted)


@pytest.mark.parametrize(
    ("script", "wait"), [("fail=capacity", 21), ("fail=away", None), ("fail=upstream-limit", None)]
)
async def test_a_retry_hint_is_returned(
    openrouter: Played, script: str, wait: float | None
) -> None:
    failure = await openrouter.failed(a_run(script, model=MODEL))

    assert isinstance(failure, NotSubmitted)
    assert failure.retry_after_seconds == wait


async def test_references_are_reduced_to_the_strictest_limit(
    openrouter: Played,
) -> None:
    references = [
        await a_reference(
            openrouter.shelf, Pictures.new("RGB", (64, 64)), data=padded(picture(name), size)
        )
        for name, size in (("a", 10_000_001), ("b", 4_000_000))
    ]

    await openrouter.made(a_run("", *references, model=MODEL))

    links = [
        image["image_url"]["url"]
        for image in openrouter.bill[0].payload["sent"]["input_references"]
    ]
    assert [link.partition(";")[0] for link in links] == ["data:image/jpeg", "data:image/png"]


SCRIPTS = [
    *("", "images=0", "fail=moderation", "fail=policy", "fail=401", "fail=402", "fail=404"),
    *("fail=413", "fail=429", "fail=502", "fail=503", "fail=524", "fail=529", "fail=502 late"),
    "fail=content_filter",
]
STREAMED_SCRIPTS = ["partials=2", "partials=1 fail=dropped late", "early", "fail=429"]


async def test_the_official_client_reads_the_same(openrouter: Played) -> None:
    provider = openrouter.provider()
    runs = [a_run(script, model=MODEL) for script in SCRIPTS]
    runs += [a_run(script, model=STREAMING, preview_count=2) for script in STREAMED_SCRIPTS]
    asked = [
        {"model": run.model.endpoint, "prompt": run.prompt}
        | ({"stream": True} if run.preview_count else {})
        for run in runs
    ]

    ours = [await outcome(provider, run) for run in runs]
    from_sdk = await ask_sdk("openrouter", f"{openrouter.url}/{PATH}", KEY, json.dumps(asked))

    for run, one, other in zip(runs, ours, from_sdk, strict=True):
        assert agrees(one, other), (run.prompt, one, other)


async def outcome(provider: Provider, run: GenerationRequest) -> Code | int:
    """How many partial pictures there were where it is delivered."""
    witness = Witness()
    try:
        await provider.generate(run, witness)
    except GenerationFailed as failure:
        return failure.code
    return len(witness.previews)


def agrees(ours: Code | int, from_sdk: dict[str, Any]) -> bool:
    """Whether the client has understood what we have; its words say less."""
    if isinstance(ours, int):
        return bool(from_sdk.get("images") == 1) and from_sdk.get("partials", 0) == ours
    statuses = {
        Code.CONTENT_REFUSED: {400, 403},
        Code.PROVIDER_AUTHENTICATION: {401, 402},
        Code.MODEL_RETIRED: {404},
        Code.PROVIDER_REJECTED_INPUT: {413},
        Code.PROVIDER_RATE_LIMITED: {429},
        Code.PROVIDER_UNAVAILABLE: {503, 529},
        Code.OUTCOME_UNKNOWN: {502, 524},
    }
    if "status" in from_sdk:
        # It knows of no 503 there.
        is_known = from_sdk["kind"] != "OpenRouterDefaultError" or from_sdk["status"] == 503
        return from_sdk["status"] in statuses[ours] and is_known
    if ours is Code.NO_IMAGE:
        return from_sdk == {"images": 0}
    if ours is Code.OUTCOME_UNKNOWN:
        return "images" not in from_sdk and "error" not in from_sdk
    return bool(from_sdk.get("nonsense") or from_sdk.get("error"))

"""The simulator of OpenAI and Azure, called by OpenAI's own SDK.

What the SDK takes for a success, a refusal or a mistake, our adapter does too. All clients are
asked in one process: to import the SDK takes a second.
"""

import json
from typing import Any

import pytest

from domain.errors import GenerationErrorCode, GenerationFailed
from tests.official import ask_sdk
from tests.providers.runs import Played, Witness
from tests.providers.vendors import VENDORS
from tests.simulators.openai import KEY, TOKENS_PER_PARTIAL, TOKENS_PER_PICTURE

a_run = VENDORS["openai"].run
Code = GenerationErrorCode
CLIENTS = ["openai", "azure", "azure deployment", "azure v1"]
EDITING = [client for client in CLIENTS if client != "azure"]
"""Without a deployment of its own, the SDK's Azure does not find the address of an edit."""
PNG = "89504e47"


async def asked(openai: Played, *requests: dict[str, Any]) -> list[Any]:
    """What the SDK has understood of each answer, as a list of what came."""
    usual = {"model": "gpt-image-2", "prompt": "A lighthouse"}
    arguments = [json.dumps({**usual, **request}) for request in requests]
    from_sdk: list[Any] = await ask_sdk("openai", openai.url, KEY, *arguments)
    return from_sdk


async def test_the_sdk_reads_a_success(openai: Played) -> None:
    ends = await asked(
        openai,
        *({"client": client, "size": "1536x1024", "quality": "low"} for client in CLIENTS),
        *({"client": client, "files": 1} for client in EDITING),
        *({"client": client, "files": 3, "size": "1024x1024"} for client in EDITING),
        *({"client": client, "n": 3} for client in CLIENTS),
    )

    one = [{"pictures": [PNG], "usage": 40 + TOKENS_PER_PICTURE}]
    several = [{"pictures": [PNG] * 3, "usage": 40 + 3 * TOKENS_PER_PICTURE}]
    count = len(CLIENTS) + 2 * len(EDITING)
    assert ends == [one] * count + [several] * len(CLIENTS)
    assert len(openai.bill) == len(ends)


async def test_the_sdk_reads_a_stream(openai: Played) -> None:
    stream = {"stream": True, "partial_images": 2}
    ends = await asked(
        openai,
        *({**stream, "client": client} for client in CLIENTS),
        *({**stream, "client": client, "files": 2} for client in EDITING),
    )

    usage = 40 + TOKENS_PER_PICTURE + 2 * TOKENS_PER_PARTIAL
    kinds = ["image_generation"] * len(CLIENTS) + ["image_edit"] * len(EDITING)
    for kind, events in zip(kinds, ends, strict=True):
        assert events == [
            {"type": f"{kind}.partial_image", "picture": PNG, "index": 0},
            {"type": f"{kind}.partial_image", "picture": PNG, "index": 1},
            {"type": f"{kind}.completed", "picture": PNG, "usage": usage},
        ]


FAILURES: list[Any] = [
    ("[openai fail=moderation_blocked]", "BadRequestError", Code.CONTENT_REFUSED),
    ("[openai fail=contentFilter]", "BadRequestError", Code.CONTENT_REFUSED),
    ("[openai fail=invalid_value]", "BadRequestError", Code.PROVIDER_REJECTED_INPUT),
    ("[openai fail=organization_must_be_verified]", "PermissionDeniedError", None),
    ("[openai fail=model_not_found]", "NotFoundError", Code.MODEL_RETIRED),
    ("[openai fail=insufficient_quota]", "RateLimitError", Code.PROVIDER_AUTHENTICATION),
    ("[openai fail=rate_limit_exceeded]", "RateLimitError", Code.PROVIDER_RATE_LIMITED),
    ("[openai submit=503]", "InternalServerError", Code.PROVIDER_UNAVAILABLE),
    ("[openai cut=0]", "APIConnectionError", Code.OUTCOME_UNKNOWN),
]


async def test_the_sdk_and_the_adapter_read_the_same_failures(openai: Played) -> None:
    ends = await asked(openai, *({"client": "openai", "prompt": text} for text, *_ in FAILURES))

    assert [from_sdk[-1]["error"] for from_sdk in ends] == [kind for _, kind, _ in FAILURES]
    for text, _, code in FAILURES:
        failure = await openai.failed(a_run(words=text))
        assert failure.code is (code or Code.PROVIDER_AUTHENTICATION)


async def test_the_sdk_and_the_adapter_read_the_same_stream_errors(openai: Played) -> None:
    words = "[openai fail=moderation_blocked late]"
    stream = {"client": "openai", "stream": True, "partial_images": 1, "prompt": words}
    (events,) = await asked(openai, stream)

    partial, refusal = events
    assert partial["type"] == "image_generation.partial_image"
    assert refusal == {"error": "APIError", "status": None, "code": "moderation_blocked"}
    witness = Witness()
    with pytest.raises(GenerationFailed) as failed:
        await openai.provider().generate(a_run(words=words, preview_count=1), witness)
    assert failed.value.code is Code.CONTENT_REFUSED
    assert len(witness.previews) == 1


async def test_the_sdk_is_refused_with_a_wrong_key_and_for_a_missing_model(openai: Played) -> None:
    *with_wrong_key, (gone,), (unknown,) = await asked(
        openai,
        *({"client": client, "key": "wrong"} for client in CLIENTS),
        {"client": "openai", "model": "gpt-image-1"},
        {"client": "azure", "model": "nobody-s"},
    )

    refused = [[("AuthenticationError", 401)]] * len(CLIENTS)
    assert [[(one["error"], one["status"]) for one in ends] for ends in with_wrong_key] == refused
    assert gone == {"error": "NotFoundError", "status": 404, "code": "model_not_found"}
    assert unknown == {"error": "NotFoundError", "status": 404, "code": "DeploymentNotFound"}


async def test_requests_of_the_adapter_have_the_form_of_those_of_the_sdk(openai: Played) -> None:
    """The same request, once by the SDK and once by us."""
    await asked(openai, {"client": "openai", "size": "1024x1024", "n": 1, "quality": "medium"})
    await openai.made(a_run(model="img-gpt-image-2"))

    theirs, ours = openai.simulator.seen
    assert (theirs.method, theirs.path) == (ours.method, ours.path)
    for name in ("authorization", "content-type"):
        assert theirs.headers[name] == ours.headers[name]
    assert openai.bill[0].payload == openai.bill[1].payload

"""fal's own client and our adapter read the simulator's responses alike."""

import json
from typing import Any

import pytest

from domain.errors import GenerationErrorCode
from tests.official import ask_sdk
from tests.providers.runs import Played
from tests.providers.vendors import VENDORS
from tests.simulators.fal import KEY

a_run = VENDORS["fal"].run
MODEL, ENDPOINT = "img-nano-banana", "fal-ai/gemini-25-flash-image"


async def understood(fal: Played, script: str = "", *, key: str = KEY, **arguments: Any) -> Any:
    prompt = f"A lighthouse [fal {script}]"
    return await ask_sdk("fal", fal.url, key, ENDPOINT, json.dumps({"prompt": prompt, **arguments}))


async def test_a_delivery_is_read_by_the_sdk(fal: Played) -> None:
    result = await understood(fal, "queue=0.3 position=2 seconds=0.3", num_images=2, seed=7)
    ours = await fal.made(a_run("queue=0.1 seconds=0.1", model=MODEL, image_count=2, seed="7"))

    assert (
        {"Queued", "InProgress", "Completed"} >= set(result["states"]) >= {"Queued", "InProgress"}
    )
    assert len(result["result"]["images"]) == len(ours.images) == 2
    assert result["result"]["images"][0]["url"].startswith(f"{fal.url}/")
    assert result["request_id"] in {entry.request_id for entry in fal.bill}


@pytest.mark.parametrize(
    ("script", "status", "words", "code"),
    [
        ("refuse", 422, "content_policy_violation", GenerationErrorCode.CONTENT_REFUSED),
        ("fail=no_media_generated", 422, "no_media_generated", GenerationErrorCode.NO_IMAGE),
        ("submit=400", 400, "", GenerationErrorCode.PROVIDER_REJECTED_INPUT),
        ("submit=404", 404, "", GenerationErrorCode.MODEL_RETIRED),
    ],
)
async def test_a_failure_is_read_by_the_sdk(
    fal: Played, script: str, status: int, words: str, code: GenerationErrorCode
) -> None:
    result = await understood(fal, script)
    failure = await fal.failed(a_run(script, model=MODEL))

    assert result["error"]["status"] == status
    assert words in result["error"]["words"]
    assert failure.code is code


async def test_an_unknown_key_is_refused(fal: Played) -> None:
    result = await understood(fal, key="somebody:else")

    assert result["error"]["status"] == 401


async def test_an_unknown_field_of_the_model_is_refused(fal: Played) -> None:
    result = await understood(fal, image_size="square_hd")

    assert result["error"]["status"] == 422

"""Captions by providers that bill: requested once, charged or not."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from tests.api.posts import FOLLOW_POST, ended, generate, regenerate
from tests.api.test_credits import adds_up
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, darkrooms
from tests.simulators.bill import Entry
from tests.simulators.openai import OpenAISimulator
from tests.simulators.openrouter import OpenRouterSimulator
from tests.simulators.simulator import Simulator, serving

MODEL = "openai/gpt-4.1"
"""By OpenAI, then by OpenRouter. A caption costs 2."""


@dataclass
class Paid:
    """A Darkroom whose providers are simulators, and a viewer of it."""

    darkroom: Darkroom
    client: GraphQLClient
    simulators: dict[str, Simulator]
    words: str

    def bill(self, name: str) -> list[Entry]:
        entries = self.simulators[name].settled()
        return [entry for entry in entries if self.words in entry.prompt]

    async def generate(self, *scripts: str, **input: Any) -> Data:
        message = " ".join([f"Soap {self.words}", *(f"[{script}]" for script in scripts)])
        wanted = {"userMessage": message, "captionModel": MODEL, **input}
        return await generate(self.client, **wanted)


@pytest.fixture(scope="module")
async def served(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Darkroom, dict[str, Simulator]]]:
    simulators: dict[str, Simulator] = {
        "openai": OpenAISimulator(),
        "openrouter": OpenRouterSimulator(),
    }
    async with AsyncExitStack() as stack:
        settings: dict[str, Any] = {}
        for name, simulator in simulators.items():
            url = await stack.enter_async_context(serving(simulator))
            path = {"openai": "/v1", "openrouter": "/api/v1"}[name]
            settings[name] = {"key": SecretStr(simulator.key), "url": f"{url}{path}"}
        start = await stack.enter_async_context(
            darkrooms(mongodb_uri, tmp_path_factory.mktemp("posts"))
        )
        yield await start(**settings), simulators


@pytest.fixture
def paid(served: tuple[Darkroom, dict[str, Simulator]]) -> Paid:
    darkroom, simulators = served
    return Paid(darkroom, darkroom.client(), simulators, uuid4().hex[:8])


def statuses(post: Data) -> list[str]:
    return [output["status"] for output in post["outputs"]]


async def test_a_caption_is_requested_once_and_charged_once(paid: Paid) -> None:
    post = await ended(paid.client, await paid.generate("openai seconds=1"))

    assert (post["status"], post["creditsCharged"]) == ("GENERATED", 2 + 2)
    assert post["caption"].startswith(f"About Soap {paid.words}")
    assert [entry.outcome for entry in paid.bill("openai")] == ["delivered"]
    assert paid.bill("openrouter") == []
    await adds_up(paid.darkroom)


async def test_a_remote_caption_is_updated_at_most_four_times_a_second(paid: Paid) -> None:
    post = await paid.generate("openai seconds=2")
    async with paid.client.subscribe(FOLLOW_POST, id=post["id"]) as updates:
        seen = await updates.until(
            lambda data: data["postUpdated"]["status"] != "GENERATING_CAPTION"
        )

    texts = [data["postUpdated"]["caption"] for data in seen]
    assert 3 <= len(set(texts)) <= 4 * 2 + 3
    assert all(texts[-1].startswith(text) for text in texts)


@pytest.mark.parametrize("script", ["openai cut=0", "openai early", "openai submit=504"])
async def test_a_caption_with_an_unknown_outcome_is_not_requested_again(
    paid: Paid, script: str
) -> None:
    post = await ended(paid.client, await paid.generate(script))

    assert (post["status"], statuses(post)) == ("FAILED", ["CANCELLED"])
    assert post["captionError"]["code"] == "OUTCOME_UNKNOWN"
    assert (post["creditsReserved"], post["creditsCharged"]) == (0, 0)
    asked = [*paid.bill("openai"), *paid.bill("openrouter")]
    assert len(asked) == int("submit" not in script)
    await adds_up(paid.darkroom)


async def test_a_caption_model_at_capacity_is_retried_or_another_provider_is_asked(
    paid: Paid,
) -> None:
    post = await ended(paid.client, await paid.generate("openai submit=429"))

    assert post["status"] == "GENERATED"
    assert paid.bill("openai") == []
    assert [entry.outcome for entry in paid.bill("openrouter")] == ["delivered"]


async def test_a_refusal_is_not_tried_at_another_provider(paid: Paid) -> None:
    post = await ended(paid.client, await paid.generate("openai fail=chat-filter"))

    assert post["captionError"]["code"] == post["error"]["code"] == "CONTENT_REFUSED"
    assert paid.bill("openrouter") == []


async def test_a_caption_with_an_unknown_outcome_can_be_retried_by_the_viewer(
    paid: Paid,
) -> None:
    post = await ended(paid.client, await paid.generate("openai cut=0"))

    await regenerate(paid.client, post, captionModel="local-writer")
    finished = await ended(paid.client, post)

    assert (finished["status"], finished["creditsCharged"]) == ("GENERATED", 1 + 2)
    await adds_up(paid.darkroom)


async def test_a_caption_model_that_its_provider_no_longer_has_is_withdrawn(paid: Paid) -> None:
    model = "openai/gpt-6-luna"
    scripts = ("openai fail=model_not_found", "openrouter fail=unknown-model")
    post = await ended(paid.client, await paid.generate(*scripts, captionModel=model))

    assert post["captionError"]["code"] == "MODEL_RETIRED"
    found = await paid.client("query { captionModels { id available unavailableReason } }")
    (row,) = (one for one in found["captionModels"] if one["id"] == "caption-gpt-6-luna")
    assert row["unavailableReason"] == "REFUSED_BY_PROVIDER"

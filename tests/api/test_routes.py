"""A model with several providers: the next one is asked only if the first has certainly accepted
nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from tests.api.every_model import Simulated, error_of
from tests.api.test_credits import STARTING, account, adds_up, spent
from tests.clients import Data
from tests.conftest import Darkroom, StartDarkroom, darkrooms
from tests.operations import samples, start, until_finished
from tests.providers.vendors import VENDORS
from tests.serving import free_port
from tests.simulators.simulator import Simulator

MODEL = "img-nano-banana"
ROUTES = ("fal", "gemini", "replicate", "openrouter")
"""Of this model, in the catalogue's order."""
FACTS = "query($id: ID!) { model(id: $id) { available unavailableReason } }"


@dataclass
class Routed:
    """A Darkroom with all keys, and providers that do what a prompt says to each of them."""

    darkroom: Darkroom
    simulators: Mapping[str, Simulator]

    async def made(self, scripts: Mapping[str, str], **options: Any) -> "Made":
        words, client = uuid4().hex, self.darkroom.client()
        prompt = " ".join([words, *(f"[{name} {script}]" for name, script in scripts.items())])
        payload = await start(
            client,
            userMessage=prompt,
            selectedModels=[MODEL],
            options={"previews": 0, **options},
        )
        turn = await until_finished(client, payload["turn"])
        bills = {
            name: [entry for entry in simulator.settled() if words in entry.prompt]
            for name, simulator in self.simulators.items()
        }
        return Made(
            turn["outputs"][0],
            billed=[name for name in ROUTES for _ in bills[name]],
            spent=await spent(client, turn),
            account=await account(client),
        )


@dataclass
class Made:
    output: Data
    billed: Sequence[str]
    """The provider of each accepted job."""
    spent: Sequence[tuple[str, int, int]]
    account: tuple[int, int, int]


@pytest.fixture(scope="module")
async def routed(
    mongodb_uri: str,
    tmp_path_factory: pytest.TempPathFactory,
    providers: Simulated,
) -> AsyncIterator[Routed]:
    simulators, settings = providers
    async with darkrooms(mongodb_uri, tmp_path_factory.mktemp("routed")) as start_one:
        darkroom = await start_one(**settings)
        yield Routed(darkroom, simulators)
        await adds_up(darkroom)


@pytest.mark.parametrize(
    ("scripts", "maker"),
    [
        ({}, "fal"),
        *(
            ({"fal": f"submit={status}"}, "gemini")
            for status in (401, 402, 403, 429, 500, 503, 529)
        ),
        ({"fal": "submit=401", "gemini": "submit=503"}, "replicate"),
        ({"fal": "submit=429", "gemini": "submit=403", "replicate": "submit=402"}, "openrouter"),
    ],
)
async def test_the_next_provider_is_asked_if_the_first_rejects_the_submission(
    routed: Routed, scripts: Mapping[str, str], maker: str
) -> None:
    made = await routed.made(scripts)

    assert error_of(made.output) is None
    assert made.output["provider"] == maker
    assert made.billed == [maker]
    assert made.spent == [("COMPLETED", 0, 2)]
    assert made.account == (STARTING - 2, 0, 0)


async def test_the_next_provider_of_an_edit_receives_its_references(routed: Routed) -> None:
    client, words = routed.darkroom.client(), uuid4().hex
    source, manual = [image["id"] for image in (await samples(client))[:2]]

    payload = await start(
        client,
        userMessage=f"{words} [fal submit=402]",
        sourceImageId=source,
        manualReferenceIds=[manual],
        selectedModels=[f"{MODEL}-edit"],
        options={},
    )
    turn = await until_finished(client, payload["turn"])

    (output,) = turn["outputs"]
    assert (output["provider"], error_of(output)) == ("gemini", None)
    assert [one["image"]["id"] for one in output["references"]] == [source, manual]
    (entry,) = [one for one in routed.simulators["gemini"].settled() if words in one.prompt]
    assert VENDORS["gemini"].references(entry.payload) == 2
    assert await spent(client, turn) == [("COMPLETED", 0, 4)]


async def test_the_next_provider_is_asked_if_the_first_cannot_be_reached(
    start_darkroom: StartDarkroom,
    providers: Simulated,
) -> None:
    simulators, settings = providers
    nobody = {**settings["fal"], "url": f"http://127.0.0.1:{free_port()}"}
    darkroom = await start_darkroom(**{**settings, "fal": nobody})

    made = await Routed(darkroom, simulators).made({})

    assert (made.output["provider"], made.billed) == ("gemini", ["gemini"])


@pytest.mark.parametrize(
    ("script", "code"),
    [
        *((f"taken submit={status}", "OUTCOME_UNKNOWN") for status in (408, 502, 504, 524)),
        ("cut=0", "OUTCOME_UNKNOWN"),
        ("submit=422", "PROVIDER_REJECTED_INPUT"),
        ("fail=content_policy_violation", "CONTENT_REFUSED"),
    ],
)
async def test_no_other_provider_is_asked_after_an_unknown_outcome_or_a_refusal(
    routed: Routed, script: str, code: str
) -> None:
    made = await routed.made({"fal": script})

    error = error_of(made.output)
    assert error is not None
    assert error[0] == code
    assert set(made.billed) <= {"fal"}
    assert made.output["provider"] is None
    assert made.account == (STARTING, 0, 0)


async def test_a_provider_without_a_requested_option_is_skipped(routed: Routed) -> None:
    png = await routed.made({"fal": "submit=401"}, format="PNG")
    seed = await routed.made({"fal": "submit=401", "gemini": "submit=401"}, seed="7")

    assert (png.output["provider"], png.billed) == ("replicate", ["replicate"])
    assert error_of(seed.output) == ("PROVIDER_AUTHENTICATION", False)
    assert seed.billed == []


async def test_a_provider_that_makes_fewer_images_at_a_time_is_skipped(routed: Routed) -> None:
    made = await routed.made({"fal": "submit=503x1"}, imagesPerModel=2)

    assert (made.output["provider"], made.billed) == ("fal", ["fal"])
    assert len(made.output["images"]) == 2


async def test_all_providers_are_asked_again_if_one_may_have_capacity_later(routed: Routed) -> None:
    busy = dict.fromkeys(ROUTES, "submit=401") | {"replicate": "submit=503x1"}

    made = await routed.made(busy)

    assert (made.output["provider"], made.billed) == ("replicate", ["replicate"])


async def test_if_all_providers_reject_their_keys_the_first_error_counts(routed: Routed) -> None:
    made = await routed.made(dict.fromkeys(ROUTES, "submit=401"))

    assert error_of(made.output) == ("PROVIDER_AUTHENTICATION", False)
    assert made.account == (STARTING, 0, 0)


async def test_a_provider_that_has_dropped_the_model_is_left_out_until_all_have(
    start_darkroom: StartDarkroom,
    providers: Simulated,
) -> None:
    simulators, settings = providers
    darkroom = await start_darkroom(**settings)
    routed = Routed(darkroom, simulators)

    first = await routed.made({"fal": "submit=404"})
    second = await routed.made({})
    others = dict.fromkeys(ROUTES, "submit=404")
    later = await routed.made(others | {"gemini": "submit=429x1"})
    model = await darkroom.client()(FACTS, id=MODEL)
    last = await routed.made({"gemini": "submit=404"})
    gone = await darkroom.client()(FACTS, id=MODEL)

    for made in (first, second, later):
        assert (made.output["provider"], made.billed) == ("gemini", ["gemini"])
    assert model == {"model": {"available": True, "unavailableReason": None}}
    assert error_of(last.output) == ("MODEL_RETIRED", False)
    assert (last.billed, last.account) == ([], (STARTING, 0, 0))
    assert gone == {"model": {"available": False, "unavailableReason": "REFUSED_BY_PROVIDER"}}


async def test_an_output_waits_if_one_provider_rejects_its_key_and_the_next_is_at_capacity(
    start_darkroom: StartDarkroom,
    providers: Simulated,
) -> None:
    simulators, settings = providers
    few = {**{name: settings[name] for name in ("fal", "gemini")}}
    darkroom = await start_darkroom(
        fal=few["fal"], gemini={**few["gemini"], "places": 1}, max_active_outputs=8
    )
    routed = Routed(darkroom, simulators)

    made = await asyncio.gather(
        *(routed.made({"fal": "submit=401", "gemini": "delay=0.7"}) for _ in range(3))
    )

    assert [one.output["provider"] for one in made] == ["gemini"] * 3

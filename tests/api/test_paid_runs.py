"""Outputs by a provider that bills: requested once, polled, cancelled, charged or not."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from domain.ids import conversation_of_turn
from tests.api.test_credits import STARTING, account, adds_up, spent
from tests.api.test_outputs import CANCEL_TURN, cancel, retry
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom, darkrooms
from tests.operations import DELETE, FOLLOW, START, TURN, start, until_finished
from tests.simulators.bill import Entry
from tests.simulators.fal import KEY, FalSimulator, serving_fal
from tests.waits import eventually

MODEL = "img-nano-banana"
ONE_AT_A_TIME = "img-flux-2-max"
"""A model that makes one image at a time: as many runs as images."""
STANDS = "query($id: ID!) { turn(id: $id) { ...Turn } }" + TURN


@dataclass
class Paid:
    """A Darkroom whose fal is a simulator, and a viewer of it."""

    darkroom: Darkroom
    client: GraphQLClient
    simulator: FalSimulator
    words: str = field(default_factory=lambda: uuid4().hex)
    """In every prompt of this viewer: it identifies their entries of the bill."""

    def __post_init__(self) -> None:
        self._seen_before = len(self.simulator.seen)

    @property
    def bill(self) -> list[Entry]:
        return [entry for entry in self.simulator.settled() if self.words in entry.prompt]

    @property
    def asked(self) -> int:
        """How many submissions fal has received."""
        seen = list(self.simulator.seen)[self._seen_before :]
        return sum(one.method == "POST" for one in seen)

    async def start(self, script: str, **input: Any) -> Data:
        payload: Data = await start(
            self.client,
            userMessage=f"{self.words} [fal {script}]",
            **{"selectedModels": [MODEL], "options": {}, **input},
        )
        turn: Data = payload["turn"]
        return turn

    async def start_two(self, script: str) -> Data:
        """A turn of which one of two jobs does this, and the other one delivers at once."""
        self.simulator.play(script, words=self.words, times=1)
        two = {"imagesPerModel": 2, "previews": 0}
        wanted = {"userMessage": self.words, "selectedModels": [ONE_AT_A_TIME], "options": two}
        turn: Data = (await start(self.client, **wanted))["turn"]
        return turn

    async def current(self, turn: Data) -> Data:
        found: Data = (await self.client(STANDS, id=turn["id"]))["turn"]
        return found

    async def until(self, wanted: Callable[[], bool]) -> None:
        await eventually(wanted, what="the bill is as expected", every=0.02)

    async def adds_up(self) -> None:
        await adds_up(self.darkroom)


@pytest.fixture(scope="module")
async def fal() -> AsyncIterator[tuple[FalSimulator, dict[str, Any]]]:
    """A simulator, and the settings of a Darkroom that uses it."""
    simulator = FalSimulator()
    async with serving_fal(simulator) as url:
        yield simulator, {"fal": {"key": SecretStr(KEY), "url": url}}


@pytest.fixture(scope="module")
async def with_fal(
    mongodb_uri: str,
    tmp_path_factory: pytest.TempPathFactory,
    fal: tuple[FalSimulator, dict[str, Any]],
) -> AsyncIterator[Darkroom]:
    async with darkrooms(mongodb_uri, tmp_path_factory.mktemp("paid")) as start_one:
        yield await start_one(**fal[1])


@pytest.fixture
def paid(with_fal: Darkroom, fal: tuple[FalSimulator, dict[str, Any]]) -> Paid:
    return Paid(with_fal, with_fal.client(), fal[0])


def error_of(turn: Data) -> tuple[str, bool]:
    error = turn["outputs"][0]["error"]
    return error["code"], error["retryable"]


async def test_a_delivered_output_is_requested_once_and_charged_once(paid: Paid) -> None:
    turn = await until_finished(
        paid.client, await paid.start("deliver", options={"imagesPerModel": 2})
    )

    assert turn["status"] == "COMPLETED"
    assert len(turn["outputs"][0]["images"]) == 2
    assert [entry.outcome for entry in paid.bill] == ["delivered"]
    assert await spent(paid.client, turn) == [("COMPLETED", 0, 4)]
    await paid.adds_up()


async def test_only_delivered_images_are_charged_if_fewer_arrive_than_requested(paid: Paid) -> None:
    turn = await paid.start("images=1", options={"imagesPerModel": 3})

    turn = await until_finished(paid.client, turn)

    assert await spent(paid.client, turn) == [("COMPLETED", 0, 2)]
    assert await account(paid.client) == (STARTING - 2, 0, 0)


@pytest.mark.parametrize(("reported", "shown"), [(3, 3), (2**31 + 1, None)])
async def test_the_queue_position_is_reported_while_there_is_one(
    paid: Paid, reported: int, shown: int | None
) -> None:
    turn = await paid.start(f"queue=1.5 position={reported} seconds=1")

    conversation_id = "conv_" + turn["id"].split("_")[1]
    async with paid.client.subscribe(FOLLOW, id=conversation_id) as updates:
        seen = await updates.until(
            lambda data: data["turnUpdated"]["turn"]["status"] == "COMPLETED"
        )

    positions = [data["turnUpdated"]["turn"]["outputs"][0]["queuePosition"] for data in seen]
    assert shown in positions
    assert positions[-1] is None


@pytest.mark.parametrize("script", ["submit=503x1", "submit=429x2 retry_after=1"])
async def test_a_rejected_submission_is_retried(paid: Paid, script: str) -> None:
    turn = await until_finished(paid.client, await paid.start(script))

    assert turn["status"] == "COMPLETED"
    assert turn["outputs"][0]["attempt"] == 1
    assert len(paid.bill) == 1
    assert await account(paid.client) == (STARTING - 2, 0, 0)


async def test_a_submission_is_tried_at_most_four_times(paid: Paid) -> None:
    turn = await until_finished(paid.client, await paid.start("submit=503"))

    assert error_of(turn) == ("PROVIDER_UNAVAILABLE", True)
    assert (paid.asked, paid.bill) == (4, [])
    assert await account(paid.client) == (STARTING, 0, 0)


async def test_a_retry_after_beyond_the_deadline_fails_the_output_at_once(paid: Paid) -> None:
    turn = await until_finished(paid.client, await paid.start("submit=429 retry_after=3600"))

    assert error_of(turn) == ("PROVIDER_RATE_LIMITED", True)
    assert await account(paid.client) == (STARTING, 0, 0)


async def test_a_lost_answer_is_an_unknown_outcome_and_is_not_retried(paid: Paid) -> None:
    turn = await until_finished(paid.client, await paid.start("cut=0"))

    assert error_of(turn) == ("OUTCOME_UNKNOWN", True)
    assert len(paid.bill) == 1
    assert await account(paid.client) == (STARTING, 0, 0)
    await paid.adds_up()

    again = await retry(paid.client, turn["outputs"][0])
    await until_finished(paid.client, again["turn"])
    assert len(paid.bill) == 2


async def test_a_refusal_is_neither_charged_nor_retried(paid: Paid) -> None:
    turn = await until_finished(paid.client, await paid.start("refuse"))

    assert error_of(turn) == ("CONTENT_REFUSED", False)
    assert len(paid.bill) == 1
    assert await account(paid.client) == (STARTING, 0, 0)


async def test_cancelling_an_output_cancels_its_provider_job(paid: Paid) -> None:
    turn = await paid.start("hang=queue")
    await paid.until(lambda: len(paid.bill) == 1)

    await cancel(paid.client, turn["outputs"][0]["id"])

    await paid.until(lambda: paid.bill[0].cancelled)
    assert await account(paid.client) == (STARTING, 0, 0)
    await paid.adds_up()


async def test_an_output_cancelled_during_submission_has_its_job_cancelled_afterwards(
    paid: Paid,
) -> None:
    turn = await paid.start("delay=1 hang=queue")
    await paid.until(lambda: paid.asked == 1)

    await paid.client(CANCEL_TURN, id=turn["id"])

    await paid.until(lambda: [entry.cancelled for entry in paid.bill] == [True])
    assert (await paid.current(turn))["status"] == "CANCELLED"
    assert await account(paid.client) == (STARTING, 0, 0)


async def test_deleting_a_conversation_cancels_its_provider_jobs(paid: Paid) -> None:
    turn = await paid.start("hang=running")
    await paid.until(lambda: len(paid.bill) == 1)

    await paid.client(DELETE, id="conv_" + turn["id"].split("_")[1])

    await paid.until(lambda: paid.bill[0].cancelled)
    assert await account(paid.client) == (STARTING, 0, 0)
    await paid.adds_up()


async def test_a_late_result_of_a_cancelled_output_is_dropped_and_not_charged(
    paid: Paid,
) -> None:
    turn = await paid.start("seconds=1 stubborn")
    await paid.until(lambda: len(paid.bill) == 1)

    await cancel(paid.client, turn["outputs"][0]["id"])
    await paid.until(lambda: paid.bill[0].outcome is not None)

    assert await spent(paid.client, turn) == [("CANCELLED", 0, 0)]
    assert (await paid.current(turn))["outputs"][0]["images"] == []
    await paid.adds_up()


async def test_a_provider_job_is_resumed_by_the_next_process_after_a_stop(
    start_darkroom: StartDarkroom, fal: tuple[FalSimulator, dict[str, Any]]
) -> None:
    simulator, settings = fal
    async with AsyncExitStack() as stack:
        first = await start_darkroom(**settings, within=stack)
        client = first.client("ana")
        paid = Paid(first, client, simulator)
        turn = await paid.start("seconds=3")
        await paid.until(lambda: len(paid.bill) == 1)

        await stack.aclose()
        second = await start_darkroom(**settings)
        turn = await until_finished(second.client("ana"), turn)

        assert turn["status"] == "COMPLETED"
        assert len(paid.bill) == 1
        await adds_up(second)


async def test_a_submission_unanswered_within_the_grace_period_has_an_unknown_outcome(
    start_darkroom: StartDarkroom, fal: tuple[FalSimulator, dict[str, Any]]
) -> None:
    simulator, settings = fal
    async with AsyncExitStack() as stack:
        first = await start_darkroom(**settings, shutdown_grace=0.5, within=stack)
        paid = Paid(first, first.client("ana"), simulator)
        turn = await paid.start("delay=30")
        await paid.until(lambda: paid.asked == 1)

        await stack.aclose()
        second = await start_darkroom(**settings)

        after = Paid(second, second.client("ana"), simulator)
        current = await after.current(turn)
        assert error_of(current) == ("OUTCOME_UNKNOWN", True)
        assert await account(after.client) == (STARTING, 0, 0)
        await adds_up(second)


# Several runs of one output


async def test_several_images_of_a_single_image_model_are_several_jobs(paid: Paid) -> None:
    turn = await paid.start(
        "deliver",
        selectedModels=[ONE_AT_A_TIME],
        options={"imagesPerModel": 3, "seed": "7"},
    )

    turn = await until_finished(paid.client, turn)

    assert turn["status"] == "COMPLETED"
    assert len({image["id"] for image in turn["outputs"][0]["images"]}) == 3
    assert [entry.outcome for entry in paid.bill] == ["delivered"] * 3
    assert sorted(entry.payload["seed"] for entry in paid.bill) == [7, 8, 9]
    assert await spent(paid.client, turn) == [("COMPLETED", 0, 6)]
    await paid.adds_up()


async def first_image_of(paid: Paid, turn: Data) -> Data:
    """The output as it is when one of its images has landed, and others have not."""
    async with paid.client.subscribe(FOLLOW, id=conversation_of_turn(turn["id"])) as updates:
        seen = await updates.until(
            lambda data: bool(data["turnUpdated"]["turn"]["outputs"][0]["images"])
        )
    output: Data = seen[-1]["turnUpdated"]["turn"]["outputs"][0]
    return output


async def test_images_of_several_runs_are_delivered_one_by_one(paid: Paid) -> None:
    turn = await paid.start_two("seconds=2")

    shown = await first_image_of(paid, turn)
    turn = await until_finished(paid.client, turn)

    assert (shown["status"], len(shown["images"])) == ("GENERATING", 1)
    (output,) = turn["outputs"]
    assert (output["status"], len(output["images"])) == ("COMPLETED", 2)
    assert output["images"][0]["id"] == shown["images"][0]["id"]
    assert await spent(paid.client, turn) == [("COMPLETED", 0, 4)]
    await paid.adds_up()


async def test_delivered_images_stay_and_are_charged_if_the_rest_is_cancelled(paid: Paid) -> None:
    turn = await paid.start_two("hang=running")
    shown = await first_image_of(paid, turn)

    await cancel(paid.client, turn["outputs"][0]["id"])

    current = await paid.current(turn)
    (output,) = current["outputs"]
    assert (current["status"], output["status"], output["error"]) == (
        "COMPLETED",
        "COMPLETED",
        None,
    )
    assert output["images"] == shown["images"]
    assert await spent(paid.client, turn) == [("COMPLETED", 0, 2)]
    assert await account(paid.client) == (STARTING - 2, 0, 0)
    await paid.until(lambda: sum(entry.cancelled for entry in paid.bill) == 1)
    await paid.adds_up()


async def test_the_next_process_does_not_generate_delivered_images_again(
    start_darkroom: StartDarkroom, fal: tuple[FalSimulator, dict[str, Any]]
) -> None:
    simulator, settings = fal
    async with AsyncExitStack() as stack:
        first = await start_darkroom(**settings, within=stack)
        paid = Paid(first, first.client("ana"), simulator)
        turn = await paid.start_two("seconds=3")
        shown = await first_image_of(paid, turn)

        await stack.aclose()
        second = await start_darkroom(**settings)
        turn = await until_finished(second.client("ana"), turn)

        images = turn["outputs"][0]["images"]
        assert [image["id"] for image in images[:1]] == [one["id"] for one in shown["images"]]
        assert len(images) == len(paid.bill) == 2
        await adds_up(second)


async def test_images_of_successful_runs_are_delivered_if_other_runs_fail(paid: Paid) -> None:
    turn = await paid.start(
        "submit=422x1", selectedModels=[ONE_AT_A_TIME], options={"imagesPerModel": 3}
    )

    turn = await until_finished(paid.client, turn)

    assert turn["status"] == "COMPLETED"
    assert len(turn["outputs"][0]["images"]) == len(paid.bill) == 2
    assert await spent(paid.client, turn) == [("COMPLETED", 0, 4)]
    assert await account(paid.client) == (STARTING - 4, 0, 0)


async def test_a_rejected_run_is_retried_beside_the_others(paid: Paid) -> None:
    turn = await paid.start(
        "submit=503x1", selectedModels=[ONE_AT_A_TIME], options={"imagesPerModel": 2}
    )

    turn = await until_finished(paid.client, turn)

    assert len(turn["outputs"][0]["images"]) == len(paid.bill) == 2
    assert paid.asked == 3


async def test_an_output_fails_if_all_its_runs_fail(paid: Paid) -> None:
    turn = await paid.start("refuse", selectedModels=[ONE_AT_A_TIME], options={"imagesPerModel": 2})

    turn = await until_finished(paid.client, turn)

    assert error_of(turn) == ("CONTENT_REFUSED", False)
    assert await account(paid.client) == (STARTING, 0, 0)


async def test_cancelling_an_output_cancels_all_its_provider_jobs(paid: Paid) -> None:
    turn = await paid.start(
        "hang=queue", selectedModels=[ONE_AT_A_TIME], options={"imagesPerModel": 2}
    )
    await paid.until(lambda: len(paid.bill) == 2)

    await cancel(paid.client, turn["outputs"][0]["id"])

    await paid.until(lambda: all(entry.cancelled for entry in paid.bill))
    assert await account(paid.client) == (STARTING, 0, 0)


async def test_the_next_process_resumes_all_jobs_of_an_output(
    start_darkroom: StartDarkroom, fal: tuple[FalSimulator, dict[str, Any]]
) -> None:
    simulator, settings = fal
    async with AsyncExitStack() as stack:
        first = await start_darkroom(**settings, within=stack)
        paid = Paid(first, first.client("ana"), simulator)
        turn = await paid.start(
            "seconds=3", selectedModels=[ONE_AT_A_TIME], options={"imagesPerModel": 2}
        )
        await paid.until(lambda: len(paid.bill) == 2)

        await stack.aclose()
        second = await start_darkroom(**settings)
        turn = await until_finished(second.client("ana"), turn)

        assert len(turn["outputs"][0]["images"]) == len(paid.bill) == 2
        await adds_up(second)


# Models that a provider does not have, and its own form of mentions

GONE = "img-gpt-image-1-5"
MODEL_FACTS = """query($id: ID!) { model(id: $id) {
  available unavailableReason replacement { id }
} }"""


async def test_a_model_that_its_provider_no_longer_has_is_withdrawn(paid: Paid) -> None:
    turn = await until_finished(paid.client, await paid.start("submit=404", selectedModels=[GONE]))
    assert error_of(turn) == ("MODEL_RETIRED", False)
    assert await account(paid.client) == (STARTING, 0, 0)

    shown = (await paid.client(MODEL_FACTS, id=GONE))["model"]
    assert shown == {
        "available": False,
        "unavailableReason": "REFUSED_BY_PROVIDER",
        "replacement": {"id": "img-gpt-image-2-5-sunburst"},
    }
    wanted = {"userMessage": "A boat", "selectedModels": [GONE]}
    refused = (await paid.client(START, input=wanted))["startConversation"]["userErrors"]
    assert [error["code"] for error in refused] == ["MODEL_UNAVAILABLE"]


async def test_a_model_past_its_retirement_date_is_refused_and_names_its_replacement(
    paid: Paid,
) -> None:
    wanted = {"userMessage": "A boat", "selectedModels": ["img-imagen4-preview"]}

    refused = (await paid.client(START, input=wanted))["startConversation"]["userErrors"]

    assert [error["code"] for error in refused] == ["MODEL_RETIRED"]
    assert "(img-nano-banana) instead" in refused[0]["message"]
    assert await account(paid.client) == (STARTING, 0, 0)


@pytest.mark.parametrize(
    ("model", "reported"),
    [
        ("img-kling-o1", "Put @Image2 into @Image1"),
        ("img-reve-edit", "Put <img>1</img> into <img>0</img>"),
        ("img-nano-banana-edit", "Put image 2 into image 1"),
    ],
)
async def test_mentions_are_translated_into_each_models_own_form(
    paid: Paid, model: str, reported: str
) -> None:
    viewer = (await paid.client("{ viewer { images(first: 2) { nodes { id } } } }"))["viewer"]
    first, second = [image["id"] for image in viewer["images"]["nodes"]]

    payload = await start(
        paid.client,
        selectedModels=[model],
        sourceImageId=first,
        manualReferenceIds=[second],
        userMessage=f"{paid.words} Put @Image2 into @image1",
        options={},
    )
    await until_finished(paid.client, payload["turn"])

    (entry,) = paid.bill
    assert entry.prompt == f"{paid.words} {reported}"


async def test_a_mention_of_a_missing_reference_is_refused_and_costs_nothing(paid: Paid) -> None:
    wanted = {"userMessage": "Like @Image1", "selectedModels": [MODEL]}

    refused = (await paid.client(START, input=wanted))["startConversation"]["userErrors"]

    assert refused[0]["code"] == "UNKNOWN_MENTION"
    assert refused[0]["path"] == ["input", "userMessage"]
    assert await account(paid.client) == (STARTING, 0, 0)

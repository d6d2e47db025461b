"""The checker must be able to fail: a history that is sound, tampered with in every way."""

import copy
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest
from pymongo import AsyncMongoClient

from tests.clients import Data
from tests.conftest import darkrooms
from tests.resilience.history import (
    History,
    SubscriberLog,
    objections,
    read_stored,
)
from tests.resilience.load import Load
from tests.resilience.processes import Documents

Tamper = Callable[[History], object]


@pytest.fixture(scope="module")
async def sound(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[History]:
    """What really happens when a turn of three models runs and nothing is hurt."""
    folder = tmp_path_factory.mktemp("sound")
    async with darkrooms(mongodb_uri, folder) as start:
        darkroom = await start()
        load = Load(
            route=lambda: darkroom.url,
            token=darkroom.token,
            randomness=Random(0),
            most_conversations=1,
        )
        payload = await load.start(
            "ana",
            userMessage="A red boat",
            selectedModels=["local-silver", "local-ink", "rehearsal-fails"],
            options={"width": 256, "height": 256, "previews": 1, "imagesPerModel": 1},
        )
        assert payload is not None
        for follower in load.followers:
            await follower.until_over(payload["turn"]["id"])
        await load.close()
        client: AsyncMongoClient[Data]
        async with AsyncMongoClient(mongodb_uri, tz_aware=True) as client:
            documents: Documents = client[darkroom.settings.mongodb_database]
            yield History(load.subscribers, load.acknowledged, await read_stored(documents, folder))


def test_a_sound_history_is_not_objected_to(sound: History) -> None:
    assert objections(sound) == []


def _forget_the_landing(history: History) -> None:
    log = _subscriber(history)
    log.seen[:] = [seen for seen in log.seen if not seen.turn["outputs"][0]["images"]]


def _see_nothing(history: History) -> None:
    _subscriber(history).seen.clear()


def _go_back(history: History) -> None:
    log = _subscriber(history)
    earlier = copy.deepcopy(log.seen[-1])
    earlier.turn["outputs"][0] |= {"status": "GENERATING", "images": []}
    log.seen.insert(-1, copy.deepcopy(log.seen[-1]))
    log.seen.insert(-1, earlier)


def _land_twice(history: History) -> None:
    log = _subscriber(history)
    other = copy.deepcopy(log.seen[-1])
    other.turn["outputs"][0]["images"] = [{"id": "img_of_another_run"}]
    log.seen.insert(-1, other)


def _double_a_record(history: History) -> None:
    record = copy.deepcopy(_record(history))
    history.stored.images.append(record | {"_id": "img_of_another_run"})


def _lose_a_record(history: History) -> None:
    history.stored.images.remove(_record(history))


def _change_a_record(history: History) -> None:
    _record(history)["thumbhash"] = "another"


def _lose_the_bytes(history: History) -> None:
    del history.stored.objects[_record(history)["key"]]


def _cut_the_bytes(history: History) -> None:
    history.stored.objects[_record(history)["key"]] -= 1


def _be_stuck(history: History) -> None:
    _output(history)["status"] = "GENERATING"


def _complete_without_an_image(history: History) -> None:
    _output(history)["images"] = []


def _derive_another_status(history: History) -> None:
    history.stored.turns[0]["status"] = "FAILED"


def _break_by_ourselves(history: History) -> None:
    _output(history).update(status="FAILED", error={"code": "INTERNAL", "retryable": True})


def _lose_an_acknowledged_turn(history: History) -> None:
    history.stored.turns.clear()


def _keep_another_message(history: History) -> None:
    history.stored.turns[0]["userMessage"] = "A blue boat"


def _keep_another_option(history: History) -> None:
    history.stored.turns[0]["options"]["previews"] = 2


def _leave_out_an_index(history: History) -> None:
    history.stored.conversations[0]["turnCount"] = 2


def _do_a_request_twice(history: History) -> None:
    turn = copy.deepcopy(history.stored.turns[0])
    turn["_id"] = turn["_id"][:-4] + "0001"
    history.stored.turns.append(turn | {"turnIndex": 1})
    history.stored.conversations[0]["turnCount"] = 2


def _close_for_good(history: History) -> None:
    _subscriber(history).closes.append((0.0, 1011))


def _tell_an_error(history: History) -> None:
    _subscriber(history).errors.append({"extensions": {"code": "INTERNAL"}})


def _give_samples_twice(history: History) -> None:
    sample = next(one for one in history.stored.images if one["origin"] == "SAMPLE")
    history.stored.images.append(sample | {"_id": "img_of_another_welcome"})


@pytest.mark.parametrize(
    ("tamper", "objection"),
    [
        (_forget_the_landing, "ended with another turn_"),
        (_see_nothing, "never saw turn_"),
        (_go_back, "go back from (1, 2) to (1, 1)"),
        (_land_twice, "land twice"),
        (_double_a_record, "has a record, but did not land"),
        (_lose_a_record, "which has no record"),
        (_change_a_record, "differ"),
        (_lose_the_bytes, "has a record, but no bytes"),
        (_cut_the_bytes, "bytes of"),
        (_be_stuck, "is stuck in GENERATING"),
        (_complete_without_an_image, "is COMPLETED with 0 images"),
        (_derive_another_status, "its outputs are"),
        (_break_by_ourselves, "ended FAILED with INTERNAL"),
        (_lose_an_acknowledged_turn, "which is not there"),
        (_keep_another_message, "was acknowledged with userMessage"),
        (_keep_another_option, "was acknowledged with previews"),
        (_leave_out_an_index, "counts 2, has turns [0]"),
        (_do_a_request_twice, "one request made 2 turns"),
        (_close_for_good, "was closed for good, with 1011"),
        (_tell_an_error, "was told an error"),
        (_give_samples_twice, "was given 5 samples"),
    ],
)
def test_a_tampered_history_is_objected_to(sound: History, tamper: Tamper, objection: str) -> None:
    tampered = copy.deepcopy(sound)

    tamper(tampered)

    assert any(objection in one for one in objections(tampered)), objections(tampered)


def _subscriber(history: History) -> SubscriberLog:
    return history.subscribers[0]


def _output(history: History) -> Data:
    output: Data = history.stored.turns[0]["outputs"][0]
    return output


def _record(history: History) -> Data:
    return next(one for one in history.stored.images if one["origin"] == "OUTPUT")

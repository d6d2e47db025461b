"""The job engine: what holds for every broker."""

import asyncio
import json
from time import monotonic
from typing import Any

import pytest
from structlog.testing import capture_logs

from storage.queue.jobs import LocalBroker, TaskiqJobQueue, make_broker
from tests.brokers import NatsServer
from tests.storage.engines import (
    PLACES,
    REQUEST,
    Embedded,
    Engine,
    OnNats,
    Takes,
    in_form,
    some_outputs,
)


@pytest.fixture(params=["embedded", "nats"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "embedded":
        return Embedded()
    server: NatsServer = request.getfixturevalue("nats_server")
    return OnNats(server.url)


def a_message(**changes: Any) -> bytes:
    message = {
        "task_id": "1",
        "task_name": "generate",
        "labels": {"ack_type": "manual"},
        "args": some_outputs(1),
        "kwargs": {},
    }
    return json.dumps({**message, **changes}).encode()


async def test_what_is_enqueued_is_taken(engine: Engine) -> None:
    outputs, takes = some_outputs(3), Takes()
    async with engine.sending() as queue, engine.taking(takes):
        queue.enqueue(outputs)

        await takes.until(lambda: len(takes.begun) == 3)
    assert set(takes.ended) == set(outputs)


async def test_what_is_enqueued_before_anybody_takes_is_taken_later(engine: Engine) -> None:
    outputs, takes = some_outputs(3), Takes()
    async with engine.sending() as queue:
        queue.enqueue(outputs)
        async with engine.taking(takes):
            await takes.until(lambda: len(takes.begun) == 3)


async def test_max_async_tasks_is_applied_and_the_others_wait(engine: Engine) -> None:
    outputs, takes = some_outputs(PLACES * 4), Takes()
    async with engine.sending() as queue, engine.taking(takes):
        queue.enqueue(outputs)
        await takes.until(lambda: len(takes.begun) == PLACES)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await takes.until(lambda: len(takes.begun) > PLACES)

        takes.may_end.set()
        await takes.until(lambda: len(takes.ended) == len(outputs))

    assert takes.most_at_once == PLACES
    assert sorted(takes.begun) == outputs


async def test_a_hint_enqueued_twice_runs_once(engine: Engine) -> None:
    (output,), takes = some_outputs(1), Takes()
    async with engine.sending() as queue, engine.taking(takes):
        queue.enqueue([output, output])
        queue.enqueue([output])

        await takes.until(lambda: len(takes.hints) == 3)
    assert takes.begun == [output]


async def test_stop_takes_nothing_new_and_waits_for_what_runs(engine: Engine) -> None:
    outputs, takes = some_outputs(PLACES), Takes()
    async with engine.sending() as sending, engine.taking(takes) as queue:
        sending.enqueue(outputs)
        await takes.until(lambda: len(takes.begun) == PLACES)
        queue.enqueue(some_outputs(1))

    assert set(takes.ended) == set(takes.hints) == set(outputs)
    assert not takes.cut_off


@pytest.mark.parametrize("steps", range(25))
async def test_nothing_is_taken_after_the_end_wherever_a_hint_has_got_to(steps: int) -> None:
    takes = Takes()
    queue = TaskiqJobQueue(LocalBroker())
    async with queue.publishing():
        async with queue.receiving(takes, places=PLACES):
            queue.enqueue(some_outputs(1))
            for _ in range(steps):
                await asyncio.sleep(0)
        taken = list(takes.hints)
        takes.stop()

    assert takes.hints == taken


async def test_stop_does_not_wait_for_ever(engine: Engine) -> None:
    (output,), takes = some_outputs(1), Takes(stops=False)
    async with engine.sending() as queue, engine.taking(takes):
        queue.enqueue([output])
        await takes.until(lambda: takes.begun == [output])
        started = monotonic()

    assert monotonic() - started < 15
    assert takes.cut_off == [output]


async def test_cancelling_what_was_taken_leaves_the_loop_alive(engine: Engine) -> None:
    (first, second), takes = some_outputs(2), Takes()
    async with engine.sending() as queue, engine.taking(takes, places=1):
        queue.enqueue([first])
        await takes.until(lambda: takes.begun == [first])
        takes.tasks[0].cancel()

        queue.enqueue([second])
        await takes.until(lambda: takes.begun == [first, second])
    assert takes.cut_off == [first]


async def test_a_take_that_breaks_leaves_the_loop_alive(engine: Engine) -> None:
    (first, second), takes = some_outputs(2), Takes()
    async with engine.sending() as queue, engine.taking(takes, places=1):
        takes.breaks = True
        queue.enqueue([first])
        await takes.until(lambda: takes.hints == [first])

        takes.breaks = False
        queue.enqueue([second])
        await takes.until(lambda: takes.begun == [second])


UNPARSABLE = {
    "nothing": b"",
    "no text": b"\xff\xfe",
    "no object": b"[]",
    "no message": b"{}",
    "no arguments": a_message(args=[]),
    "two arguments": a_message(args=some_outputs(2)),
    "a named argument": a_message(kwargs={"context": 1}),
    "no id": a_message(args=["out_1"]),
    "an id of something else": a_message(args=[str(some_outputs(1)[0]).replace("out", "turn")]),
    "a number": a_message(args=[1]),
    "an unknown task": a_message(task_name="degenerate"),
}


@pytest.mark.parametrize("message", UNPARSABLE.values(), ids=UNPARSABLE.keys())
async def test_unknown_task_names_and_unparsable_messages_are_dropped(
    engine: Engine, message: bytes
) -> None:
    (output,), takes = some_outputs(1), Takes()
    async with engine.sending() as queue, engine.taking(takes, places=1):
        await engine.send_raw(message)
        queue.enqueue([output])

        await takes.until(lambda: takes.begun == [output])
    assert takes.hints == [output]


LABELS: dict[str, dict[str, Any]] = {
    "an end too soon": {"timeout": "0.01"},
    "no number": {"timeout": "soon"},
    "another acknowledgement": {"ack_type": "when_saved"},
    "no acknowledgement at all": {"ack_type": "bogus"},
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
async def test_labels_of_a_message_change_nothing(engine: Engine, labels: dict[str, Any]) -> None:
    (output,), takes = some_outputs(1), Takes()
    async with engine.sending(), engine.taking(takes):
        await engine.send_raw(a_message(args=[output], labels=labels, labels_types=None))
        await takes.until(lambda: takes.begun == [output])

    assert takes.ended == [output]
    assert not takes.cut_off


async def test_a_run_has_no_context_variables_of_the_request_that_asked_for_it(
    engine: Engine,
) -> None:
    (output,), takes = some_outputs(1), Takes()
    REQUEST.set("somebody's")
    async with engine.sending() as queue, engine.taking(takes):
        queue.enqueue([output])
        await takes.until(lambda: takes.begun == [output])

    assert takes.requests == {"none"}


async def test_what_is_recalled_is_told_to_whoever_runs_here(engine: Engine) -> None:
    outputs, takes = some_outputs(2), Takes()
    async with engine.taking(takes) as queue:
        queue.recall(outputs)

    assert takes.recalled == outputs


async def test_a_process_that_runs_nothing_has_nothing_to_recall() -> None:
    TaskiqJobQueue(LocalBroker()).recall(some_outputs(1))


async def test_a_full_outbox_drops_hints_and_says_so() -> None:
    outputs, takes = some_outputs(10), Takes()
    queue = TaskiqJobQueue(LocalBroker(), max_waiting=3)

    with capture_logs() as logs:
        queue.enqueue(outputs)

    assert [entry["event"] for entry in logs] == ["hints dropped"]
    async with queue.publishing(), queue.receiving(takes, places=PLACES):
        await takes.until(lambda: len(takes.begun) == 3)
        takes.may_end.set()
    assert takes.hints == outputs[:3]


async def test_a_full_queue_drops_hints_and_says_so() -> None:
    outputs, takes = some_outputs(10), Takes()
    broker = LocalBroker(max_waiting=3)
    queue = TaskiqJobQueue(broker)

    with capture_logs() as logs:
        async with queue.publishing():
            queue.enqueue(outputs)

    assert [entry["event"] for entry in logs] == ["hints dropped"]
    assert logs[0]["reasons"] == {"QueueFull": 1}
    async with queue.publishing(), queue.receiving(takes, places=PLACES):
        await takes.until(lambda: len(takes.begun) == 3)
        takes.may_end.set()
    assert takes.hints == outputs[:3]


async def test_without_a_url_everything_stays_in_the_process() -> None:
    assert isinstance(make_broker(None, database="test"), LocalBroker)
    with pytest.raises(asyncio.QueueFull):
        await _fill(LocalBroker(max_waiting=1))


async def _fill(broker: LocalBroker) -> None:
    for _ in range(2):
        await broker.kick(in_form(b""))

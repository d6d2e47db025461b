"""Hints through NATS: their messages, and their way from producers to workers."""

import asyncio
import json
import logging
from time import monotonic
from typing import Any

import pytest
from pydantic import SecretStr

from domain.claims import Hint
from domain.ids import OutputId, new_post_id, output_id_of
from domain.outputs import CAPTION_SLOT
from storage.queue.connection import HINT_BYTES, NatsConnection
from storage.queue.hints import encode_hint, parse_hint
from storage.queue.publisher import NatsPublisher
from tests.brokers import NatsServer
from tests.storage.builders import ANA
from tests.storage.engines import REQUEST, ROOM, OnNats, Worker, reached, some_outputs

(AN_OUTPUT,) = some_outputs(1)


@pytest.fixture
def engine(nats_server: NatsServer) -> OnNats:
    return OnNats(nats_server.url)


def a_message(**changes: Any) -> bytes:
    return json.dumps({"version": 1, "viewer": ANA, "output": AN_OUTPUT, **changes}).encode()


UNREADABLE = {
    "nothing": b"",
    "no text": b"\xff\xfe",
    "no object": b"[]",
    "no fields": b"{}",
    "no end of brackets": b"[" * HINT_BYTES,
    "a later version": a_message(version=2),
    "no viewer": a_message(viewer=None),
    "no id of a viewer": a_message(viewer="user_1"),
    "no id of an output": a_message(output="out_1"),
    "a turn has no caption": a_message(output=f"{AN_OUTPUT.rpartition('_')[0]}_0"),
    "an id of something else": a_message(output=AN_OUTPUT.replace("out", "turn")),
    "a number": a_message(output=1),
    "the form of taskiq": json.dumps(
        {
            "task_id": "1",
            "task_name": "generate",
            "labels": {"ack_type": "manual"},
            "args": [AN_OUTPUT],
            "kwargs": {},
        }
    ).encode(),
}


@pytest.mark.parametrize(
    "output_id",
    [AN_OUTPUT, *(output_id_of(new_post_id(), slot) for slot in (CAPTION_SLOT, 1, 24))],
    ids=("of a turn", "caption", "of a post", "last of a post"),
)
def test_a_hint_is_read_as_written(output_id: OutputId) -> None:
    hint = Hint(ANA, output_id)

    assert parse_hint(encode_hint(hint)) == hint
    assert len(encode_hint(hint)) < HINT_BYTES


def test_fields_added_by_later_releases_are_ignored() -> None:
    assert parse_hint(a_message(model="m", timeout=0.01)) == Hint(ANA, AN_OUTPUT)


@pytest.mark.parametrize("message", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_message_of_another_form_is_not_a_hint(message: bytes) -> None:
    assert parse_hint(message) is None


@pytest.mark.parametrize("message", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_unreadable_messages_do_not_block_the_hints_after_them(
    engine: OnNats, message: bytes
) -> None:
    (output,), worker = some_outputs(1), Worker()
    async with engine.sending() as sender, engine.working(worker, room=1):
        await engine.send_raw(message)
        sender.enqueue([output])

        await worker.until(lambda: worker.begun == [output])
    assert worker.hints == [output]


async def test_an_enqueued_output_is_started(engine: OnNats) -> None:
    outputs, worker = some_outputs(3), Worker()
    async with engine.sending() as sender, engine.working(worker):
        sender.enqueue(outputs)

        await worker.until(lambda: len(worker.begun) == 3)
    assert set(worker.ended) == set(outputs)
    assert worker.viewers == {ANA}


async def test_a_hint_enqueued_before_any_worker_starts_is_started_later(engine: OnNats) -> None:
    outputs, worker = some_outputs(3), Worker()
    async with engine.sending() as sender:
        sender.enqueue(outputs)
        async with engine.working(worker):
            await worker.until(lambda: len(worker.begun) == 3)


async def test_a_worker_at_capacity_leaves_hints_to_others(engine: OnNats) -> None:
    outputs, full, idle = some_outputs(ROOM * 2), Worker(), Worker()
    async with engine.sending() as sender, engine.working(full):
        sender.enqueue(outputs)
        await full.until(lambda: len(full.begun) == ROOM)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await full.until(lambda: len(full.hints) > ROOM)

        async with engine.working(idle):
            await idle.until(lambda: len(idle.begun) == ROOM)

    assert full.most_at_once == idle.most_at_once == ROOM
    assert sorted(full.begun + idle.begun) == outputs


async def test_a_worker_takes_the_next_hint_when_a_run_has_ended(engine: OnNats) -> None:
    outputs, worker = some_outputs(ROOM * 4), Worker()
    async with engine.sending() as sender, engine.working(worker):
        sender.enqueue(outputs)
        await worker.until(lambda: len(worker.begun) == ROOM)

        worker.may_end.set()
        await worker.until(lambda: len(worker.ended) == len(outputs))

    assert worker.most_at_once == ROOM
    assert sorted(worker.begun) == outputs


async def test_a_hint_enqueued_twice_runs_once(engine: OnNats) -> None:
    (output,), worker = some_outputs(1), Worker()
    async with engine.sending() as sender, engine.working(worker):
        sender.enqueue([output, output])
        sender.enqueue([output])

        await worker.until(lambda: len(worker.hints) == 3)
    assert worker.begun == [output]


async def test_hints_that_start_nothing_use_no_capacity(engine: OnNats) -> None:
    (first, second), worker = some_outputs(2), Worker()
    async with engine.sending() as sender, engine.working(worker, room=2):
        sender.enqueue([first] * 10)
        sender.enqueue([second])

        await worker.until(lambda: worker.begun == [first, second])


async def test_stopping_takes_no_new_hints_and_interrupts_no_run(engine: OnNats) -> None:
    outputs, worker = some_outputs(ROOM), Worker()
    async with engine.sending() as sender:
        async with engine.working(worker):
            sender.enqueue(outputs)
            await worker.until(lambda: len(worker.begun) == ROOM)
        sender.enqueue(some_outputs(1))

    assert set(worker.ended) == set(worker.hints) == set(outputs)
    assert not worker.cut_off


async def test_stopping_waits_for_a_decision_up_to_a_limit(engine: OnNats) -> None:
    (output,), worker = some_outputs(1), Worker()
    worker.may_decide.clear()
    async with engine.sending() as sender, engine.working(worker):
        sender.enqueue([output])
        await worker.until(lambda: worker.begun == [output])
        started = monotonic()

    assert monotonic() - started < 15


async def test_cancelling_a_run_leaves_the_loop_alive(engine: OnNats) -> None:
    (first, second), worker = some_outputs(2), Worker()
    async with engine.sending() as sender, engine.working(worker, room=1):
        sender.enqueue([first])
        await worker.until(lambda: bool(worker.runs))
        worker.runs[0].cancel()

        sender.enqueue([second])
        await worker.until(lambda: worker.begun == [first, second])
    assert worker.cut_off == [first]


async def test_a_start_that_raises_leaves_the_loop_alive(engine: OnNats) -> None:
    (first, second), worker = some_outputs(2), Worker()
    async with engine.sending() as sender, engine.working(worker, room=1):
        worker.breaks = True
        sender.enqueue([first])
        await worker.until(lambda: worker.hints == [first])

        worker.breaks = False
        sender.enqueue([second])
        await worker.until(lambda: worker.begun == [second])


async def test_a_run_does_not_inherit_context_variables_of_its_request(
    engine: OnNats,
) -> None:
    (output,), worker = some_outputs(1), Worker()
    REQUEST.set("somebody's")
    async with engine.sending() as sender, engine.working(worker):
        sender.enqueue([output])
        await worker.until(lambda: worker.begun == [output])

    assert worker.requests == {"none"}


async def test_a_full_outbox_drops_hints_and_logs_it(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    outputs, worker = some_outputs(10), Worker()
    engine = OnNats(nats_server.url)
    connection = NatsConnection(SecretStr(nats_server.url), database="test")
    publisher = NatsPublisher(connection, max_waiting=3)

    with caplog.at_level(logging.WARNING):
        publisher.enqueue(ANA, outputs)

    assert [record.message for record in caplog.records] == ["hints dropped"]
    async with connection.serve(), engine.working(worker):
        await reached(connection)
        async with publisher.serve():
            await worker.until(lambda: len(worker.begun) == 3)
    assert worker.hints == outputs[:3]

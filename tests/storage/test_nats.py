"""Hints through a real NATS that is stopped, killed, frozen and emptied."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import nats
import pytest
from nats.js import JetStreamContext
from pydantic import SecretStr
from structlog.testing import capture_logs
from structlog.typing import EventDict

from storage.queue.connection import NatsConnection
from storage.queue.consumer import NatsConsumer
from storage.queue.publisher import NatsPublisher
from storage.queue.pull import PULL_SECONDS
from tests.brokers import NatsServer
from tests.serving import free_port
from tests.storage.builders import ANA
from tests.storage.engines import ROOM, Claims, OnNats, Worker, some_outputs
from tests.tools import need
from tests.waits import START_SECONDS, eventually

ROOT = Path(__file__).parents[2]
SHORT_SECONDS = 0.5
"""An `ack_wait` that runs need not last long to outlast."""


@pytest.fixture
def engine(nats_server: NatsServer) -> OnNats:
    return OnNats(nats_server.url)


@pytest.fixture
def hasty(nats_server: NatsServer) -> OnNats:
    """Where an unacknowledged hint comes again soon."""
    return OnNats(nats_server.url, ack_wait_seconds=SHORT_SECONDS)


@asynccontextmanager
async def jetstream(url: str) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(url)
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def hints_in(url: str) -> int:
    """How many NATS may still deliver: on their way, or not acknowledged."""
    async with jetstream(url) as stream:
        workers = await stream.consumer_info("test-outputs", "test-workers")
        return (workers.num_pending or 0) + (workers.num_ack_pending or 0)


async def is_asked(url: str) -> bool:
    """Whether a worker waits for the next hint."""
    async with jetstream(url) as stream:
        return bool((await stream.consumer_info("test-outputs", "test-workers")).num_waiting)


async def is_set_up(url: str) -> bool:
    try:
        await hints_in(url)
    except nats.errors.Error:
        return False
    return True


async def has_hints(url: str) -> bool:
    return await is_set_up(url) and await hints_in(url) > 0


async def until_no_hint_is_left(url: str) -> None:
    async def holds() -> bool:
        return await hints_in(url) == 0

    await eventually(holds, what="no hint is left")


async def said(event: str, logs: list[EventDict]) -> None:
    async def holds() -> bool:
        return any(entry["event"] == event for entry in logs)

    await eventually(holds, what=event)


async def test_long_runs_are_not_given_to_a_second_worker(
    hasty: OnNats, nats_server: NatsServer
) -> None:
    outputs, claims = some_outputs(ROOM), Claims()
    first, second = Worker(claims), Worker(claims)
    async with hasty.sending() as sender, hasty.working(first), hasty.working(second):
        sender.enqueue(outputs)
        await claims.until(lambda: len(first.begun + second.begun) == ROOM)
        await until_no_hint_is_left(nats_server.url)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4 * SHORT_SECONDS):
                await claims.until(lambda: len(first.hints + second.hints) > ROOM)

        assert sorted(first.begun + second.begun) == outputs
        assert not first.ended + second.ended


async def test_an_unacknowledged_hint_is_redelivered(hasty: OnNats) -> None:
    (output,), worker = some_outputs(1), Worker()
    worker.may_decide.clear()
    async with hasty.sending() as sender, hasty.working(worker):
        sender.enqueue([output])

        await worker.until(lambda: worker.hints == [output, output])
        assert worker.begun == [output]
        worker.may_decide.set()


@asynccontextmanager
async def a_hanging_worker(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.storage.hanging_worker", url, str(SHORT_SECONDS)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_hint_of_a_killed_worker_is_redelivered_to_another(
    hasty: OnNats, nats_server: NatsServer
) -> None:
    (output,), worker = some_outputs(1), Worker()
    async with hasty.sending() as sender, a_hanging_worker(nats_server.url) as process:
        assert process.stdout is not None
        sender.enqueue([output])
        async with asyncio.timeout(START_SECONDS):
            await process.stdout.readuntil(f"taken {output}\n".encode())
        process.kill()
        await process.wait()

        async with hasty.working(worker):
            await worker.until(lambda: worker.begun == [output])
    await until_no_hint_is_left(nats_server.url)


async def test_a_stopping_worker_returns_undecided_hints(
    engine: OnNats,
) -> None:
    """At every stage of a hint: long before NATS would redeliver it."""
    outputs, claims = some_outputs(30), Claims()
    async with engine.sending() as sender:
        for number, output in enumerate(outputs):
            async with engine.working(Worker(claims)):
                sender.enqueue([output])
                await asyncio.sleep(number / 10_000)

        other = Worker(claims)
        other.may_end.set()
        async with engine.working(other):
            await other.until(lambda: claims.made == set(outputs))


async def test_a_start_that_raises_is_not_redelivered_forever(
    hasty: OnNats, nats_server: NatsServer
) -> None:
    (output,), worker = some_outputs(1), Worker()
    worker.breaks = True
    async with hasty.sending() as sender, hasty.working(worker):
        sender.enqueue([output])
        await worker.until(lambda: worker.hints == [output])

        await until_no_hint_is_left(nats_server.url)
    assert worker.hints == [output]


@pytest.mark.parametrize("message", [b"", b'{"version": 2}', b"\xff"], ids=repr)
async def test_unparsable_messages_are_acknowledged(
    hasty: OnNats, nats_server: NatsServer, message: bytes
) -> None:
    async with hasty.working(Worker()):
        await hasty.send_raw(message)

        await until_no_hint_is_left(nats_server.url)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_of_the_broker_runs_nothing_twice_and_cancels_nothing(
    hasty: OnNats, nats_server: NatsServer, number: signal.Signals
) -> None:
    outputs, later = some_outputs(ROOM), some_outputs(2)
    claims = Claims()
    first, second = Worker(claims), Worker(claims)
    async with hasty.sending() as sender, hasty.working(first), hasty.working(second):
        sender.enqueue(outputs)
        await claims.until(lambda: len(first.begun + second.begun) == ROOM)

        await (nats_server.stop() if number == signal.SIGTERM else nats_server.kill())
        sender.enqueue(later)
        await nats_server.start()

        # The workers go on, and so does the process that enqueues.
        await claims.until(lambda: claims.made == {*outputs, *later})
        await until_no_hint_is_left(nats_server.url)
        assert sorted(first.begun + second.begun) == sorted([*outputs, *later])
        assert not first.ended + second.ended + first.cut_off + second.cut_off


async def test_a_producer_sets_up_a_broker_that_has_lost_its_data(
    engine: OnNats, nats_server: NatsServer
) -> None:
    async with engine.sending() as sender:
        sender.enqueue(some_outputs(1))
        await eventually(lambda: has_hints(nats_server.url), what="sent")
        await nats_server.lose_everything()
        await nats_server.start()

        async def goes_on() -> bool:
            # Hints sent before the loss is noticed are lost; the database makes up for them.
            sender.enqueue(some_outputs(1))
            return await has_hints(nats_server.url)

        await eventually(goes_on, what="hints are kept again", every=0.2)


async def test_a_consumer_sets_up_a_broker_that_has_lost_its_data(
    engine: OnNats, nats_server: NatsServer
) -> None:
    (first, second), worker = some_outputs(2), Worker()
    worker.may_decide.clear()
    async with engine.sending() as sender, engine.working(worker):
        sender.enqueue([first])
        await worker.until(lambda: worker.hints == [first])
        with capture_logs() as logs:
            await nats_server.lose_everything()
            await nats_server.start()
            await eventually(lambda: is_set_up(nats_server.url), what="set up")
            # What this acknowledges was in the files, and came through a connection that is closed.
            worker.may_decide.set()
            await worker.until(lambda: len(worker.runs) == 1)

        sender.enqueue([second])
        await worker.until(lambda: worker.begun == [first, second])
        assert not worker.ended + worker.cut_off
    assert {entry["event"] for entry in logs} <= {
        "NATS is unreachable",
        "NATS is reachable",
        "hint not acknowledged",
    }


async def test_a_mutation_neither_fails_nor_waits_while_the_broker_is_unavailable(
    engine: OnNats, nats_server: NatsServer
) -> None:
    outputs, worker = some_outputs(200), Worker()
    worker.may_end.set()
    async with engine.sending() as sender:
        sender.enqueue(some_outputs(1))
        await nats_server.kill()

        sender.enqueue(outputs)

        await nats_server.start()
        async with engine.working(worker):
            await worker.until(lambda: set(outputs) <= set(worker.hints))


async def test_processes_start_while_the_broker_is_unavailable(tmp_path: Path) -> None:
    (output,), worker = some_outputs(1), Worker()
    server = NatsServer(tmp_path, binary=need("nats-server"))
    engine = OnNats(server.url, is_away=True)
    with capture_logs() as logs:
        async with engine.sending() as sender, engine.working(worker):
            sender.enqueue([output])
            await said("NATS is unreachable", logs)

            await server.start()
            await worker.until(lambda: worker.begun == [output])
    await server.kill()


async def test_a_hint_that_cannot_be_sent_in_time_is_dropped_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = OnNats(f"nats://127.0.0.1:{free_port()}", is_away=True)

    async def is_said() -> bool:
        return "hints dropped" in caplog.messages

    async with engine.sending() as sender:
        sender.enqueue(some_outputs(1))
        await eventually(is_said, what="hints dropped")

    dropped = caplog.records[caplog.messages.index("hints dropped")]
    assert vars(dropped)["reasons"] == {"TimeoutError": 1}


async def test_stopping_does_not_enqueue_hints(engine: OnNats, nats_server: NatsServer) -> None:
    outputs, worker = some_outputs(ROOM), Worker()
    async with engine.sending() as sender:
        async with engine.working(worker):
            sender.enqueue(outputs)
            await worker.until(lambda: len(worker.begun) == ROOM)
            await until_no_hint_is_left(nats_server.url)

        assert await hints_in(nats_server.url) == 0


async def test_a_stopping_worker_requests_no_hints_while_its_runs_end(
    engine: OnNats, nats_server: NatsServer
) -> None:
    (first, second), stopped, other = some_outputs(2), Worker(), Worker()
    connection = engine.connection()
    consumer = NatsConsumer(connection, stopped, max_concurrent_runs=ROOM)

    async def asked() -> bool:
        return await is_asked(nats_server.url)

    async def asked_no_more() -> bool:
        return not await is_asked(nats_server.url)

    async with engine.sending() as sender, connection.serve():
        async with consumer.serve():
            sender.enqueue([first])
            await stopped.until(lambda: stopped.begun == [first])
            await eventually(asked, what="asked for more")
        # The pull request itself would last longer than this.
        await eventually(asked_no_more, within=PULL_SECONDS / 2, what="asked for nothing more")

        sender.enqueue([second])
        async with engine.working(other):
            await other.until(lambda: other.begun == [second])
            assert not stopped.ended
        await stopped.stop()
    assert stopped.hints == [first]


async def test_stopping_does_not_wait_for_an_unavailable_broker(
    engine: OnNats, nats_server: NatsServer
) -> None:
    worker = Worker()
    async with engine.sending() as sender, engine.working(worker):
        sender.enqueue(some_outputs(1))
        await worker.until(lambda: len(worker.begun) == 1)
        await nats_server.kill()
        sender.enqueue(some_outputs(10))
        started = monotonic()

    assert monotonic() - started < 15


async def test_a_frozen_broker_delays_neither_an_enqueue_nor_a_stop(
    engine: OnNats, nats_server: NatsServer
) -> None:
    worker = Worker()
    async with engine.sending() as sender, engine.working(worker):
        sender.enqueue(some_outputs(1))
        await worker.until(lambda: len(worker.begun) == 1)
        assert nats_server.pid is not None
        os.kill(nats_server.pid, signal.SIGSTOP)

        sender.enqueue(some_outputs(1_000))
        started = monotonic()

    assert monotonic() - started < 15


async def test_a_frozen_broker_is_used_again_once_it_thaws(
    engine: OnNats, nats_server: NatsServer
) -> None:
    (output,), worker = some_outputs(1), Worker()
    async with engine.sending() as sender, engine.working(worker):
        sender.enqueue(some_outputs(1))
        await worker.until(lambda: len(worker.begun) == 1)
        assert nats_server.pid is not None
        os.kill(nats_server.pid, signal.SIGSTOP)
        sender.enqueue([output])
        os.kill(nats_server.pid, signal.SIGCONT)

        await worker.until(lambda: output in worker.begun)


async def test_deployments_with_different_databases_do_not_share_hints(
    nats_server: NatsServer,
) -> None:
    ours, theirs = some_outputs(1), some_outputs(1)
    we, they = Worker(), Worker()
    one, other = (OnNats(nats_server.url, name=name) for name in ("one", "one-outputs"))
    async with one.sending() as sender, other.sending() as their_sender:
        sender.enqueue(ours)
        their_sender.enqueue(theirs)
        async with one.working(we), other.working(they):
            await we.until(lambda: len(we.begun) == 1)
            await they.until(lambda: len(they.begun) == 1)

    assert (we.hints, they.hints) == (ours, theirs)


@pytest.mark.parametrize(
    ("user", "authorization"),
    [
        ("us%40r:p%2Fw", 'authorization { user: "us@r", password: "p/w" }'),
        ("t%40ken", 'authorization { token: "t@ken" }'),
    ],
)
async def test_credentials_are_taken_from_the_url(
    tmp_path: Path, user: str, authorization: str
) -> None:
    worker = Worker()
    server = NatsServer(tmp_path, binary=need("nats-server"), authorization=authorization)
    await server.start()
    engine = OnNats(server.url.replace("//", f"//{user}@"))
    try:
        async with engine.sending() as sender, engine.working(worker):
            sender.enqueue(some_outputs(1))
            await worker.until(lambda: len(worker.begun) == 1)
    finally:
        await server.kill()


async def test_wrong_credentials_are_reported_without_revealing_them(tmp_path: Path) -> None:
    server = NatsServer(
        tmp_path,
        binary=need("nats-server"),
        authorization='authorization { user: "u", password: "p" }',
    )
    await server.start()
    url = SecretStr(server.url.replace("//", "//u:canary@"))
    connection = NatsConnection(url, database="test")
    publisher = NatsPublisher(connection)
    try:
        with capture_logs() as logs:
            async with connection.serve(), publisher.serve():
                publisher.enqueue(ANA, some_outputs(1))
                await said("NATS is unreachable", logs)
    finally:
        await server.kill()

    assert "Authorization Violation" in str(logs)
    assert "canary" not in str(logs)
    assert "canary" not in repr(vars(connection))


async def test_with_tls_no_credentials_are_sent_in_clear_text() -> None:
    heard = bytearray()

    async def pose_as_nats(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"auth_required": true, "headers": true, "max_payload": 1048576}\r\n')
        while data := await reader.read(1024):
            heard.extend(data)
        writer.close()

    port = free_port()
    impostor = await asyncio.start_server(pose_as_nats, "127.0.0.1", port)
    url = SecretStr(f"tls://user:canary@127.0.0.1:{port}")
    async with impostor:
        with capture_logs() as logs:
            async with NatsConnection(url, database="test").serve():
                await said("NATS is unreachable", logs)

    assert not heard
    assert "secure connection" in str(logs)

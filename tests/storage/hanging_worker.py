"""`python -m tests.storage.hanging_worker URL SECONDS`: takes a hint and never acknowledges it."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable

from pydantic import SecretStr

from domain.ids import OutputId
from storage.queue.jobs import TaskiqJobQueue
from storage.queue.nats import NatsBroker


class Hangs:
    async def take(self, output_id: OutputId, _: Callable[[], Awaitable[None]]) -> None:
        sys.stdout.write(f"taken {output_id}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        pass


async def work(url: str, ack_wait_seconds: float) -> None:
    broker = NatsBroker(SecretStr(url), name="test", ack_wait_seconds=ack_wait_seconds)
    queue = TaskiqJobQueue(broker)
    async with queue.publishing(), queue.receiving(Hangs(), places=1):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], float(sys.argv[2])))

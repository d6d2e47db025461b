"""`python -m tests.storage.hanging_worker URL SECONDS`: takes a hint and never acknowledges it."""

import asyncio
import sys

from pydantic import SecretStr

from domain.claims import Hint
from storage.queue.connection import NatsConnection
from storage.queue.consumer import NatsConsumer


class Hangs:
    async def start(self, hint: Hint) -> None:
        sys.stdout.write(f"taken {hint.output_id}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


async def work(url: str, ack_wait_seconds: float) -> None:
    connection = NatsConnection(SecretStr(url), database="test", ack_wait_seconds=ack_wait_seconds)
    async with connection.serve(), NatsConsumer(connection, Hangs(), max_concurrent_runs=1).serve():
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], float(sys.argv[2])))

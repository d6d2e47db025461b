"""Unmodified clients, each in its own process, that follow a conversation; what each must do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

from tests.clients import GraphQLClient
from tests.conftest import StartDarkroom
from tests.operations import DELETE, RENAME, SMALL, conversation_with, send, start
from tests.serving import free_port
from tests.waits import PATIENCE_SECONDS

PROMPT_SECONDS: Final = 10
"""Less than until the next heartbeat, with which a client may read what was framed wrongly."""
UNKNOWN: Final = "conv_00000000000000000000000000"


class Follower:
    """A process with a client that has been answered a query, and what the client reports."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def next(self, *, within: float = PROMPT_SECONDS) -> tuple[str, object]:
        assert self._process.stdout is not None
        async with asyncio.timeout(within):
            line = await self._process.stdout.readline()
        said = json.loads(line)
        return said["event"], said.get("payload")

    async def until(self, wanted: str) -> list[str]:
        """All that it reports up to this."""
        seen: list[str] = []
        while wanted not in seen:
            event, said = await self.next(within=PATIENCE_SECONDS)
            assert event == "next", (event, said)
            seen.append(str(said))
        return seen


Follow: TypeAlias = Callable[[str, GraphQLClient, str, str], AbstractAsyncContextManager[Follower]]
"""Starts the named client, which follows the `title` or the `turns` of a conversation by its id."""


@asynccontextmanager
async def follower(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> AsyncIterator[Follower]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, stdout=asyncio.subprocess.PIPE
    )
    follower = Follower(process)
    try:
        assert await follower.next(within=PATIENCE_SECONDS) == ("next", ["viewer"])
        yield follower
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def check_queries_and_subscriptions(follow: Follow, name: str, client: GraphQLClient) -> None:
    conversation_id = (await start(client))["conversation"]["id"]
    async with follow(name, client, conversation_id, "title") as follower:
        assert await follower.next() == ("next", "A boat")
        await client(RENAME, id=conversation_id, title="Harbour")
        assert await follower.next() == ("next", "Harbour")
        await client(DELETE, id=conversation_id)
        assert await follower.next() == ("complete", None)


async def check_reconnection(
    follow: Follow, names: Collection[str], start_darkroom: StartDarkroom
) -> None:
    """None of the clients misses anything while the server is restarted."""
    port = free_port()
    async with AsyncExitStack() as followers:
        async with AsyncExitStack() as first:
            client = (await start_darkroom(within=first, port=port)).client("ana")
            conversation_id = (await conversation_with(client))["conversation"]["id"]
            following = [
                await followers.enter_async_context(follow(name, client, conversation_id, "turns"))
                for name in names
            ]
            for follower in following:
                await follower.until("0 COMPLETED")

        client = (await start_darkroom(port=port)).client("ana")
        await send(client, conversation_id, userMessage="At dusk", options=SMALL)
        for name, follower in zip(names, following, strict=True):
            seen = await follower.until("1 COMPLETED")
            assert {turn.split()[0] for turn in seen} <= {"0", "1"}, name

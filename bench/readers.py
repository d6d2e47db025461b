"""Readers of a share beside as many subscribers of its owner's.

`python -m bench.readers --readers 2000 --commits 20` prints the processor time of an update at each
of them, and after how long the last reader's subscription has ended once the share is revoked. As
many readers follow the share by server-sent events.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Final, TypeAlias

from bench.documents import FOLLOW
from bench.load import TIMEOUT_SECONDS, Sockets
from bench.rows import Figures, follow_one, land_on
from bench.servers import Bench, open_bench
from tests.clients import GraphQLClient

FOLLOW_SHARED: Final = FOLLOW.replace("$id: ID!", "$id: String!").replace(
    "turnUpdated(conversationId: $id", "sharedTurnUpdated(token: $id"
)
CREATE: Final = """
mutation($id: ID!) { createShare(input: {conversationId: $id, includePrompts: true}) {
  share { id url } userErrors { code }
} }
"""
REVOKE: Final = """
mutation($id: ID!) { revokeShare(input: {shareId: $id}) { userErrors { code } } }
"""

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def measure_readers(bench: Bench, *, readers: int, commits: int) -> Figures:
    """Without a token, from one address."""
    server = bench.servers["darkroom"]
    (conversation_id,) = await bench.add(1, turns=3)
    owner = GraphQLClient(f"http://127.0.0.1:{server.port}", server.token)
    await owner("{ viewer { credits { balance } } }")  # there is an account from here on
    share = (await owner(CREATE, id=conversation_id))["createShare"]["share"]
    token = share["url"].rpartition("/")[2]
    sockets = Sockets(server.port, None)
    await sockets.subscribe(FOLLOW_SHARED, [token] * readers)
    figures = await land_on(
        bench, server, sockets, conversation_id=conversation_id, commits=commits
    )
    streams = await _open_streams(server.port, token, readers)
    ends = asyncio.gather(*map(_read_to_the_end, streams))
    began = time.perf_counter()
    assert (await owner(REVOKE, id=share["id"]))["revokeShare"]["userErrors"] == []
    await sockets.until(lambda: all(socket.has_completed for socket in sockets.all))
    figures["revoked after ms"] = 1000 * (time.perf_counter() - began)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert all(await ends), "streams ended without completing"
    figures["revoked streams after ms"] = 1000 * (time.perf_counter() - began)
    await sockets.close()
    await owner.aclose()
    return figures


async def _open_streams(port: int, token: str, readers: int) -> list[Stream]:
    """Requests for server-sent events, each with its first state."""
    body = json.dumps({"query": FOLLOW_SHARED, "variables": {"id": token}}).encode()
    head = (
        f"POST /graphql HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"accept: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    limit = asyncio.Semaphore(32)

    async def open_one() -> Stream:
        async with limit:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode() + body)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await reader.readuntil(b"event: next")
            return reader, writer

    return list(await asyncio.gather(*(open_one() for _ in range(readers))))


async def _read_to_the_end(stream: Stream) -> bool:
    """Whether it has completed."""
    reader, writer = stream
    try:
        await reader.readuntil(b"event: complete")
    except asyncio.IncompleteReadError:
        return False
    finally:
        writer.transport.abort()
    return True


async def measure_owners(bench: Bench, *, readers: int, commits: int) -> Figures:
    server = bench.servers["darkroom"]
    return await follow_one(bench, server, subscribers=readers, commits=commits)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--readers", type=int, default=2000)
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with open_bench(Path(folder), others=()) as bench:
            for _ in range(options.rounds):
                for measure in (measure_owners, measure_readers):
                    figures = await measure(bench, readers=options.readers, commits=options.commits)
                    shown = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
                    print(f"{measure.__name__}: {shown}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())

"""`python -m bench.captions`: how soon a caption is seen, by the local writer.

From `generatePost` to the first update of the post that has a caption, as a client with an open
socket measures it. `--posts 40` says how many, one after the other.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from bench.servers import open_darkroom
from tests.api.posts import ENDED, FOLLOW_POST, generate
from tests.clients import GraphQLClient

WARM_UP: Final = 5


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--posts", type=int, default=40)
    count = parser.parse_args().posts
    with tempfile.TemporaryDirectory() as folder:
        async with open_darkroom(Path(folder)) as server:
            client = GraphQLClient(f"http://127.0.0.1:{server.port}", server.token)
            seconds = [await _post(client) for _ in range(WARM_UP + count)][WARM_UP:]
            await client.aclose()
    print(
        f"from generatePost to the first frame with a caption: {1000 * median(seconds):.0f} ms "
        f"(median of {count}; 95th percentile {1000 * quantiles(seconds, n=20)[-1]:.0f} ms), "
        f"load average {os.getloadavg()[0]:.1f}"
    )


async def _post(client: GraphQLClient) -> float:
    """Generate a post and wait for its end. The seconds until its caption was seen."""
    async with client.socket() as socket:
        began = time.perf_counter()
        post = await generate(client)
        updates = await socket.subscribe(FOLLOW_POST, id=post["id"])
        await updates.until(lambda data: bool(data["postUpdated"]["caption"]))
        seconds = time.perf_counter() - began
        await updates.until(lambda data: data["postUpdated"]["status"] in ENDED)
    return seconds


if __name__ == "__main__":
    asyncio.run(main())

"""What other viewers experience: a query and a mutation every 50 ms, however long
those before take.

It is a process of its own, since one that attacks is too busy to measure. Each line that it prints
is what one operation took in seconds, from the time at which it was due, and its status.

    python -m tests.attacks.neighbour URL < viewers.json
"""

import asyncio
import itertools
import json
import sys
from time import monotonic
from typing import Final

import httpx2

from tests.http import open_http
from tests.operations import RENAME

EVERY_SECONDS: Final = 0.05
NO_ANSWER: Final = 0
QUERY: Final = (
    "{ viewer { id credits { balance } conversations(first: 5) { nodes { id title turnCount } } } }"
)


async def ask(http: httpx2.AsyncClient, token: str, body: object, due: float) -> None:
    headers = {"authorization": f"Bearer {token}"}
    try:
        answer = await http.post("/graphql", json=body, headers=headers)
        status = answer.status_code
        if status == 200 and "errors" in answer.json():
            status = NO_ANSWER
    except httpx2.HTTPError:
        status = NO_ANSWER
    sys.stdout.write(f"{monotonic() - due:.6f} {status}\n")
    sys.stdout.flush()


async def main(url: str, viewers: list[list[str]]) -> None:
    """`viewers`: the token of each, and the id of a conversation."""
    limits = httpx2.Limits(max_connections=200, keepalive_expiry=2)
    async with open_http(base_url=url, limits=limits) as http, asyncio.TaskGroup() as group:
        began = monotonic()
        for number, (token, conversation_id) in enumerate(itertools.cycle(viewers)):
            due = began + number * EVERY_SECONDS
            await asyncio.sleep(max(0.0, due - monotonic()))
            renamed = {"id": conversation_id, "title": f"Boat {number}"}
            for body in ({"query": QUERY}, {"query": RENAME, "variables": renamed}):
                group.create_task(ask(http, token, body, due))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.load(sys.stdin)))

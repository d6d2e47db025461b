"""P7: a foreign id is answered like an unknown one, and as fast."""

import json
from contextlib import aclosing
from random import Random
from statistics import median
from time import perf_counter
from typing import Final

from tests.api.posts import generate
from tests.api.test_albums import create as create_album
from tests.api.test_shares import share
from tests.attacks.limits import Limit
from tests.attacks.site import Site
from tests.attacks.wire import TOO_MANY, Wire, wires
from tests.operations import conversation_with
from tests.promises.test_foreign_ids import (
    Asked,
    ids_of_jobs,
    operations,
    settled,
    unknown_of,
)
from tests.resilience.scale import SEED

WORKERS: Final = 8
PAIR: Final = 2


class Comparison:
    """Asks for a foreign and an unknown id, in an order that changes, and keeps the times."""

    def __init__(self, site: Site, found: list[str]) -> None:
        self._site = site
        self._found = found
        self._operations = [one for one in operations() if not one.is_subscription]
        self._random = Random(f"{SEED} ids")
        self.foreign: dict[str, list[float]] = {}
        self.unknown: dict[str, list[float]] = {}

    async def compare(self, wire: Wire) -> None:
        random = self._random
        asked, found = random.choice(self._operations), random.choice(self._found)
        token = random.choice([*self._site.attackers, None])
        unknown = unknown_of(found)
        pairs = [(found, self.foreign), (unknown, self.unknown)]
        random.shuffle(pairs)
        answers = {one: await self._timed(wire, asked, one, token, to) for one, to in pairs}
        assert answers[found] == answers[unknown], (SEED, asked.document, found, answers)

    async def _timed(
        self, wire: Wire, asked: Asked, one: str, token: str | None, times: dict[str, list[float]]
    ) -> str:
        body = json.dumps(asked.with_id(one)).encode()
        while True:
            began = perf_counter()
            answer = await wire.post(body, token)
            if answer.status != TOO_MANY:
                times.setdefault(asked.document, []).append(perf_counter() - began)
                return f"{answer.status} {settled(answer.body.decode(), one)}"
            token = self._random.choice(self._site.attackers)

    def difference(self) -> float:
        """Seconds by which the medians of one operation differ, at most, where there are enough."""
        enough = [name for name, times in self.foreign.items() if len(times) >= 200]
        differences = (
            abs(median(self.foreign[name]) - median(self.unknown[name])) for name in enough
        )
        return max(differences, default=0.0)


async def attack(site: Site, limit: Limit) -> str:
    comparison = Comparison(site, await _ids_of_an_owner(site))
    async with wires(site.api, WORKERS) as open_wires:
        await limit.work(WORKERS, lambda number: comparison.compare(open_wires[number]))
    return (
        f"{limit.done * PAIR} operations, every answer the same; medians of an operation differ "
        f"by {comparison.difference() * 1000:.2f} ms at most"
    )


async def _ids_of_an_owner(site: Site) -> list[str]:
    async with aclosing(site.client("owner")) as owner:
        started = await conversation_with(owner, userMessage="A boat")
        turn, conversation_id = started["turn"], started["conversation"]["id"]
        posted = await generate(owner)
        viewer = (await owner("{ viewer { id prompts(first: 1) { nodes { id } } } }"))["viewer"]
        return [
            *(conversation_id, turn["id"], turn["outputs"][0]["id"]),
            *(turn["outputs"][0]["image"]["id"], posted["id"], posted["outputs"][0]["id"]),
            *(viewer["id"], viewer["prompts"]["nodes"][0]["id"]),
            (await share(owner, conversation_id))["id"],
            (await create_album(owner))["album"]["id"],
            *await ids_of_jobs(owner, conversation_id),
        ]

"""P9: no document starves others. Each is sent with a comment of its own, so none is remembered."""

import json
from itertools import count, cycle
from typing import Final

from tests.attacks.limits import Limit
from tests.attacks.site import Site
from tests.attacks.wire import INTERNAL, TOO_MANY, Wire, wires
from tests.edge.test_hostile_documents import REFUSED, SERVED, SLOW_JSON, TOO_COMPLEX

WORKERS: Final = 4
STATUSES: Final = {200, 400, 413, 503, 504}
"""503 and 504: a document that waited for others longer than an operation may take."""


def _bodies() -> list[tuple[str, dict[str, object]]]:
    refused: list[tuple[str, dict[str, object]]] = [(text, {}) for text in REFUSED.values()]
    complex_ones = [(text, variables) for text, variables, _ in TOO_COMPLEX.values()]
    return [*refused, *complex_ones, *SERVED.values()]


async def attack(site: Site, limit: Limit) -> str:
    bodies, raw, numbers = cycle(_bodies()), cycle(SLOW_JSON.values()), count()
    tokens = cycle(site.attackers)
    served = 0

    async def send(wire: Wire) -> None:
        nonlocal served
        number = next(numbers)
        document, variables = next(bodies)
        text = {"query": f"{document} #{number}", "variables": variables}
        body = next(raw) if number % 20 == 0 else json.dumps(text, ensure_ascii=False).encode()
        answer = await wire.post(body, next(tokens))
        while answer.status == TOO_MANY:
            answer = await wire.post(body, next(tokens))
        assert answer.status in STATUSES, (answer, body[:300])
        assert INTERNAL not in answer.body, body[:300]
        served += answer.body.startswith(b'{"data":{')

    async with wires(site.api, WORKERS) as open_wires:
        await limit.work(WORKERS, lambda number: send(open_wires[number]))
    return f"{limit.done} documents, {served} served within their cost, the others refused"

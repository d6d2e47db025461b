"""P19: what is secret stays out of logs and metrics. The whole log of all attacks is searched."""

import json
from contextlib import aclosing
from itertools import cycle
from typing import Final

from tests.attacks.limits import Limit
from tests.attacks.site import CANARY, Site
from tests.attacks.wire import Wire, wires
from tests.operations import SMALL, START
from tests.uploads import CREATE

WORKERS: Final = 4
NAMES: Final = "$gt", "../", "\x00", "\ud800", "%0a", "{{7*7}}"


def _bodies(number: int) -> list[dict[str, object]]:
    odd = NAMES[number % len(NAMES)]
    prompt = {"userMessage": f"{CANARY} {odd}", "selectedModels": ["none"], "options": SMALL}
    file = {"filename": f"{CANARY}{odd}.png", "contentType": "image/png", "byteSize": 10}
    return [
        {"query": START, "variables": {"input": prompt}},
        {"query": CREATE, "variables": {"files": [file]}},
        {"query": f'{{ {CANARY.replace("-", "_")}(a: "{CANARY}") }}'},
        {"query": "query($a: String) { models(search: $a) { id } }", "variables": {"a": CANARY}},
        {"query": "{ viewer { id } }", "variables": {CANARY: CANARY}},
        {"query": f'{{ node(id: "{CANARY}{odd.encode("unicode_escape").decode()}") {{ id }} }}'},
    ]


async def attack(site: Site, limit: Limit) -> str:
    tokens, numbers = cycle(site.attackers), iter(range(limit.count))

    async def send(wire: Wire) -> None:
        token, number = next(tokens), next(numbers)
        bodies = _bodies(number)
        body = json.dumps(bodies[number % len(bodies)]).encode()
        bad = (token, token[:-5] + "canar", f"{CANARY}.{CANARY}.{CANARY}")[number % 3]
        await wire.post(body, bad)

    async with wires(site.api, WORKERS) as open_wires:
        await limit.work(WORKERS, lambda number: send(open_wires[number]))
    await _ask_for_signed_files(site)
    return f"{limit.done} requests; {await demand_silence(site)}"


async def _ask_for_signed_files(site: Site) -> None:
    async with aclosing(site.client("first")) as client:
        for ending in ("webp", "png", "zip"):
            await client.http.get(f"/objects/images/{CANARY}.{ending}?expires=1&signature={CANARY}")


async def demand_silence(site: Site) -> str:
    """Require that no canary and no token is in the log and in the metrics."""
    async with aclosing(site.client(None)) as client:
        metrics = (await client.http.get(site.metrics_url)).text
    log = site.api.text_of_log()
    secrets = {
        CANARY,
        CANARY.replace("-", "_"),
        *(one.rpartition(".")[2] for one in site.attackers),
    }
    for text in (log, metrics):
        assert not [secret for secret in secrets if secret in text]
    return f"no secret in {len(log.splitlines())} lines of the log and in the metrics"

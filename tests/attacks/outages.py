"""P12: while the database is away or frozen, mutations are refused in time, sockets stay open, and
all resumes by itself.
"""

import asyncio
from contextlib import AsyncExitStack, aclosing
from time import monotonic
from typing import Final

from tests.attacks.limits import Limit
from tests.attacks.site import Site
from tests.clients import GraphQLClient, Subscription
from tests.operations import RENAME, start
from tests.resilience.processes import away, frozen
from tests.resilience.scale import load_factor
from tests.waits import eventually

VIEWERS: Final = 20
AWAY_SECONDS: Final = 60.0
FROZEN_SECONDS: Final = 20.0
ANSWERED_SECONDS: Final = 9.5
"""The slowest refusal. An operation gives up after nine seconds."""
BACK_SECONDS: Final = 60.0
RESUMED_SECONDS: Final = 15.0
PAUSE_SECONDS: Final = 0.5
TITLES: Final = "subscription($id: ID!) { conversationUpdated(conversationId: $id) { title } }"


class Refusals:
    """Mutations of some viewers during an outage."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.count = 0
        self.slowest = 0.0
        self.others: set[str] = set()

    async def ask(self, viewer: GraphQLClient, conversation_id: str, ends_at: float) -> None:
        while monotonic() < ends_at:
            began = monotonic()
            variables = {"id": conversation_id, "title": f"At {began}"}
            answer = await viewer.post({"query": RENAME, "variables": variables})
            self.slowest = max(self.slowest, monotonic() - began)
            self.count += 1
            if '"OVERLOADED"' not in answer.text or "retry-after" not in answer.headers:
                self.others.add(f"{answer.status_code} {answer.text[:200]}")
            await asyncio.sleep(PAUSE_SECONDS)


async def attack(site: Site, limit: Limit) -> str:
    parts = []
    for what, outage, seconds in (
        ("away", away, min(AWAY_SECONDS, limit.seconds)),
        ("frozen", frozen, min(FROZEN_SECONDS, limit.seconds)),
    ):
        refusals = Refusals(site)
        async with AsyncExitStack() as stack:
            viewers = [
                await stack.enter_async_context(aclosing(site.client(f"outage {n}")))
                for n in range(VIEWERS)
            ]
            ids = [(await start(one))["conversation"]["id"] for one in viewers]
            followed = [
                await stack.enter_async_context(one.subscribe(TITLES, id=conversation_id))
                for one, conversation_id in zip(viewers, ids, strict=True)
            ]
            async with outage(site.mongod):
                ends_at = monotonic() + seconds
                asking = (refusals.ask(*one, ends_at) for one in zip(viewers, ids, strict=True))
                await asyncio.gather(*asking)
            back = await _until_back(viewers, ids, followed)
        limit.done += refusals.count
        parts.append(
            f"{what} {seconds:.0f} s: {refusals.count} mutations, {len(refusals.others)} kinds of "
            f"answers other than OVERLOADED {sorted(refusals.others)[:2] or ''}, slowest "
            f"{refusals.slowest:.1f} s; {VIEWERS} sockets were open, and resumed after {back:.1f} s"
        )
        assert not refusals.others, parts
        assert refusals.slowest < ANSWERED_SECONDS * load_factor(), parts
        assert back < RESUMED_SECONDS * load_factor(), parts
    return "; ".join(parts)


async def _until_back(
    viewers: list[GraphQLClient], ids: list[str], followed: list[Subscription]
) -> float:
    """Seconds until all viewers' mutations have been taken, and been seen on their sockets."""
    began = monotonic()

    async def see(viewer: GraphQLClient, conversation_id: str, updates: Subscription) -> None:
        async def is_taken() -> bool:
            return "errors" not in await viewer.execute(RENAME, id=conversation_id, title="Back")

        await eventually(is_taken, within=BACK_SECONDS, what="mutations are taken again")
        await updates.until(lambda data: "Back" in str(data))

    async with asyncio.timeout(BACK_SECONDS):
        await asyncio.gather(*(see(*one) for one in zip(viewers, ids, followed, strict=True)))
    return monotonic() - began

"""How many operations a client may run and what they may cost, over every transport."""

import asyncio
from datetime import datetime
from typing import Any

import httpx2
import pytest

from domain.errors import Overloaded, RateLimited
from domain.ids import viewer_id_of
from domain.ports.rate_limits import RateLimitRepository
from domain.rate_limits import Allowance, Amount, Rate, Taken
from domain.services import rate_limits
from domain.services.rate_limits import LEASE_SECONDS, RateLimits
from settings import Limits
from storage.mongo.database import Database
from storage.mongo.rate_limits import MongoRateLimitRepository, bucket_id
from tests.clients import GraphQLClient
from tests.conftest import StartDarkroom
from tests.waits import PATIENCE_SECONDS

ME = "{ viewer { id } }"
PAGE = "{ viewer { conversations(first: 100) { nodes { id } } } }"
"""It costs 101."""
STATE = "{ viewer { rateLimit { limit remaining cost resetAt } } }"
SLOW = 0.001
ANA = viewer_id_of("tests", "ana")


def limited(**given: Any) -> Limits:
    """Buckets that are hardly filled again while a test runs."""
    slow = {
        "viewer_requests_per_second": SLOW,
        "address_requests_per_second": SLOW,
        "cost_per_second": SLOW,
    }
    return Limits(**{**slow, **given})


async def statuses(client: GraphQLClient, document: str, count: int) -> list[int]:
    answers = [await client.post({"query": document}) for _ in range(count)]
    return [answer.status_code for answer in answers]


def code_of(answer: httpx2.Response) -> str:
    code: str = answer.json()["errors"][0]["extensions"]["code"]
    return code


async def test_a_viewer_has_one_rate_limit_for_all_processes(
    start_darkroom: StartDarkroom,
) -> None:
    limit = limited(viewer_requests=7)
    first, second = await start_darkroom(limit=limit), await start_darkroom(limit=limit)

    answers = await statuses(first.client("ana"), ME, 4)
    answers += await statuses(second.client("ana"), ME, 4)

    assert answers == [200] * 7 + [429]
    refused = await first.client("ana").post({"query": ME})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    (error,) = refused.json()["errors"]
    assert error["extensions"]["code"] == "RATE_LIMITED"
    assert error["extensions"]["retryAfterSeconds"] == int(refused.headers["retry-after"])
    assert await statuses(first.client("bob"), ME, 1) == [200]


async def test_invalid_operations_count_against_the_rate_limit(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=limited(viewer_requests=3))
    client = darkroom.client("ana")

    assert await statuses(client, "{ nothing }", 2) == [200, 200]
    assert await statuses(client, "{", 2) == [200, 429]


async def test_a_rate_limited_operation_leaves_its_socket_open(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=limited(viewer_requests=2))
    client = darkroom.client("ana")

    async with client.socket() as socket:
        for _ in range(2):
            assert await (await socket.subscribe(ME)).completed()
        await socket.send(id="3", type="subscribe", payload={"query": ME})
        message = await socket.receive()
        await socket.send(type="ping")
        assert (await socket.receive())["type"] == "pong"

    assert (message["id"], message["type"]) == ("3", "error")
    assert message["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
    assert message["payload"][0]["extensions"]["retryAfterSeconds"] >= 1


async def test_a_rate_limited_stream_is_refused_before_it_begins(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=limited(viewer_requests=1))
    client = darkroom.client("ana")
    await client(ME)

    for accept in ("text/event-stream", "multipart/mixed;subscriptionSpec=1.0"):
        answer = await client.post(
            {"query": "subscription { viewerUpdated { id } }"}, accept=accept
        )
        assert (answer.status_code, code_of(answer)) == (429, "RATE_LIMITED")


async def test_requests_without_a_token_are_limited_by_address(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=limited(address_requests=3))
    nobody = darkroom.anonymous()

    assert await statuses(nobody, "{ __typename }", 4) == [200, 200, 200, 429]
    forged = await nobody.post({"query": "{ __typename }"}, **{"x-forwarded-for": "9.9.9.9"})
    assert forged.status_code == 429
    assert await statuses(darkroom.client("ana"), ME, 4) == [200] * 4


async def test_behind_trusted_proxies_requests_are_limited_by_the_forwarded_address(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(
        limit=limited(address_requests=1), trusted_proxies=("127.0.0.0/8", "10.1.0.0/16")
    )

    async def ask(forwarded: str) -> int:
        headers = {"x-forwarded-for": forwarded}
        return (await darkroom.anonymous().post({"query": "{ __typename }"}, **headers)).status_code

    assert await ask("9.9.9.9") == 200
    assert await ask("9.9.9.9") == 429
    # What a client writes itself stands before what the proxies have seen.
    assert await ask("1.2.3.4, 9.9.9.9, 10.1.2.3") == 429
    assert await ask("9.9.9.9, 8.8.8.8") == 200
    assert await ask("2001:db8:1:2::1") == 200
    assert await ask("2001:db8:1:2:ffff::9") == 429
    assert await ask("2001:db8:1:3::1") == 200
    assert await ask("::ffff:9.9.9.9") == 429


async def test_operations_have_a_cost(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom(limit=limited(cost=300))
    client = darkroom.client("ana")

    first = await client.post({"query": PAGE, "extensions": {"cost": True}})
    assert first.json()["extensions"]["cost"]["cost"] == 101
    assert first.json()["extensions"]["cost"]["remaining"] == 199
    assert first.json()["extensions"]["cost"]["limit"] == 300
    assert datetime.fromisoformat(first.json()["extensions"]["cost"]["resetAt"])
    assert await statuses(client, PAGE, 2) == [200, 429]
    # What is left is enough for less.
    refused = await client.post({"query": PAGE, "extensions": {"cost": True}})
    assert (refused.status_code, code_of(refused)) == (429, "RATE_LIMITED")
    assert refused.json()["extensions"]["cost"]["cost"] == 101
    assert (await client(STATE))["viewer"]["rateLimit"] | {"resetAt": None} == {
        "limit": 300,
        "remaining": 97,
        "cost": 1,
        "resetAt": None,
    }


async def test_an_operation_that_costs_more_than_the_limit_needs_a_full_bucket(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(limit=limited(cost=50))

    assert await statuses(darkroom.client("ana"), PAGE, 2) == [200, 429]


async def test_the_cost_is_returned_on_request_only(client: GraphQLClient) -> None:
    assert "extensions" not in await client.execute(ME)
    over_url = await client.http.get(
        "/graphql", params={"query": ME, "extensions": '{"cost":true}'}
    )
    assert over_url.json()["extensions"]["cost"]["cost"] == 1
    async with client.socket() as socket:
        payload = {"query": ME, "extensions": {"cost": True}}
        await socket.send(id="1", type="subscribe", payload=payload)
        assert (await socket.receive())["payload"]["extensions"]["cost"]["cost"] == 1


async def test_compiled_and_plain_execution_return_the_same_limit(client: GraphQLClient) -> None:
    answers = [(await client(STATE))["viewer"]["rateLimit"] for _ in range(3)]

    assert {(one["limit"], one["cost"]) for one in answers} == {(answers[0]["limit"], 1)}


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def a_process(
    buckets: RateLimitRepository,
    *,
    burst: int = 100,
    per_second: float = 20,
    clock: Clock | None = None,
) -> RateLimits:
    allowance = Allowance(requests=Rate(burst, per_second), cost=Rate(20_000, 500))
    return RateLimits(buckets, viewer=allowance, address=allowance, now=clock or Clock())


async def test_a_thousand_operations_take_far_fewer_database_writes(database: Database) -> None:
    buckets = Counting(MongoRateLimitRepository(database))
    process = a_process(buckets, burst=10_000, per_second=100)

    for _ in range(1_000):
        await process.take(ANA, is_viewer=True, cost=1)

    assert buckets.calls <= 12


async def test_concurrent_processes_together_stay_within_the_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A database that takes longer than a second limits nobody: this one may.
    monkeypatch.setattr(rate_limits, "ANSWER_SECONDS", PATIENCE_SECONDS)
    processes = [
        a_process(MongoRateLimitRepository(database), per_second=20 * SLOW) for _ in range(8)
    ]

    async def take(number: int) -> bool:
        try:
            await processes[number % 8].take(ANA, is_viewer=True, cost=1)
        except RateLimited:
            return False
        return True

    assert sum(await asyncio.gather(*map(take, range(240)))) == 100


async def test_a_bucket_is_refilled_by_the_clock_of_the_database(database: Database) -> None:
    buckets = MongoRateLimitRepository(database)
    allowance = Allowance(requests=Rate(100, 20), cost=Rate(1_000, 1))
    everything = Amount(100, 100)
    await buckets.take(ANA, minimum=everything, maximum=everything, allowance=allowance)
    taken = await buckets.take(ANA, minimum=everything, maximum=everything, allowance=allowance)
    assert taken.given is None

    # As if the last time had been five seconds ago.
    earlier = {"$set": {"at": {"$subtract": ["$at", 5_000]}}}
    await database.buckets.update_one({"_id": bucket_id(ANA)}, [earlier])

    taken = await buckets.take(ANA, minimum=everything, maximum=everything, allowance=allowance)
    assert taken.given == everything
    document = await database.buckets.find_one({"_id": bucket_id(ANA)})
    assert document is not None
    assert document["expiresAt"] > document["at"]


async def test_tokens_that_a_process_has_reserved_are_valid_for_two_seconds(
    database: Database,
) -> None:
    clock, buckets = Clock(), Counting(MongoRateLimitRepository(database))
    process = a_process(buckets, clock=clock)

    await process.take(ANA, is_viewer=True, cost=1)
    await process.take(ANA, is_viewer=True, cost=1)
    assert buckets.calls == 1
    clock.time += LEASE_SECONDS
    await process.take(ANA, is_viewer=True, cost=1)
    assert buckets.calls == 2


@pytest.mark.parametrize("failure", [Overloaded(), TimeoutError()])
async def test_no_request_is_rate_limited_while_the_database_does_not_answer(
    failure: Exception,
) -> None:
    clock, buckets = Clock(), Counting(failure)
    process = a_process(buckets, burst=1, clock=clock)

    for _ in range(20):
        await process.take(ANA, is_viewer=True, cost=1)

    assert buckets.calls == 1
    clock.time += 1
    await process.take(ANA, is_viewer=True, cost=1)
    assert buckets.calls == 2


class Counting:
    """Buckets, or what happens instead of an answer."""

    def __init__(self, buckets: RateLimitRepository | Exception) -> None:
        self._buckets = buckets
        self.calls = 0

    async def take(self, client: str, **amounts: Any) -> Taken:
        self.calls += 1
        if isinstance(self._buckets, Exception):
            raise self._buckets
        return await self._buckets.take(client, **amounts)

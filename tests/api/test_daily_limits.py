"""The daily limit that an operator sets for a viewer: planned, reserved, released and reset."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.api.test_credits import STARTING, account, adds_up
from tests.api.test_plans import plan
from tests.api.test_switching_off import database_of
from tests.commands import run_command
from tests.conftest import StartDarkroom
from tests.operations import codes, conversation_with, start, start_or_refuse

LIMIT = "{ viewer { credits { dailyLimit spentToday } } }"


async def test_no_more_is_spent_in_a_day_than_the_operator_allows(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client("ana")
    two: dict[str, Any] = {"selectedModels": ["local-silver", "rehearsal-fails"]}
    await conversation_with(client, **two)  # of 4 credits, 2 are released

    limited = await run_command(darkroom.settings, "credits", "limit", "ana", "5")
    refused = await start_or_refuse(client, **two)
    planned = await plan(client, **two)
    shown = (await client(LIMIT))["viewer"]["credits"]
    listed = await run_command(darkroom.settings, "credits", "show", "ana")
    await start(client)
    async with database_of(darkroom) as database:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        await database.ledger.update_many({"kind": "RESERVE"}, {"$set": {"createdAt": yesterday}})
    await start(client, **two)
    unlimited = await run_command(darkroom.settings, "credits", "limit", "ana", "none")
    nobody = await run_command(darkroom.settings, "credits", "limit", "nobody", "5")

    assert limited.said.endswith("can spend 5 credits on a day, from 00:00 UTC.\n")
    assert codes(refused) == codes(planned) == [("DAILY_LIMIT_REACHED", "")]
    assert refused["userErrors"][0]["message"] == (
        "This costs 4 credits; left for today: 3 of 5. The day ends at 00:00 UTC."
    )
    assert shown == {"dailyLimit": 5, "spentToday": 2}
    assert "Of 5 credits a day, 2 spent today.\n" in listed.said
    assert (unlimited.code, nobody.code) == (0, 1)
    assert (await client(LIMIT))["viewer"]["credits"] == {"dailyLimit": None, "spentToday": None}
    await adds_up(darkroom)


async def test_concurrent_starts_stay_within_the_daily_limit(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client("ana")
    await account(client)
    await run_command(darkroom.settings, "credits", "limit", "ana", "7")

    payloads = await asyncio.gather(
        *(start_or_refuse(client, selectedModels=["rehearsal-hangs"]) for _ in range(8))
    )

    refused = [codes(payload) for payload in payloads if payload["turn"] is None]
    assert refused == [[("DAILY_LIMIT_REACHED", "")]] * 5
    assert await account(client) == (STARTING, 6, 3)

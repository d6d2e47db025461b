"""What operators query in the database: what is waiting, what is stuck, and credits by day."""

from datetime import UTC, datetime, timedelta
from typing import Final

from domain.rules import MAX_QUEUED
from tests.api.test_albums import SEARCH
from tests.api.test_switching_off import NO_WORKER, database_of
from tests.commands import run_command
from tests.conftest import StartDarkroom
from tests.operations import conversation_with, start

STUCK: Final = {
    "$set": {
        "outputs.queuedAt": {"$subtract": ["$$NOW", round(MAX_QUEUED.total_seconds() + 40) * 1000]},
        "outputs.leaseUntil": {"$add": ["$$NOW", 3_600_000]},
    }
}
"""Makes a turn's outputs late, and held by a worker: no sweeper ends them."""


async def test_the_status_shows_what_is_waiting_and_what_is_stuck(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(**NO_WORKER)
    nothing = await run_command(darkroom.settings, "status")
    turn = (
        await start(darkroom.client("ana"), selectedModels=["local-silver", "rehearsal-fails"])
    )["turn"]
    waiting = await run_command(darkroom.settings, "status")
    async with database_of(darkroom) as database:
        await database.turns.update_one({"_id": turn["id"]}, [STUCK])
        stuck = await run_command(darkroom.settings, "status")

    assert nothing.code == 0
    assert "0 unfinished outputs.\n0 outputs should have ended by now.\n" in nothing.said
    assert waiting.code == 0
    assert "2 unfinished outputs." in waiting.said
    assert "local-silver" in waiting.said
    assert "4 credits reserved for unfinished outputs." in waiting.said
    assert stuck.code == 1
    assert "2 outputs should have ended by now." in stuck.said
    assert f"{turn['outputs'][0]['id']}  user_" in stuck.said
    assert "held until" in stuck.said


async def test_credits_are_shown_by_day_and_have_a_limit(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client("ana")
    await conversation_with(client, selectedModels=["local-silver", "rehearsal-fails"])
    yesterday = datetime.now(UTC) - timedelta(days=1)
    async with database_of(darkroom) as database:
        await database.ledger.update_many({"kind": "GRANT"}, {"$set": {"createdAt": yesterday}})

    shown = await run_command(darkroom.settings, "credits", "show", "ana")
    latest = await run_command(darkroom.settings, "credits", "show", "ana", "--days", "1")
    nobody = await run_command(darkroom.settings, "credits", "show", "nobody")

    today = datetime.now(UTC)
    assert shown.code == 0
    assert [line.split() for line in shown.said.splitlines()[2:]] == [
        [f"{today:%Y-%m-%d}", "0", "4", "2", "2"],
        [f"{yesterday:%Y-%m-%d}", "10,000", "0", "0", "0"],
    ]
    assert len(latest.said.splitlines()) == 3
    assert nobody.code == 1
    assert nobody.said.endswith("has no account.\n")

    async with database_of(darkroom) as database:
        await database.accounts.update_one({}, {"$set": {"balance": 2**31 - 5}})
    refused = await run_command(darkroom.settings, "credits", "grant", "ana", "10", "--key", "a")

    assert refused.code == 1
    assert refused.said.endswith("would have more than 2,147,483,647 credits.\n")


async def test_images_of_earlier_releases_are_found_by_words(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client("ana")
    for words in ("A red boat", "A red house"):
        await conversation_with(client, userMessage=words)
    async with database_of(darkroom) as database:
        await database.images.update_many({"prompt": "A red boat"}, {"$unset": {"words": 1}})

    ran = await run_command(darkroom.settings, "search_words")
    again = await run_command(darkroom.settings, "search_words")

    assert (ran.code, ran.said) == (0, "1 image can be found by words now.\n")
    assert again.said == "0 images can be found by words now.\n"
    found = (await client(SEARCH, search="red"))["viewer"]["images"]["nodes"]
    assert [one["prompt"] for one in found] == ["A red house", "A red boat"]

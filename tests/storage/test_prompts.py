"""Prompts in MongoDB: counted in the transaction that starts the turn, found with an index."""

import asyncio

import pytest

from domain.conflicts import Conflict
from domain.ids import prompt_id_of, viewer_id_of
from domain.pages import PageRequest
from domain.prompts import Prompt
from domain.text_search import words_of
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.prompts import MongoPromptRepository
from storage.mongo.text_search import MAX_WORDS
from tests.storage.builders import ANA, a_conversation, a_plan, an_account, another_turn
from tests.storage.plans import profiled

BOB = viewer_id_of("tests", "bob")


@pytest.fixture
def prompts(database: Database) -> MongoPromptRepository:
    return MongoPromptRepository(database)


async def page(
    prompts: MongoPromptRepository,
    *,
    search: str = "",
    favourite: bool | None = None,
    size: int = 100,
) -> list[Prompt]:
    found = await prompts.page(ANA, PageRequest(size), favourite=favourite, words=words_of(search))
    return list(found.items)


async def test_a_use_is_counted_in_the_same_transaction_as_its_turn(
    database: Database, prompts: MongoPromptRepository
) -> None:
    conversation, _ = await a_conversation(database)
    refused = await another_turn(
        database, conversation, a_plan(message="Sepia"), max_active_outputs=1
    )
    assert refused is Conflict.LIMIT_REACHED
    assert [(one.text, one.uses) for one in await page(prompts)] == [("A boat", 1)]

    written = await another_turn(database, conversation, a_plan(message="Sepia"))

    assert not isinstance(written, Conflict)
    assert [(one.text, one.uses) for one in await page(prompts)] == [("Sepia", 1), ("A boat", 1)]
    assert (await page(prompts))[0].last_used_at >= written[1].created_at


async def test_concurrent_starts_count_each_use(
    database: Database, prompts: MongoPromptRepository
) -> None:
    await an_account(database)

    await asyncio.gather(*(a_conversation(database) for _ in range(10)))

    assert [(one.text, one.uses) for one in await page(prompts)] == [("A boat", 10)]


async def test_the_same_text_of_two_viewers_is_two_prompts(
    database: Database, prompts: MongoPromptRepository
) -> None:
    await a_conversation(database)
    await a_conversation(database, viewer_id=BOB)
    mine, theirs = (prompt_id_of(viewer_id, "A boat") for viewer_id in (ANA, BOB))

    assert [one.id for one in await page(prompts)] == [mine]
    assert set(await prompts.get_many(ANA, [mine, theirs])) == {mine}
    assert await prompts.set_favourite(ANA, [theirs], True) == {}
    assert not (await prompts.get_many(BOB, [theirs]))[theirs].favourite


async def test_a_mark_is_kept_at_the_next_use(
    database: Database, prompts: MongoPromptRepository
) -> None:
    await a_conversation(database)
    await prompts.set_favourite(ANA, [prompt_id_of(ANA, "A boat")], True)

    await a_conversation(database)

    assert [(one.uses, one.favourite) for one in await page(prompts)] == [(2, True)]


async def test_pages_have_no_gaps_at_equal_times(
    database: Database, prompts: MongoPromptRepository
) -> None:
    for number in range(7):
        await a_conversation(database, message=f"Boat {number}")
    instant = (await page(prompts))[0].last_used_at
    await database.prompts.update_many({}, {"$set": {"lastUsedAt": instant}})
    ids = [one.id for one in await page(prompts)]

    seen, request = [], PageRequest(2)
    while True:
        found = await prompts.page(ANA, request, favourite=None, words=("boat",))
        seen += [prompt.id for prompt in found.items]
        if not found.has_next:
            break
        request = PageRequest(2, found.positions[-1])

    assert seen == ids == sorted(ids, reverse=True)


async def test_a_page_and_a_search_each_take_one_indexed_query(
    database: Database, prompts: MongoPromptRepository
) -> None:
    await a_conversation(database, message="A rare orchid")
    instant = (await page(prompts))[0].last_used_at
    await database.prompts.insert_many(
        [
            {
                "_id": prompt_id_of(owner, f"boat {number}"),
                "ownerId": owner,
                "text": f"boat {number}",
                "words": ["boat", str(number)],
                "uses": 1,
                "favourite": False,
                "lastUsedAt": instant,
            }
            for owner in (ANA, BOB)
            for number in range(300)
        ]
    )

    async with profiled(database, "prompts") as plain:
        assert len(await page(prompts, size=50)) == 50
    async with profiled(database, "prompts") as searching:
        assert [one.text for one in await page(prompts, search="rar orch")] == ["A rare orchid"]

    (command,) = plain.commands[-1:]
    assert command["docsExamined"] == 51
    assert not command.get("hasSortStage")
    assert "IXSCAN" in command["planSummary"]
    (command,) = [one for one in searching.commands if one["nreturned"] == 1]
    assert "words: 1" in command["planSummary"]
    assert command["docsExamined"] == 1


async def test_the_searchable_words_of_a_conversation_are_limited(database: Database) -> None:
    many = " ".join(f"w{number}" for number in range(400))
    more = " ".join(f"v{number}" for number in range(400))
    conversation, _ = await a_conversation(database, message=many)

    written = await another_turn(database, conversation, a_plan(message=f"{more} w1 boat"))
    assert not isinstance(written, Conflict)
    await MongoConversationRepository(database).rename(ANA, conversation.id, "Harbour boat")

    stored = await database.conversations.find_one({"_id": conversation.id})
    assert stored is not None
    assert len(stored["words"]) == len(set(stored["words"])) == MAX_WORDS
    assert stored["words"][:4] == ["harbour", "boat", "a", "w0"]
    assert stored["words"][-1] == "v96"


async def test_a_search_of_conversations_uses_its_index(database: Database) -> None:
    repository = MongoConversationRepository(database)
    await a_conversation(database, message="A rare orchid")
    for _ in range(30):
        await a_conversation(database)

    async with profiled(database, "conversations") as profile:
        found = await repository.page(
            ANA, PageRequest(), source_image_id=None, words=words_of("orchid")
        )

    assert len(found.items) == 1
    (command,) = profile.commands
    assert "words: 1" in command["planSummary"]
    assert command["docsExamined"] == 1


async def test_a_deep_page_of_conversations_costs_no_more_than_the_first(
    database: Database,
) -> None:
    repository = MongoConversationRepository(database)
    for _ in range(30):
        await a_conversation(database)

    request, seen = PageRequest(10), []
    for _ in range(3):
        async with profiled(database, "conversations") as profile:
            found = await repository.page(ANA, request, source_image_id=None, words=())
        (command,) = profile.commands
        assert command["docsExamined"] <= 12
        assert not command.get("hasSortStage")
        seen += [conversation.id for conversation in found.items]
        request = PageRequest(10, found.positions[-1])

    assert len(set(seen)) == 30

"""Accounts in MongoDB: they always agree with the ledger and with the outputs."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from domain.conflicts import Conflict
from domain.credits import MAX_BALANCE, Account
from domain.errors import GenerationErrorCode
from domain.outputs import GenerationError, Report, Run
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.outputs import MongoOutputRepository
from storage.mongo.turns import MongoTurnRepository
from tests.storage.builders import (
    ANA,
    EXPIRED,
    LONG,
    MANY,
    PLENTY,
    PRICE,
    a_claim,
    a_conversation,
    a_picture,
    a_plan,
    an_account,
    another_turn,
)

FAILURE = GenerationError(GenerationErrorCode.TIMED_OUT, retryable=True)


@pytest.fixture
def accounts(database: Database) -> MongoAccountRepository:
    return MongoAccountRepository(database)


@pytest.fixture
def claims(database: Database) -> MongoClaimRepository:
    return MongoClaimRepository(database)


async def kinds(database: Database) -> dict[str, list[str]]:
    """The ledger's lines of each output's attempt, apart from grants."""
    lines: dict[str, list[str]] = {}
    async for line in database.ledger.find({"kind": {"$ne": "GRANT"}}).sort("_id", 1):
        cause, _, kind = line["_id"].rpartition(" ")
        lines.setdefault(cause, []).append(kind)
    return lines


async def test_concurrent_requests_create_an_account_once(
    database: Database, accounts: MongoAccountRepository
) -> None:
    opened = await asyncio.gather(*(accounts.open(ANA, starting_credits=7) for _ in range(12)))

    assert {(one.balance, one.reserved, one.active_outputs) for one in opened} == {(7, 0, 0)}
    assert await database.ledger.count_documents({}) == 1


async def test_a_grant_is_made_once_for_each_key(accounts: MongoAccountRepository) -> None:
    await accounts.open(ANA, starting_credits=0)

    granted = await asyncio.gather(*(accounts.grant(ANA, 5, key="invoice") for _ in range(6)))

    assert [one.balance for one in granted if isinstance(one, Account)] == [5]
    another = await accounts.grant(ANA, 5, key="another")
    assert isinstance(another, Account)
    assert another.balance == 10


async def test_grants_at_once_do_not_exceed_the_largest_balance(
    accounts: MongoAccountRepository,
) -> None:
    await accounts.open(ANA, starting_credits=MAX_BALANCE - 10)

    granted = await asyncio.gather(*(accounts.grant(ANA, 4, key=f"{key}") for key in range(6)))

    assert granted.count(Conflict.LIMIT_REACHED) == 4
    account = await accounts.find(ANA)
    assert account is not None
    assert account.balance == MAX_BALANCE - 2
    assert (await accounts.prove()).discrepancies == ()


async def test_every_attempt_is_reserved_once_and_settled_once(
    database: Database, accounts: MongoAccountRepository, claims: MongoClaimRepository
) -> None:
    turns = MongoTurnRepository(database)
    _, turn = await a_conversation(database, "lands", "fails", "cancelled", "queued")
    lands, fails, cancelled, _ = turn.outputs
    claim = await a_claim(database, lands.id)
    ended = await asyncio.gather(
        *(claims.land(claim, [a_picture(lands.id)], Report()) for _ in range(4)),
        *(claims.fail(claim, FAILURE) for _ in range(4)),
    )
    assert sum(ended) == 1
    assert await claims.fail(await a_claim(database, fails.id), FAILURE)
    await asyncio.gather(
        *(MongoOutputRepository(database).cancel(ANA, turn.id, [cancelled.slot]) for _ in range(4))
    )
    failed = (await turns.get_many(ANA, [turn.id]))[turn.id].outputs[1]
    (planned,) = a_plan("another").outputs
    retried = await asyncio.gather(
        *(
            MongoOutputRepository(database).retry(
                ANA, failed, planned=planned, max_active_outputs=MANY, key=None
            )
            for _ in range(4)
        )
    )

    assert retried.count(Conflict.STALE) == 3
    proof = await accounts.prove()
    assert proof.discrepancies == ()
    assert (proof.reserved, proof.active_outputs) == (2 * PRICE, 2)
    lines = await kinds(database)
    assert lines[f"{lands.id} 1"] in (["CAPTURE", "RESERVE"], ["RELEASE", "RESERVE"])
    assert lines[f"{fails.id} 1"] == lines[f"{cancelled.id} 1"] == ["RELEASE", "RESERVE"]
    assert lines[f"{fails.id} 2"] == ["RESERVE"]


async def test_delivered_images_are_charged_and_the_rest_is_released(
    database: Database, accounts: MongoAccountRepository, claims: MongoClaimRepository
) -> None:
    _, turn = await a_conversation(database, images_per_model=4)
    claim = await a_claim(database, turn.outputs[0].id)
    assert claim.output.credits_reserved == 4 * PRICE

    pictures = [a_picture(claim.output.id) for _ in range(3)]
    assert await claims.land(claim, pictures, Report())

    account = await accounts.open(ANA, starting_credits=PLENTY)
    assert (account.balance, account.reserved) == (PLENTY - 3 * PRICE, 0)


async def test_a_start_without_enough_credits_is_not_written(database: Database) -> None:
    conversation, _ = await a_conversation(database)
    full = Conflict.LIMIT_REACHED

    assert await another_turn(database, conversation, max_active_outputs=1) is full
    await database.accounts.update_one({"_id": ANA}, {"$set": {"balance": 2 * PRICE - 1}})
    assert await another_turn(database, conversation) is full

    assert await database.turns.count_documents({}) == 1
    assert len(await kinds(database)) == 1


async def test_a_viewer_over_the_daily_limit_starts_what_costs_nothing(
    database: Database,
) -> None:
    conversation, _ = await a_conversation(database)
    await database.accounts.update_one({"_id": ANA}, {"$set": {"dailyLimit": PRICE - 1}})
    assert await another_turn(database, conversation) is Conflict.LIMIT_REACHED

    plan = a_plan()
    free = replace(plan, outputs=tuple(replace(one, credits=0) for one in plan.outputs))

    assert isinstance(await another_turn(database, conversation, free), tuple)


async def test_deleting_a_conversation_releases_the_credits_of_its_outputs(
    database: Database, accounts: MongoAccountRepository
) -> None:
    conversation, turn = await a_conversation(database, "one", "two")
    await a_claim(database, turn.outputs[0].id)

    await MongoConversationRepository(database).delete(ANA, conversation.id)

    proof = await accounts.prove()
    assert proof.discrepancies == ()
    assert (proof.reserved, proof.active_outputs) == (0, 0)


async def test_overdue_outputs_end_and_are_released_unless_claimed(
    database: Database, accounts: MongoAccountRepository, claims: MongoClaimRepository
) -> None:
    models = ("held", "dead", "postponed", "queued", "young")
    _, turn = await a_conversation(database, *models)
    held, dead, postponed, queued, young = (output.id for output in turn.outputs)
    await a_claim(database, held)
    await a_claim(database, dead, lease=EXPIRED)
    claim = await a_claim(database, postponed)
    for slot in (1, 2, 3):
        await database.turns.update_one(
            {"_id": turn.id, "outputs.slot": slot},
            [_in_slot(slot, "deadlineAt", {"$subtract": ["$$NOW", 1000]})],
        )
    await claims.give_back(claim)
    await database.turns.update_one(
        {"_id": turn.id}, [_in_slot(4, "queuedAt", {"$subtract": ["$$NOW", 61_000]})]
    )
    await asyncio.sleep(0.01)

    minute = timedelta(seconds=60)
    both = await asyncio.gather(
        claims.end_overdue(max_queued=minute, limit=9),
        claims.end_overdue(max_queued=minute, limit=9),
    )

    assert sorted([*both[0], *both[1]]) == sorted([dead, postponed, queued])
    outputs = (await MongoTurnRepository(database).get_many(ANA, [turn.id]))[turn.id].outputs
    assert [output.id for output in outputs if output.unfinished] == [held, young]
    assert all(output.error == FAILURE for output in outputs if not output.unfinished)
    proof = await accounts.prove()
    assert proof.discrepancies == ()
    assert proof.active_outputs == 2


async def test_an_overdue_output_whose_submission_was_never_answered_has_an_unknown_outcome(
    database: Database, accounts: MongoAccountRepository, claims: MongoClaimRepository
) -> None:
    """The provider may have accepted it. Credits are released in any case."""
    asked = Run(provider="vendor", tries=1, rejected=False, job=None)
    journals = {
        "asked": [asked],
        "rejected": [replace(asked, rejected=True)],
        "accepted": [replace(asked, job={"id": "job"})],
        "one-of-two": [replace(asked, job={"id": "job"}), asked],
    }
    _, turn = await a_conversation(database, *journals)
    for output, runs in zip(turn.outputs, journals.values(), strict=True):
        claim = await a_claim(database, output.id, lease=EXPIRED)
        assert await claims.save_runs(claim, runs)
        await database.turns.update_one(
            {"_id": turn.id},
            [_in_slot(output.slot, "deadlineAt", {"$subtract": ["$$NOW", 1000]})],
        )
    await asyncio.sleep(0.01)

    ended = await claims.end_overdue(max_queued=LONG, limit=9)

    assert len(ended) == len(journals)
    outputs = (await MongoTurnRepository(database).get_many(ANA, [turn.id]))[turn.id].outputs
    unknown = GenerationError(GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True)
    assert [output.error for output in outputs] == [unknown, FAILURE, FAILURE, unknown]
    proof = await accounts.prove()
    assert (proof.discrepancies, proof.active_outputs) == ((), 0)
    account = await accounts.open(ANA, starting_credits=0)
    assert (account.balance, account.reserved) == (PLENTY, 0)


async def test_the_credit_check_finds_inconsistencies(
    database: Database, accounts: MongoAccountRepository
) -> None:
    await a_conversation(database)
    assert (await accounts.prove()).discrepancies == ()

    await database.accounts.update_one({"_id": ANA}, {"$inc": {"reserved": 1}})

    found = [
        (one.what, one.account, one.elsewhere) for one in (await accounts.prove()).discrepancies
    ]
    assert found == [
        ("reserved and the ledger", PRICE + 1, PRICE),
        ("reserved and the outputs", PRICE + 1, PRICE),
    ]


async def test_the_credit_check_passes_during_concurrent_writes(
    database: Database, accounts: MongoAccountRepository, claims: MongoClaimRepository
) -> None:
    await an_account(database)
    done = asyncio.Event()

    async def spend() -> None:
        for _ in range(10):
            _, turn = await a_conversation(database)
            claim = await a_claim(database, turn.outputs[0].id, lease=LONG)
            await claims.land(claim, [a_picture(claim.output.id)], Report())

    async def watch() -> int:
        taken = 0
        while not done.is_set():
            assert (await accounts.prove()).discrepancies == ()
            taken += 1
        return taken

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(spend() for _ in range(4)))
    done.set()

    assert await watching > 3
    assert (await accounts.open(ANA, starting_credits=0)).balance == PLENTY - 40 * PRICE


def _in_slot(slot: int, name: str, value: dict[str, object]) -> dict[str, object]:
    changed = {"$mergeObjects": ["$$this", {name: value}]}
    which = {"$eq": ["$$this.slot", slot]}
    outputs = {"$map": {"input": "$outputs", "in": {"$cond": [which, changed, "$$this"]}}}
    return {"$set": {"outputs": outputs}}

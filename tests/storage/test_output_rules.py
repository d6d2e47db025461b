"""Each MongoDB expression decides as its rule does, over all states that a rule distinguishes.

MongoDB decides about hundreds of states in one round trip. `$$now` replaces `$$NOW`, so that their
instants can lie exactly on a rule's limits, and one step of the database's clock beside them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain import rules
from domain.claims import Claim
from domain.ids import ModelId, ParentId, PostId, TurnId, ViewerId
from domain.outputs import CAPTION_SLOT, Output, OutputStatus, Run
from storage.mongo import output_rules
from storage.mongo.collections import UNFINISHED_PARENT, Document
from storage.mongo.database import Database
from storage.mongo.stored_outputs import read_run
from tests.output_states import state_of
from tests.storage.builders import a_conversation

NOW: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TICK: Final = timedelta(milliseconds=1)
WAIT: Final = timedelta(minutes=15)
AROUND_NOW: Final = (NOW - TICK, NOW, NOW + TICK)
AROUND_WAIT: Final = (NOW - WAIT - TICK, NOW - WAIT, NOW - WAIT + TICK)
MISSING: Final = object()
"""A field that an older document does not have."""
OPTIONAL: Final = (MISSING, None, *AROUND_NOW)

Decide = Callable[[rules.OutputState], bool]

OF_ONE_OUTPUT: Final[Mapping[str, tuple[Document, Decide]]] = {
    "is_held": (output_rules.IS_HELD, lambda output: rules.is_held(output, NOW)),
    "is_claimable": (output_rules.IS_CLAIMABLE, lambda output: rules.is_claimable(output, NOW)),
    "is_waiting": (output_rules.IS_WAITING, lambda output: rules.is_waiting(output, NOW)),
    "is_interrupted": (output_rules.IS_INTERRUPTED, rules.is_interrupted),
    "may_be_cancelled": (
        output_rules.MAY_BE_CANCELLED,
        lambda output: rules.may_be_cancelled(output.status),
    ),
    "is_overdue": (
        output_rules.is_overdue(WAIT),
        lambda output: rules.is_overdue(output, NOW, max_queued=WAIT),
    ),
    "is_stuck": (
        output_rules.is_stuck(WAIT - TICK, after=TICK),
        lambda output: rules.is_stuck(output, NOW, max_queued=WAIT - TICK, after=TICK),
    ),
    "may_be_started_by_search": (
        output_rules.may_be_started_by_search(min_queued=WAIT, expired=False),
        lambda output: rules.may_be_started_by_search(output, NOW, min_queued=WAIT, expired=False),
    ),
    "may_be_started_by_search, expired leases as well": (
        output_rules.may_be_started_by_search(min_queued=WAIT, expired=True),
        lambda output: rules.may_be_started_by_search(output, NOW, min_queued=WAIT, expired=True),
    ),
}


async def test_the_rules_for_one_output_agree_with_the_database(database: Database) -> None:
    outputs = [
        _present(
            status=status,
            queuedAt=queued,
            leaseUntil=lease,
            notBefore=later,
            deadlineAt=end,
            waits=waits,
        )
        for status, queued, lease, later, end, waits in product(
            [one.value for one in OutputStatus],
            AROUND_WAIT,
            OPTIONAL,
            OPTIONAL,
            OPTIONAL,
            (MISSING, False, True),
        )
    ]
    expressions = {name: _of_output(expression) for name, (expression, _) in OF_ONE_OUTPUT.items()}

    decided = await evaluate(database, [{"output": one} for one in outputs], expressions)

    for output, found in zip(outputs, decided, strict=True):
        state = state_of(output)
        assert found == {name: decide(state) for name, (_, decide) in OF_ONE_OUTPUT.items()}, output
    for name in OF_ONE_OUTPUT:
        assert {found[name] for found in decided} == {True, False}, name


async def test_the_rules_for_a_failed_caption_agree_with_the_database(database: Database) -> None:
    outputs = [
        _present(slot=1, status=status.value, queuedAt=NOW, waits=waits)
        for status, waits in product(OutputStatus, (MISSING, False, True))
    ]
    captions = [{"slot": CAPTION_SLOT, "status": one.value} for one in OutputStatus]
    documents = [{"outputs": [caption, *outputs]} for caption in captions]
    ends = {
        "$map": {
            "input": "$outputs",
            "as": "output",
            "in": output_rules.IS_CANCELLED_WITH_CAPTION,
        }
    }

    decided = await evaluate(database, documents, {"ends": ends})

    for caption, found in zip(OutputStatus, decided, strict=True):
        states = map(state_of, outputs)
        expected = [rules.is_cancelled_with_caption(one, caption) for one in states]
        assert found["ends"][1:] == expected, caption


async def test_the_rule_for_the_status_of_a_turn_agrees_with_the_database(
    database: Database,
) -> None:
    turns = [outputs for count in range(1, 5) for outputs in product(OutputStatus, repeat=count)]
    documents = [{"outputs": [{"status": one.value} for one in outputs]} for outputs in turns]
    is_unfinished = {"$in": [output_rules.STATUS, UNFINISHED_PARENT["$in"]]}

    decided = await evaluate(
        database, documents, {"status": output_rules.STATUS, "is_unfinished": is_unfinished}
    )

    for outputs, found in zip(turns, decided, strict=True):
        assert found["status"] == rules.derive_status(outputs), outputs
        assert found["is_unfinished"] == any(map(rules.may_be_cancelled, outputs)), outputs


async def test_the_rules_for_writes_of_a_claim_agree_with_the_database(database: Database) -> None:
    _, turn = await a_conversation(database)
    run = Run(provider="vendor", tries=1, rejected=False, job=None)
    journals = ((), (run,), (replace(run, landed=True), run))
    versions = [
        replace(turn.outputs[0], attempt=attempt, fence=fence, status=status, runs=runs)
        for attempt, fence, status, runs in product((1, 2), (1, 2, 3), OutputStatus, journals)
    ]
    claims = [Claim(parent=turn, output=one, claimed_at=NOW, deadline_at=NOW) for one in versions]
    documents = [
        {
            "_id": turn.id,
            "ownerId": turn.owner_id,
            "number": number,
            "outputs": [_stored(one)],
        }
        for number, one in enumerate(versions)
    ]

    for query, rule in (
        (output_rules.writable_by, rules.may_write),
        (output_rules.is_wanted, lambda claimed, output: not rules.is_abandoned(claimed, output)),
    ):
        matching = {
            str(number): [{"$match": query(claim)}, {"$project": {"_id": 0, "number": 1}}]
            for number, claim in enumerate(claims)
        }
        (found,) = await _aggregate(database, [{"$documents": documents}, {"$facet": matching}])
        for number, claim in enumerate(claims):
            matched = [one["number"] for one in found[str(number)]]
            assert matched == [
                place for place, one in enumerate(versions) if rule(claim.output, one)
            ], (query, claim.output)


RUNS: Final = [
    Run(provider="vendor", tries=tries, rejected=rejected, job=job)
    for tries, rejected, job in product((0, 1, 2), (True, False), (None, {"id": "job"}))
] + [
    Run(provider="vendor", tries=tries, rejected=not tries, job=None, landed=True)
    for tries in (0, 1)
]
JOURNALS: Final = [(), *((one,) for one in RUNS), *product(RUNS, RUNS)]


async def test_the_rule_for_unknown_outcomes_agrees_with_the_database(database: Database) -> None:
    older: list[Document] = [
        {"output": {}},
        {"output": {"runs": [{"provider": "vendor", "refused": False}]}},
    ]
    documents = [{"output": {"runs": [_run_document(run) for run in runs]}} for runs in JOURNALS]
    is_unknown = _of_output(output_rules.IS_OUTCOME_UNKNOWN)

    decided = await evaluate(database, [*documents, *older], {"unknown": is_unknown})

    for runs, found in zip(JOURNALS, decided[:-2], strict=True):
        assert found["unknown"] == rules.is_outcome_unknown(runs), runs
    assert [found["unknown"] for found in decided[-2:]] == [False, True]


async def test_the_rule_for_stored_runs_agrees_with_the_database(database: Database) -> None:
    written = [*((one,) for one in RUNS), *product(RUNS[:6], RUNS[6:])]
    documents = [{"output": {"runs": [_run_document(run) for run in runs]}} for runs in JOURNALS]
    expressions = {
        str(number): _of_output(output_rules.furthest_runs(runs))
        for number, runs in enumerate(written)
    }

    decided = await evaluate(database, documents, expressions)

    for before, found in zip(JOURNALS, decided, strict=True):
        for number, runs in enumerate(written):
            kept = tuple(read_run(run) for run in found[str(number)])
            assert kept == rules.furthest_runs(before, runs), (before, runs)


MODELS: Final = tuple(ModelId(name) for name in ("one", "two", "three"))
VIEWERS: Final = tuple(ViewerId(name) for name in ("ana", "bob", "eve"))
FEW_INSTANTS: Final = st.sampled_from((None, *AROUND_NOW))
OUTPUTS: Final = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS),
        "status": st.sampled_from(("QUEUED", "GENERATING", "GENERATING", "COMPLETED", "FAILED")),
        "queuedAt": st.sampled_from((*AROUND_WAIT, NOW - 2 * WAIT, NOW)),
        "leaseUntil": FEW_INSTANTS,
        "notBefore": FEW_INSTANTS,
        "waits": st.booleans(),
    }
)
TURNS: Final = st.lists(
    st.tuples(st.sampled_from(VIEWERS), st.lists(OUTPUTS, min_size=1, max_size=3)), max_size=12
)


@given(
    turns=TURNS,
    models=st.sets(st.sampled_from(MODELS), min_size=1),
    begun=st.sets(st.sampled_from(MODELS)),
    min_queued=st.sampled_from((timedelta(0), WAIT)),
    expired=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_the_fair_order_agrees_with_the_database(
    database: Database,
    *,
    turns: list[tuple[ViewerId, list[Document]]],
    models: set[ModelId],
    begun: set[ModelId],
    min_queued: timedelta,
    expired: bool,
) -> None:
    """Turns and posts are in one order: every other parent is a post."""
    candidates = [
        rules.Candidate(
            parent_id=_parent_id(number),
            slot=slot,
            viewer_id=viewer_id,
            model_id=output["model"],
            state=state_of(output),
        )
        for number, (viewer_id, outputs) in enumerate(turns)
        for slot, output in enumerate(outputs, start=1)
    ]
    documents = [
        {
            "_id": _parent_id(number),
            "ownerId": viewer_id,
            "status": rules.derive_status(OutputStatus(one["status"]) for one in outputs),
            "outputs": [{"slot": slot, **one} for slot, one in enumerate(outputs, start=1)],
        }
        for number, (viewer_id, outputs) in enumerate(turns)
    ]
    stages = output_rules.in_fair_order(
        sorted(models), begun_only=sorted(begun), min_queued=min_queued, expired=expired
    )

    await database.posts.delete_many({})
    if documents[1::2]:
        await database.posts.insert_many(documents[1::2])

    found = await _aggregate(database, [{"$documents": documents[::2]}, *stages])

    expected = rules.in_fair_order(
        candidates,
        NOW,
        model_ids=models,
        begun_only=begun,
        min_queued=min_queued,
        expired=expired,
    )
    assert [(one["_id"], one["output"]["slot"]) for one in found] == [
        (one.parent_id, one.slot) for one in expected
    ]


async def evaluate(
    database: Database, documents: Iterable[Document], expressions: Mapping[str, Document]
) -> Sequence[Document]:
    """What the expressions make of each document, by their names."""
    stages: list[Document] = [
        {"$documents": list(documents)},
        {"$project": {"values": [{"$ifNull": [one, None]} for one in expressions.values()]}},
    ]
    found = await _aggregate(database, stages)
    return [dict(zip(expressions, one["values"], strict=True)) for one in found]


async def _aggregate(database: Database, stages: Sequence[Document]) -> list[Document]:
    cursor = await database.commands.aggregate(_at_now(list(stages)), let={"now": NOW})
    return await cursor.to_list()


def _at_now(expression: Any) -> Any:
    """The expression with the time of the test."""
    if isinstance(expression, Mapping):
        return {key: _at_now(value) for key, value in expression.items()}
    if isinstance(expression, list):
        return [_at_now(value) for value in expression]
    return "$$now" if expression == "$$NOW" else expression


def _of_output(expression: Document) -> Document:
    return {"$let": {"vars": {"output": "$output"}, "in": expression}}


def _parent_id(number: int) -> ParentId:
    return PostId(f"post_{number:02}") if number % 2 else TurnId(f"turn_{number:02}")


def _present(**fields: object) -> Document:
    return {name: value for name, value in fields.items() if value is not MISSING}


def _stored(output: Output) -> Document:
    return {
        "slot": output.slot,
        "attempt": output.attempt,
        "fence": output.fence,
        "status": output.status.value,
        "runs": [_run_document(run) for run in output.runs],
    }


def _run_document(run: Run) -> Document:
    return {
        "provider": run.provider,
        "tries": run.tries,
        "refused": run.rejected,
        "job": run.job,
        "landed": run.landed,
    }

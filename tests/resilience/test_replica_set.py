"""A replica set whose primary steps down, dies or freezes during turns."""

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from statistics import median
from time import monotonic, time
from typing import Final
from uuid import uuid4

import pytest

from tests.clients import Data, GraphQLClient
from tests.operations import START
from tests.resilience.checks.images import orphans
from tests.resilience.cuts import Cutter, Kind, break_primary, mixed
from tests.resilience.evidence import History, SentMutation, all_ended, read_stored
from tests.resilience.followers import Follower, caught_up, changed_at
from tests.resilience.history import violations
from tests.resilience.load import Load, Viewer
from tests.resilience.mutation_sender import MutationSender, Router, round_robin
from tests.resilience.replicated import ReplicatedSite, open_replicated_site
from tests.resilience.scale import SEED
from tests.resilience.state_recorder import StateRecorder
from tests.resilience.storm import to_terminal
from tests.resilience.update_gaps import silences
from tests.tools import need_mongod
from tests.waits import eventually

CUTS: Final = int(os.environ.get("DARKROOM_TEST_CUTS", "6"))
MANY: Final = CUTS >= 100
VIEWERS: Final = 4
HANG_SECONDS: Final = 90.0
"""Far above the target: it only distinguishes a hang from a wait."""
ANSWER_SECONDS: Final = 10.5 if MANY else 20.0
"""Ten seconds, and what a machine needs that runs this alone; several tests at once need longer."""
RESUMED_SECONDS: Final = 15.0
SETTLE_SECONDS: Final = 180.0
CATCH_UP_SECONDS: Final = 60.0
LOGGED_CHARACTERS: Final = 8_000
SMALL: Final = {"width": 256, "height": 256, "previews": 1, "imagesPerModel": 1}
READ: Final = "query ($id: ID!) { conversation(id: $id) { id } }"

Timed = tuple[Data, float]


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReplicatedSite]:
    folder = tmp_path_factory.mktemp("replicated")
    async with open_replicated_site(folder, binary=need_mongod(), apis=2) as site:
        yield site


@pytest.fixture(scope="module")
async def sender(site: ReplicatedSite) -> AsyncIterator[MutationSender]:
    """Records the requests of all tests."""
    sender = MutationSender(route=_route_of(site), token=site.token)
    yield sender
    await sender.aclose()


@pytest.fixture(scope="module")
async def recorder(site: ReplicatedSite) -> AsyncIterator[StateRecorder]:
    """Polls until the turn has ended."""
    recorder = StateRecorder(site.documents)
    async with recorder.writing():
        yield recorder


@pytest.fixture
async def load(
    site: ReplicatedSite, sender: MutationSender, recorder: StateRecorder
) -> AsyncIterator[Load]:
    """On a set whose members are all healthy, whatever happened before. No load yet."""
    await site.repair()
    randomness = random.Random(SEED)
    load = Load(sender, route=_route_of(site), token=site.token, randomness=randomness)
    yield load
    await load.close()


@pytest.mark.parametrize("kind", [Kind.STEP_DOWN, Kind.KILL, Kind.FREEZE])
async def test_a_turn_continues_automatically_whatever_happens_to_the_primary(
    site: ReplicatedSite, load: Load, recorder: StateRecorder, kind: Kind
) -> None:
    viewer = load.viewer(f"viewer of {kind}")
    waiting = await _running_turns(load, viewer, count=2)
    primary = await site.replica_set.until_primary()
    # A kill could lose what has just been acknowledged.
    acknowledged, _ = await _timed_start(site, load, viewer)

    cut, back = await break_primary(site.replica_set, primary, kind)
    reading = asyncio.create_task(_read_again_and_again(site, viewer, acknowledged))
    answers = asyncio.gather(*(_timed_start(site, load, viewer) for _ in range(2)))
    await _heard_of_a_change(waiting, since=cut.at)
    await back()
    cut.over_at = time()
    healthy = await site.replica_set.until_healthy()
    timed = await answers
    reading.cancel()
    history = await _history(site, load, recorder)

    found = silences(load.subscribers, [cut], kind)
    to_terminal(
        f"{kind}: silence {_figures(one.seconds for one in found)}, "
        f"the database's part {_figures(one.changed_after for one in found)}, "
        f"mutations meanwhile {_described(timed)}, healthy {healthy:.1f} s after the return"
    )
    for answer, seconds in timed:
        assert seconds < ANSWER_SECONDS
        assert "errors" not in answer or _is_overloaded(answer)
    with suppress(asyncio.CancelledError):
        await reading  # fails where what had been acknowledged was not there
    assert [one.log.closes for one in waiting] == [[]] * len(waiting)
    _assert_sound(history, site)


@pytest.mark.parametrize(
    "how",
    [
        "killed",
        pytest.param(
            "frozen",
            marks=pytest.mark.skipif(
                not MANY, reason="takes long; DARKROOM_TEST_CUTS=100 runs it, and more of the rest"
            ),
        ),
    ],
)
async def test_without_a_majority_mutations_are_refused_in_time_and_resume_afterwards(
    site: ReplicatedSite, load: Load, recorder: StateRecorder, how: str
) -> None:
    viewer = load.viewer(f"viewer of {how}")
    waiting = await _running_turns(load, viewer, count=2)
    primary = await site.replica_set.until_primary()
    others = [member for member in site.replica_set.members if member is not primary]

    # A frozen majority leaves a primary that waits for it, a killed one leaves none.
    gone = others if how == "frozen" else [primary, others[0]]
    await asyncio.gather(*(one.freeze() if how == "frozen" else one.kill() for one in gone))
    timed = await asyncio.gather(*(_timed_start(site, load, viewer) for _ in range(2)))
    await asyncio.gather(*(one.thaw() if how == "frozen" else one.start() for one in gone))
    back_at, back = time(), monotonic()
    accepted = asyncio.create_task(_accepted_again(site, load, viewer))
    await _heard_of_a_change(waiting, since=back_at)
    heard_after = monotonic() - back
    accepted_after = await accepted - back
    history = await _history(site, load, recorder)

    to_terminal(
        f"majority {how}: mutations meanwhile {_described(timed)}, after the return subscribers "
        f"heard within {heard_after:.1f} s, a mutation was accepted after {accepted_after:.1f} s"
    )
    for answer, seconds in timed:
        assert seconds < ANSWER_SECONDS
        assert _is_overloaded(answer)
    assert max(heard_after, accepted_after) < RESUMED_SECONDS
    assert [one.log.closes for one in waiting] == [[]] * len(waiting)
    _assert_sound(history, site)


async def test_no_subscriber_misses_a_delivered_state_whichever_connection_is_cut(
    site: ReplicatedSite, load: Load, recorder: StateRecorder
) -> None:
    randomness = random.Random(f"{SEED} cuts")
    cutter = Cutter(site, load, randomness)
    before, started = len(load.sender.asked), monotonic()
    try:
        async with load.working(VIEWERS):
            await eventually(
                lambda: _has_begun(load), within=HANG_SECONDS, what="subscribers follow something"
            )
            await cutter.make(mixed(CUTS, randomness))
        cut_for = monotonic() - started
        history = await _history(site, load, recorder)
        ended_for = monotonic() - started - cut_for
    finally:
        await cutter.close()

    asked = load.sender.asked[before:]
    figures = {
        "seed": SEED,
        "cuts": len(cutter.cuts),
        "within": f"{cut_for:.0f} s",
        "connections lost": sum(len(one.closes) for one in load.subscribers),
        "subscribers": len(load.subscribers),
        "requests": len(asked),
        "acknowledged": sum(one.acknowledged for one in asked),
        "unanswered": _counted(one.failure for one in asked if one.failure),
        "subscriptions ended with": _counted(
            error["extensions"]["code"] for one in load.subscribers for error in one.errors
        ),
        "settled after": f"{ended_for:.0f} s",
        "orphaned objects": len(orphans(history.stored)),
    }
    to_terminal("mixed: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    for kind in Kind:
        found = silences(load.subscribers, cutter.cuts, kind)
        count = sum(cut.kind is kind for cut in cutter.cuts)
        to_terminal(
            f"  {count} × {kind}: silence {_figures(one.seconds for one in found)}, "
            f"the database's part {_figures(one.changed_after for one in found)}"
        )
    _assert_sound(history, site)
    assert len(cutter.cuts) == CUTS


async def _running_turns(load: Load, viewer: Viewer, *, count: int) -> Sequence[Follower]:
    """Those who follow turns that tell something several times a second."""
    for _ in range(count):
        asked = await load.start(viewer, **_an_order("rehearsal-lands-last"))
        assert asked is not None, "nobody answered"
        assert asked.acknowledged, asked
    followers = list(load.followers)
    running = [
        one.until(lambda turns: any(o["progress"] for t in turns.values() for o in t["outputs"]))
        for one in followers
    ]
    await asyncio.wait_for(asyncio.gather(*running), HANG_SECONDS)
    return followers


async def _heard_of_a_change(followers: Sequence[Follower], *, since: float) -> None:
    heard = [
        one.until(lambda turns: any(changed_at(turn) > since for turn in turns.values()))
        for one in followers
    ]
    await asyncio.wait_for(asyncio.gather(*heard), HANG_SECONDS)


async def _timed_start(site: ReplicatedSite, load: Load, viewer: Viewer) -> Timed:
    """A response of any kind, and the seconds until it arrived."""
    api = viewer.choice.choice(site.apis)
    client = GraphQLClient(api.url, site.token(viewer.name))
    asked = SentMutation(
        viewer=viewer.name,
        mutation="startConversation",
        input=_an_order("local-silver"),
        sent_at=time(),
    )
    load.sender.asked.append(asked)
    began = monotonic()
    try:
        answer = await client.execute(START, input=asked.input)
    finally:
        await client.aclose()
    seconds = monotonic() - began
    asked.answered_at = time()
    if "errors" in answer:
        asked.failure = answer["errors"][0]["extensions"]["code"]
    else:
        asked.payload = answer["data"]["startConversation"]
    return answer, seconds


async def _read_again_and_again(site: ReplicatedSite, viewer: Viewer, started: Data) -> None:
    """Until cancelled. Fail if any response says that there is no such conversation."""
    conversation_id = started["data"]["startConversation"]["conversation"]["id"]
    for client in itertools.cycle([site.client(api, viewer.name) for api in site.apis]):
        answer = await client.execute(READ, id=conversation_id)
        assert "errors" in answer or answer["data"]["conversation"] is not None
        await asyncio.sleep(0.02 if MANY else 0.1)


async def _accepted_again(site: ReplicatedSite, load: Load, viewer: Viewer) -> float:
    """When a mutation first succeeded again."""

    async def accepted() -> bool:
        answer, _ = await _timed_start(site, load, viewer)
        return "errors" not in answer

    await eventually(accepted, within=HANG_SECONDS, what="a mutation is accepted")
    return monotonic()


async def _history(site: ReplicatedSite, load: Load, recorder: StateRecorder) -> History:
    """All that has happened, once every output has ended and everybody knows."""
    await eventually(
        lambda: all_ended(site.documents), within=SETTLE_SECONDS, what="every output has ended"
    )
    await recorder.caught_up()
    stored = await read_stored(site.documents, site.data_dir)
    await caught_up(load.followers, stored.parents, within=CATCH_UP_SECONDS)
    return History(load.subscribers, load.sender.asked, stored, state_log=recorder.state_log)


async def _has_begun(load: Load) -> bool:
    return sum(bool(one.seen) for one in load.subscribers) >= VIEWERS


def _an_order(model: str) -> Data:
    return {
        "userMessage": f"A boat, {uuid4().hex}",
        "selectedModels": [model],
        "options": dict(SMALL),
    }


def _is_overloaded(answer: Data) -> bool:
    extensions: Mapping[str, object] = answer["errors"][0]["extensions"]
    return extensions["code"] == "OVERLOADED" and bool(extensions["retryAfterSeconds"])


def _described(timed: Sequence[Timed]) -> str:
    return " and ".join(
        f"{'accepted' if 'errors' not in answer else answer['errors'][0]['extensions']['code']}"
        f" after {seconds:.1f} s"
        for answer, seconds in timed
    )


def _figures(seconds: Iterable[float]) -> str:
    found = list(seconds)
    if not found:
        return "not seen"
    return f"median {median(found):.1f} s, worst {max(found):.1f} s of {len(found)}"


def _counted(names: Iterable[str]) -> str:
    return " ".join(f"{count}×{name}" for name, count in sorted(Counter(names).items())) or "none"


def _route_of(site: ReplicatedSite) -> Router:
    return round_robin([api.url for api in site.apis])


def _assert_sound(history: History, site: ReplicatedSite) -> None:
    found = violations(history)
    # Logs say more about internal errors, and their folder is deleted soon.
    faults = [
        f"{api.name}: internal error {text[:LOGGED_CHARACTERS]}"
        for api in site.apis
        for text in api.text_of_log().split("internal error")[1:]
    ]
    assert found == [], "\n".join([*found, *faults])

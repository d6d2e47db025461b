"""Choices, shares, exports, forks, deletions and restorations of one conversation at the same time,
by its owner and by a stranger.
"""

import asyncio
import random
from typing import Final

from tests.api.jobs import EXPORT, ended
from tests.api.test_branches import DELETE_TURN, FORK, RERUN
from tests.api.test_choices import CHOOSE
from tests.api.test_restoring import RESTORE, orphans
from tests.api.test_shares import CREATE as SHARE
from tests.clients import Data, GraphQLClient
from tests.conftest import StartDarkroom
from tests.operations import DELETE, DELETE_IMAGES, codes, conversation_with
from tests.resilience.scale import SEED
from tests.waits import eventually

ROUNDS: Final = 4
SETTLED_SECONDS: Final = 30.0
LEFT: Final = """
{ viewer {
  conversations(first: 50) { nodes { id turns(first: 5) { nodes {
    references { image { id } } outputs { chosen images { id } }
  } } } }
  images(first: 100) { nodes { id } }
  turnsInProgress { id }
} }
"""


async def test_concurrent_operations_in_any_order_lose_nothing_and_leave_nothing_behind(
    start_darkroom: StartDarkroom,
) -> None:
    chance = random.Random(SEED)
    darkroom = await start_darkroom(restore_days=1)
    client, stranger = darkroom.client(), darkroom.client()
    for _ in range(ROUNDS):
        done = await conversation_with(client, turns=2)
        await asyncio.gather(at_once(client, done, chance), intrude(stranger, done))

    async def is_settled() -> bool:
        found: Data = (await client(LEFT))["viewer"]
        return not found["turnsInProgress"]

    await eventually(is_settled, within=SETTLED_SECONDS, what=f"nothing runs, seed {SEED}")
    left = (await client(LEFT))["viewer"]
    there = {image["id"] for image in left["images"]["nodes"]}
    turns = [turn for one in left["conversations"]["nodes"] for turn in one["turns"]["nodes"]]
    shown = {
        image["id"] for turn in turns for output in turn["outputs"] for image in output["images"]
    }
    used = {one["image"]["id"] for turn in turns for one in turn["references"]}
    assert shown | used <= there, f"seed {SEED}"
    assert all(sum(output["chosen"] for output in turn["outputs"]) <= 1 for turn in turns)

    async def nothing_is_orphaned() -> bool:
        return not await orphans(darkroom)

    await eventually(nothing_is_orphaned, within=SETTLED_SECONDS, what=f"no orphans, seed {SEED}")


async def at_once(client: GraphQLClient, done: Data, chance: random.Random) -> None:
    """Every answer is a result or a user error."""
    conversation_id, turn_id = done["conversation"]["id"], done["turn"]["id"]
    asked = [
        client.execute(CHOOSE, id=done["turn"]["outputs"][0]["id"]),
        client.execute(SHARE, input={"conversationId": conversation_id}),
        client.execute(EXPORT, id=conversation_id),
        client.execute(FORK, id=turn_id),
        client.execute(RERUN, input={"turnId": turn_id}),
        client.execute(DELETE_TURN, id=turn_id),
        client.execute(DELETE, id=conversation_id),
        client.execute(RESTORE, id=conversation_id),
    ]
    chance.shuffle(asked)
    answers = await asyncio.gather(*asked)

    assert not [one["errors"] for one in answers if "errors" in one], f"seed {SEED}"
    for answer in answers:
        export = answer["data"].get("exportConversation", {}).get("export")
        if export is not None:
            # It is deleted with its conversation.
            found = await client("query($id: ID!) { node(id: $id) { id } }", id=export["id"])
            if found["node"] is not None:
                await ended(client, export)


async def intrude(stranger: GraphQLClient, done: Data) -> None:
    """Nothing of it is a stranger's, whatever its owner does at the same time."""
    conversation_id, turn_id = done["conversation"]["id"], done["turn"]["id"]
    answers = await asyncio.gather(
        stranger(CHOOSE, id=done["turn"]["outputs"][0]["id"]),
        stranger(SHARE, input={"conversationId": conversation_id}),
        stranger(FORK, id=turn_id),
        stranger(DELETE_TURN, id=turn_id),
        stranger(DELETE, id=conversation_id),
        stranger(RESTORE, id=conversation_id),
        stranger(DELETE_IMAGES, ids=[done["turn"]["outputs"][0]["images"][0]["id"]]),
    )

    for (payload,) in (answer.values() for answer in answers):
        assert [code for code, _ in codes(payload)] in (["NOT_FOUND"], ["NOT_RESTORABLE"])

"""Earlier messages of a conversation, for models that can read them."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from tests.api.every_model import Simulated
from tests.api.test_branches import fork, read
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, darkrooms
from tests.operations import send, start, until_finished
from tests.simulators.simulator import Simulator

READS = "img-nano-banana-2-1"
ALONE = "img-flux-2-flex"


@pytest.fixture(scope="module")
async def darkroom_with_keys(
    mongodb_uri: str,
    tmp_path_factory: pytest.TempPathFactory,
    providers: Simulated,
) -> AsyncIterator[Darkroom]:
    async with darkrooms(mongodb_uri, tmp_path_factory.mktemp("context")) as start_one:
        yield await start_one(**providers[1])


async def a_conversation_of(client: GraphQLClient, *messages: str, model: str = READS) -> str:
    first, *others = messages
    payload = await start(client, userMessage=first, selectedModels=[model], options={})
    conversation_id: str = payload["conversation"]["id"]
    await until_finished(client, payload["turn"])
    for message in others:
        sent = await send(
            client, conversation_id, userMessage=message, selectedModels=[model], options={}
        )
        await until_finished(client, sent["turn"])
    return conversation_id


async def edit(client: GraphQLClient, conversation_id: str, message: str, **input: Any) -> Data:
    sent = await send(client, conversation_id, userMessage=message, **input)
    turn: Data = await until_finished(client, sent["turn"])
    assert turn["status"] == "COMPLETED"
    return turn


def messages_read(simulator: Simulator, words: str) -> list[str]:
    """By the job whose own message has these words."""
    (entry,) = (one for one in simulator.settled() if words in one.prompt)
    contents = entry.payload["sent"]["contents"]
    assert {one["role"] for one in contents} == {"user"}
    return [part["text"] for one in contents for part in one["parts"] if "text" in part]


async def test_a_model_with_context_receives_earlier_messages_of_its_conversation(
    darkroom_with_keys: Darkroom,
    providers: Simulated,
) -> None:
    client, words = darkroom_with_keys.client(), uuid4().hex
    conversation_id = await a_conversation_of(client, "A red boat", "Put @Image1 into a harbour")
    context = {"options": {"context": "CONVERSATION"}}

    turn = await edit(client, conversation_id, f"The same at night {words}", **context)

    assert turn["options"]["context"] == "CONVERSATION"
    assert messages_read(providers[0]["gemini"], words) == [
        "A red boat",
        "Put an earlier image into a harbour",
        f"The same at night {words}",
    ]


async def test_without_the_option_a_model_receives_the_message_only(
    darkroom_with_keys: Darkroom,
    providers: Simulated,
) -> None:
    client, words = darkroom_with_keys.client(), uuid4().hex
    conversation_id = await a_conversation_of(client, "A red boat")

    turn = await edit(client, conversation_id, f"Blue {words}", options={"context": "MESSAGE"})

    assert turn["options"]["context"] == "MESSAGE"
    assert messages_read(providers[0]["gemini"], words) == [f"Blue {words}"]


async def test_a_fork_has_the_messages_before_it_and_none_of_the_original_after_it(
    darkroom_with_keys: Darkroom,
    providers: Simulated,
) -> None:
    client, words = darkroom_with_keys.client(), uuid4().hex
    conversation_id = await a_conversation_of(client, "A red boat", "A green one")
    first, _ = (await read(client, conversation_id))["turns"]["nodes"]
    forked = (await fork(client, first["id"]))["conversation"]["id"]

    await edit(client, forked, f"At night {words}", options={"context": "CONVERSATION"})

    assert messages_read(providers[0]["gemini"], words) == ["A red boat", f"At night {words}"]


async def test_at_most_twenty_earlier_messages_of_the_same_conversation_are_sent(
    darkroom_with_keys: Darkroom,
    providers: Simulated,
) -> None:
    client, words = darkroom_with_keys.client(), uuid4().hex
    await a_conversation_of(client, "Something else")
    conversation_id = await a_conversation_of(
        client, *(f"Message {number}" for number in range(22))
    )

    await edit(client, conversation_id, f"Last {words}", options={"context": "CONVERSATION"})

    assert messages_read(providers[0]["gemini"], words) == [
        *(f"Message {number}" for number in range(2, 22)),
        f"Last {words}",
    ]


async def test_a_model_without_context_receives_the_message_only(
    darkroom_with_keys: Darkroom,
    providers: Simulated,
) -> None:
    client, words = darkroom_with_keys.client(), uuid4().hex
    conversation_id = await a_conversation_of(client, "A red boat", model=ALONE)

    await edit(client, conversation_id, f"Blue {words}", options={"context": "CONVERSATION"})

    (entry,) = (one for one in providers[0]["openrouter"].settled() if words in one.prompt)
    assert "red boat" not in str(entry.payload)
    supports = "query($id: ID!) { model(id: $id) { supportsContext } }"
    assert (await client(supports, id=ALONE))["model"] == {"supportsContext": False}
    assert (await client(supports, id=READS))["model"] == {"supportsContext": True}

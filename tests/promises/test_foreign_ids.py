"""A foreign id is answered like an unknown one: over HTTP, a socket, `node` and `nodes`."""

import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from random import Random
from typing import Any, Final

import pytest
from graphql import (
    GraphQLField,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    get_named_type,
    is_input_object_type,
)
from websockets.exceptions import ConnectionClosed

from domain import ids
from edge.execution import executable_schema
from tests.api.jobs import ARCHIVE, EXPORT, IMPORT, ended
from tests.api.posts import generate
from tests.api.test_albums import create as create_album
from tests.api.test_shares import share
from tests.api.test_webhooks import a_webhook, until_log
from tests.clients import Data, GraphQLClient, Socket
from tests.conftest import Darkroom
from tests.edge.schema_calls import a_value, calls_of
from tests.operations import conversation_with
from tests.promises.figures import count
from tests.receivers import a_receiver
from tests.resilience.scale import SEED
from tests.uploads import sent

SETTLED: Final = re.compile(r'"(clientMutationId|cursor|requestId)":"[^"]*"')
UNKNOWN: Final = "00000000000000000000000000"
OPERATIONS_ON_A_SOCKET: Final = 40
"""Each has two messages, and a socket may send a hundred in ten seconds."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An operation on an id, which is its variable `$id`."""

    name: str
    document: str
    variables: str
    is_subscription: bool

    def with_id(self, found: str) -> dict[str, Any]:
        return {
            "query": self.document,
            "variables": json.loads(self.variables.replace("$id", found)),
        }


def places_of(kind: GraphQLInputType) -> Iterator[Any]:
    """Values of the kind, each with one place for an id."""
    match kind:
        case GraphQLNonNull():
            yield from places_of(kind.of_type)
        case GraphQLList():
            yield from ([value] for value in places_of(kind.of_type))
        case _ if is_input_object_type(kind):
            for name, field in kind.fields.items():
                for value in places_of(field.type):
                    yield {**a_value(kind), name: value}
        case _ if get_named_type(kind).name == "ID":
            yield "$id"


def operations() -> Iterator[Asked]:
    schema = executable_schema()._schema
    kinds = (
        ("query", schema.query_type),
        ("mutation", schema.mutation_type),
        ("subscription", schema.subscription_type),
    )
    for kind, root in kinds:
        assert root is not None
        for name, field in root.fields.items():
            yield from _about(kind, name, field)


def _about(kind: str, name: str, field: GraphQLField) -> Iterator[Asked]:
    for call in calls_of(name, field, places_of):
        document = f"{kind}({call.declared}) {{ {call.text} }}"
        yield Asked(name, document, json.dumps(call.variables), kind == "subscription")


@dataclass(frozen=True, slots=True)
class Site:
    ids: list[str]
    """Of all that the owner has."""
    owner: GraphQLClient
    other: GraphQLClient
    nobody: GraphQLClient
    expired: GraphQLClient


@pytest.fixture(scope="module")
async def site(darkroom: Darkroom) -> Site:
    owner, other = darkroom.client(), darkroom.client()
    async with a_receiver() as receiver:
        webhook = await a_webhook(owner, receiver.url + "/", "TURN_ENDED")
        started = await conversation_with(owner, userMessage="A boat")
        delivery = await until_log(owner, status=204)
    posted = await generate(owner)
    turn, conversation_id = started["turn"], started["conversation"]["id"]
    found = await owner("{ viewer { id prompts(first: 1) { nodes { id } } } }")
    found_ids = [
        *(conversation_id, turn["id"], turn["outputs"][0]["id"]),
        *(turn["outputs"][0]["image"]["id"], posted["id"], posted["outputs"][0]["id"]),
        *(webhook["id"], delivery["id"]),
        *(found["viewer"]["id"], found["viewer"]["prompts"]["nodes"][0]["id"]),
        (await share(owner, conversation_id))["id"],
        (await create_album(owner))["album"]["id"],
        *await ids_of_jobs(owner, conversation_id),
    ]
    await other("{ viewer { id } }")
    expired = darkroom.with_token(darkroom.ending_token("late", in_seconds=-5))
    return Site(found_ids, owner, other, darkroom.anonymous(), expired)


async def ids_of_jobs(owner: GraphQLClient, conversation_id: str) -> list[str]:
    """Of an export, of the upload of its ZIP, and of its import, which has ended."""
    export = (await owner(EXPORT, id=conversation_id))["exportConversation"]["export"]
    url = (await ended(owner, export))["url"]
    data = (await owner.http.get(url)).content
    upload = await sent(owner, data, ARCHIVE, purpose="IMPORT")
    job = (await owner(IMPORT, id=upload["id"]))["importConversation"]["import"]
    return [export["id"], upload["id"], (await ended(owner, job))["id"]]


def test_the_owner_has_an_id_of_every_kind(site: Site) -> None:
    parsers = {
        name: parse
        for name, parse in vars(ids).items()
        if name.startswith("parse_") and name != "parse_entry_id"
    }
    assert len(parsers) > 10

    missing = [name for name, parse in parsers.items() if not any(map(parse, site.ids))]

    assert missing == []


def unknown_of(found: str) -> str:
    """An unknown id of the same kind."""
    prefix, _, rest = found.partition("_")
    return f"{prefix}_{UNKNOWN}{rest[len(UNKNOWN) :]}"


def settled(answer: str, asked: str) -> str:
    """Without the requested id and random values."""
    return SETTLED.sub("", answer.replace(asked, "$id"))


async def test_a_foreign_id_is_answered_like_an_unknown_id(site: Site) -> None:
    random, every = Random(f"{SEED} ids"), list(operations())
    assert len(every) > 40
    rows = [(asked, found) for asked in every for found in site.ids]
    random.shuffle(rows)
    before = await _snapshot(site)

    async with (
        aclosing(_OneSocket(site.other)) as other,
        aclosing(_OneSocket(site.nobody)) as nobody,
    ):
        for asked, found in islice(cycle(rows), count(120)):
            for client, socket in ((site.other, other), (site.nobody, nobody)):
                on_socket = asked.is_subscription or random.random() < 0.2
                ask = socket.ask if on_socket else partial(_ask, client)
                answers = [
                    settled(await ask(asked.with_id(one)), one)
                    for one in (found, unknown_of(found))
                ]
                assert answers[0] == answers[1], (SEED, asked.document, found)

    assert await _snapshot(site) == before


async def test_an_expired_token_is_refused(site: Site) -> None:
    for asked in list(operations())[:: 1 if count(0) else 10]:
        if not asked.is_subscription:
            answer = await site.expired.post(asked.with_id(site.ids[0]))
            assert answer.status_code == 401


async def _snapshot(site: Site) -> Data:
    """What the owner has, without what changes automatically."""
    document = (
        "query($ids: [ID!]!) { viewer { conversations { nodes { id title turnCount updatedAt } } "
        "webhooks { id enabled } prompts { nodes { id uses } } } nodes(ids: $ids) { id } }"
    )
    return await site.owner(document, ids=site.ids[:4])


async def _ask(client: GraphQLClient, body: dict[str, Any]) -> str:
    return (await client.post(body)).text


class _OneSocket:
    """Operations of one client that follow each other on a socket. Another one is opened before
    there are too many messages on it.
    """

    def __init__(self, client: GraphQLClient) -> None:
        self._client = client
        self._open = AsyncExitStack()
        self._socket: Socket | None = None
        self._count = 0

    async def ask(self, body: dict[str, Any]) -> str:
        """The first message without its id, or why the socket was closed."""
        if self._socket is None or self._count % OPERATIONS_ON_A_SOCKET == 0:
            await self.aclose()
            self._socket = await self._open.enter_async_context(self._client.socket())
        self._count += 1
        number = str(self._count)
        try:
            await self._socket.send(id=number, type="subscribe", payload=body)
            while (message := await self._socket.receive()).get("id") != number:
                pass  # the last one of the operation before
            await self._socket.send(id=number, type="complete")
        except ConnectionClosed as closed:
            self._socket = None
            return str(closed)
        return json.dumps({name: message.get(name) for name in ("type", "payload")})

    async def aclose(self) -> None:
        await self._open.aclose()

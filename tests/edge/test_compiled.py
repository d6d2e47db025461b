"""Compiled answers equal those of graphql-core, byte for byte, or are not given."""

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import orjson
import pytest
from graphql import ExecutionResult, Undefined, execute, parse, validate
from graphql.execution.values import get_variable_values

from bootstrap import Api
from domain.changes import Bookmark, ClusterTime
from domain.ids import (
    ConversationId,
    conversation_of_turn,
    new_share_id,
    output_id_of,
    viewer_id_of,
)
from domain.ports.objects import Link
from domain.services.rate_limits import RateLimits
from domain.shares import Share
from domain.shown import show_update
from domain.turns import TurnUpdate
from domain.viewers import Viewer
from edge.compiled.operations import Compiler
from edge.compiled.variables import PlainVariables
from edge.documents import read_document
from edge.execution import executable_schema
from schema.context import ANONYMOUS, Request, Scope
from schema.loaders import Loaders
from schema.services import Links
from storage.mongo.stored_turns import read_turn
from tests.edge import generated

SEEDS: Final = int(os.environ.get("DARKROOM_TEST_DOCUMENTS", "25"))
"""Documents of each kind: a small count in `make test`, more in `make resilience`."""
# It is the time of the read, and each execution reads for itself.
TIMED: Final = frozenset({"Conversation.cursor"})
# These represent the state of a viewer outside of the generated records.
WITHOUT: Final = TIMED | {"Viewer.prompts", "Viewer.credits", "Viewer.limits"}

OTHER: Final = Viewer(viewer_id_of("tests", "another"))

schema = executable_schema()._schema


@dataclass
class LinksAtRest:
    """Links that never change, also where the time of one ends between two answers."""

    links: Links
    known: dict[str, Link] = field(default_factory=dict)

    def link(self, key: str) -> Link:
        return self.known.get(key) or self.known.setdefault(key, self.links.link(key))


@dataclass
class Sides:
    """One operation, run by graphql-core and in its compiled form."""

    api: Api
    viewer: Viewer
    compiler: Compiler
    links: LinksAtRest
    is_anonymous: bool = False

    def request(self) -> Request:
        scope = ANONYMOUS if self.is_anonymous else Scope(self.viewer)
        services = replace(
            self.api.services, rate_limits=self._rate_limits_at_rest(), links=self.links
        )
        return Request(
            id="test",
            scope=scope,
            services=services,
            load=Loaders(services, scope.require_viewer),
        )

    def _rate_limits_at_rest(self) -> RateLimits:
        """Rate limits without time: their state is not different a moment later."""
        limits = self.api.services.rate_limits
        return replace(limits, now=lambda: 1.0, utc_now=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    async def plain(
        self, text: str, variables: dict[str, Any], root: object = None
    ) -> ExecutionResult:
        result = execute(
            schema,
            parse(text),
            root_value=root,
            context_value=self.request(),
            variable_values=variables,
            executor_class=executable_schema().execution_context_class,
        )
        return result if isinstance(result, ExecutionResult) else await result

    def compiled(self, text: str, variables: dict[str, Any]) -> tuple[Any, Any]:
        document = read_document(schema, text)
        assert not document.errors, (text, document.errors)
        (operation,) = document.operations
        coerced = self.compiler.coerce_variables(document, operation, variables)
        assert coerced is not None
        compiler, is_query = self.compiler, text.startswith("query")
        compile_operation = compiler.compile_query if is_query else compiler.compile_subscription
        return compile_operation(document, operation, coerced), coerced


@pytest.fixture(scope="module")
async def sides(api: Api) -> Sides:
    viewer = Viewer(viewer_id_of("tests", "compiled"))
    links = LinksAtRest(api.services.links)
    return Sides(api, viewer, Compiler(executable_schema()), links)


@pytest.fixture(scope="module")
async def posts(api: Api, sides: Sides) -> list[dict[str, Any]]:
    """Posts in the database."""
    records = generated.Records(Random(2), sides.viewer.id)
    found = [records.post() for _ in range(6)]
    for post in found:
        end(post)
    await api.database.posts.insert_many(found)
    await api.database.images.insert_many(records.image_records(found))
    return found


@pytest.fixture(scope="module")
async def stored(api: Api, sides: Sides) -> list[dict[str, Any]]:
    """Conversations in the database; returns their turns."""
    records = generated.Records(Random(1), sides.viewer.id)
    found: list[dict[str, Any]] = []
    for _ in range(6):
        conversation, turns = records.conversation()
        for turn in turns:
            end(turn)
        await api.database.conversations.insert_one(conversation)
        await api.database.turns.insert_many(turns)
        for image in records.image_records(turns):
            await api.database.images.insert_one(image)
        found += turns
    return found


def end(turn: dict[str, Any]) -> None:
    """Leave nothing for the API's own workers, which would change it between two reads."""
    for one in (turn, *turn["outputs"]):
        if one.get("status") in {"WAITING", "PENDING", "QUEUED", "GENERATING"}:
            one["status"] = "COMPLETED"


def update(turn: dict[str, Any], random: Random) -> TurnUpdate:
    stored = read_turn(turn)
    bookmark = Bookmark(ClusterTime(1, 1))
    outputs = stored.outputs if turn["outputs"] else ()
    changed = tuple(one for one in outputs if random.random() < 0.5)
    return TurnUpdate(turn=stored, changed_outputs=changed, bookmark=bookmark, cursor="a cursor")


def valid(text: str) -> bool:
    return len(text) < 4_000 and not validate(schema, parse(text))


@pytest.mark.parametrize("spoilt", [False, True], ids=["usual", "spoilt"])
async def test_a_compiled_subscription_event_equals_that_of_graphql_core(
    sides: Sides, stored: list[dict[str, Any]], spoilt: bool
) -> None:
    root = 'turnUpdated(conversationId: "conv")'
    answered = 0
    for seed in range(SEEDS):
        random = Random(seed)
        text = generated.Documents(random, schema, without=TIMED).operation(
            "subscription", root, "TurnUpdate", depth=4
        )
        if not valid(text):
            continue
        records = generated.Records(random, sides.viewer.id)
        (_, (turn, *_)) = records.conversation()
        if spoilt:
            records.spoil(turn)
        event = update(turn, random)
        variables = {"width": random.choice([None, 1, 512, 4000])}
        plain = await sides.plain(text, variables, event)
        compiled, coerced = sides.compiled(text, variables)
        assert compiled is not None, text
        for _ in range(2):  # the second time from what is remembered
            answer = compiled.answer(event, sides.request(), coerced)
            found = await same(plain, answer, text)
        answered += found
    assert answered > SEEDS / (10 if spoilt else 2)


@pytest.mark.parametrize("with_prompts", [False, True], ids=["no prompts", "prompts"])
async def test_a_compiled_answer_for_a_share_equals_that_of_graphql_core(
    sides: Sides, stored: list[dict[str, Any]], with_prompts: bool
) -> None:
    """An event, and a page of turns; with and without a viewer."""
    nobody = replace(sides, is_anonymous=True)
    shares: dict[str, Share] = {}
    answered = 0
    for seed in range(SEEDS // 4):
        random = Random(seed)
        turn = random.choice(stored)
        conversation_id = conversation_of_turn(turn["_id"])
        if conversation_id not in shares:
            shares[conversation_id] = await a_share(sides, conversation_id, with_prompts)
        share = shares[conversation_id]
        token = sides.api.services.shares.tokens.make(share)
        event = show_update(update(turn, random), share.scope)
        for operation, root, kind, value in (
            ("query", f'shared(token: "{token}")', "SharedConversation", None),
            ("subscription", f'sharedTurnUpdated(token: "{token}")', "TurnUpdate", event),
        ):
            text = generated.Documents(random, schema, without=TIMED).operation(
                operation, root, kind, depth=5
            )
            if not valid(text):
                continue
            variables = {"width": random.choice([None, 1, 512, 4000])}
            plain = await nobody.plain(text, variables, value)
            compiled, coerced = nobody.compiled(text, variables)
            assert compiled is not None, text
            for side in (nobody, sides, nobody):  # the last one from what is remembered
                given = [value] if value else []
                answer = compiled.answer(*given, side.request(), coerced)
                answered += await same(plain, answer, text)
    assert answered > SEEDS / 2


async def a_share(sides: Sides, conversation_id: ConversationId, includes_prompts: bool) -> Share:
    share = Share(
        id=new_share_id(),
        owner_id=sides.viewer.id,
        conversation_id=conversation_id,
        includes_prompts=includes_prompts,
        expires_at=None,
        views=0,
        created_at=datetime.now(UTC),
    )
    await sides.api.database.accounts.update_one(
        {"_id": share.owner_id}, {"$set": {"balance": 0}}, upsert=True
    )
    made = await sides.api.services.shares.shares.create(
        share, at_most=SEEDS, at_most_of_conversation=SEEDS
    )
    assert made is None
    return share


@pytest.mark.parametrize(
    ("root", "kind"),
    [
        ("conversation(id: $conversation)", "Conversation"),
        ("turn(id: $turn)", "Turn"),
        ("node(id: $image)", "Node"),
        ("post(id: $post)", "Post"),
        ("nodes(ids: [$conversation, $turn, $post, $image, $output])", "Node"),
        ("viewer", "Viewer"),
        ("viewer { images(first: 7)", "ImageConnection"),
        ("models", "ImageModel"),
        ("captionModels", "CaptionModel"),
    ],
    ids=["conversation", "turn", "node", "post", "nodes", "viewer", "gallery", "models", "writers"],
)
async def test_a_compiled_query_answer_equals_that_of_graphql_core(
    sides: Sides,
    stored: list[dict[str, Any]],
    posts: list[dict[str, Any]],
    root: str,
    kind: str,
) -> None:
    answered = 0
    for seed in range(SEEDS // 4):
        random = Random(seed)
        text = generated.Documents(random, schema, without=WITHOUT).operation(
            "query", root, kind, depth=4
        )
        if not valid(text):
            continue
        turn, post = random.choice(stored), random.choice(posts)
        parent = random.choice([turn, post])
        ids = {
            "conversation": f"conv_{turn['_id'].split('_')[1]}",
            "turn": turn["_id"],
            "post": post["_id"],
            "output": output_id_of(parent["_id"], 1),
            "image": next(
                (image["id"] for output in parent["outputs"] for image in output["images"]), "img_x"
            ),
        }
        variables = {name: ids[name] for name in ids if f"${name}" in root}
        plain = await sides.plain(text, variables)
        compiled, coerced = sides.compiled(text, variables)
        assert compiled is not None, text
        for _ in range(2):  # the second time from what is remembered
            found = await same(plain, compiled.answer(sides.request(), coerced), text)
        answered += found
        # Another viewer receives no cached answer.
        other = replace(sides, viewer=OTHER)
        plain = await other.plain(text, variables)
        await same(plain, compiled.answer(other.request(), coerced), text)
    assert answered > SEEDS / 12


async def test_images_are_compiled_if_their_ids_are_not_selected(
    sides: Sides, stored: list[dict[str, Any]]
) -> None:
    """The page is read with what is selected, and answers are cached by the images' ids."""
    text = (
        "query ($id: ID!) { conversation(id: $id) { turns(first: 9) { nodes { outputs { "
        "images { width height seed thumbhash } } } } } }"
    )
    turn = next(turn for turn in stored if any(one["images"] for one in turn["outputs"]))
    variables = {"id": conversation_of_turn(turn["_id"])}
    plain = await sides.plain(text, variables)
    compiled, coerced = sides.compiled(text, variables)
    assert compiled is not None
    for _ in range(2):  # the second time from what is remembered
        assert await same(plain, compiled.answer(sides.request(), coerced), text)


async def same(plain: ExecutionResult, compiled: Any, text: str) -> bool:
    """Whether there was an answer, which is the same then."""
    if plain.errors:
        with pytest.raises(Exception, match=r".*"):
            await compiled
        return False
    answer = await compiled
    assert orjson.dumps(answer) == orjson.dumps(plain.data), text
    return True


_DECLARED: Final = (
    "query Q($id: ID!, $text: String, $size: Int = 5, $most: Int! = 7, $full: Boolean) "
    "{ node(id: $id) { id } }"
)
_VALUES: Final[tuple[Any, ...]] = (
    Undefined,
    None,
    "",
    "x",
    0,
    7,
    -(2**31),
    2**31,
    1.0,
    1.5,
    True,
    False,
    [],
    {},
)


def test_simple_variables_equal_those_of_graphql_core_or_are_not_handled() -> None:
    """None is the answer where graphql-core might do something to a value, or refuse it."""
    (operation,) = read_document(schema, _DECLARED).operations
    plain, random = PlainVariables(schema, operation), Random(1)
    covered = 0
    for _ in range(2_000):
        drawn = {name: random.choice(_VALUES) for name in ("id", "text", "size", "most", "full")}
        given = {name: value for name, value in drawn.items() if value is not Undefined}
        found = plain.coerce(given)
        covered += found is not None
        expected = get_variable_values(schema, operation.variable_definitions or (), given)
        if found is not None:
            assert not isinstance(expected, list), expected
            assert repr(found.coerced) == repr(expected.coerced)  # 1, 1.0 and True are equal
            assert list(found.sources) == list(expected.sources)
    assert covered

"""The cost limits of documents."""

from itertools import pairwise

import pytest
from graphql import (
    GraphQLField,
    GraphQLObjectType,
    get_introspection_query,
    get_named_type,
    is_composite_type,
    is_required_argument,
)

from edge.compiled.fields import DEFINITION
from edge.execution import executable_schema
from edge.query_cost import LOADED_EDGES
from tests.clients import GraphQLClient
from tests.operations import conversation_with


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        ("{ viewer { conversations(first: 100) { nodes { turns { nodes { id } } } } } }", "items"),
        (
            "{ viewer { conversations { nodes { turns { nodes { conversation { turns { nodes "
            "{ id } } } } } } } } }",
            "items",
        ),
        (
            "{ viewer { "
            + " ".join(
                f"a{number}: images(first: 100) {{ nodes {{ id }} }}" for number in range(11)
            )
            + " } }",
            "items",
        ),
        (
            "{ viewer { "
            + " ".join(
                f"a{number}: prompts(first: 100) {{ nodes {{ id }} }}" for number in range(11)
            )
            + " } }",
            "items",
        ),
        (
            "query($n: Int = 90) { viewer { conversations(first: $n) { nodes { "
            "turns(last: 50) { nodes { id } } } } } }",
            "items",
        ),
        (
            "{ models " + "{ replacement " * 12 + "{ id }" + " }" * 12 + " }",
            "depth",
        ),
        (
            "{ __typename models " + "{ replacement " * 12 + "{ id }" + " }" * 12 + " }",
            "depth",
        ),
        (
            "query($id: ID!) { conversation(id: $id) { turns(first: 50) { nodes { outputs { images "
            "{ turn { outputs { images { turn { id } } } } } } } } } }",
            "items",
        ),
        (
            'query { conversation(id: "x") { '
            + " ".join(f"a{n}: latestTurn {{ id }}" for n in range(31))
            + " } }",
            "aliases",
        ),
        (
            "{ "
            + " ".join(f"...f{n}" for n in range(21))
            + " } "
            + " ".join(f"fragment f{n} on Query {{ viewer {{ id }} }}" for n in range(21)),
            "rootFields",
        ),
        (
            "mutation { "
            + " ".join(
                f'a{n}: renameConversation(input: {{conversationId: "x", title: "y"}}) '
                "{ userErrors { code } }"
                for n in range(6)
            )
            + " }",
            "rootFields",
        ),
        ("{ a: __schema { description } b: __schema { description } }", "introspections"),
        (
            "{ viewer { ...a ...a ...a } } fragment a on Viewer { ...b ...b ...b } "
            "fragment b on Viewer { ...c ...c ...c } fragment c on Viewer { ...d ...d ...d } "
            "fragment d on Viewer { images { nodes { id } } }",
            "items",
        ),
    ],
    ids=[
        "pages in pages",
        "around in circles",
        "the same list often",
        "prompts often",
        "variables",
        "depth",
        "depth beside a type's name",
        "lists in lists",
        "aliases",
        "root fields",
        "mutations",
        "introspections",
        "fragments",
    ],
)
async def test_a_document_over_the_cost_limit_is_refused(
    client: GraphQLClient, query: str, limit: str
) -> None:
    answer = await client.execute(query, **({"id": "x"} if "$id" in query else {}))

    assert "data" not in answer
    extensions = answer["errors"][0]["extensions"]
    assert extensions["code"] == "QUERY_TOO_COMPLEX"
    assert extensions["limit"] == limit
    assert extensions["actual"] > extensions["max"]


async def test_the_queries_of_an_app_are_below_the_limit(client: GraphQLClient) -> None:
    payload = await conversation_with(client)
    query = """query($id: ID!, $ids: [ID!]!) {
      conversation(id: $id) {
        images(first: 100) { nodes { id url(width: 256) } }
        turns(last: 50) { nodes {
          id outputs { id image { id url madeFrom { id } turn { id } } references { image { id } } }
        } }
      }
      viewer { conversations(first: 20) { nodes { id images(first: 3) { nodes { id } } } } }
      nodes(ids: $ids) { id }
    }"""

    data = await client(query, id=payload["conversation"]["id"], ids=["x"] * 100)

    assert len(data["nodes"]) == 100


async def test_fifty_turns_with_every_field_are_below_the_limit(client: GraphQLClient) -> None:
    payload = await conversation_with(client)
    schema = executable_schema()._schema
    turn = schema.type_map["Turn"]
    assert isinstance(turn, GraphQLObjectType)
    fields = every_field(turn, {"Turn", "Post", "Conversation", "Viewer"})
    query = (
        "query($id: ID!) { conversation(id: $id) { turns(first: 50) { nodes { "
        f"{fields} }} }} }} }}"
    )

    data = await client(query, id=payload["conversation"]["id"])

    assert len(data["conversation"]["turns"]["nodes"]) == 1


def every_field(kind: GraphQLObjectType, around: set[str]) -> str:
    """All that can be selected of a type without going in a circle, each object once."""
    found = []
    for name, field in kind.fields.items():
        inner = get_named_type(field.type)
        if name == "chosenOutput":
            found.append(f"{name} {{ id }}")  # it is one of `outputs`
        elif isinstance(inner, GraphQLObjectType):
            if inner.name not in around:
                found.append(f"{name} {{ {every_field(inner, around | {inner.name})} }}")
        elif not any(map(is_required_argument, field.args.values())):
            found.append(name)
    return " ".join(found)


def test_every_edge_that_is_looked_up_counts() -> None:
    looked_up = {
        f"{kind.name}.{name}"
        for kind in executable_schema()._schema.type_map.values()
        if isinstance(kind, GraphQLObjectType)
        for name, field in kind.fields.items()
        if is_looked_up(kind.name, field)
    }

    assert looked_up
    assert looked_up <= LOADED_EDGES


def is_looked_up(parent: str, field: GraphQLField) -> bool:
    """Whether the resolver reads objects. The viewer's fields are read once in an operation, and
    pages are counted by their size.
    """
    declared, named = field.extensions.get(DEFINITION), get_named_type(field.type)
    return (
        declared is not None
        and declared.is_async
        and is_composite_type(named)
        and not named.name.endswith("Connection")
        and parent not in ("Query", "Mutation", "Subscription", "Viewer")
    )


async def test_introspection_is_below_the_limit(client: GraphQLClient) -> None:
    answer = await client.execute(get_introspection_query(input_value_deprecation=True))

    assert "errors" not in answer


async def test_a_document_of_exponential_fragments_is_answered(client: GraphQLClient) -> None:
    names = [f"f{number}" for number in range(60)]
    fragments = " ".join(
        f"fragment {name} on Viewer {{ ...{following} ...{following} ...{following} }}"
        for name, following in pairwise(names)
    )
    query = f"{{ viewer {{ ...f0 }} }} {fragments} fragment f59 on Viewer {{ id }}"

    answer = await client.execute(query)

    assert "data" in answer or answer["errors"][0]["extensions"]["code"]

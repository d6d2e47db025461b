"""What has been read of a document is freed with it, without the garbage collector."""

import gc
from typing import Final

import pytest
from graphql import GraphQLSchema

from edge.documents import read_document
from edge.execution import executable_schema

DOCUMENTS: Final = {
    "valid": "{ " + " ".join(f"a{number}: __typename" for number in range(500)) + " }",
    "valid, with fragments": "{ models { ...f } } fragment f on ImageModel { " + "id " * 50 + "}",
    "invalid": "{ " + "x " * 10 + "}",
    "too many errors": "{ " + "x " * 500 + "}",
    "too many comparisons": "{ " + "__typename " * 500 + "}",
    "longer than what has locations": "{ " + "x " * 500 + "}" + " " * 20_000,
    "conflicts": "{ " + " ".join(f'a: models(search: "{n}") {{ id }}' for n in range(60)) + " }",
}
FEW: Final = 100
"""Objects. There have been thousands."""


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    """What there is by then is not looked through again: that would take most of the time."""
    schema = executable_schema()._schema
    gc.collect()
    gc.freeze()
    return schema


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_leaves_nothing_for_the_garbage_collector(
    schema: GraphQLSchema, text: str
) -> None:
    read_document(schema, text)  # What is made only once.
    gc.collect()
    gc.disable()
    try:
        read_document(schema, text)

        assert gc.collect() < FEW
    finally:
        gc.enable()

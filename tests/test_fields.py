"""Fields come straight from domain values: each is declared once, and its source has it."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from types import NoneType
from typing import get_args, get_type_hints

import pytest
from graphql import GraphQLNonNull, GraphQLObjectType
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from domain.ids import PromptId, ViewerId
from domain.prompts import Prompt
from domain.viewers import Viewer
from edge.execution import executable_schema
from schema.companions import companion, with_companion, without_companion
from schema.node import Node


def attribute_fields() -> Iterator[tuple[str, type, str, bool]]:
    """Of every field without a resolver: coordinate, source, attribute, and if it may be null."""
    for name, kind in executable_schema()._schema.type_map.items():
        definition = kind.extensions.get("strawberry-definition")
        if not isinstance(kind, GraphQLObjectType) or not isinstance(
            definition, StrawberryObjectDefinition
        ):
            continue
        source = getattr(definition.origin, "source", None)
        if source is None:
            continue
        for key, field in kind.fields.items():
            declared = field.extensions["strawberry-definition"]
            assert isinstance(declared, StrawberryField)
            if declared.is_basic_field:
                nullable = not isinstance(field.type, GraphQLNonNull)
                yield f"{name}.{key}", source, declared.python_name, nullable


def may_be_null(source: type, attribute: str) -> bool:
    if attribute in {field.name for field in dataclasses.fields(source)}:
        hint = get_type_hints(source)[attribute]
    else:
        found = getattr(source, attribute)
        assert isinstance(found, property)
        hint = get_type_hints(found.fget)["return"]
    return NoneType in get_args(hint)


def test_a_field_without_a_resolver_reads_an_attribute_of_its_source() -> None:
    fields = list(attribute_fields())

    assert {coordinate for coordinate, *_ in fields} >= {"Turn.outputs", "Output.image", "Image.id"}
    assert {
        coordinate: may_be_null(source, attribute) for coordinate, source, attribute, _ in fields
    } == {coordinate: nullable for coordinate, _, _, nullable in fields}


def test_the_type_of_a_node_is_resolved_with_and_without_a_companion() -> None:
    nodes = [
        kind.extensions["strawberry-definition"].origin
        for kind in executable_schema()._schema.type_map.values()
        if isinstance(kind, GraphQLObjectType) and "Node" in {one.name for one in kind.interfaces}
    ]
    prompt = Prompt(
        id=PromptId("prompt_1"),
        text="",
        uses=1,
        favourite=False,
        last_used_at=datetime.now(UTC),
    )

    def kinds_of(value: object) -> list[str]:
        return [one.__name__ for one in nodes if issubclass(one, Node) and one.is_type_of(value, 0)]

    assert len(nodes) == len({one.source for one in nodes}) == 10
    assert kinds_of(prompt) == kinds_of(with_companion(prompt, "read with it")) == ["Prompt"]
    assert kinds_of("something else") == []


def test_a_value_is_resolved_identically_with_a_companion() -> None:
    viewer = Viewer(ViewerId("user_1"))

    accompanied = with_companion(viewer, 7)

    assert (accompanied.id, accompanied.expires_at) == ("user_1", None)
    assert without_companion(accompanied) is viewer
    assert without_companion(viewer) is viewer
    with pytest.raises(AttributeError):
        accompanied.name  # type: ignore[attr-defined]  # noqa: B018


def test_a_companion_is_found_by_its_class() -> None:
    viewer = Viewer(ViewerId("user_1"))

    assert companion(with_companion(viewer, 7), int) == 7
    assert companion(with_companion(viewer, 7), str) is None
    assert companion(viewer, int) is None

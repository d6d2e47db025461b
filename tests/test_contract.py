"""The exported schema equals the committed one, keeps the public contract, and describes every
part.
"""

from pathlib import Path

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
)

from resolvers.root import export_schema

ROOT = Path(__file__).parents[1]

PENDING: set[str] = set()
"""What the contract promises and is not built yet."""


def own_types(schema: GraphQLSchema) -> dict[str, GraphQLNamedType]:
    return {
        name: one
        for name, one in schema.type_map.items()
        if not is_introspection_type(one) and not is_specified_scalar_type(one)
    }


def lines_of(schema: GraphQLSchema) -> dict[str, str]:
    """Every type, field, argument and value by its coordinate, with what a client relies on."""
    lines: dict[str, str] = {}
    for name, one in own_types(schema).items():
        lines[name] = type(one).__name__
        if isinstance(one, GraphQLEnumType):
            lines.update({f"{name}.{value}": "" for value in one.values})
        elif isinstance(one, GraphQLObjectType | GraphQLInterfaceType):
            interfaces = sorted(interface.name for interface in one.interfaces)
            lines[name] += f" implements {interfaces}"
            for field_name, field in one.fields.items():
                lines[f"{name}.{field_name}"] = str(field.type)
                for argument_name, argument in field.args.items():
                    coordinate = f"{name}.{field_name}({argument_name})"
                    lines[coordinate] = f"{argument.type} = {argument.default_value}"
        elif isinstance(one, GraphQLInputObjectType):
            for field_name, input_field in one.fields.items():
                coordinate = f"{name}.{field_name}"
                lines[coordinate] = f"{input_field.type} = {input_field.default_value}"
    return lines


def test_the_exported_schema_equals_the_committed_one() -> None:
    committed = (ROOT / "schema.graphql").read_text()

    assert export_schema() + "\n" == committed, "Run `make schema`."


def test_the_schema_keeps_the_public_contract() -> None:
    contract = lines_of(build_schema((ROOT / "tests" / "contract.graphql").read_text()))
    ours = lines_of(build_schema(export_schema()))

    assert {line: ours[line] for line in ours if line in contract} == {
        line: contract[line] for line in ours if line in contract
    }
    assert set(ours) - set(contract) == set(), "An addition needs a decision."
    missing = {
        line
        for line in set(contract) - set(ours)
        if line not in PENDING
        and not any(line.startswith(f"{one}.") for one in PENDING)
        and not any(line.startswith(f"{one}(") for one in PENDING)
    }
    assert missing == set()
    assert set(ours) & PENDING == set(), "What is built is not pending."


def test_every_part_of_the_schema_has_a_description() -> None:
    schema = build_schema(export_schema())
    silent = []
    for name, one in own_types(schema).items():
        parts: list[tuple[str, str | None]] = [(name, one.description)]
        if isinstance(one, GraphQLEnumType):
            parts += [(f"{name}.{key}", value.description) for key, value in one.values.items()]
        elif isinstance(one, GraphQLObjectType | GraphQLInterfaceType):
            for key, field in one.fields.items():
                parts.append((f"{name}.{key}", field.description))
                parts += [
                    (f"{name}.{key}({argument})", value.description)
                    for argument, value in field.args.items()
                ]
        elif isinstance(one, GraphQLInputObjectType):
            parts += [(f"{name}.{key}", field.description) for key, field in one.fields.items()]
        silent += [coordinate for coordinate, text in parts if not text]

    assert silent == []

"""Which attributes of domain values a selection reads, for a projection of the database's read."""

from collections.abc import Iterable

from graphql import FieldNode, GraphQLObjectType, get_named_type

from domain.stored import Wanted
from edge.compiled.fields import DEFINITION
from edge.compiled.selections import Selections
from schema.hints import hints_of


def wanted_items(
    selections: Selections, kind: GraphQLObjectType, nodes: Iterable[FieldNode]
) -> Wanted | None:
    """What a connection's selection reads of its items. None: possibly all."""
    found = Wanted({})
    for selected in selections.fields_of(kind, [node.selection_set for node in nodes]).values():
        name = selected[0].name.value
        if name not in ("nodes", "edges", "node"):
            continue
        below = get_named_type(kind.fields[name].type)
        assert isinstance(below, GraphQLObjectType)
        items = (wanted_items if name == "edges" else _wanted)(selections, below, selected)
        if items is None:
            return None
        found = found.merged(items)
    return found


def _wanted(
    selections: Selections, kind: GraphQLObjectType, nodes: Iterable[FieldNode]
) -> Wanted | None:
    found = Wanted({})
    for selected in selections.fields_of(kind, [node.selection_set for node in nodes]).values():
        name = selected[0].name.value
        if name == "__typename":
            continue
        definition = kind.fields[name]
        declared = definition.extensions[DEFINITION]
        if declared.base_resolver is not None:
            reads = hints_of(declared).reads
            if reads is None:
                return None
            found = found.merged(Wanted(dict.fromkeys(reads)))
            continue
        below = get_named_type(definition.type)
        inner = None
        if isinstance(below, GraphQLObjectType):
            inner = _wanted(selections, below, selected)
        found = found.merged(Wanted({declared.python_name: inner}))
    return found

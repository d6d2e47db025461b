"""The limits of one operation, and its cost, which is compared with them."""

from dataclasses import dataclass
from typing import Final

from graphql import OperationType

from domain.errors import QueryTooComplex

MAX_ITEMS: Final = 1_000
MAX_DEPTH: Final = 12
MAX_INTROSPECTION_DEPTH: Final = 16
MAX_INTROSPECTION_VALUES: Final = 30_000
MAX_MIXED_INTROSPECTION_VALUES: Final = 1_000
"""Introspected values beside other root fields: only an introspection alone runs in a thread."""
MAX_ALIASES: Final = 30
MAX_ALIAS_LENGTH: Final = 100
MAX_DIRECTIVES: Final = 50
MAX_VALUES: Final = 100_000
MAX_TEXT: Final = 300_000
"""Characters in all arguments: as many as fit into a request, if no variable is used twice."""
MAX_ROOT_FIELDS: Final = 20
MAX_MUTATIONS: Final = 5
_MAX_SHOWN: Final = 2**31 - 1
"""The largest number that an error shows: GraphQL's Int has no larger ones."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an operation asks for, in total. `edge.query_cost` measures it."""

    items: int
    depth: int
    aliases: int
    root_fields: int
    introspections: int
    introspection_depth: int
    introspection_values: int
    values: int
    text: int
    directives: int
    alias_length: int
    """Of the longest alias, in characters."""

    @property
    def total(self) -> int:
        """What the operation takes from its client's cost bucket: at least one."""
        return max(self.items, 1)

    @property
    def is_introspection(self) -> bool:
        """Whether the operation is about the schema only."""
        return 0 < self.introspections == self.root_fields


def check_cost(cost: Cost, kind: OperationType) -> None:
    """Raise QueryTooComplex where an operation asks for too much."""
    max_root_fields = MAX_MUTATIONS if kind is OperationType.MUTATION else MAX_ROOT_FIELDS
    max_introspection_values = (
        MAX_INTROSPECTION_VALUES if cost.is_introspection else MAX_MIXED_INTROSPECTION_VALUES
    )
    for limit, maximum, actual in (
        ("introspections", 1, cost.introspections),
        ("introspectionDepth", MAX_INTROSPECTION_DEPTH, cost.introspection_depth),
        ("introspectionValues", max_introspection_values, cost.introspection_values),
        ("depth", MAX_DEPTH, cost.depth),
        ("aliases", MAX_ALIASES, cost.aliases),
        ("aliasLength", MAX_ALIAS_LENGTH, cost.alias_length),
        ("directives", MAX_DIRECTIVES, cost.directives),
        ("rootFields", max_root_fields, cost.root_fields),
        ("items", MAX_ITEMS, cost.items),
        ("values", MAX_VALUES, cost.values),
        ("text", MAX_TEXT, cost.text),
    ):
        if actual > maximum:
            raise QueryTooComplex(limit, maximum=maximum, actual=min(actual, _MAX_SHOWN))

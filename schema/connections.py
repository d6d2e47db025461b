"""Connections: pages of lists that grow, with cursors that stay where they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, TypeAlias, TypeVar

import strawberry

from domain.cursors import PageCursors
from domain.errors import BadUserInput, QueryTooComplex
from domain.pages import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Page, PageRequest, Position
from schema.context import Info
from schema.scalars import given

NodeType = TypeVar("NodeType")
Item = TypeVar("Item")

First: TypeAlias = Annotated[
    int | None,
    strawberry.argument(
        description="How many items to return, from the start of the list or from `after`: 1 to "
        "100. Default: 20."
    ),
]
Last: TypeAlias = Annotated[
    int | None,
    strawberry.argument(
        description="How many items to return, from the end of the list or before `before`: 1 "
        "to 100. Cannot be combined with `first` or `after`."
    ),
]
Cursor: TypeAlias = Annotated[
    str | None,
    strawberry.argument(description="A cursor of this list, from `pageInfo` or an edge."),
]


Search: TypeAlias = Annotated[
    str | None,
    strawberry.argument(
        description="Return only items that contain a word beginning with each of these words, "
        "in any order. Case and accents are ignored, and so is everything that is "
        "not a word. At most 200 characters."
    ),
]


@dataclass(frozen=True, slots=True)
class ListEdge(Generic[Item]):
    """The source of an edge."""

    node: Item
    position: Position
    list: "ListPage[Item]"

    @property
    def cursor(self) -> str:
        return self.list.cursor(self.position)


@dataclass(frozen=True, slots=True)
class ListPage(Generic[Item]):
    """The source of a connection: a page of domain values. Cursors are made where selected."""

    page: Page[Item]
    name: str
    """Says which list this is, filters and viewer included."""
    cursors: PageCursors

    @property
    def edges(self) -> Sequence[ListEdge[Item]]:
        return [
            ListEdge(item, position, self)
            for item, position in zip(self.page.items, self.page.positions, strict=True)
        ]

    @property
    def nodes(self) -> Sequence[Item]:
        return self.page.items

    @property
    def page_info(self) -> "PagePlace[Item]":
        return PagePlace(self)

    def cursor(self, position: Position) -> str:
        return self.cursors.make(self.name, position)


@dataclass(frozen=True, slots=True)
class PagePlace(Generic[Item]):
    """The source of a page's position."""

    list: ListPage[Item]

    @property
    def has_next_page(self) -> bool:
        return self.list.page.has_next

    @property
    def has_previous_page(self) -> bool:
        return self.list.page.has_previous

    @property
    def start_cursor(self) -> str | None:
        return self._cursor(0)

    @property
    def end_cursor(self) -> str | None:
        return self._cursor(-1)

    def _cursor(self, index: int) -> str | None:
        positions = self.list.page.positions
        return self.list.cursor(positions[index]) if positions else None


@strawberry.type(description="The position of a page in its list.")
class PageInfo:
    source: ClassVar[type] = PagePlace

    has_next_page: bool = strawberry.field(
        description="Whether there are more items after this page."
    )
    has_previous_page: bool = strawberry.field(
        description="Whether there are items before this page."
    )
    start_cursor: str | None = strawberry.field(
        description="The cursor of the first item, to pass as `before`. Null if the page is empty."
    )
    end_cursor: str | None = strawberry.field(
        description="The cursor of the last item, to pass as `after`. Null if the page is empty."
    )


@strawberry.type(description="An item of a page, with its cursor.")
class Edge(Generic[NodeType]):
    source: ClassVar[type] = ListEdge

    node: NodeType = strawberry.field(description="The item.")
    cursor: str = strawberry.field(
        description="The item's position in this list, to pass as `after` or `before`."
    )


@strawberry.type(description="One page of a list.")
class Connection(Generic[NodeType]):
    source: ClassVar[type] = ListPage

    edges: list[Edge[NodeType]] = strawberry.field(description="The items, each with its cursor.")
    nodes: list[NodeType] = strawberry.field(description="The items without cursors.")
    page_info: PageInfo = strawberry.field(description="The position of this page in its list.")


def page_request(
    info: Info,
    name: str,
    *,
    first: int | None,
    after: str | None,
    last: int | None = None,
    before: str | None = None,
) -> PageRequest:
    """Raise where sizes are out of range, directions are mixed, or a cursor is another list's."""
    first, after, last, before = given(first), given(after), given(last), given(before)
    backwards = last is not None or before is not None
    if backwards and (first is not None or after is not None):
        raise BadUserInput("Use `first` and `after`, or `last` and `before`, not both.")
    size = last if backwards else first
    size = DEFAULT_PAGE_SIZE if size is None else size
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise QueryTooComplex("last" if backwards else "first", maximum=MAX_PAGE_SIZE, actual=size)
    cursor = before if backwards else after
    position = info.context.services.page_cursors.read(name, cursor) if cursor is not None else None
    return PageRequest(size, position, backwards)

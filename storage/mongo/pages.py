"""Pages of documents that are sorted by an instant and `_id`, newest first."""

from collections.abc import Callable
from typing import TypeVar

from pymongo.asynchronous.cursor import AsyncCursor

from domain.pages import Page, PageRequest, cut
from storage.mongo.collections import Document
from storage.mongo.database import epoch_ms, from_epoch_ms

Item = TypeVar("Item")


def beyond(request: PageRequest, field: str) -> Document:
    """What a document matches that comes after the page's position, (epoch milliseconds, `_id`)."""
    if request.position is None:
        return {}
    milliseconds, document_id = request.position
    instant = from_epoch_ms(int(milliseconds))
    return {
        # The bound lets the database begin here in its index. With the alternatives alone it would
        # read, and leave out, everything before.
        field: {"$lte": instant},
        "$or": [{field: {"$lt": instant}}, {"_id": {"$lt": document_id}}],
    }


async def read_page(
    found: AsyncCursor[Document],
    request: PageRequest,
    *,
    sorted_by: str,
    read: Callable[[Document], Item],
) -> Page[Item]:
    """The page of what was found `beyond` its position."""
    documents = await found.sort(newest_first(sorted_by)).limit(request.size + 1).to_list()
    return cut_page(documents, request, sorted_by=sorted_by).map(read)


def newest_first(sorted_by: str) -> Document:
    return {sorted_by: -1, "_id": -1}


def cut_page(documents: list[Document], request: PageRequest, *, sorted_by: str) -> Page[Document]:
    """The page of up to one document more than it has."""
    return cut(
        request,
        documents,
        lambda document: (epoch_ms(document[sorted_by]), document["_id"]),
    )

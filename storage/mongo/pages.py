"""Pages of documents that are sorted by an instant and `_id`, newest first."""

from domain.pages import PageRequest
from storage.mongo.database import Document, from_epoch_ms


def newest_first(field: str) -> Document:
    return {field: -1, "_id": -1}


def beyond(request: PageRequest, field: str) -> Document:
    """What a document matches that comes after the page's position, (epoch milliseconds, `_id`)."""
    if request.position is None:
        return {}
    milliseconds, document_id = request.position
    instant = from_epoch_ms(int(milliseconds))
    return {
        # The bound is what lets the database begin here in its index. By the alternatives alone it
        # would read, and leave out, all that comes before.
        field: {"$lte": instant},
        "$or": [{field: {"$lt": instant}}, {"_id": {"$lt": document_id}}],
    }

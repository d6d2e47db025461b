"""Finds texts by their words: each document has the words of its texts in an array, with an index.

Words are compared as plain text, byte by byte, so nothing in a search has a meaning of its own.
"""

from collections.abc import Sequence
from typing import Final

from domain.text_search import words_of
from storage.mongo.collections import Document

MAX_WORDS: Final = 500
"""The number of words of one document that can be found: it stays small, however long its texts
are.
"""
_LAST_CHARACTER: Final = "\U0010ffff"
"""A character that no word has. Everything that begins with a word sorts before the word followed
by it.
"""


def with_words(words: Sequence[str]) -> Document:
    """A condition for documents that have, for each of these words, a word that begins with it."""
    if not words:
        return {}
    return {
        "$and": [
            {"words": {"$elemMatch": {"$gte": word, "$lt": word + _LAST_CHARACTER}}}
            for word in words
        ]
    }


def words_to_find(*texts: str) -> list[str]:
    return list(dict.fromkeys(word for text in texts for word in words_of(text)))[:MAX_WORDS]


def words_added(*, before: str = "", after: str = "") -> Document:
    """The document's words with those of a text added before or after them; if there are too many,
    the last ones are dropped.
    """
    present = {"$ifNull": ["$words", []]}
    first, last = ({"$literal": words_to_find(text)} for text in (before, after))
    old = _without(present, first)
    return {"$slice": [{"$concatArrays": [first, old, _without(last, present)]}, MAX_WORDS]}


def _without(words: Document, others: Document) -> Document:
    kept = {"$not": {"$in": ["$$word", others]}}
    return {"$filter": {"input": words, "as": "word", "cond": kept}}

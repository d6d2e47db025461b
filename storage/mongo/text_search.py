"""Texts found by their words: each document has the words of its texts in an array, with an index.

Words are compared as plain text, byte by byte, so nothing in a search has a meaning of its own.
"""

from collections.abc import Sequence
from typing import Final

from domain.text_search import words_of
from storage.mongo.collections import Document

MAX_WORDS: Final = 500
"""So many of one document can be found, so that it stays small however much is said in it."""
_LAST_CHARACTER: Final = "\U0010ffff"
"""No word has it, and all that begins like a word comes before the word with this at its end."""


def with_words(words: Sequence[str]) -> Document:
    """What a document matches that has words which begin with each of these."""
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
    """The document's words with those of a text put before or after them; the last ones give way
    where there are too many.
    """
    present = {"$ifNull": ["$words", []]}
    first, last = ({"$literal": words_to_find(text)} for text in (before, after))
    old = _without(present, first)
    return {"$slice": [{"$concatArrays": [first, old, _without(last, present)]}, MAX_WORDS]}


def _without(words: Document, others: Document) -> Document:
    kept = {"$not": {"$in": ["$$word", others]}}
    return {"$filter": {"input": words, "as": "word", "cond": kept}}

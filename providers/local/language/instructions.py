"""Plain words become operations.

The words are searched for phrases of `vocabulary`, in its order; what a phrase covers is taken, and
no later phrase reads it again. What stands in quotation marks is taken first, and is only ever text
to write. What is left in the end, fillers apart, is what was not understood.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from providers.local.colours import COLOUR_WORD, colour_name
from providers.local.language.grammar import (
    BEFORE_OPPOSITE,
    BOUNDARY,
    NEGATION,
    OPPOSITES,
    QUOTED,
    REMOVAL,
    STRENGTHS,
)
from providers.local.language.operations import Apply, Frame, Operation, Tint, Zoom
from providers.local.language.subjects import FILLERS, SUBJECTS
from providers.local.language.vocabulary import ANYWHERE, EDITS_ONLY, Phrase

MOST_OPERATIONS: Final = 16
"""More work than this is not taken on, however long the words are."""


@dataclass(frozen=True, slots=True)
class Instructions:
    operations: tuple[Operation, ...]
    """In the order of the words."""
    subjects: tuple[str, ...]
    """What to draw, by its name in `scenes`; empty where a picture is edited."""
    colours: tuple[str, ...]
    """What to draw it in, by names in `colours`; empty where a picture is edited."""
    not_understood: tuple[str, ...]
    """Pieces of the words as they were written."""


def read_instructions(words: str, *, editing: bool) -> Instructions:
    """Where nothing is edited, words such as night and snow are subjects and no operations."""
    return _Reading(words, editing=editing).result()


class _Reading:
    def __init__(self, words: str, *, editing: bool) -> None:
        self._quotes: list[str] = []
        # The brackets mark the places of quotations; nobody else may set them.
        plain = words.replace("⟦", "[").replace("⟧", "]")
        self._words = QUOTED.sub(self._take_quote, plain)
        # Both must have the same length, so that what was not understood can be cut out.
        self._text = "".join(
            word if len(word.lower()) != 1 else word.lower() for word in self._words
        )
        self._text = self._text.replace("’", "'")
        self._taken = bytearray(len(self._text))
        self._editing = editing

    def _take_quote(self, found: re.Match[str]) -> str:
        self._quotes.append(next(group for group in found.groups() if group is not None).strip())
        return f"⟦{len(self._quotes) - 1}⟧"

    def result(self) -> Instructions:
        subjects: list[tuple[int, str]] = []
        operations: list[tuple[int, Operation]] = []
        phrases = (*ANYWHERE, *EDITS_ONLY) if self._editing else ANYWHERE
        for phrase in phrases:
            operations.extend(self._find(phrase))
        colours: list[str] = []
        if not self._editing:
            colours = self._colours()
            for pattern, subject in SUBJECTS:
                subjects.extend((at, subject) for at in self._find_subject(pattern))
        ordered = dict.fromkeys(operation for _, operation in sorted(operations, key=_position))
        return Instructions(
            operations=tuple(ordered)[:MOST_OPERATIONS],
            colours=tuple(colours),
            subjects=tuple(dict.fromkeys(subject for _, subject in sorted(subjects))),
            not_understood=tuple(self._left()),
        )

    def _find(self, phrase: Phrase) -> list[tuple[int, Operation]]:
        found = []
        for match in phrase.pattern.finditer(self._text):
            start, end = match.span()
            if any(self._taken[start:end]) or start == end:
                continue
            before = self._clause_before(start)
            if REMOVAL.search(before) and not phrase.opposed:
                continue
            operation: Operation | None = phrase.make(match, self._quotes)
            self._take(start, end)
            if negated := NEGATION.search(before):
                self._take(start - len(before) + negated.start(), start)
                continue
            if turned := BEFORE_OPPOSITE.search(before) or REMOVAL.search(before):
                if isinstance(operation, Apply) and operation.effect in OPPOSITES:
                    operation = Apply(OPPOSITES[operation.effect], operation.amount)
                self._take(start - len(before) + turned.start(), start)
            if operation is not None:
                found.append((start, self._strengthened(operation, start, end)))
        return found

    def _find_subject(self, pattern: re.Pattern[str]) -> list[int]:
        found = []
        for match in pattern.finditer(self._text):
            if any(self._taken[match.start() : match.end()]):
                continue
            before = self._clause_before(match.start())
            self._take(*match.span())
            if negated := NEGATION.search(before):
                self._take(match.start() - len(before) + negated.start(), match.start())
            else:
                found.append(match.start())
        return found

    def _colours(self) -> list[str]:
        """In the order of the words. "Orange" may be no colour, and does no harm as one."""
        found = []
        for match in COLOUR_WORD.finditer(self._text):
            if not any(self._taken[match.start() : match.end()]):
                self._take(*match.span())
                found.append(colour_name(match[0]))
        return list(dict.fromkeys(found))

    def _strengthened(self, operation: Operation, start: int, end: int) -> Operation:
        """With what is said about its amount just before or after it."""
        if not isinstance(operation, (Apply, Tint, Frame, Zoom)):
            return operation
        before, after = self._clause_before(start), self._clause_after(end)
        for pattern, amount, direction in STRENGTHS:
            for text, offset in ((before, start - len(before)), (after, end)):
                if direction and (text is before) != (direction < 0):
                    continue
                if found := pattern.search(text):
                    self._take(offset + found.start(), offset + found.end())
                    by = amount if amount is not None else float(found[1]) / 30
                    return replace(operation, amount=min(3.4, max(0.1, by)))
        return operation

    def _clause_before(self, start: int) -> str:
        """The free words right before, back to a comma or to what is taken."""
        first = max(0, start - 60)
        while first < start and any(self._taken[first:start]):
            first = self._taken.index(1, first, start) + 1
        text = self._text[first:start]
        boundaries = list(BOUNDARY.finditer(text))
        return text[boundaries[-1].end() :] if boundaries else text

    def _clause_after(self, end: int) -> str:
        stop = self._taken.find(1, end, end + 40)
        text = self._text[end : stop if stop >= 0 else end + 40]
        return BOUNDARY.split(text, maxsplit=1)[0]

    def _take(self, start: int, end: int) -> None:
        self._taken[start:end] = b"\x01" * (end - start)

    def _left(self) -> list[str]:
        """Pieces between what was taken that hold more than fillers, at most three of them."""
        pieces: list[str] = []
        for free in re.finditer(rb"\x00+", self._taken):
            offset = free.start()
            text = self._text[offset : free.end()]
            begin = 0
            for boundary in [*BOUNDARY.finditer(text), None]:
                stop = boundary.start() if boundary else len(text)
                piece = self._trimmed(offset + begin, offset + stop)
                if piece and piece not in pieces:
                    pieces.append(piece)
                begin = boundary.end() if boundary else stop
        return pieces[:3]

    def _trimmed(self, start: int, end: int) -> str:
        """The piece without fillers around it; a verb at its start says what was wanted."""
        words = [
            (start + match.start(), start + match.end(), match[0])
            for match in re.finditer(r"[\w'@-]+", self._text[start:end])
        ]
        if not any(word not in FILLERS and not word.isdigit() for _, _, word in words):
            return ""
        while words and words[-1][2] in FILLERS:
            words.pop()
        while words and words[0][2] in FILLERS - _VERBS:
            words.pop(0)
        piece = self._words[words[0][0] : words[-1][1]]
        return piece if len(piece) <= 60 else f"{piece[:59].rstrip()}…"


_VERBS: Final = frozenset({"make", "add", "put", "give", "turn", "set", "change", "draw", "show"})


def _position(numbered: tuple[int, Operation]) -> int:
    return numbered[0]

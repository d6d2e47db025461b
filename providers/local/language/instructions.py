"""Parses a prompt into operations.

The prompt is searched for the phrases of `vocabulary`, in their order. Text that a phrase matches
is marked as consumed, and no later phrase matches it again. Quotations are consumed first, and are
only used as text to write. What remains, except for fillers, was not understood.
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

MAX_OPERATIONS: Final = 16
"""The maximum number of operations, however long the prompt is."""


@dataclass(frozen=True, slots=True)
class Instructions:
    operations: tuple[Operation, ...]
    """In the order of the prompt."""
    subjects: tuple[str, ...]
    """What to draw, by its name in `scenes`; empty where a picture is edited."""
    colours: tuple[str, ...]
    """What to draw it in, by names in `colours`; empty where a picture is edited."""
    not_understood: tuple[str, ...]
    """Parts of the prompt, as they were written."""


def read_instructions(words: str, *, editing: bool) -> Instructions:
    """Parse a prompt. Without `editing`, words such as night and snow are subjects."""
    return _Reading(words, editing=editing).result()


class _Reading:
    def __init__(self, words: str, *, editing: bool) -> None:
        self._quotes: list[str] = []
        # The brackets mark quotations, so they must not occur in the prompt itself.
        plain = words.replace("⟦", "[").replace("⟧", "]")
        self._words = QUOTED.sub(self._consume_quote, plain)
        # Both must have the same length, so that positions in one are valid in the other.
        self._text = "".join(
            word if len(word.lower()) != 1 else word.lower() for word in self._words
        )
        self._text = self._text.replace("’", "'")
        self._consumed = bytearray(len(self._text))
        self._editing = editing

    def _consume_quote(self, found: re.Match[str]) -> str:
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
            colours = self._find_colours()
            for pattern, subject in SUBJECTS:
                subjects.extend((at, subject) for at in self._find_subject(pattern))
        ordered = dict.fromkeys(operation for _, operation in sorted(operations, key=_position))
        return Instructions(
            operations=tuple(ordered)[:MAX_OPERATIONS],
            colours=tuple(colours),
            subjects=tuple(dict.fromkeys(subject for _, subject in sorted(subjects))),
            not_understood=tuple(self._find_leftovers()),
        )

    def _find(self, phrase: Phrase) -> list[tuple[int, Operation]]:
        found = []
        for match in phrase.pattern.finditer(self._text):
            start, end = match.span()
            if any(self._consumed[start:end]) or start == end:
                continue
            before = self._clause_before(start)
            if REMOVAL.search(before) and not phrase.opposed:
                continue
            operation: Operation | None = phrase.make(match, self._quotes)
            self._consume(start, end)
            if negated := NEGATION.search(before):
                self._consume(start - len(before) + negated.start(), start)
                continue
            if turned := BEFORE_OPPOSITE.search(before) or REMOVAL.search(before):
                if isinstance(operation, Apply) and operation.effect in OPPOSITES:
                    operation = Apply(OPPOSITES[operation.effect], operation.amount)
                self._consume(start - len(before) + turned.start(), start)
            if operation is not None:
                found.append((start, self._apply_strength(operation, start, end)))
        return found

    def _find_subject(self, pattern: re.Pattern[str]) -> list[int]:
        found = []
        for match in pattern.finditer(self._text):
            if any(self._consumed[match.start() : match.end()]):
                continue
            before = self._clause_before(match.start())
            self._consume(*match.span())
            if negated := NEGATION.search(before):
                self._consume(match.start() - len(before) + negated.start(), match.start())
            else:
                found.append(match.start())
        return found

    def _find_colours(self) -> list[str]:
        """Find the colours, in the order of the prompt. The fruit "orange" counts as one, too."""
        found = []
        for match in COLOUR_WORD.finditer(self._text):
            if not any(self._consumed[match.start() : match.end()]):
                self._consume(*match.span())
                found.append(colour_name(match[0]))
        return list(dict.fromkeys(found))

    def _apply_strength(self, operation: Operation, start: int, end: int) -> Operation:
        """The operation with the amount that the words before or after it name."""
        if not isinstance(operation, (Apply, Tint, Frame, Zoom)):
            return operation
        before, after = self._clause_before(start), self._clause_after(end)
        for pattern, amount, direction in STRENGTHS:
            for text, offset in ((before, start - len(before)), (after, end)):
                if direction and (text is before) != (direction < 0):
                    continue
                if found := pattern.search(text):
                    self._consume(offset + found.start(), offset + found.end())
                    by = amount if amount is not None else float(found[1]) / 30
                    return replace(operation, amount=min(3.4, max(0.1, by)))
        return operation

    def _clause_before(self, start: int) -> str:
        """The unconsumed words right before, back to a clause boundary."""
        first = max(0, start - 60)
        while first < start and any(self._consumed[first:start]):
            first = self._consumed.index(1, first, start) + 1
        text = self._text[first:start]
        boundaries = list(BOUNDARY.finditer(text))
        return text[boundaries[-1].end() :] if boundaries else text

    def _clause_after(self, end: int) -> str:
        stop = self._consumed.find(1, end, end + 40)
        text = self._text[end : stop if stop >= 0 else end + 40]
        return BOUNDARY.split(text, maxsplit=1)[0]

    def _consume(self, start: int, end: int) -> None:
        self._consumed[start:end] = b"\x01" * (end - start)

    def _find_leftovers(self) -> list[str]:
        """The unconsumed parts that contain more than fillers, at most three."""
        pieces: list[str] = []
        for free in re.finditer(rb"\x00+", self._consumed):
            offset = free.start()
            text = self._text[offset : free.end()]
            begin = 0
            for boundary in [*BOUNDARY.finditer(text), None]:
                stop = boundary.start() if boundary else len(text)
                piece = self._trim_fillers(offset + begin, offset + stop)
                if piece and piece not in pieces:
                    pieces.append(piece)
                begin = boundary.end() if boundary else stop
        return pieces[:3]

    def _trim_fillers(self, start: int, end: int) -> str:
        """The part without the fillers around it, except for a verb at its start."""
        words = [
            (start + match.start(), start + match.end(), match[0])
            for match in re.finditer(r"[\w'@-]+", self._text[start:end])
        ]
        if not any(word not in FILLERS and not word.isdigit() for _, _, word in words):
            return ""
        while words and words[-1][2] in FILLERS:
            words.pop()
        while words and words[0][2] in FILLERS - _LEADING_VERBS:
            words.pop(0)
        piece = self._words[words[0][0] : words[-1][1]]
        return piece if len(piece) <= 60 else f"{piece[:59].rstrip()}…"


_LEADING_VERBS: Final = frozenset(
    {"make", "add", "put", "give", "turn", "set", "change", "draw", "show"}
)


def _position(numbered: tuple[int, Operation]) -> int:
    return numbered[0]

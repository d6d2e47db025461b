"""GraphQL's lexer, which repairs invalid escapes in strings, as `edge.json_input` does.

graphql-core refuses an escaped surrogate without its other half as a syntax error, and keeps NUL.
"""

import re
from typing import Final

from graphql import Lexer, Source
from graphql.language.lexer import EscapeSequence

_REPLACEMENT: Final = "\ufffd"
_FIXED: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_VARIABLE: Final = re.compile(r"\\u\{([0-9a-fA-F]{1,8})\}")
_PAIR: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]")
_SURROGATES: Final = range(0xD800, 0xE000)
_SUSPECT: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F]|\{0*(?:\}|[dD][89a-fA-F]))")


def make_lexer(source: Source) -> Lexer:
    """Make a lexer: the repairing one, which is slower, only if the text may need it."""
    return ForgivingLexer(source) if _SUSPECT.search(source.body) else Lexer(source)


class ForgivingLexer(Lexer):
    """Reads a lone surrogate in a string as U+FFFD, and leaves out NUL."""

    def read_escaped_unicode_fixed_width(self, position: int) -> EscapeSequence:
        if not _PAIR.match(self.source.body, position):
            repaired = self._repair(_FIXED, position)
            if repaired is not None:
                return repaired
        return super().read_escaped_unicode_fixed_width(position)

    def read_escaped_unicode_variable_width(self, position: int) -> EscapeSequence:
        repaired = self._repair(_VARIABLE, position)
        return repaired or super().read_escaped_unicode_variable_width(position)

    def _repair(self, form: re.Pattern[str], position: int) -> EscapeSequence | None:
        """The repaired text; None for an escape that needs no repair or cannot be repaired."""
        found = form.match(self.source.body, position)
        point = int(found[1], 16) if found else -1
        if found is None or (point and point not in _SURROGATES):
            return None
        return EscapeSequence(_REPLACEMENT if point else "", len(found[0]))

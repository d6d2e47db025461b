"""Words, and how texts are found by them: letters and digits, whatever their case and accents."""

import re
import unicodedata
from typing import Final

from domain.errors import BadUserInput

MAX_SEARCH_LENGTH: Final = 200
_STROKED: Final = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe"}
)
"""Letters that people take for accented ones, and that Unicode does not decompose."""
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # Han
)


def words_of(text: str) -> tuple[str, ...]:
    """The different words of a text, in the order in which they come, as they are compared.

    A word is a run of letters, digits and pictographs; all else stands between words. Of writing
    that has no spaces between its words each letter is one.
    """
    return tuple(dict.fromkeys(_bare(text).split()))


def searched_words(search: str | None) -> tuple[str, ...]:
    """The words to look for; none where there is nothing to look for. Raise BadUserInput where it
    is too long.
    """
    if search is None:
        return ()
    if len(search) > MAX_SEARCH_LENGTH:
        raise BadUserInput(f"`search` can have at most {MAX_SEARCH_LENGTH} characters.")
    return words_of(search)


def _bare(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold()).casefold().translate(_STROKED)
    kinds = ((character, unicodedata.category(character)) for character in decomposed)
    bare = "".join(
        character if kind[0] in "LMN" or kind == "So" else " "
        for character, kind in kinds
        if kind != "Mn"
    )
    return _UNSPACED.sub(r" \g<0> ", bare)

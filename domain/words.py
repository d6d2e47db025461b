"""Words, and how texts are found by them: letters and digits, whatever their case and accents."""

import unicodedata
from typing import Final

from domain.errors import BadUserInput

MAX_SEARCH_LENGTH: Final = 200


def words_of(text: str) -> tuple[str, ...]:
    """The different words of a text, in the order in which they come, as they are compared.

    A word is a run of letters, digits and pictographs; all else stands between words.
    """
    return tuple(dict.fromkeys(_bare(text).split()))


def searched_words(search: str | None) -> tuple[str, ...]:
    """The words to look for; none where there is nothing to look for. Raise BadUserInput where it
    is too long.
    """
    if search is None:
        return ()
    if len(search) > MAX_SEARCH_LENGTH:
        raise BadUserInput(f"`search` may be {MAX_SEARCH_LENGTH} characters long.")
    return words_of(search)


def _bare(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold()).casefold()
    kinds = ((character, unicodedata.category(character)) for character in decomposed)
    return "".join(
        character if kind[0] in "LMN" or kind == "So" else " "
        for character, kind in kinds
        if kind != "Mn"
    )

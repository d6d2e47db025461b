"""Titles that viewers give: one line with visible characters."""

from typing import Final

from domain.conversations import MAX_TITLE_LENGTH
from domain.errors import UserErrorCode
from domain.refusals import Refusals
from domain.text import is_blank, one_line

_MAX_GIVEN_LENGTH: Final = 2_000
"""Before surplus blanks are removed."""


def clean_title(title: str, refusals: Refusals) -> str:
    """The title on one line. Add to `refusals` what is wrong with it."""
    # A longer title is refused as it is: tidying it would take too long.
    cleaned = one_line(title) if len(title) <= _MAX_GIVEN_LENGTH else title
    if is_blank(cleaned):
        message = "A title must contain visible characters."
        refusals.add(UserErrorCode.TITLE_INVALID, message, "title")
    elif len(cleaned) > MAX_TITLE_LENGTH:
        message = f"A title can have at most {MAX_TITLE_LENGTH} characters."
        refusals.add(UserErrorCode.TITLE_INVALID, message, "title")
    return cleaned

"""Finds links to images in a result. `safe_http.py` decides whether one may be followed."""

from collections.abc import Iterator, Sequence
from typing import Final

from providers.failures import BAD_RESPONSE, REFUSED

_NAMES: Final = ("url", "uri", "image", "images", "output", "data", "src", "imageUrl")
"""The names under which objects have links, the most usual one first."""
_MAX_DEPTH: Final = 6
_MAX_LINKS: Final = 64


def links_in(value: object) -> list[str]:
    """All links of a result, in its order: a single link, a list, or an object with a usual name;
    of an object, only those under the first name that has any.
    """
    found: list[str] = []
    for link in _links(value, _MAX_DEPTH):
        found.append(link)
        if len(found) == _MAX_LINKS:
            break
    return found


def _links(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        if "://" in value[:20] or value[:5].lower() == "data:":
            yield value
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _links(item, depth - 1)
    elif isinstance(value, dict) and depth:
        for name in _NAMES:
            below = list(_links(value.get(name), depth - 1))
            if below:
                yield from below
                return


def without_refused(links: Sequence[str | None], flags: object, *, named: str) -> list[str]:
    """The links to images that no flag withholds.

    A refused image is delivered as a black one of the requested size. Raise `GenerationFailed`
    where no link remains: with CONTENT_REFUSED if flags are the reason. `named` is the provider's
    name for its flags.
    """
    refused = flags if isinstance(flags, list) else []
    shown = [
        link for index, link in enumerate(links) if refused[index : index + 1] != [True] and link
    ]
    if not shown and True in refused:
        raise REFUSED.failure(named)
    if not shown:
        raise BAD_RESPONSE.failure("images without links")
    return shown

"""Signs links once for each window of their validity, and remembers them for that time."""

from collections.abc import Callable
from dataclasses import dataclass, field

from domain.object_keys import LINK_WINDOW_SECONDS, LINKS_REMEMBERED, link_begin, linked
from domain.ports.objects import Link


@dataclass(frozen=True, slots=True)
class Links:
    """Links by their keys. `sign` makes the link of a key whose window begins at a time, in seconds
    since 1970.
    """

    sign: Callable[[str, int], Link]
    clock: Callable[[], float]
    _known: dict[str, tuple[int, Link]] = field(default_factory=dict)
    """Links with the end of their windows, oldest first."""

    def find(self, key: str) -> Link:
        """The key's link. Raise ValueError where the key has no links."""
        now = self.clock()
        known = self._known.get(key)
        if known is not None and known[0] - LINK_WINDOW_SECONDS <= now < known[0]:
            return known[1]
        begin = link_begin(linked(key), now)
        link = self.sign(key, begin)
        self._known.pop(key, None)
        self._known[key] = (begin + LINK_WINDOW_SECONDS, link)
        if len(self._known) > LINKS_REMEMBERED:
            del self._known[next(iter(self._known))]
        return link

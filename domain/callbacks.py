"""Functions that are called when something happens to a viewer."""

from collections.abc import Callable, Collection
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Callbacks(Generic[Key]):
    """Callbacks by key. Several can be registered for one key."""

    def __init__(
        self,
        *,
        when_first: Callable[[Key], None] = lambda _: None,
        when_none: Callable[[Key], None] = lambda _: None,
    ) -> None:
        """`when_first` is called with a key that gets its first callback, `when_none` with one that
        has lost its last.
        """
        self._registered: dict[Key, dict[Registration[Key], None]] = {}
        self._when_first = when_first
        self._when_none = when_none

    @property
    def keys(self) -> Collection[Key]:
        """The keys that have callbacks."""
        return self._registered.keys()

    def registered(self, key: Key, callback: Callable[[], None]) -> "Registration[Key]":
        """A context within which the callback is called for the key."""
        return Registration(self, key, callback)

    def add(self, registration: "Registration[Key]") -> None:
        same = self._registered.setdefault(registration.key, {})
        same[registration] = None
        if len(same) == 1:
            self._when_first(registration.key)

    def remove(self, registration: "Registration[Key]") -> None:
        same = self._registered[registration.key]
        del same[registration]
        if not same:
            del self._registered[registration.key]
            self._when_none(registration.key)

    def call(self, key: Key) -> None:
        for registration in tuple(self._registered.get(key, ())):
            registration.callback()


class Registration(Generic[Key]):
    """A context that takes little memory: there are two for each open socket."""

    __slots__ = ("_callbacks", "callback", "key")

    def __init__(self, callbacks: Callbacks[Key], key: Key, callback: Callable[[], None]) -> None:
        self._callbacks = callbacks
        self.key = key
        self.callback = callback

    def __enter__(self) -> None:
        self._callbacks.add(self)

    def __exit__(self, *_: object) -> None:
        self._callbacks.remove(self)

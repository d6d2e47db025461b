"""Functions that are called when something happens to a viewer."""

from collections.abc import Callable, Collection
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Callbacks(Generic[Key]):
    def __init__(self) -> None:
        self._registered: dict[Key, dict[Registration[Key], None]] = {}

    @property
    def keys(self) -> Collection[Key]:
        """The keys that have callbacks."""
        return self._registered.keys()

    def registered(self, key: Key, callback: Callable[[], None]) -> "Registration[Key]":
        """Have the callback called for the key, within the context."""
        return Registration(self._registered, key, callback)

    def call(self, key: Key) -> None:
        for registration in tuple(self._registered.get(key, ())):
            registration.callback()


class Registration(Generic[Key]):
    """A context that takes little memory: there are two for each open socket."""

    __slots__ = ("_key", "_registered", "callback")

    def __init__(
        self,
        registered: "dict[Key, dict[Registration[Key], None]]",
        key: Key,
        callback: Callable[[], None],
    ) -> None:
        self._registered = registered
        self._key = key
        self.callback = callback

    def __enter__(self) -> None:
        self._registered.setdefault(self._key, {})[self] = None

    def __exit__(self, *_: object) -> None:
        same = self._registered[self._key]
        del same[self]
        if not same:
            del self._registered[self._key]

"""Functions to call when something happens to somebody."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Callbacks(Generic[Key]):
    def __init__(self) -> None:
        self._callbacks: dict[Key, list[Callable[[], None]]] = {}

    @property
    def keys(self) -> Collection[Key]:
        """For which there are any."""
        return self._callbacks.keys()

    @contextmanager
    def registered(self, key: Key, callback: Callable[[], None]) -> Iterator[None]:
        """Within the context, the callback is called."""
        callbacks = self._callbacks.setdefault(key, [])
        callbacks.append(callback)
        try:
            yield
        finally:
            callbacks.remove(callback)
            if not callbacks:
                self._callbacks.pop(key, None)

    def call(self, key: Key) -> None:
        for callback in tuple(self._callbacks.get(key, ())):
            callback()

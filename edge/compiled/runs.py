"""One run of a compiled operation: what its functions share, and the reads that they wait for."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from domain.stored import Wanted
from schema.context import CompiledInfo, Request

Waiting: TypeAlias = tuple[
    dict[str, Any], str, Callable[[Any, "Run"], Any], Coroutine[Any, Any, object]
]
"""Where the answer belongs, how it is completed, and what is awaited."""


class Arguments(dict[int, dict[str, Any]]):
    """The arguments of fields that use variables, by the field's number. They are made at their
    first use.
    """

    def __init__(self, variables: Mapping[str, Any], make: Callable[[int], dict[str, Any]]) -> None:
        self.variable = variables.get
        self._make = make

    def __missing__(self, number: int) -> dict[str, Any]:
        result = self[number] = self._make(number)
        return result


class Run:
    __slots__ = ("arguments", "info", "later", "memos", "now")

    def __init__(self, request: Request, arguments: Arguments) -> None:
        self.info = CompiledInfo(request)
        self.arguments = arguments
        self.memos: defaultdict[int, dict[Any, Any]] = defaultdict(dict)
        self.later: list[Waiting] = []
        self.now = time.time()

    def wanting(self, wanted: Wanted | None) -> CompiledInfo:
        return CompiledInfo(self.info.context, wanted)

    async def finish(self) -> None:
        """Await what the answer waits for, each time all at once, until nothing is left."""
        try:
            while self.later:
                batch, self.later = self.later, []
                for (answer, key, complete, _), value in zip(
                    batch, await _await_all([one for *_, one in batch]), strict=True
                ):
                    answer[key] = complete(value, self)
        finally:
            self.close()

    def close(self) -> None:
        """Drop what is not awaited."""
        for *_, waiting in self.later:
            waiting.close()
        self.later = []


async def _await_all(waiting: list[Coroutine[Any, Any, object]]) -> list[object]:
    if len(waiting) == 1:
        return [await waiting[0]]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results

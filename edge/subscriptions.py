"""Subscriptions that are run by compiled functions: events are answered once for all of a group.

A group is what gets the same answers: one document, the same variables in its selection, one scope.
An event is answered once for it and encoded once, so that a subscriber costs little more than the
write to its socket.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from graphql.execution.values import VariableValues

from domain.ports.changes import Receiver
from edge.compiled.operations import CompiledSubscription
from edge.compiled.runs import Arguments
from edge.outcomes import Result
from schema.context import Request

MAX_GROUPS: Final = 4_096
"""Whose latest answer is remembered."""


@dataclass(frozen=True, slots=True)
class LatestAnswers:
    """Of each group, the answer to its latest event."""

    _latest: dict[Hashable, tuple[object, Result]] = field(default_factory=dict)

    def find(self, group: Hashable, event: object) -> Result | None:
        found = self._latest.get(group)
        return found[1] if found is not None and found[0] is event else None

    def keep(self, group: Hashable, event: object, result: Result) -> None:
        """Not where it has errors: they may be about one request."""
        if result.errors:
            return
        self._latest.pop(group, None)
        self._latest[group] = (event, result)
        if len(self._latest) > MAX_GROUPS:
            del self._latest[next(iter(self._latest))]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A compiled subscription of one request. `run` has graphql-core answer an event, which it does
    where the compiled functions refuse: at once, unless the answer has to wait.
    """

    compiled: CompiledSubscription
    request: Request
    variables: VariableValues
    latest: LatestAnswers
    run: Callable[[object], Result | Awaitable[Result]]

    async def results(self) -> AsyncGenerator[Result, None]:
        """The answer to each event. Raise where the source does."""
        async with aclosing(self.compiled.events(self.request, self.variables)) as events:
            async for event in events:
                try:
                    answer = await self.compiled.answer(event, self.request, self.variables)
                    yield Result(answer)
                except Exception:
                    result = self.run(event)
                    yield result if isinstance(result, Result) else await result

    async def deliver(self, to: Receiver[Result]) -> None:
        """The same, to a receiver, for a subscription that delivers."""
        group = self.compiled.group(self.request, self.variables)
        answers = _Answers(self, group, to, self.compiled.functions.bound(self.variables))
        await self.compiled.deliver(self.request, self.variables, to=answers)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Receives events, and passes on their answers."""

    subscription: Subscription
    group: Hashable
    to: Receiver[Result]
    arguments: Arguments

    def take(self, item: object) -> bool:
        latest = self.subscription.latest
        result = latest.find(self.group, item)
        if result is None:
            result = self._answer(item)
            latest.keep(self.group, item, result)
        return self.to.take(result)

    async def ready(self) -> None:
        await self.to.ready()

    def _answer(self, event: object) -> Result:
        one = self.subscription
        try:
            return Result(one.compiled.answer_at_once(event, one.request, self.arguments))
        except Exception:
            result = one.run(event)
            assert isinstance(result, Result)
            return result

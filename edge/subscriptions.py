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
from edge.outcomes import Result
from schema.context import Request

MAX_GROUPS: Final = 256
"""Whose latest answer is remembered: more than those that follow one conversation."""


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
        answers = _Answers(self) if self.compiled.delivers else None
        async with aclosing(self.compiled.events(self.request, self.variables)) as events:
            async for event in events:
                yield answers.of(event) if answers else await self._answer(event)

    async def deliver(self, to: Receiver[Result]) -> None:
        """The same, to a receiver, for a subscription that delivers."""
        answering = _Answering(_Answers(self), to)
        await self.compiled.deliver(self.request, self.variables, to=answering)

    async def _answer(self, event: object) -> Result:
        try:
            return Result(await self.compiled.answer(event, self.request, self.variables))
        except Exception:
            result = self.run(event)
            return result if isinstance(result, Result) else await result


class _Answers:
    """Answers the events of a subscription that delivers: each once for the group."""

    __slots__ = ("_arguments", "_group", "_subscription")

    def __init__(self, subscription: Subscription) -> None:
        compiled, variables = subscription.compiled, subscription.variables
        self._subscription = subscription
        self._group = compiled.group(subscription.request, variables)
        self._arguments = compiled.functions.bound(variables)

    def of(self, event: object) -> Result:
        latest = self._subscription.latest
        result = latest.find(self._group, event)
        if result is None:
            result = self._answer(event)
            latest.keep(self._group, event, result)
        return result

    def _answer(self, event: object) -> Result:
        one = self._subscription
        try:
            return Result(one.compiled.answer_at_once(event, one.request, self._arguments))
        except Exception:
            result = one.run(event)
            assert isinstance(result, Result)
            return result


class _Answering:
    """Receives events, and passes on their answers."""

    __slots__ = ("_answers", "_to", "ready")

    def __init__(self, answers: _Answers, to: Receiver[Result]) -> None:
        self._answers = answers
        self._to = to
        self.ready = to.ready

    def take(self, item: object) -> bool:
        return self._to.take(self._answers.of(item))

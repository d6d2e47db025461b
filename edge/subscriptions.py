"""Subscriptions that compiled functions answer: each event once for a group of subscribers.

The subscribers of a group get the same answers: they have sent the same document, with the same
variables in its selection, in the same scope. An event is answered and encoded once for a group, so
that a further subscriber costs little more than the write to its socket.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import aclosing
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from graphql.execution.values import VariableValues

from domain.ports.changes import Receiver
from edge.compiled.operations import CompiledSubscription
from edge.outcomes import Result
from schema.context import Request


class Group:
    """The answers of a group to events, each kept until the event has been delivered to all of its
    subscribers. Several events may be on their way to the same subscribers at once.
    """

    __slots__ = ("_answers", "find", "key", "size")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self._answers: WeakKeyDictionary[object, Result] = WeakKeyDictionary()
        self.find = self._answers.get
        """Return the answer to an event, or None."""
        self.size = 0
        """The number of subscribers."""

    def __len__(self) -> int:
        return len(self._answers)

    def keep(self, event: object, result: Result) -> None:
        """Keep an answer, unless it has errors: those may concern a single request."""
        if not result.errors:
            self._answers[event] = result


@dataclass(frozen=True, slots=True)
class SharedAnswers:
    groups: dict[Hashable, Group] = field(default_factory=dict)
    """Groups with subscribers, by what their answers depend on."""

    def join(self, key: Hashable) -> Group:
        """Count one more subscriber of a group, until it leaves. Return the group."""
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(key)
        group.size += 1
        return group

    def leave(self, group: Group) -> None:
        group.size -= 1
        if not group.size:
            del self.groups[group.key]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A compiled subscription of one request.

    `run` has graphql-core answer an event that the compiled functions refuse: at once, unless the
    answer has to wait.
    """

    compiled: CompiledSubscription
    request: Request
    variables: VariableValues
    shared: SharedAnswers
    run: Callable[[object], Result | Awaitable[Result]]

    async def results(self) -> AsyncGenerator[Result, None]:
        """The answer to each event. What the source raises is raised."""
        answers = _Answers(self) if self.compiled.delivers else None
        try:
            async with aclosing(self.compiled.open_events(self.request, self.variables)) as events:
                async for event in events:
                    yield answers.of(event) if answers else await self._answer(event)
        finally:
            if answers:
                self.shared.leave(answers.group)

    async def deliver(self, to: Receiver[Result]) -> None:
        """Deliver the answer to each event to a receiver, for a subscription that delivers."""
        answers = _Answers(self)
        try:
            answering = _Answering(answers, to)
            await self.compiled.deliver(self.request, self.variables, to=answering)
        finally:
            self.shared.leave(answers.group)

    async def _answer(self, event: object) -> Result:
        try:
            return Result(await self.compiled.answer(event, self.request, self.variables))
        except Exception:
            result = self.run(event)
            return result if isinstance(result, Result) else await result


class _Answers:
    """Answers the events of a subscription that delivers, each once for the group."""

    __slots__ = ("_arguments", "_subscription", "group")

    def __init__(self, subscription: Subscription) -> None:
        compiled, variables = subscription.compiled, subscription.variables
        self._subscription = subscription
        self._arguments = compiled.functions.make_arguments(variables)
        # The last step: a subscriber that has joined has to leave.
        self.group = subscription.shared.join(compiled.group_key(subscription.request, variables))

    def of(self, event: object) -> Result:
        result = self.group.find(event)
        if result is None:
            result = self._answer(event)
            self.group.keep(event, result)
        return result

    def _answer(self, event: object) -> Result:
        subscription = self._subscription
        try:
            return Result(
                subscription.compiled.answer_at_once(event, subscription.request, self._arguments)
            )
        except Exception:
            result = subscription.run(event)
            assert isinstance(result, Result)
            return result


class _Answering:
    """Receives events, and passes on their answers."""

    __slots__ = ("_answers", "_find", "_to", "ready")

    def __init__(self, answers: _Answers, to: Receiver[Result]) -> None:
        self._answers = answers
        self._find = answers.group.find
        self._to = to
        self.ready = to.ready

    def take(self, item: object) -> bool:
        return self._to.take(self._find(item) or self._answers.of(item))

"""What all kinds of models have in common, and the registry of one kind of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar, cast

from domain.ids import ModelId


class ModelUnavailableReason(StrEnum):
    NO_CREDENTIALS = "NO_CREDENTIALS"
    RETIRED = "RETIRED"
    REFUSED_BY_PROVIDER = "REFUSED_BY_PROVIDER"
    SWITCHED_OFF = "SWITCHED_OFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    """The part of a catalogue row that says what the model is called and who serves it."""

    id: ModelId
    label: str
    description: str
    company: str
    provider: str
    aliases: tuple[str, ...] = ()
    listed: bool = True
    is_new: bool = False
    logo_url: str | None = None
    unavailable_reason: ModelUnavailableReason | None = None
    retires_at: datetime | None = None
    replacement_id: ModelId | None = None
    endpoint: str = ""
    """The provider's name for it; empty where that is the id."""
    wire: object | None = field(default=None, hash=False)
    """The provider's own parameters for requesting it, in the provider's own type. Nothing else
    reads them.
    """
    deadline: timedelta = timedelta(seconds=180)
    other_routes: tuple["RegisteredModel", ...] = ()
    """The same model by the other providers that serve it here, in the order of preference."""
    route_providers: tuple[str, ...] = ()
    """The providers of all routes, including those that cannot be used here."""

    @property
    def providers(self) -> tuple[str, ...]:
        """All providers that can serve it, here or elsewhere, in the order of preference."""
        return self.route_providers or tuple(filter(None, [self.provider]))

    @property
    def available(self) -> bool:
        return self.unavailable_reason is None

    @property
    def retired(self) -> bool:
        return self.unavailable_reason is ModelUnavailableReason.RETIRED

    @property
    def ends_at(self) -> datetime | None:
        """When the last of its routes here ends; None if one has no end."""
        ends = [route.retires_at for route in (self, *self.other_routes)]
        return None if None in ends else max(end for end in ends if end)

    def has_ended(self, now: datetime) -> bool:
        """Whether the day on which its provider stopped serving it has come."""
        return self.retires_at is not None and self.retires_at <= now


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A model that one of its providers has dropped."""

    model_id: ModelId
    provider: str
    since: datetime


ModelT = TypeVar("ModelT", bound=RegisteredModel)

_KNOWN_EVERYWHERE: Final = timedelta(seconds=5)
"""How long after it was switched off or withdrawn no process plans with a route any more."""
_MOST_RETIRED: Final = 256
"""How many models that have left the registry are kept."""
_ENDS_SOON: Final = timedelta(days=31)
"""How long before its end a model's description mentions it."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Registry(Generic[ModelT]):
    """All models of one kind by id and alias, with their current availability.

    A model whose last day has passed is retired, a route whose provider has dropped the model is
    withdrawn, and an operator may switch models and providers off.
    """

    def __init__(
        self,
        models: Iterable[ModelT],
        *,
        defaults: Sequence[str] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`defaults`: ids or aliases, in the order in which they are tried as a default. None: all
        that are listed.
        """
        self._models: Mapping[str, ModelT] = {model.id: model for model in models}
        self._ids = {name: name for name in self._models} | {
            alias: model.id for model in self._models.values() for alias in model.aliases
        }
        listed = [model.id for model in self._models.values() if model.listed]
        self._defaults = [
            name
            for name in (listed if defaults is None else defaults)
            if name in self._ids and self._models[self._ids[name]].available
        ]
        self._now = now
        self._withdrawn: Mapping[ModelId, Mapping[str, datetime]] = {}
        self._off: Mapping[str, datetime] = {}
        # Old outputs name the same few again and again.
        self._find_retired = lru_cache(_MOST_RETIRED)(self._describe_retired)

    def withdraw(self, withdrawals: Iterable[Withdrawal]) -> None:
        """Stop using these models at these providers. A model is shown as dropped once it is
        withdrawn from all of its providers here.
        """
        withdrawn: dict[ModelId, dict[str, datetime]] = {}
        for withdrawal in withdrawals:
            withdrawn.setdefault(withdrawal.model_id, {})[withdrawal.provider] = withdrawal.since
        self._withdrawn = withdrawn

    def switch_off(self, since: Mapping[str, datetime]) -> None:
        """Switch these models and providers off, and all others on."""
        self._off = dict(since)

    def may_ask(self, route: ModelT, *, planned_at: datetime | None = None) -> bool:
        """Whether the operator allows the model by this route, and its provider has not dropped it:
        now, or at a time in the past. What does not apply now counts as not applying at that time
        if every process knew it by then.
        """
        ends = (
            self._off.get(route.id),
            self._off.get(route.provider),
            self._withdrawn.get(route.id, {}).get(route.provider),
        )
        return not any(
            since is not None and (planned_at is None or since + _KNOWN_EVERYWHERE < planned_at)
            for since in ends
        )

    def is_switched_off(self, route: ModelT) -> bool:
        return route.id in self._off or route.provider in self._off

    def is_off(self, name: str) -> bool:
        """Whether the operator has to switch on the model, or one of its providers here, before it
        can be used again.
        """
        routes = self.routes(name) if self._off else ()
        return any(map(self.is_switched_off, routes)) and not any(map(self.may_ask, routes))

    def all(self) -> tuple[ModelT, ...]:
        return tuple(self._as_it_stands(model) for model in self._models.values())

    def get(self, name: str) -> ModelT | None:
        """The model of this id or alias."""
        model_id = self._ids.get(name)
        return self._as_it_stands(self._models[model_id]) if model_id is not None else None

    def remembered(self, name: str) -> ModelT:
        """The model of this id or alias; one that has left the registry is shown unlisted and
        unavailable.
        """
        return self.get(name) or self._find_retired(name)

    def _describe_retired(self, name: str) -> ModelT:
        return self._make_retired(
            id=ModelId(name),
            label=name.rsplit("/", 1)[-1],
            description="This model is no longer offered.",
            company="",
            provider="",
            listed=False,
            unavailable_reason=ModelUnavailableReason.RETIRED,
        )

    def _make_retired(self, **facts: Any) -> ModelT:
        raise NotImplementedError

    def routes(self, name: str) -> tuple[ModelT, ...]:
        """The model by each of its routes here that has not ended, in the order of preference; by
        its own route where all have ended. None if it is not known.
        """
        model_id = self._ids.get(name)
        if model_id is None:
            return ()
        row, now = self._models[model_id], self._now()
        current_routes = tuple(route for route in _routes_of(row) if not route.has_ended(now))
        return current_routes or (row,)

    def routes_as_planned(self, name: str, *, planned_at: datetime) -> tuple[ModelT, ...]:
        """The model's routes, the one first by which an output was planned at that time."""
        routes = self.routes(name)
        planned = [route for route in routes if self.may_ask(route, planned_at=planned_at)]
        return tuple(sorted(routes, key=lambda one: one is not planned[0])) if planned else routes

    def providers_in_use(self) -> frozenset[str]:
        """The providers by which a model can be served here now."""
        now = self._now()
        return frozenset(
            route.provider
            for row in self._models.values()
            if row.available
            for route in _routes_of(row)
            if not route.has_ended(now)
        )

    def successor(self, name: str) -> ModelT | None:
        """The model itself if it can be used, else the nearest replacement that can, else None."""
        model, seen = self.get(name), set[str]()
        while model is not None and not model.available and model.id not in seen:
            seen.add(model.id)
            model = self.get(model.replacement_id) if model.replacement_id else None
        return model if model is not None and model.available else None

    def _as_it_stands(self, row: ModelT) -> ModelT:
        """The model by the first of its routes that has not ended and that may be asked; by its own
        route where there is none.
        """
        if row.retires_at is None and not self._off and row.id not in self._withdrawn:
            return row  # This is so for nearly every output that is shown.
        now = self._now()
        current_routes = [route for route in _routes_of(row) if not route.has_ended(now)] or [row]
        model = next(filter(self.may_ask, current_routes), current_routes[0])
        reason = None
        if model.has_ended(now):
            reason = ModelUnavailableReason.RETIRED
        elif model.available and not self.may_ask(model):
            is_off = any(map(self.is_switched_off, current_routes))
            reason = (
                ModelUnavailableReason.SWITCHED_OFF
                if is_off
                else ModelUnavailableReason.REFUSED_BY_PROVIDER
            )
        if reason is not None:
            return replace(model, unavailable_reason=reason)
        ends_at = row.ends_at
        if model.available and ends_at is not None and ends_at - now <= _ENDS_SOON:
            notice = f"Ends on {ends_at.day} {ends_at:%B} {ends_at.year}."
            return replace(model, description=f"{model.description} {notice}".strip())
        return model


def _routes_of(row: ModelT) -> tuple[ModelT, ...]:
    return (row, *cast("tuple[ModelT, ...]", row.other_routes))

"""What a field finds in `info.context`: the request that it belongs to."""

from dataclasses import dataclass
from typing import Final, TypeAlias

import strawberry

from domain.errors import Unauthenticated
from domain.shown import scope_of
from domain.stored import Wanted
from domain.viewers import Viewer
from schema.loaders import Loaders
from schema.services import Services


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom an operation runs: a viewer or nobody."""

    viewer: Viewer | None = None
    address: str = ""
    """Of the client, as `edge.addresses` reads it. Who sends no token is limited by it."""

    @property
    def key(self) -> str | None:
        """The same for scopes that are answered alike."""
        return self.viewer.id if self.viewer else None

    @property
    def client(self) -> str:
        """Who is limited by rates: the viewer, or the address of nobody."""
        return self.viewer.id if self.viewer else f"address {self.address}"

    def require_viewer(self) -> Viewer:
        if self.viewer is None:
            raise Unauthenticated
        return self.viewer


NOBODY: Final = Scope()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Made for each operation."""

    id: str
    scope: Scope
    services: Services
    load: Loaders
    cost: int = 1
    """What the operation takes from the client's cost bucket."""

    @property
    def viewer(self) -> Viewer:
        """Raise Unauthenticated where the request is for nobody."""
        return self.scope.require_viewer()

    def reading(self, parent: object) -> Loaders:
        """What a field of the parent reads with: what is below a share is read in its scope."""
        scope = scope_of(parent)
        return self.load if scope is None else self.load.within(scope)


Info: TypeAlias = strawberry.Info[Request, None]


@dataclass(frozen=True, slots=True)
class CompiledInfo:
    """What compiled functions give to resolvers instead of Strawberry's `Info`."""

    context: Request
    wanted: Wanted | None = None


def wanted(info: Info) -> Wanted | None:
    """The attributes of the items that the field's selection reads. None where that is unknown."""
    return info.wanted if isinstance(info, CompiledInfo) else None

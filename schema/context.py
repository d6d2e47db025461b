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
    """For whom an operation runs: a viewer, or an anonymous client."""

    viewer: Viewer | None = None
    address: str = ""
    """The client's, as `edge.addresses` reads it. The limits of anonymous clients go by it."""

    @property
    def key(self) -> str | None:
        """Equal for scopes that get the same answers."""
        return self.viewer.id if self.viewer else None

    @property
    def client(self) -> str:
        """What rate limits count by: the viewer, or the address of an anonymous client."""
        return self.viewer.id if self.viewer else f"address {self.address}"

    def require_viewer(self) -> Viewer:
        if self.viewer is None:
            raise Unauthenticated
        return self.viewer


ANONYMOUS: Final = Scope()


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
        """The viewer of the request. Raise Unauthenticated if the client is anonymous."""
        return self.scope.require_viewer()

    def reading(self, parent: object) -> Loaders:
        """The loaders for fields of the parent: below a share, those of the share's scope."""
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

"""An operator's own catalogue: other prices and names, another order, hidden models.

It is a TOML file with `order`, `hidden`, and a table of fields for each model that differs. A
model's abilities are not among the fields: its provider decides them.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from providers.tables import TableError, build

FIELDS: Final = frozenset(
    {
        *("label", "description", "is_new", "deadline_seconds"),
        *("prices", "credits_from_words", "credits_with_references", "credits"),
    }
)
"""The fields that may differ from Darkroom's catalogue."""


class OwnCatalogueError(Exception):
    """The file cannot be used. The message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCatalogue:
    order: tuple[str, ...] = ()
    """Ids or aliases of models that come first, in this order. The others follow in their order."""
    hidden: tuple[str, ...] = ()
    """Models that are not listed, and never a default. A viewer who knows the id can use them."""
    models: Mapping[str, Any] = field(default_factory=dict)
    """Fields that replace those of a row, by the model's id or alias."""

    def adapt(self, document: Mapping[str, Any], tables: Iterable[str]) -> dict[str, Any]:
        """The catalogue with these changes in its rows. Raise OwnCatalogueError where it names an
        unknown model or field.
        """
        rows = [row for table in tables for row in document.get(table, [])]
        ids = {name: row["id"] for row in rows for name in (row["id"], *row.get("aliases", []))}
        order = [_id_of(name, ids, "order") for name in self.order]
        hidden = {_id_of(name, ids, "hidden") for name in self.hidden}
        changes = {
            _id_of(name, ids, "models"): _checked(name, table)
            for name, table in self.models.items()
        }
        for model_id in hidden:
            changes[model_id] = {**changes.get(model_id, {}), "listed": False}
        places = {model_id: place for place, model_id in enumerate(order)}
        return {
            **document,
            **{
                table: sorted(
                    (_changed(row, changes.get(row["id"], {})) for row in document.get(table, [])),
                    key=lambda row: places.get(row["id"], len(places)),
                )
                for table in tables
            },
        }


def read_own_catalogue(path: Path) -> OwnCatalogue:
    """Read the file. Raise OwnCatalogueError where it cannot be read, or contains something
    unknown.
    """
    try:
        return build(OwnCatalogue, tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise OwnCatalogueError(f"{path} cannot be read: {reason}.") from error
    except tomllib.TOMLDecodeError as error:
        raise OwnCatalogueError(f"{path} is not TOML: {error}.") from error
    except TableError as error:
        raise OwnCatalogueError(f"{path}: {error}.") from error


def _id_of(name: str, ids: Mapping[str, str], where: str) -> str:
    if name not in ids:
        raise OwnCatalogueError(f"{where}: there is no model {name}.")
    return ids[name]


def _checked(name: str, table: object) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise OwnCatalogueError(f"models.{name}: it must be a table.")
    for one in table:
        if one not in FIELDS:
            allowed = ", ".join(sorted(FIELDS))
            raise OwnCatalogueError(f"models.{name}.{one}: only these can differ: {allowed}.")
    return table


def _changed(row: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The row with these fields, by every route."""
    if not changes:
        return dict(row)
    changed = {**row, **changes}
    if "routes" in row:
        changed["routes"] = [{**route, **changes} for route in row["routes"]]
    return changed

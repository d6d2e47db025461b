"""What commands have in common: reading the settings, opening the database, naming a viewer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from domain.errors import Overloaded, StoreUnavailable
from domain.ids import ViewerId, parse_viewer_id, viewer_id_of
from edge.auth import SUBJECT_LENGTH, is_subject
from edge.dev_tokens import ISSUER
from runtime.lifecycle import CANNOT_START, CannotStart, print_error, provide_database
from runtime.logs import configure_logs
from settings import Settings, SettingsError, read_settings
from storage.mongo.database import Database, open_database


def run_with_settings(run: Callable[[Settings], Coroutine[Any, Any, int]]) -> int:
    """Run a command to its end. If it cannot run, print the reason, and return `CANNOT_START`."""
    try:
        settings = read_settings()
        configure_logs(settings)
        return asyncio.run(run(settings))
    except (SettingsError, CannotStart, Overloaded, StoreUnavailable) as error:
        print_error(error)
        return CANNOT_START


@asynccontextmanager
async def open_command_database(settings: Settings) -> AsyncIterator[tuple[Settings, Database]]:
    """Open the database. Also yield the settings, completed with the URI of a mongod that is shared
    or started.
    """
    async with provide_database(settings) as (complete, _):
        assert complete.mongodb_uri is not None
        uri = complete.mongodb_uri.get_secret_value()
        async with open_database(uri, complete.mongodb_database) as opened:
            yield complete, opened


def viewer_id_named(settings: Settings, name: str) -> ViewerId:
    """A viewer's id, from the id itself or from the `sub` of their tokens."""
    issuer = ISSUER if settings.environment == "development" else settings.token_issuer
    assert issuer is not None
    if not is_subject(name):
        raise CannotStart(
            f"A viewer is named by an ID or a `sub` of 1 to {SUBJECT_LENGTH} characters."
        )
    return parse_viewer_id(name) or viewer_id_of(issuer, name)

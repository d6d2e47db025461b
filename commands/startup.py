"""What commands have in common: reading the settings, and opening the database."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from domain.errors import Overloaded, StoreUnavailable
from runtime.lifecycle import CANNOT_START, CannotStart, print_error, provide_database
from settings import Settings, SettingsError, read_settings
from storage.mongo.database import Database, open_database


def run_with_settings(run: Callable[[Settings], Coroutine[Any, Any, int]]) -> int:
    """Run a command to its end. If it cannot run, print the reason, and return `CANNOT_START`."""
    try:
        return asyncio.run(run(read_settings()))
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

"""The API without a server, a served folder store, and npm clients."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from bootstrap import Api, open_api
from edge.execution import OperationExecutor
from settings import Settings
from tests.conftest import a_database_name
from tests.packages import install_packages
from tests.storage.places import Place, place_in_folder
from tests.tools import need
from tests.unlimited import UNLIMITED

PROJECT: Final = Path(__file__).parents[1] / "npm"


@pytest.fixture(scope="session")
async def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clients and the script that uses them."""
    need("node")
    # The event loop has servers of other tests.
    return await asyncio.to_thread(install_packages, PROJECT, tmp_path_factory.mktemp("clients"))


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Place]:
    async with place_in_folder(tmp_path / "objects") as place:
        yield place


@pytest.fixture(scope="session")
async def api(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """What an API process serves, without a server."""
    folder = tmp_path_factory.mktemp("api")
    async with a_database_name(mongodb_uri) as name:
        settings = Settings(
            data_dir=folder,
            mongodb_uri=SecretStr(mongodb_uri),
            mongodb_database=name,
            limit=UNLIMITED,
        )
        async with open_api(settings) as api:
            yield api


@pytest.fixture
def executor(api: Api) -> OperationExecutor:
    return OperationExecutor(api.services, UNLIMITED)

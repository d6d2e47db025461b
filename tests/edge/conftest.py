"""The API without a server, a served folder store, and npm clients."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from bootstrap import Api, open_api
from edge.execution import OperationExecutor
from settings import Settings
from tests.conftest import a_database_name
from tests.storage.places import Place, place_in_folder
from tests.tools import need
from tests.unlimited import UNLIMITED

PROJECT: Final = Path(__file__).parents[1] / "npm"
INSTALL_SECONDS: Final = 120


@pytest.fixture(scope="session")
async def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clients and the script that uses them."""
    need("node")
    folder = tmp_path_factory.mktemp("npm") / "clients"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("node_modules"))
    npm = await asyncio.create_subprocess_exec(need("npm"), "ci", "--silent", cwd=folder)
    async with asyncio.timeout(INSTALL_SECONDS):
        assert await npm.wait() == 0
    return folder


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

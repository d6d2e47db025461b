"""A folder store, served."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.storage.places import Place, place_in_folder


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Place]:
    async with place_in_folder(tmp_path / "objects") as place:
        yield place

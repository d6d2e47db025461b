from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from providers.local.provider import LocalProvider
from tests.providers.pictures import Shelf


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest_asyncio.fixture
async def local(shelf: Shelf) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(shelf)
    yield provider
    await provider.aclose()

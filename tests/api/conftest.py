"""Fixtures shared by API tests."""

from collections.abc import AsyncIterator

import pytest

from tests.api.every_model import Simulated, simulated


@pytest.fixture(scope="module")
async def providers() -> AsyncIterator[Simulated]:
    async with simulated() as both:
        yield both

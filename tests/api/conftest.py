"""Fixtures shared by API tests."""

from collections.abc import AsyncIterator

import pytest

from domain.cleanup import erasure
from domain.execution import jobs
from tests.api.every_model import Simulated, simulated


@pytest.fixture(scope="module")
async def providers() -> AsyncIterator[Simulated]:
    async with simulated() as both:
        yield both


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Darkrooms of this test look all the time for work that another process has left."""
    for module in (jobs, erasure):
        monkeypatch.setattr(module, "_POLL_SECONDS", 0.1)

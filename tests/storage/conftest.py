"""An object store of every kind."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from storage.imaging.sandbox import UploadSandbox
from storage.objects.bucket import Bucket
from tests.storage.places import Place, place_in_bucket, place_in_folder
from tests.storage.sandboxes import our_processes
from tests.waits import PATIENCE_SECONDS


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Place]:
    async with place_in_folder(tmp_path / "objects") as place:
        yield place


@pytest.fixture(scope="session")
async def _ministack_place(ministack_bucket: Bucket) -> AsyncIterator[Place]:
    async with place_in_bucket(ministack_bucket) as place:
        yield place


@pytest.fixture(scope="session")
async def _ceph_place(ceph_bucket: Bucket) -> AsyncIterator[Place]:
    async with place_in_bucket(ceph_bucket) as place:
        yield place


@pytest.fixture
def ministack(_ministack_place: Place) -> Place:
    _ministack_place.clock.behind = 0
    return _ministack_place


@pytest.fixture
def ceph(_ceph_place: Place) -> Place:
    _ceph_place.clock.behind = 0
    return _ceph_place


@pytest.fixture(params=["folder", "ministack", "ceph"])
def place(request: pytest.FixtureRequest) -> Place:
    """Every kind of store, one after the other."""
    return cast(Place, request.getfixturevalue(request.param))


@pytest.fixture(params=["folder", "ministack"])
def digesting_place(request: pytest.FixtureRequest) -> Place:
    """Those that look at an upload's digest; a Ceph of 2021 does not."""
    return cast(Place, request.getfixturevalue(request.param))


@pytest.fixture(params=["folder", "ceph"])
def private_place(request: pytest.FixtureRequest) -> Place:
    """Those that look at every signature; to ministack some are optional."""
    return cast(Place, request.getfixturevalue(request.param))


@pytest.fixture
async def processor() -> AsyncIterator[UploadSandbox]:
    processor = UploadSandbox(max_wait_seconds=PATIENCE_SECONDS, max_child_seconds=60)
    yield processor
    await processor.aclose()


@pytest.fixture
def no_process_is_left() -> Iterator[None]:
    before = our_processes()
    yield
    assert our_processes() <= before
